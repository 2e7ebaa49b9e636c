# SPDX-License-Identifier: Apache-2.0
"""What the simulation benchmarks share: sweeps with a progress bar, medians, tables in Markdown."""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from lamps_vllm.simulate.case import Case, Load, LoadKind
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.sweep import Limits, find_capacities, run_cases

Read = Callable[[Outcome], float | None]


def swept(cases: Sequence[Case], title: str) -> list[Outcome]:
    """Outcomes in the order of the cases."""
    with Progress(transient=True) as progress:
        task = progress.add_task(title, total=len(cases))
        done = [0.0] * len(cases)

        def on_progress(index: int, share: float) -> None:
            done[index] = max(done[index], share)
            progress.update(task, completed=sum(done))

        return run_cases(cases, on_progress=on_progress)


def saturation(cases: Sequence[Case], highest: float) -> list[float]:
    """Highest rate at which the policy of each case keeps mean session time within twice that of a

    nearly idle engine.
    """
    idle = swept([replace(case, load=Load(LoadKind.RATE, 0.05)) for case in cases], "idle")
    found = [
        find_capacities([case], Limits(session_mean=2.0 * calm.metrics.session_mean), highest)[0]
        for case, calm in zip(cases, idle, strict=True)
    ]
    return [each.load for each in found]


def median(outcomes: Sequence[Outcome], read: Read) -> float:
    """Median over seeds; nan where nothing was measured."""
    values = [value for value in map(read, outcomes) if value is not None]
    return float(np.median(values)) if values else float("nan")


def cell(value: float) -> str:
    """A number with about three digits."""
    if not np.isfinite(value):
        return "-"
    return (
        f"{value:.3f}"
        if abs(value) < 1
        else f"{value:.2f}"
        if abs(value) < 100
        else f"{value:,.0f}"
    )


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def lower(ours: float, theirs: float) -> str:
    """`-32 %`: how far ours is below theirs."""
    return f"{100.0 * (ours / theirs - 1.0):+.0f} %" if theirs else "-"


class Page:
    """Collects Markdown, prints it, and says at the end how it was made."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.started = time.perf_counter()

    def add(self, text: str) -> None:
        self.parts.append(text)
        print(text, flush=True)

    def finish(self, path: Path | None) -> None:
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
        command = shlex.join(
            ["python", *(Path(word).name if "/" in word else word for word in sys.argv)]
        )
        self.add(f"`{command}`, commit {commit}, {time.perf_counter() - self.started:.0f} s\n")
        if path is not None:
            path.write_text("\n".join(self.parts), encoding="utf-8")


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--out", type=Path, help="write the tables here too")
    return made
