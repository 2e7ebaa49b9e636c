# SPDX-License-Identifier: Apache-2.0
"""The simulator against the real vLLM scheduler and KV manager, turn by turn, in virtual time."""

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

import lamps_ext
from lamps_vllm import LampsScheduler
from lamps_vllm.pace import PaceProfile
from lamps_vllm.replay.records import Identity, ReplayResult
from lamps_vllm.replay.workload import Workload
from tests.support.lockstep import make_config, make_scheduler, replay

BLOCK = 32
PACE = PaceProfile()


def real(workload: Workload, scheduler: str, blocks: int, **config) -> ReplayResult:
    policy = "priority" if scheduler == "priority" else "fcfs"
    identity = Identity.PRIORITY if scheduler == "priority" else Identity.SESSION_ID
    kind = LampsScheduler if scheduler == "core" else AsyncScheduler
    built = make_scheduler(kind, make_config(blocks=blocks, policy=policy, **config))
    return replay(workload, built, identity=identity, pace=PACE)


def simulated(
    workload: Workload, scheduler: str, blocks: int, *, max_num_seqs: int = 256,
    step_tokens: int = 2048, prefix_caching: bool = True, max_model_len: int = 2048,
) -> lamps_ext.SimResult:  # fmt: skip
    segments = [segment for session in workload.sessions for segment in session.segments]
    table = lamps_ext.SimSessions(
        np.cumsum([0] + [len(session.segments) for session in workload.sessions]),
        [segment.prompt_tokens for segment in segments],
        [segment.output_tokens for segment in segments],
        [segment.call_seconds or 0.0 for segment in segments],
        arrival=[session.arrival for session in workload.sessions],
    )
    engine = lamps_ext.SimEngine(
        capacity_tokens=(blocks - 1) * BLOCK,  # vLLM never hands out its block 0
        block_tokens=BLOCK, max_context=max_model_len, step_tokens=step_tokens,
        max_running=max_num_seqs, prefix_caching=prefix_caching, base=PACE.base_s,
        per_prefill=PACE.per_prefill_token_s, per_decode=PACE.per_request_s,
    )  # fmt: skip
    simulation = lamps_ext.Simulation(
        engine, table, lamps_ext.SimLoad("given"), scheduler=scheduler, check_every=50
    )
    return simulation.run()


def check_same(workload: Workload, expected: ReplayResult, result: lamps_ext.SimResult) -> None:
    """Every turn begins, ends and finds cached blocks as in vLLM."""
    assert result.complete
    turns = result.turns
    seen = {
        (session, segment): row
        for row, (session, segment) in enumerate(
            zip(turns["session"], turns["segment"], strict=True)
        )
    }
    for number, session in enumerate(expected.sessions):
        for turn in session.turns:
            row = seen.pop((number, turn.index))
            actual = [turns[name][row] for name in ("first_token", "end", "cached_tokens")]
            wanted = [turn.first_token, turn.end, turn.cached_tokens]
            assert actual == pytest.approx(wanted, abs=1e-9), (session.id, turn.index)
    assert not seen
