# SPDX-License-Identifier: Apache-2.0
"""Part (b): real agent prompts arrive faster than stock vLLM can serve; stock, then LAMPS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lamps_vllm.cli.console import replay_with_progress
from lamps_vllm.demo.bfcl import bfcl_workload
from lamps_vllm.demo.decisions import logging_arm
from lamps_vllm.demo.model import NAME
from lamps_vllm.replay.arms import BUILT_IN, Deployment
from lamps_vllm.replay.comparison import Comparison, Plan

BLOCK_TOKENS = 32


@dataclass(frozen=True)
class Load:
    """How hard the engine is pressed; `kv_blocks` are blocks of BLOCK_TOKENS."""

    sessions: int
    arrivals_per_s: float
    kv_blocks: int


def load_for(on_gpu: bool) -> Load:
    """More than twice what the stock engine sustains, with memory for four or five contexts.

    A GPU computes this model some fifty times faster; its memory is made as scarce.
    """
    return Load(120, 12.0, 320) if on_gpu else Load(12, 0.7, 288)


def compare_under_load(deployment: Deployment, load: Load, folder: Path, log: Path) -> Comparison:
    """Replays the same sessions against stock vLLM and LAMPS, each on a fresh server.

    LAMPS writes its decisions to `log`. Raises BfclError, ServerError or ReplayError.
    """
    title = (
        f"{load.sessions} BFCL agent sessions, {load.arrivals_per_s:g} arriving per s, "
        f"one run per arm\n{NAME} at real speed, KV for {load.kv_blocks * BLOCK_TOKENS} tokens"
    )
    workload = bfcl_workload(load.sessions, load.arrivals_per_s)
    arms = (BUILT_IN["stock"], logging_arm(log))
    comparison = Comparison(Plan(arms, [workload], deployment, folder, title))
    comparison.run(replay_with_progress)
    return comparison
