# SPDX-License-Identifier: Apache-2.0
"""Part (b): real agent prompts arrive faster than stock vLLM can serve; stock, then LAMPS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lamps_vllm.demo.bfcl import bfcl_workload
from lamps_vllm.replay.arms import BUILT_IN, Arm, Deployment, command_line
from lamps_vllm.replay.client import ReplayOptions, replay
from lamps_vllm.replay.metrics import RunMetrics, measure, session_times
from lamps_vllm.replay.records import ReplayResult
from lamps_vllm.replay.report import comparison_table, plot_comparison, run_warnings, save_run
from lamps_vllm.replay.server import free_port, running_server
from lamps_vllm.replay.workload import Workload

ARMS = ("stock", "lamps")


@dataclass(frozen=True)
class Load:
    """How hard the engine is pressed: sessions, their arrivals per second, KV in 32-token blocks."""

    sessions: int
    arrivals_per_s: float
    kv_blocks: int


def load_for(on_gpu: bool) -> Load:
    """About twice what the stock engine sustains, with memory for a handful of contexts.

    On a GPU this model is some fifty times faster; memory stays as scarce.
    """
    return Load(120, 12.0, 480) if on_gpu else Load(18, 0.5, 320)


def run_overload(deployment: Deployment, load: Load, folder: Path, console: Console) -> Path:
    """Replays the same sessions against each arm; prints the table, returns the plot's path.

    Raises ServerError, ReplayError or BfclError.
    """
    workload = bfcl_workload(load.sessions, load.arrivals_per_s)
    runs: dict[str, dict[int, RunMetrics]] = {}
    times: dict[str, Sequence[float]] = {}
    for name in ARMS:
        result = _run_arm(BUILT_IN[name], deployment, workload, folder, console)
        metrics = measure(result)
        runs[name], times[name] = {0: metrics}, session_times(result.sessions)
        save_run(folder / f"{name}.json", result, metrics)
        for warning in run_warnings(metrics):
            console.print(f"  [yellow]{name}: {warning}[/yellow]")
    title = f"{load.sessions} BFCL agent sessions; {deployment.describe()}"
    console.print(comparison_table(runs, ARMS[0], title))
    plot = folder / "overload.png"
    plot_comparison(plot, runs, times, ARMS[0], title)
    return plot


def _run_arm(
    arm: Arm, deployment: Deployment, workload: Workload, folder: Path, console: Console
) -> ReplayResult:
    port = free_port()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(f"  {arm.name}: starting the server", total=len(workload.sessions))
        command = command_line(arm, deployment, port)
        with running_server(command, port, folder / f"{arm.name}.log") as base_url:
            progress.update(task, description=f"  {arm.name}: sessions done")
            options = ReplayOptions(
                base_url,
                identity=arm.identity,
                on_session=lambda record: progress.advance(task),
            )
            return replay(workload, options)
