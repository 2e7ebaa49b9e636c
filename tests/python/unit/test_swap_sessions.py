# SPDX-License-Identifier: Apache-2.0
"""Sessions that go to the host and come back, under the real scheduler: always the KV of their own prefix."""

import ctypes

import pytest

from tests.support.swap_sessions import (
    CALL,
    about_to_return,
    check_over,
    come_back,
    crowd_out,
    fetch,
    pause,
    swapped,
)
from tests.support.swapping import SwapDriver, WrongKV


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_session_goes_out_and_is_loaded_on_return(ahead, ranks):
    driver = swapped(ahead=ahead, ranks=ranks, checksums=True)
    assert come_back(driver) < 64, "all but the last block comes from the host"
    assert driver.totals["loaded_blocks"] == 9
    assert driver.engine.checked_tokens > 300
    check_over(driver)


def test_the_test_sees_a_load_that_does_not_happen():
    driver = swapped()
    driver.movers[0].outcome["load"] = "done"  # says so, and copies nothing
    with pytest.raises(WrongKV, match="a1 attends to KV that is not its own"):
        come_back(driver)


def test_the_test_sees_a_store_that_does_not_happen():
    driver = SwapDriver(blocks=21)
    driver.movers[0].outcome["store"] = "done"
    pause(driver)
    crowd_out(driver)
    driver.drain()
    driver.settle()
    with pytest.raises(WrongKV):
        come_back(driver)


def test_a_session_that_is_expected_is_fetched_back_before_it_returns():
    driver = swapped()
    driver.engine.now = about_to_return(driver)
    driver.step()
    driver.settle()
    assert driver.totals["prefetched_blocks"] == 9
    assert len(driver.scheduler._holds) == 1, "kept, as if it had never left"
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == 0
    check_over(driver)


def test_a_turn_waits_for_its_kv_that_is_being_fetched():
    driver = swapped()
    fetch(driver)
    request = driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(5)
    assert request.num_computed_tokens == 0
    driver.hold(False)
    driver.drain()
    assert driver.totals["loaded_blocks"] == 0 and driver.totals["prefetched_blocks"] == 9
    check_over(driver)


def test_a_fetch_whose_session_has_ended_leaves_nothing():
    driver = swapped()
    fetch(driver)
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step()
    driver.engine.abort("a1")
    driver.step(2)
    assert len(driver.scheduler._book) == 0
    driver.hold(False)
    driver.settle()
    assert len(driver.scheduler._holds) == 0
    assert driver.free_blocks == driver.all_blocks
    check_over(driver)


def test_a_fetch_that_fails_is_recomputed():
    driver = swapped()
    fetch(driver)
    driver.movers[0].outcome["load"] = "checksum-mismatch"
    driver.hold(False)
    driver.settle()
    driver.movers[0].outcome.clear()
    assert driver.totals["failed_copies"] == 1 and driver.totals["prefetched_blocks"] == 0
    assert come_back(driver) > 300
    check_over(driver)


def test_a_fetch_waits_for_free_blocks_and_takes_none_from_others():
    driver = swapped()
    driver.send("c0", 500, 60, session_id="c", hints={"final_turn": True})
    driver.step(2)
    driver.engine.now = about_to_return(driver)
    driver.step(3)
    assert driver.totals["prefetched_blocks"] == 0
    assert driver.scheduler._core.report()["preemptions"] == 0
    driver.drain()
    check_over(driver)


early_or_late = pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
"""Whether a copy has begun ahead of need, or when the KV has to go."""


def leaving(early: bool, **options) -> SwapDriver:
    """Session a's KV is being copied out, and held there; b waits for its blocks."""
    driver = SwapDriver(blocks=21, **options)
    driver.hold()
    if early:
        pause(driver)
        crowd_out(driver)
    else:
        hints = {"expected_call_seconds": CALL}
        driver.send("a0", 300, 20, session_id="a", hints=hints)
        driver.step()
        crowd_out(driver)
        while "a0" not in driver.finished:
            driver.step()
    driver.step(3)
    report = driver.scheduler._core.report()
    assert (report["swapped"], report["copied_ahead"]) == (1, int(early))
    assert driver.tier.busy and len(driver.scheduler._holds) == 0
    assert "b0" not in driver.finished and driver.requests["b0"].num_computed_tokens == 0
    return driver


