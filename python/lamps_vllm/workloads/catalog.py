# SPDX-License-Identifier: Apache-2.0
"""Workloads by name or file: what `lamps workload`, `lamps simulate` and the benchmarks accept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from lamps_vllm.replay.generate import MixOptions, Shape, generate_mix
from lamps_vllm.replay.workload import Workload, WorkloadError, load_workload, read_lines
from lamps_vllm.workloads.agents import AgentOptions, generate_agents
from lamps_vllm.workloads.toolbench import generate_toolbench
from lamps_vllm.workloads.traces import Gaps, load_trace
from lamps_vllm.workloads.transform import Fitted, capped_calls, fit_context, scaled_context

Generate = Callable[[Generator, int, float], Workload]


def _published(shape: Shape) -> Generate:
    return lambda rng, sessions, rate: generate_mix(
        rng, MixOptions.published(shape, sessions, rate)
    )


def _agents(gaps: str) -> Generate:
    return lambda rng, sessions, rate: generate_agents(
        rng, AgentOptions(sessions=sessions, rate=rate, gaps=gaps)
    )


@dataclass(frozen=True)
class Kind:
    """A generator with its usual number of sessions."""

    generate: Generate
    sessions: int
    description: str


KINDS = {
    "single": Kind(_published(Shape.SINGLE), 400, "InferCept's mix, one call a session"),
    "multi": Kind(_published(Shape.MULTI), 400, "InferCept's mix, every call"),
    "mix": Kind(
        lambda rng, sessions, rate: generate_mix(rng, MixOptions(sessions=sessions, rate=rate)),
        120,
        "the load of `lamps compare`: at most 4 calls, outputs of 40 tokens, call times x0.1",
    ),
    "toolbench": Kind(generate_toolbench, 400, "like ToolBench: tool descriptions, short calls"),
    "agents": Kind(_agents("corrected"), 100, "coding agents, fitted to recorded sessions"),
    "agents-recorded": Kind(_agents("recorded"), 100, "the same with pauses as recorded"),
}


@dataclass(frozen=True)
class Source:
    """Where sessions come from and what is changed about them. Picklable: processes pass it on.

    `name` is one of KINDS or the path of a JSONL file (ours, or one entry per turn).
    """

    name: str
    sessions: int | None = None  # generated sessions, or the first so many of a file
    call_factor: float = 1.0
    call_cap: float | None = 3600.0
    context_factor: float = 1.0
    gaps: Gaps = Gaps.CORRECTED
    share_prefix: bool = False
    subagents: bool = True

    @property
    def is_file(self) -> bool:
        return self.name not in KINDS

    def load(self, seed: int, rate: float = 1.0) -> Workload:
        """The sessions, scaled. A file gives the same ones for every seed; `rate` is ignored then.

        Raises WorkloadError.
        """
        if self.is_file:
            workload = self._read()
        else:
            kind = KINDS[self.name]
            count = self.sessions or kind.sessions
            if count < 1:
                raise WorkloadError(f"sessions = {count}: accepted are values >= 1")
            workload = kind.generate(np.random.default_rng(seed), count, rate)
        workload = scaled_context(workload.scaled(self.call_factor), self.context_factor)
        return workload if self.call_cap is None else capped_calls(workload, self.call_cap)

    def fitted(self, seed: int, max_context: int, rate: float = 1.0) -> Fitted:
        """`load`, within a context limit."""
        return fit_context(self.load(seed, rate), max_context)

    def _read(self) -> Workload:
        path = Path(self.name)
        if not path.is_file():
            raise WorkloadError(f"{self.name}: neither a file nor a generator ({', '.join(KINDS)})")
        if _is_per_turn(path):
            workload = load_trace(
                path, gaps=self.gaps, share_prefix=self.share_prefix, subagents=self.subagents
            )
        else:
            workload = load_workload(path)
        if self.sessions is None:
            return workload
        return Workload(sessions=workload.sessions[: self.sessions])


def _is_per_turn(path: Path) -> bool:
    """Tells the two formats apart by the first line."""
    for _, line in read_lines(path):
        try:
            first = json.loads(line)
        except ValueError:
            return False  # the loader says what is wrong
        return isinstance(first, dict) and "turns" in first
    return False
