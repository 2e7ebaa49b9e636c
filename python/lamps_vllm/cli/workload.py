# SPDX-License-Identifier: Apache-2.0
"""`lamps workload`: writes a generated workload, or a converted trace, as JSONL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError

from lamps_vllm.cli.console import err, fail_on, out
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.workload import Workload, WorkloadError, save_workload
from lamps_vllm.workloads.catalog import KINDS, Source
from lamps_vllm.workloads.traces import Gaps
from lamps_vllm.workloads.transform import fit_context, with_poisson_arrivals

Rate = Annotated[float, typer.Option(help="Mean arrivals, sessions per second (Poisson).")]
Sessions = Annotated[int, typer.Option(help="How many sessions.")]
CallScale = Annotated[float, typer.Option(help="Factor on the call times.")]
GapsOption = Annotated[
    Gaps, typer.Option(help="Pauses of a per-turn trace: corrected, or recorded (slower client).")
]
SharePrefix = Annotated[
    bool, typer.Option(help="Trace sessions with equal prefix sizes share these tokens.")
]
SubAgents = Annotated[bool, typer.Option(help="Keep the sub-agents of a trace.")]
ContextFactor = Annotated[float, typer.Option(help="Factor on prompts and tool results.")]
CallCap = Annotated[float, typer.Option(help="Longest call time, seconds.")]
KIND_HELP = "A trace file, or a generator: " + "; ".join(
    f"{name} ({kind.description})" for name, kind in KINDS.items()
)


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
    source: Annotated[str, typer.Option("--from", help=KIND_HELP)] = "mix",
    rate: Rate = 1.0,
    sessions: Annotated[
        int | None, typer.Option(help="How many sessions. Default: 120, or what the source has.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sessions.")] = 0,
    call_scale: Annotated[
        float | None, typer.Option(help="Factor on the call times. Default: 1; mix: 0.1.")
    ] = None,
    call_cap: CallCap = 3600.0,
    max_calls: Annotated[int, typer.Option(help="Most calls in a session (mix).")] = 4,
    mean_output: Annotated[float, typer.Option(help="Mean output of a turn, tokens (mix).")] = 40.0,
    max_context: Annotated[
        int | None, typer.Option(help="Longest context, tokens. Default: the source's; mix: 2048.")
    ] = None,
    context_factor: ContextFactor = 1.0,
    gaps: GapsOption = Gaps.CORRECTED,
    share_prefix: SharePrefix = False,
    subagents: SubAgents = True,
) -> None:
    """Generate agent sessions from published statistics, or convert and rescale a trace."""
    with fail_on(WorkloadError, OSError):
        if source == "mix":
            made = mix(
                seed,
                rate=rate,
                sessions=120 if sessions is None else sessions,
                call_scale=0.1 if call_scale is None else call_scale,
                max_calls=max_calls,
                mean_output=mean_output,
                max_context=2048 if max_context is None else max_context,
            )
        else:
            wanted = Source(
                source,
                sessions=sessions,
                call_factor=1.0 if call_scale is None else call_scale,
                call_cap=call_cap,
                context_factor=context_factor,
                gaps=gaps,
                share_prefix=share_prefix,
                subagents=subagents,
            )
            made = _from_source(wanted, seed, rate, max_context)
        save_workload(made, path)
    turns = [segment for session in made.sessions for segment in session.segments]
    output = np.mean([segment.output_tokens for segment in turns])
    context = np.mean([session.context_tokens for session in made.sessions])
    out.print(
        f"{path}: {len(made.sessions)} sessions over {made.sessions[-1].arrival:.1f} s, "
        f"{len(turns)} turns, output {output:.0f} tokens a turn, final context {context:.0f} "
        "tokens on average"
    )


def _from_source(source: Source, seed: int, rate: float, max_context: int | None) -> Workload:
    made = source.load(seed, rate)
    if source.is_file:
        made = with_poisson_arrivals(made, rate, np.random.default_rng(seed))
    if max_context is None:
        return made
    fitted = fit_context(made, max_context)
    if fitted.dropped or fitted.ended_early:
        err.print(
            f"{fitted.dropped} sessions dropped and {fitted.ended_early} ended early: "
            f"contexts of more than {max_context} tokens"
        )
    return fitted.workload