@early_or_late
def test_nobody_gets_a_block_that_is_being_copied_out(early):
    driver = leaving(early)
    driver.step(20)
    assert driver.requests["b0"].num_computed_tokens == 0
    driver.hold(False)
    driver.step(3)
    assert driver.requests["b0"].num_computed_tokens > 0
    driver.drain()
    assert come_back(driver) < 64
    check_over(driver)


@early_or_late
def test_blocks_that_went_out_are_the_first_to_be_used_again(early):
    driver = leaving(early)
    driver.engine.abort("b0")
    (job,) = driver.tier._jobs.values()
    driver.hold(False)
    driver.settle()
    assert driver.totals["stored_blocks"] == 9
    blocks = driver.scheduler.kv_cache_manager.block_pool.get_new_blocks(9)
    assert {block.block_id for block in blocks} == set(job.order[2].tolist())


@early_or_late
def test_what_went_out_is_found_in_place_until_it_is_used_again(early):
    driver = leaving(early)
    driver.engine.abort("b0")
    driver.hold(False)
    driver.settle()
    driver.send("d0", 80, 10, session_id="d", hints={"final_turn": True})  # 3 blocks of a's
    driver.drain()
    driver.poison_free_blocks()
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == 3
    check_over(driver)


@early_or_late
def test_a_session_that_returns_while_it_is_copied_out_keeps_its_blocks(early):
    driver = leaving(early)
    driver.engine.abort("b0")
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == 0
    driver.step()
    assert driver.scheduler._core.report()["held_tokens"] == 11 * 32, "none are the copy's"
    driver.hold(False)
    check_over(driver)


@early_or_late
def test_a_session_that_ends_while_it_is_copied_out(early):
    driver = leaving(early)
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.engine.abort("a1")
    driver.engine.abort("b0")
    driver.step(2)
    driver.hold(False)
    driver.settle()
    assert driver.free_blocks == driver.all_blocks
    check_over(driver)


@early_or_late
def test_the_slower_rank_decides_when_a_copy_is_over(early):
    driver = leaving(early, ranks=2)
    fast, slow = driver.movers
    fast.holding = False
    fast.let_go()
    driver.step(10)
    assert driver.tier.busy and driver.requests["b0"].num_computed_tokens == 0
    driver.hold(False)
    driver.drain()
    driver.settle()
    driver.hold()
    request = driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(2)
    slow.holding = False
    slow.let_go()
    driver.step(5)
    assert request.num_output_tokens == 0
    driver.hold(False)
    driver.drain()
    assert driver.totals["loaded_blocks"] == 9
    check_over(driver)


@pytest.mark.parametrize("bad", [0, 1])
def test_one_rank_that_fails_is_enough(bad):
    driver = swapped(ranks=2)
    driver.movers[bad].outcome["load"] = "copy-failed"
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(4)
    driver.movers[bad].outcome.clear()
    driver.drain()
    assert driver.totals["failed_copies"] == 1 and driver.totals["loaded_blocks"] == 0
    check_over(driver)


def test_a_turn_whose_load_failed_waits_again_if_it_has_to(monkeypatch):
    """vLLM puts it back into our queue, though the core has let it in."""
    driver = swapped()
    driver.movers[0].outcome["load"] = "copy-failed"
    request = driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    with monkeypatch.context() as patch:
        for _ in range(5):
            driver.step()
            if driver.totals["failed_copies"]:
                patch.setattr(driver.tier, "found_tokens", lambda *_: None)
        assert request in driver.scheduler.waiting and request.num_computed_tokens == 0
        assert driver.scheduler._core.report()["preemptions"] == 1
    driver.drain()
    assert request.num_output_tokens == 20
    check_over(driver)


