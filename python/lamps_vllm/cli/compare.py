# SPDX-License-Identifier: Apache-2.0
"""`lamps compare`: the same workloads against several servers, ratios to the first."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from lamps_vllm.cli.console import FAILED, err, fail_on, out, replay_with_progress
from lamps_vllm.cli.workload import CallScale, Rate, Sessions, mix
from lamps_vllm.pace import PaceError
from lamps_vllm.replay.arms import BUILT_IN, Arm, ArmError, Deployment, parse_arm
from lamps_vllm.replay.client import ReplayError, ReplayOptions
from lamps_vllm.replay.comparison import Comparison, Plan
from lamps_vllm.replay.records import ReplayResult
from lamps_vllm.replay.report import comparison_table, run_warnings
from lamps_vllm.replay.server import ServerError
from lamps_vllm.replay.workload import Workload, WorkloadError, load_workload

INTERRUPTED = 130
# Twice what stock vLLM sustains on the default deployment (1.58 sessions/s, measured).
OVERLOAD_RATE = 3.15
ARM_HELP = (
    f"Built-in name ({', '.join(BUILT_IN)}), NAME=BUILT-IN plus vLLM options, or NAME=COMMAND with "
    "{port}, {model}, {options}. Repeat it; the first is the reference."
)


def compare(
    workloads: Annotated[
        list[Path] | None,
        typer.Argument(help="JSONL files, one repeat each. None: the generated mix, one per seed."),
    ] = None,
    *,
    arm: Annotated[list[str] | None, typer.Option(help=ARM_HELP)] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats with generated workloads.")] = 3,
    rate: Rate = OVERLOAD_RATE,
    sessions: Sessions = 120,
    call_scale: CallScale = 0.1,
    model: Annotated[
        str | None, typer.Option(help="Default: a 2-layer model with random weights.")
    ] = None,
    block_size: Annotated[int, typer.Option(min=1, help="KV block, tokens.")] = 32,
    kv_blocks: Annotated[
        int | None,
        typer.Option(min=1, help="KV blocks. Default: 140 with the tiny model, else vLLM's own."),
    ] = None,
    max_model_len: Annotated[int, typer.Option(min=16, help="Longest context, tokens.")] = 2048,
    pace: Annotated[
        str | None,
        typer.Option(
            help="Step-time profile (name or file; CPU build of vLLM only), or `none` for real "
            "speed. Default: cpu-demo with the tiny model, else none."
        ),
    ] = None,
    server_options: Annotated[str, typer.Option(help="More vLLM options for every arm.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Longest turn, seconds.")] = 900.0,
    output: Annotated[Path, typer.Option("--out", help="Folder for results.")] = Path(
        "results/compare"
    ),
) -> None:
    """Compare servers: same sessions, one server at a time, interleaved repeats, all drained."""
    with fail_on(WorkloadError, ArmError, PaceError):
        arms = [parse_arm(text) for text in arm or ("stock", "priority", "lamps")]
        _require_distinct(arms)
        if workloads:
            repeats = [load_workload(path) for path in workloads]
            source = ", ".join(path.name for path in workloads)
        else:
            repeats = [
                mix(seed, rate=rate, sessions=sessions, call_scale=call_scale,
                    max_context=max_model_len)
                for seed in range(seeds)
            ]  # fmt: skip
            source = f"{sessions} sessions at {rate:g}/s, call times x{call_scale:g}"
        deployment = Deployment(
            model=model,
            block_size=block_size,
            kv_blocks=kv_blocks or (140 if model is None else None),
            max_model_len=max_model_len,
            pace=_pace(pace, tiny=model is None),
            extra=tuple(shlex.split(server_options)),
        )
    plan = Plan(
        arms=arms,
        workloads=repeats,
        deployment=deployment,
        folder=output,
        title=f"{source}; {_lengths(repeats)}\n{deployment.describe()}",
        timeout_s=timeout,
    )
    _run(Comparison(plan))


def _pace(choice: str | None, tiny: bool) -> str | None:
    if choice is None:
        return "cpu-demo" if tiny else None
    return None if choice == "none" else choice


def _require_distinct(arms: list[Arm]) -> None:
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ArmError(f"arm {name!r} is given twice")


def _lengths(repeats: list[Workload]) -> str:
    chat = any(session.is_chat for workload in repeats for session in workload.sessions)
    return "real text" if chat else "random tokens, forced lengths"


def _run(comparison: Comparison) -> None:
    """Runs, then shows whatever there is, also after an interruption."""
    # A SIGTERM must stop the server too; the default action would leave it behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    code = 0
    try:
        comparison.run(_replay)
    except (ServerError, ReplayError) as error:
        err.print(f"error: {error}", style="bold red", markup=False)
        code = FAILED
    except (KeyboardInterrupt, SystemExit):
        err.print("interrupted: what follows is what had been run")
        code = INTERRUPTED
    show(comparison)
    if code == 0 and any(run.failed for by in comparison.runs.values() for run in by.values()):
        code = FAILED
    if code:
        raise typer.Exit(code)


def _replay(workload: Workload, options: ReplayOptions, label: str) -> ReplayResult:
    return replay_with_progress(workload, options, label)


def show(comparison: Comparison) -> None:
    """Prints the table and the doubts, and draws the plot."""
    plan = comparison.plan
    out.print(comparison_table(comparison.runs, comparison.reference, plan.title))
    out.print("median (lowest..highest) over repeats; ratios are to the first column")
    for arm, by_repeat in comparison.runs.items():
        for repeat, metrics in by_repeat.items():
            for warning in run_warnings(metrics):
                err.print(f"[bold yellow]warning:[/] {arm}, repeat {repeat}: {warning}")
    if any(comparison.runs.values()):
        out.print(f"{comparison.plot()}\n{plan.folder / 'results.json'}")
