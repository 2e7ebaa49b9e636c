# SPDX-License-Identifier: Apache-2.0
"""Part (b): real agent prompts arrive faster than stock vLLM can serve; stock, then LAMPS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lamps_vllm.cli.console import replay_with_progress
from lamps_vllm.demo.bfcl import bfcl_workload
from lamps_vllm.replay.arms import BUILT_IN, Deployment
from lamps_vllm.replay.comparison import Comparison, Plan

ARMS = (BUILT_IN["stock"], BUILT_IN["lamps"])


@dataclass(frozen=True)
class Load:
    """How hard the engine is pressed; `kv_blocks` are blocks of 32 tokens."""

    sessions: int
    arrivals_per_s: float
    kv_blocks: int


def load_for(on_gpu: bool) -> Load:
    """About twice what the stock engine sustains, with memory for a handful of contexts.

    A GPU computes this model some fifty times faster; its memory is made as scarce.
    """
    return Load(120, 12.0, 480) if on_gpu else Load(14, 0.7, 288)


def compare_under_load(deployment: Deployment, load: Load, folder: Path) -> Comparison:
    """Replays the same sessions against stock vLLM and LAMPS, each on a fresh server.

    Raises BfclError, ServerError or ReplayError.
    """
    title = (
        f"{load.sessions} BFCL agent sessions, {load.arrivals_per_s:g} arriving per s, "
        f"one run per arm\n{deployment.describe()}"
    )
    workload = bfcl_workload(load.sessions, load.arrivals_per_s)
    comparison = Comparison(Plan(ARMS, [workload], deployment, folder, title))
    comparison.run(replay_with_progress)
    return comparison