@early_or_late
def test_a_store_that_fails_drops_the_kv(early):
    driver = leaving(early)
    driver.movers[0].outcome["store"] = "copy-failed"
    driver.hold(False)
    driver.drain()
    driver.settle()
    assert driver.totals["failed_copies"] == 1 and driver.totals["stored_blocks"] == 0
    assert driver.tier.index.free_rows == driver.tier.rows
    driver.poison_free_blocks()
    assert come_back(driver) > 64, "b needed more than the blocks that were free"
    check_over(driver)


def test_damage_on_the_host_is_recomputed():
    driver = swapped(checksums=True)
    ctypes.c_uint8.from_address(driver.movers[0].host_address + 40).value ^= 1
    assert come_back(driver) > 300
    assert driver.totals["failed_copies"] == 1
    assert len(driver.tier.index) == 0, "nobody else shall find it"
    check_over(driver)


def test_without_room_on_the_host_kv_is_dropped_and_nobody_waits():
    driver = SwapDriver(blocks=21, host_blocks=5)
    pause(driver)
    crowd_out(driver)
    driver.step()
    assert driver.requests["b0"].num_computed_tokens > 0
    driver.drain()
    assert driver.totals["stored_blocks"] == 0
    driver.poison_free_blocks()
    assert come_back(driver) > 64, "b needed more than the blocks that were free"
    check_over(driver)


@early_or_late
@pytest.mark.parametrize("both", [False, True], ids=["device", "device and host"])
def test_reset_while_kv_is_copied_out(both, early):
    driver = leaving(early)
    driver.engine.abort("b0")
    assert driver.scheduler.reset_prefix_cache(reset_connector=both) is True
    assert driver.free_blocks == driver.all_blocks
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == 0
    driver.poison_free_blocks()
    assert come_back(driver) > 300
    check_over(driver)


def test_reset_while_kv_is_fetched():
    driver = swapped()
    fetch(driver)
    assert driver.scheduler.reset_prefix_cache(reset_connector=True) is False, "blocks are written"
    driver.hold(False)
    driver.settle()
    assert driver.scheduler.reset_prefix_cache(reset_connector=True) is True
    assert len(driver.tier.index) == 0
    assert come_back(driver) > 300
    check_over(driver)


def test_abort_while_its_kv_is_loaded():
    driver = swapped()
    driver.hold()
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(3)
    driver.engine.abort("a1")
    driver.step(3)
    assert driver.free_blocks < driver.all_blocks, "blocks that are written are nobody else's"
    driver.hold(False)
    driver.settle()
    assert driver.free_blocks == driver.all_blocks
    check_over(driver)


def test_two_turns_of_a_session_at_once():
    driver = swapped()
    for i in range(2):
        driver.follow(f"a1.{i}", driver.requests["a0"], 20, 20, session_id="a")
    driver.drain()
    assert {"a1.0", "a1.1"} <= set(driver.finished)
    check_over(driver)


def test_what_was_copied_before_is_not_copied_again():
    driver = swapped()
    come_back(driver)
    crowd_out(driver, "c")
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == 9 + 2, "the second turn added two blocks"
    assert len(driver.tier.index) == 11
    driver.poison_free_blocks()
    driver.follow("a2", driver.requests["a1"], 20, 20, session_id="a")
    driver.drain()
    assert driver.totals["loaded_blocks"] == 9 + 11
    check_over(driver)


@early_or_late
def test_a_fault_of_lamps_while_copies_are_under_way(monkeypatch, early):
    driver = leaving(early)

    def broken() -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(driver.scheduler, "_begin_step", broken)
    driver.step(2)
    assert driver.scheduler._faulted and not driver.tier.driven
    driver.hold(False)
    driver.drain()
    driver.settle()
    assert driver.free_blocks == driver.all_blocks
    driver.check_drained()
