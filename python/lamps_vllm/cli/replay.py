# SPDX-License-Identifier: Apache-2.0
"""`lamps replay`: one workload against one running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lamps_vllm.cli.console import FAILED, err, fail_on, out, replay_with_progress
from lamps_vllm.replay.client import ReplayError, ReplayOptions
from lamps_vllm.replay.metrics import measure
from lamps_vllm.replay.records import Identity
from lamps_vllm.replay.report import run_table, run_warnings, save_run
from lamps_vllm.replay.workload import WorkloadError, load_workload


def replay(
    workload: Annotated[Path, typer.Argument(help="JSONL file (see `lamps workload`).")],
    *,
    base_url: Annotated[str, typer.Option(help="Server, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="Default: the server's first model.")] = None,
    identity: Annotated[
        Identity, typer.Option(help="How a request names its session.")
    ] = Identity.SESSION_ID,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the token ids.")] = 0,
    vocab_size: Annotated[int, typer.Option(min=16, help="Token ids stay below this.")] = 1024,
    call_factor: Annotated[float, typer.Option(help="Factor on the call times.")] = 1.0,
    rate_factor: Annotated[float, typer.Option(help="Factor on the arrival rate.")] = 1.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Longest turn, seconds.")] = 900.0,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY")] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="JSON file for the figures and every turn.")
    ] = None,
) -> None:
    """Replay agent sessions open-loop against any OpenAI-compatible server, and drain them all."""
    options = ReplayOptions(
        base_url=base_url,
        model=model,
        identity=identity,
        seed=seed,
        vocab_size=vocab_size,
        timeout_s=timeout,
        api_key=api_key,
    )
    with fail_on(WorkloadError, ReplayError):
        sessions = load_workload(workload).scaled(call_factor, rate_factor)
        result = replay_with_progress(sessions, options)
    metrics = measure(result)
    if output is not None:
        save_run(output, result, metrics)
    lengths = "random tokens, forced lengths" if result.forced_lengths else "real text"
    out.print(run_table(metrics, f"{workload.name} on {result.model} ({lengths})"))
    for warning in run_warnings(metrics):
        err.print(f"[bold yellow]warning:[/] {warning}")
    for session in result.sessions:
        if session.error:
            err.print(f"{session.id}: {session.error}", markup=False, highlight=False)
    if metrics.failed:
        raise typer.Exit(FAILED)
