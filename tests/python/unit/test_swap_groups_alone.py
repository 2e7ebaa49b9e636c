# SPDX-License-Identifier: Apache-2.0
"""The connector alone, where full attention and sliding windows have groups of their own."""

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from tests.support.driver import tokens
from tests.support.swapping import SwapDriver, WrongKV
from tests.support.windows import KINDS, ONE, blocks_of, engine, kinds, overwrite


def stored(driver: SwapDriver) -> None:
    """A request has finished, and others have taken its blocks."""
    driver.send("a0", 300, 20)
    driver.drain()
    driver.settle()
    overwrite(driver)


def again(driver: SwapDriver) -> int:
    """A longer prompt that begins with what the request left. Returns blocks that were loaded."""
    before = driver.totals["loaded_blocks"]
    driver.follow("a1", driver.requests["a0"], 20, 20)
    driver.drain()
    return driver.totals["loaded_blocks"] - before


@kinds
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_a_request_leaves_is_found_again(windows, ahead, ranks):
    driver = engine(AsyncScheduler, windows=windows, ahead=ahead, ranks=ranks, checksums=True)
    stored(driver)
    assert again(driver) == blocks_of(windows)
    assert driver.totals["failed_copies"] == 0
    driver.check_drained()


@kinds
@pytest.mark.parametrize("direction", ["load", "store"])
def test_the_test_sees_copies_that_do_not_happen(windows, direction):
    driver = engine(AsyncScheduler, windows=windows)
    driver.movers[0].outcome[direction] = "done"
    stored(driver)
    with pytest.raises(WrongKV):
        again(driver)


@kinds
def test_what_is_still_in_the_pool_is_not_loaded(windows):
    driver = engine(AsyncScheduler, windows=windows, room=1000)
    driver.send("a0", 300, 20)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == blocks_of(windows)
    assert again(driver) == 0
    driver.check_drained()


@kinds
def test_a_window_that_is_gone_costs_all_that_its_group_needs(windows):
    """Full attention alone is of no use; what is behind the window on the host does not matter."""
    driver = engine(AsyncScheduler, windows=windows)
    stored(driver)
    images = driver.tier.index._images
    passing = next(i for i, keys in images.items() if keys[0][-1] != 0)  # not of group 0
    driver.tier.index.drop(passing)
    assert again(driver) == 0
    assert driver.requests["a1"].num_output_tokens == 20
    driver.check_drained()


def test_windows_of_past_turns_give_way_first():
    driver = engine(AsyncScheduler, host_blocks=26, room=1000)
    driver.send("a0", 300, 20)
    for turn in range(1, 8):
        driver.drain()
        driver.settle()
        driver.follow(f"a{turn}", driver.requests[f"a{turn - 1}"], 44, 20)
    driver.drain()
    driver.settle()
    overwrite(driver)
    assert driver.totals["no_room"] == 0
    driver.follow("a8", driver.requests["a7"], 44, 20)
    driver.drain()
    assert driver.totals["loaded_blocks"] == blocks_of(ONE, 319 + 7 * 64)
    driver.check_drained()


@pytest.mark.parametrize("outcome", ["copy-failed", "checksum-mismatch"])
@kinds
def test_a_load_that_fails_is_recomputed(windows, outcome):
    driver = engine(AsyncScheduler, windows=windows)
    stored(driver)
    driver.movers[0].outcome["load"] = outcome
    assert again(driver) == 0
    assert driver.requests["a1"].num_output_tokens == 20
    assert driver.totals["failed_copies"] > 0
    driver.check_drained()


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_of_conversations(seed):
    rng = np.random.default_rng(seed)
    windows = KINDS[seed]
    rows = int(rng.choice([40, 300]))
    driver = engine(AsyncScheduler, windows=windows, room=1000, host_blocks=rows)
    system = tokens(1000, 96)
    for turn in range(4):
        for i in range(8):
            name = f"s{i}.{turn}"
            if turn == 0:
                prompt = tokens(2000 + i, int(rng.integers(60, 300)))
                driver.send(name, system + prompt if i % 2 else prompt, 20)
            else:
                driver.follow(name, driver.requests[f"s{i}.{turn - 1}"], 30, 20)
        driver.drain()
        driver.poison_free_blocks()
    assert len(driver.finished) == 32
    assert driver.totals["stored_blocks"] > 0 and driver.totals["loaded_blocks"] > 0
    driver.check_drained()
