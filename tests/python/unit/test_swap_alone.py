# SPDX-License-Identifier: Apache-2.0
"""The connector under the stock scheduler: a cache in host memory behind vLLM's own."""

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from tests.support.swapping import SwapDriver, WrongKV


def stored(driver: SwapDriver, name: str = "a", tokens: int = 300) -> None:
    """A request has finished, and others have taken its blocks."""
    driver.send(f"{name}0", tokens, 20)
    driver.drain()
    driver.settle()
    driver.send(f"{name}.others", 600, 20)
    driver.drain()
    driver.settle()
    driver.poison_free_blocks()


def again(driver: SwapDriver, name: str = "a") -> int:
    """A longer prompt that begins with what the request left. Returns blocks that were loaded."""
    before = driver.totals["loaded_blocks"]
    driver.follow(f"{name}1", driver.requests[f"{name}0"], 20, 20)
    driver.drain()
    return driver.totals["loaded_blocks"] - before


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_a_request_leaves_is_found_again(ahead, ranks):
    driver = SwapDriver(AsyncScheduler, blocks=21, ahead=ahead, ranks=ranks)
    stored(driver)
    assert again(driver) == 9
    driver.check_drained()


def test_what_is_still_in_the_pool_is_not_loaded():
    driver = SwapDriver(AsyncScheduler, blocks=41)
    driver.send("a0", 300, 20)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == 9
    assert again(driver) == 0
    driver.check_drained()


def test_the_test_sees_a_load_that_does_not_happen():
    driver = SwapDriver(AsyncScheduler, blocks=21)
    stored(driver)
    driver.movers[0].outcome["load"] = "done"
    with pytest.raises(WrongKV):
        again(driver)


def test_a_conversation_is_stored_once():
    driver = SwapDriver(AsyncScheduler, blocks=41)
    driver.send("a0", 300, 20)
    driver.drain()
    driver.settle()
    driver.follow("a1", driver.requests["a0"], 60, 20)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == 12
    assert len(driver.tier.index) == 12
    assert len(driver.tier.index._images) == 1
    driver.check_drained()


def test_a_shared_beginning_is_stored_once():
    driver = SwapDriver(AsyncScheduler, blocks=41)
    system = list(range(3, 131))  # 4 blocks
    for i in range(3):
        driver.send(f"r{i}", system + list(range(200 + 100 * i, 300 + 100 * i)), 20)
        driver.drain()
    driver.settle()
    assert len(driver.tier.index) == driver.totals["stored_blocks"] == 4 + 3 * 3
    driver.check_drained()


def test_the_least_recently_used_give_way():
    driver = SwapDriver(AsyncScheduler, blocks=41, host_blocks=20)
    for name in "ab":
        driver.send(f"{name}0", 300, 20)
        driver.drain()
        driver.settle()
    driver.send("c0", 300, 20)
    driver.drain()
    driver.settle()
    keys = {name: driver.tier.keys(driver.requests[f"{name}0"]) for name in "abc"}
    found = {name: driver.tier.index.found(keys[name][:9]) for name in "abc"}
    assert found == {"a": 0, "b": 9, "c": 9}
    driver.check_drained()


def test_no_room_is_no_reason_to_wait():
    driver = SwapDriver(AsyncScheduler, blocks=41, host_blocks=12)
    driver.hold()
    for name in "ab":
        driver.send(f"{name}0", 300, 20)
        driver.drain()
    assert driver.totals["no_room"] == 1
    driver.hold(False)
    driver.settle()
    assert driver.totals["stored_blocks"] == 9
    driver.check_drained()


def test_blocks_are_not_used_again_while_they_are_read():
    driver = SwapDriver(AsyncScheduler, blocks=21)
    driver.hold()
    driver.send("a0", 300, 20)
    driver.drain()
    assert driver.all_blocks - driver.free_blocks == 9
    driver.hold(False)
    driver.settle()
    assert driver.all_blocks == driver.free_blocks
    driver.check_drained()


@pytest.mark.parametrize("outcome", ["copy-failed", "checksum-mismatch"])
def test_a_load_that_fails_is_recomputed(outcome):
    driver = SwapDriver(AsyncScheduler, blocks=21)
    stored(driver)
    driver.movers[0].outcome["load"] = outcome
    assert again(driver) == 0
    assert driver.requests["a1"].num_output_tokens == 20
    assert driver.totals["failed_copies"] == 1
    driver.check_drained()


def test_reset_forgets_the_host_too():
    driver = SwapDriver(AsyncScheduler, blocks=21)
    stored(driver)
    assert driver.scheduler.reset_prefix_cache(reset_connector=True)
    assert len(driver.tier.index) == 0
    assert again(driver) == 0
    driver.check_drained()


def test_reset_of_the_host_while_blocks_are_read():
    driver = SwapDriver(AsyncScheduler, blocks=21)
    driver.hold()
    driver.send("a0", 300, 20)
    driver.drain()
    assert driver.scheduler.reset_connector_cache()
    assert driver.free_blocks == driver.all_blocks
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == 0
    driver.check_drained()


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_of_conversations(seed):
    rng = np.random.default_rng(seed)
    driver = SwapDriver(AsyncScheduler, blocks=31, host_blocks=int(rng.choice([12, 100])))
    for turn in range(4):
        for i in range(8):
            name = f"s{i}.{turn}"
            if turn == 0:
                driver.send(name, int(rng.integers(60, 300)), 20)
            else:
                driver.follow(name, driver.requests[f"s{i}.{turn - 1}"], 30, 20)
        driver.drain()
        driver.poison_free_blocks()
    assert len(driver.finished) == 32
    assert driver.totals["stored_blocks"] > 0
    driver.check_drained()
