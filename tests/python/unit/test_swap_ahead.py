# SPDX-License-Identifier: Apache-2.0
"""Kept KV that is copied to the host ahead of need: always the KV of its own prefix, whatever comes first."""

import pytest

import lamps_ext
from tests.support.swap_sessions import (
    BLOCKS,
    CALL,
    TOKENS,
    about_to_return,
    check_over,
    come_back,
    copied,
    crowd_out,
    fetch,
    is_kept,
    pause,
    pause_another,
    report,
    swapped,
)
from tests.support.swapping import SwapDriver, WrongKV

# --- the copy is there first ---


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_is_copied_is_let_go_at_once_and_loaded_on_return(ahead, ranks):
    driver = copied(ahead=ahead, ranks=ranks, checksums=True)
    driver.hold()  # nothing more has to be copied for b
    crowd_out(driver)
    assert driver.requests["b0"].num_computed_tokens == 600
    found = report(driver)
    assert (found["swapped"], found["released"], found["held_tokens"]) == (0, 0, 0)
    assert found["host_tokens"] == TOKENS
    driver.drain()
    driver.hold(False)
    driver.poison_free_blocks()
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == BLOCKS
    check_over(driver)


def test_blocks_whose_kv_is_on_the_host_are_the_first_to_be_used_again():
    driver = copied()
    pool = driver.scheduler.kv_cache_manager.block_pool
    handle = driver.handle_of("a")
    ids = {block.block_id for block in driver.scheduler._holds.blocks_of(handle)}
    driver.swaps.carry_out([handle], [], [], [], [])
    assert {block.block_id for block in pool.get_new_blocks(BLOCKS)} == ids


def test_a_session_that_ends_leaves_its_kv_to_the_cache():
    """Its host copy goes, so the pool's is the last one: not the first to be used again."""
    driver = copied()
    handle = driver.handle_of("a")
    blocks = driver.scheduler._holds.blocks_of(handle)
    driver.swaps.carry_out([handle], [handle], [], [], [])
    assert all(block.block_hash is not None and block.ref_cnt == 0 for block in blocks)


def test_the_test_sees_a_copy_that_does_not_happen():
    driver = SwapDriver(blocks=21)
    driver.movers[0].outcome["store"] = "done"  # says so, and copies nothing
    pause(driver)
    driver.settle()
    crowd_out(driver)
    driver.drain()
    with pytest.raises(WrongKV, match="a1 attends to KV that is not its own"):
        come_back(driver)


def test_a_turn_that_returns_in_time_finds_its_kv_in_place():
    driver = copied()
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == 0
    driver.settle()
    assert driver.totals["stored_blocks"] == BLOCKS + 2, "the second turn added two blocks"
    check_over(driver)


@pytest.mark.parametrize("gone", [False, True], ids=["kept", "on the host only"])
def test_a_returning_turn_counts_its_kv_once(gone):
    driver = copied()
    if gone:
        crowd_out(driver)
        driver.drain()
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    event = driver.scheduler._events[-1]
    assert event[0] == lamps_ext.ARRIVE
    shared, on_host = event[5], event[7]
    assert (shared, on_host) == (0, TOKENS if gone else 0)
    driver.drain()
    check_over(driver)


def fetched() -> SwapDriver:
    """Session a was on the host and has been fetched back; it stays there, too."""
    driver = swapped()
    driver.engine.now = about_to_return(driver)
    driver.step()
    driver.settle()
    assert driver.totals["prefetched_blocks"] == BLOCKS and is_kept(driver)
    assert report(driver)["host_tokens"] == TOKENS
    return driver


@pytest.mark.parametrize("again", [False, True], ids=["loaded", "fetched again"])
def test_kv_that_was_fetched_back_is_let_go_without_another_copy(again):
    driver = fetched()
    crowd_out(driver, "c")
    driver.drain()
    driver.poison_free_blocks()
    assert not is_kept(driver) and driver.totals["stored_blocks"] == BLOCKS
    if again:
        driver.swaps.prefetch(driver.handle_of("a"))
        driver.settle()
        assert driver.totals["prefetched_blocks"] == 2 * BLOCKS
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == (0 if again else BLOCKS)
    check_over(driver)


def test_a_host_copy_that_is_lost_while_it_is_fetched():
    driver = swapped()
    fetch(driver)
    driver.tier.index.drop(driver.swaps._sessions[driver.handle_of("a")].image)
    driver.hold(False)
    driver.settle()
    assert is_kept(driver)
    assert (report(driver)["held_tokens"], report(driver)["host_tokens"]) == (TOKENS, 0)
    assert come_back(driver) < 64
    check_over(driver)


def test_host_memory_for_others_is_taken_from_those_who_keep_their_kv():
    driver = SwapDriver(blocks=41, host_blocks=12)
    pause(driver)
    driver.settle()
    pause_another(driver)
    driver.settle()
    assert report(driver)["copied_ahead"] == 2
    assert report(driver)["host_tokens"] == TOKENS, "a's copy gave way"
    assert is_kept(driver, "a") and is_kept(driver, "z")
    assert come_back(driver) < 64
    check_over(driver)


@pytest.mark.parametrize("late", [False, True], ids=["kept", "let go"])
def test_a_host_copy_that_is_lost_does_not_cost_what_is_kept(late):
    driver = copied()
    if late:  # in the very step in which it is lost
        driver.scheduler._events.append(
            (lamps_ext.PRESSURE, driver.engine.now, driver.handle_of("a"))
        )
        driver.scheduler._holds.release(driver.handle_of("a"))
    driver.tier.index.drop(driver.swaps._sessions[driver.handle_of("a")].image)
    driver.step()
    assert report(driver)["host_tokens"] == 0
    assert report(driver)["held_tokens"] == (0 if late else TOKENS)
    assert is_kept(driver) is not late
    if not late:
        crowd_out(driver)
        driver.drain()
        driver.settle()
        assert driver.totals["stored_blocks"] == 2 * BLOCKS, "copied again, as it has to go now"
        driver.poison_free_blocks()
    assert come_back(driver) < 64
    check_over(driver)


def test_reset_while_kv_is_in_both_places():
    driver = copied()
    assert driver.scheduler.reset_prefix_cache() is True
    assert driver.free_blocks == driver.all_blocks
    driver.step()
    assert report(driver)["host_tokens"] == 0
    driver.poison_free_blocks()
    assert come_back(driver) < 64, "the host's copy is still found"
    check_over(driver)


def test_a_parked_request_that_is_aborted_gives_up_both_places():
    driver = SwapDriver(blocks=21)
    hints = {"expected_call_seconds": CALL}
    driver.send("a0", 300, 20, session_id="a", hints=hints, resumable=True)
    driver.step(30)
    driver.settle()
    assert report(driver)["host_tokens"] == TOKENS and is_kept(driver)
    driver.engine.abort("a0")
    driver.step()
    assert report(driver)["host_tokens"] == report(driver)["held_tokens"] == 0
    assert driver.free_blocks == driver.all_blocks
    assert list(driver.tier.index._spare) == list(driver.tier.index._images)
    check_over(driver)
