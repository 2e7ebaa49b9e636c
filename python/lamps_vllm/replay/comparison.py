# SPDX-License-Identifier: Apache-2.0
"""Runs the same workloads against several arms, one server at a time, and keeps every result.

A repeat is one workload; within it every arm runs once, on a fresh server. The order of the arms
rotates from repeat to repeat, so that a drift of the machine falls on all of them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamps_vllm.replay.arms import Arm, Deployment, command_line
from lamps_vllm.replay.client import ReplayOptions
from lamps_vllm.replay.metrics import RunMetrics, compare_arms, measure, session_times
from lamps_vllm.replay.records import ReplayResult
from lamps_vllm.replay.report import plot_comparison, save_json, save_run
from lamps_vllm.replay.server import free_port, running_server
from lamps_vllm.replay.workload import Workload

Replayer = Callable[[Workload, ReplayOptions, str], ReplayResult]
Telling = Callable[[Workload], Workload]
"""What an arm's clients expect of a workload's turns: the same sessions with other hints."""


@dataclass(frozen=True)
class Plan:
    """What to compare. The first arm is the reference; repeats are numbered from 0."""

    arms: Sequence[Arm]
    workloads: Sequence[Workload]
    deployment: Deployment
    folder: Path
    title: str
    timeout_s: float = 900.0
    telling: Mapping[str, Telling] = field(default_factory=dict)
    """By the name of the arm; the clients of the others say what the workload says."""

    def workload_for(self, arm: Arm, repeat: int) -> Workload:
        """What the clients of `arm` send in a repeat."""
        workload = self.workloads[repeat]
        tell = self.telling.get(arm.name)
        return tell(workload) if tell else workload

    def order(self) -> Iterator[tuple[int, Arm]]:
        """Repeats with their arms, rotated."""
        for repeat in range(len(self.workloads)):
            shift = repeat % len(self.arms)
            for arm in [*self.arms[shift:], *self.arms[:shift]]:
                yield repeat, arm


@dataclass
class Comparison:
    """Results so far; written to the folder after every run."""

    plan: Plan
    runs: dict[str, dict[int, RunMetrics]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for arm in self.plan.arms:
            self.runs[arm.name] = {}
            self.times[arm.name] = []

    @property
    def reference(self) -> str:
        return self.plan.arms[0].name

    def run(self, replayer: Replayer) -> None:
        """Runs everything that is planned. Raises ServerError or ReplayError, keeping the rest."""
        for repeat, arm in self.plan.order():
            self._run_one(repeat, arm, replayer)

    def _run_one(self, repeat: int, arm: Arm, replayer: Replayer) -> None:
        port = free_port()
        label = f"{arm.name}, repeat {repeat}"
        log = self.plan.folder / "logs" / f"{arm.name}-{repeat}.log"
        command = command_line(arm, self.plan.deployment, port)
        with running_server(command, port, log) as base_url:
            options = ReplayOptions(
                base_url=base_url,
                identity=arm.identity,
                seed=repeat,
                timeout_s=self.plan.timeout_s,
            )
            result = replayer(self.plan.workload_for(arm, repeat), options, label)
        metrics = measure(result)
        self.runs[arm.name][repeat] = metrics
        self.times[arm.name] += session_times(result.sessions)
        save_run(self.plan.folder / "runs" / f"{arm.name}-{repeat}.json", result, metrics)
        self.save()

    def save(self) -> None:
        """Writes results.json: settings, every run's figures, ratios to the reference."""
        plan = self.plan
        save_json(
            plan.folder / "results.json",
            {
                "title": plan.title,
                "deployment": plan.deployment.describe(),
                "reference": self.reference,
                "repeats_planned": len(plan.workloads),
                "arms": {
                    arm.name: {
                        "identity": arm.identity,
                        "command": _printable(command_line(arm, plan.deployment, 0)),
                    }
                    for arm in plan.arms
                },
                "runs": [
                    {"arm": arm, "repeat": repeat, "metrics": metrics.model_dump()}
                    for arm, by_repeat in self.runs.items()
                    for repeat, metrics in by_repeat.items()
                ],
                "ratios": {
                    arm: {name: value and value._asdict() for name, value in figures.items()}
                    for arm, figures in compare_arms(self.runs, self.reference).items()
                },
            },
        )

    def plot(self) -> Path:
        """Draws what has been run so far and returns the PNG's path."""
        path = self.plan.folder / "comparison.png"
        done = {arm: runs for arm, runs in self.runs.items() if runs}
        times = {arm: values for arm, values in self.times.items() if values}
        plot_comparison(path, done, times, self.reference, self.plan.title)
        return path


def _printable(command: Sequence[str]) -> str:
    """A command as one would type it, without the paths of this machine."""
    text = shlex.join(["python" if word == sys.executable else word for word in command])
    return text.replace(str(Path.home()), "~")
