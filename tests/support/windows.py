# SPDX-License-Identifier: Apache-2.0
"""Scenes of swapping where full attention and sliding windows have KV cache groups of their own."""

import pytest

from lamps_vllm import LampsScheduler
from tests.support import swap_sessions
from tests.support.lockstep import Windows
from tests.support.swap_sessions import CALL, crowd_out, pause, report
from tests.support.swapping import SwapDriver

HINTS = {"expected_call_seconds": CALL}
FINAL = {"final_turn": True}

KINDS = [
    Windows(64),
    Windows(40),
    Windows(70, groups=2),
    Windows(100, block_size=64),
    Windows(64, block_size=16, groups=3),
]
kinds = pytest.mark.parametrize("windows", KINDS, ids=str)
ONE = Windows(64)
LEFT = 300 + 20 - 1  # tokens with KV after a first turn: the last one has none yet


def aligned(windows: Windows, count: int) -> int:
    return count - count % max(windows.block_size, 32)


def blocks_of(windows: Windows, count: int = LEFT) -> int:
    """Blocks that a turn of so many tokens leaves and its continuation finds."""
    size, end = windows.block_size, aligned(windows, count)
    window = end // size - max(end - windows.tokens + 1, 0) // size
    return end // 32 + windows.groups * window


def blocks_for(windows: Windows, count: int) -> int:
    """Blocks for so many tokens, as LAMPS counts: in every group."""
    return -(-count // 32) + windows.groups * -(-count // windows.block_size)


def engine(scheduler_cls: type = LampsScheduler, *, room: int = 650, **options) -> SwapDriver:
    """A pool for `room` tokens."""
    options = {
        "windows": ONE, "host_blocks": 300, "max_num_seqs": 64, "step_tokens": 128, **options
    }  # fmt: skip
    blocks = 1 + blocks_for(options["windows"], room)
    return SwapDriver(scheduler_cls, blocks=blocks, **options)


def overwrite(driver: SwapDriver) -> None:
    """Others have had all free blocks."""
    pool = driver.scheduler.kv_cache_manager.block_pool
    pool.free_blocks(pool.get_new_blocks(driver.free_blocks))
    driver.poison_free_blocks()


def swapped(**options) -> SwapDriver:
    """Session a is on the host, and its blocks are used by others."""
    driver = engine(**options)
    pause(driver)
    crowd_out(driver)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == blocks_of(options.get("windows", ONE))
    overwrite(driver)
    return driver


def come_back(driver: SwapDriver, turn: int = 1) -> int:
    """The session's next turn, served to its end. Returns prompt tokens that it found."""
    computed = swap_sessions.come_back(driver, turn=turn)
    return driver.requests[f"a{turn}"].num_prompt_tokens - computed


early_or_late = pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
"""Whether a copy has begun ahead of need, or when the KV has to go."""


def leaving(early: bool, **options) -> SwapDriver:
    """Session a's KV is being copied out, and held there; b waits for its blocks."""
    driver = engine(step_tokens=2048, **options)
    driver.hold()
    if early:
        pause(driver)
        crowd_out(driver)
    else:
        driver.send("a0", 300, 20, session_id="a", hints=HINTS)
        driver.step()
        crowd_out(driver)
        while "a0" not in driver.finished:
            driver.step()
    driver.step(3)
    found = report(driver)
    assert (found["swapped"], found["copied_ahead"]) == (1, int(early))
    assert driver.tier.busy and len(driver.scheduler._holds) == 0
    assert "b0" not in driver.finished and driver.requests["b0"].num_computed_tokens == 0
    return driver
