# SPDX-License-Identifier: Apache-2.0
"""`lamps workload`: writes a generated workload as JSONL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError

from lamps_vllm.cli.console import fail_on, out
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.workload import Workload, WorkloadError, save_workload

Rate = Annotated[float, typer.Option(help="Mean arrivals, sessions per second (Poisson).")]
Sessions = Annotated[int, typer.Option(help="How many sessions.")]
CallScale = Annotated[float, typer.Option(help="Factor on the call times.")]
MaxCalls = Annotated[int, typer.Option(help="Most calls in a session.")]
MeanOutput = Annotated[float, typer.Option(help="Mean output length of a turn, tokens.")]
MaxContext = Annotated[int, typer.Option(help="Longest context, tokens.")]


def mix(seed: int, **options: float) -> Workload:
    """The generated mix for one seed; WorkloadError names a bad option, its value and range."""
    try:
        return generate_mix(np.random.default_rng(seed), MixOptions.model_validate(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise WorkloadError(f"{first['loc'][0]} = {first['input']}: {first['msg']}") from error


def workload(
    path: Annotated[Path, typer.Argument(help="File to write (JSONL, one session per line).")],
    *,
    rate: Rate = 1.0,
    sessions: Sessions = 120,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sessions.")] = 0,
    call_scale: CallScale = 0.1,
    max_calls: MaxCalls = 4,
    mean_output: MeanOutput = 40.0,
    max_context: MaxContext = 2048,
) -> None:
    """Generate agent sessions: the InferCept mix, from its published statistics."""
    with fail_on(WorkloadError, OSError):
        generated = mix(
            seed,
            rate=rate,
            sessions=sessions,
            call_scale=call_scale,
            max_calls=max_calls,
            mean_output=mean_output,
            max_context=max_context,
        )
        save_workload(generated, path)
    turns = [segment for session in generated.sessions for segment in session.segments]
    output = np.mean([segment.output_tokens for segment in turns])
    context = np.mean([session.context_tokens for session in generated.sessions])
    out.print(
        f"{path}: {len(generated.sessions)} sessions over {generated.sessions[-1].arrival:.1f} s, "
        f"{len(turns)} turns, output {output:.0f} tokens a turn, final context {context:.0f} "
        "tokens on average"
    )
