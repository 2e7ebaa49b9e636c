# SPDX-License-Identifier: Apache-2.0
"""The simulator that swaps against the real scheduler with the real connector, in virtual time.

In both a copy is over before the next step. Most turns end at the same instant, but not all: whoever
enters a step earlier or later moves everyone behind it. So sums are compared.
"""

import numpy as np
import pytest

import lamps_ext
from lamps_vllm import LampsScheduler
from lamps_vllm.replay.records import ReplayResult
from lamps_vllm.swap.calibration import Calibration, Rate
from tests.python.property.test_sim_against_vllm import (
    BLOCK,
    PACE,
    Load,
    engine_of,
    mix,
    table_of,
)
from tests.support import lockstep, swapping

BLOCKS = 140
ROW_BYTES = 2 * 16384
BYTES_PER_S = 1e10
"""So that what a pool holds is copied in less than a step, even one that computes nothing."""


class Unchecked(swapping.SwapLockstep):
    """Copies are made, but nobody looks at every token's KV: other tests do."""

    def _compute(self, request, count):
        return


def real(load: Load, policy: str, rows: int, monkeypatch) -> tuple[ReplayResult, dict[str, int]]:
    monkeypatch.setattr(swapping, "BYTES_PER_S", BYTES_PER_S)
    rates = [Rate(1, BYTES_PER_S, BYTES_PER_S)]
    calibration = Calibration(thresholds=swapping.THRESHOLDS, rates=rates)
    monkeypatch.setattr(swapping, "CALIBRATION", calibration)
    config = lockstep.make_config(
        blocks=BLOCKS, lamps={"policy": policy},
        connector={"swap_space_gib": rows * ROW_BYTES / 2**30},
    )  # fmt: skip
    scheduler = lockstep.make_scheduler(LampsScheduler, config)
    assert scheduler.connector.tier.rows == rows

    def engine(scheduler, pace):
        made = Unchecked(scheduler, pace)
        made.ranks = [swapping.Rank(config, scheduler.kv_cache_config)]
        return made

    monkeypatch.setattr(lockstep, "Lockstep", engine)
    result = lockstep.replay(load.workload, scheduler, pace=PACE)
    assert not scheduler._faulted
    return result, scheduler.connector.tier.totals


def simulated(load: Load, policy: str, rows: int) -> lamps_ext.SimResult:
    engine = engine_of(
        blocks=BLOCKS, host_tokens=rows * BLOCK, host="swap", host_bytes_per_s=BYTES_PER_S,
        kv_bytes_per_token=ROW_BYTES // BLOCK,
    )  # fmt: skip
    options = lamps_ext.Options()
    options.policy = policy
    simulation = lamps_ext.Simulation(
        engine, table_of(load), lamps_ext.SimLoad("given"), options, check_every=20
    )
    return simulation.run()


def turn_times(result: ReplayResult) -> np.ndarray:
    return np.array([turn.end - turn.sent for each in result.sessions for turn in each.turns])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pools", [10.0, 2.0, 0.5])
@pytest.mark.parametrize("policy", ["lamps", "infercept"])
def test_sessions_that_swap(policy: str, pools: float, seed: int, monkeypatch):
    load = mix(seed, call_scale=0.5)
    rows = round(pools * BLOCKS)
    expected, totals = real(load, policy, rows, monkeypatch)
    result = simulated(load, policy, rows)
    assert result.complete
    turns, counters = result.turns, result.counters
    seen = turn_times(expected)
    assert len(turns["end"]) == len(seen)
    assert np.mean(turns["end"] - turns["sent"]) == pytest.approx(np.mean(seen), rel=0.03)
    assert counters["stored_tokens"] / BLOCK == pytest.approx(totals["stored_blocks"], rel=0.1)
    loaded = totals["loaded_blocks"] + totals["prefetched_blocks"]
    assert counters["loaded_tokens"] / BLOCK == pytest.approx(loaded, rel=0.2)
    assert totals["stored_blocks"] > 0
