# SPDX-License-Identifier: Apache-2.0
"""Copies ahead of need that something else overtakes: KV that goes, or returns, before its copy is done."""

import pytest

import lamps_ext
from tests.support.swap_sessions import (
    BLOCKS,
    TOKENS,
    check_over,
    come_back,
    copied,
    copying,
    crowd_out,
    grow,
    is_kept,
    pause,
    pause_another,
    report,
)
from tests.support.swapping import SwapDriver, WrongKV


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_kv_that_has_to_go_during_the_copy_goes_at_once(ahead, ranks):
    driver = copying(ahead=ahead, ranks=ranks)
    grow(driver)
    driver.drain()
    driver.hold(False)  # reads what is c's by now
    driver.settle()
    assert report(driver)["released"] == 1
    assert driver.totals["stored_blocks"] == driver.totals["failed_copies"] == 0
    assert len(driver.tier.index) == 0 and driver.tier.index.free_rows == driver.tier.rows
    assert come_back(driver) > 64
    check_over(driver)


def test_the_test_sees_a_copy_of_blocks_that_were_used_again(monkeypatch):
    driver = copying()
    monkeypatch.setattr(driver.tier, "_on_reuse", lambda block: None)
    grow(driver)
    driver.drain()
    driver.hold(False)
    driver.settle()
    driver.poison_free_blocks()
    with pytest.raises(WrongKV):
        come_back(driver)


def test_a_copy_whose_blocks_nobody_took_is_found():
    driver = copying()
    handle = driver.handle_of("a")
    driver.scheduler._events.append((lamps_ext.PRESSURE, driver.engine.now, handle))
    driver.scheduler._holds.release(handle)
    assert driver.free_blocks == driver.all_blocks
    driver.step()
    assert report(driver)["copying_tokens"] == report(driver)["host_tokens"] == 0
    driver.hold(False)
    driver.settle()
    assert driver.totals["stored_blocks"] == BLOCKS
    crowd_out(driver)
    driver.drain()
    driver.poison_free_blocks()
    assert come_back(driver) < 64
    check_over(driver)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_turn_that_returns_during_the_copy_takes_the_blocks(ranks):
    driver = copying(ranks=ranks)
    assert come_back(driver) < 64
    assert driver.totals["loaded_blocks"] == driver.totals["stored_blocks"] == 0
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == BLOCKS + 2, "the copy went on, and so did its turn's"
    crowd_out(driver)
    driver.drain()
    driver.poison_free_blocks()
    driver.follow("a2", driver.requests["a1"], 20, 20, session_id="a")
    driver.drain()
    assert driver.totals["loaded_blocks"] == BLOCKS + 2
    check_over(driver)


def test_the_turn_that_took_the_blocks_is_gone_before_they_are_read():
    driver = copying()
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(2)
    driver.engine.abort("a1")
    driver.step(2)
    assert driver.free_blocks == driver.all_blocks and len(driver.scheduler._book) == 0
    driver.send("d0", 600, 20, session_id="d", hints={"final_turn": True})
    driver.drain()
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == 0 and driver.totals["stored_blocks"] == 0
    check_over(driver)


def test_a_session_that_ends_during_the_copy():
    driver = copying()
    driver.engine.now += 1e6
    driver.step()
    assert len(driver.scheduler._book) == 0
    assert driver.free_blocks == driver.all_blocks
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == 0 and driver.tier.index.free_rows == driver.tier.rows
    check_over(driver)


@pytest.mark.parametrize("both", [False, True], ids=["device", "device and host"])
def test_reset_during_the_copy(both):
    driver = copying()
    assert driver.scheduler.reset_prefix_cache(reset_connector=both) is True
    assert driver.free_blocks == driver.all_blocks
    driver.poison_free_blocks()
    driver.hold(False)
    driver.settle()
    assert len(driver.tier.index) == 0
    assert report(driver)["host_tokens"] == report(driver)["held_tokens"] == 0
    assert come_back(driver) > 300
    check_over(driver)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_copy_that_fails_leaves_what_is_kept(bad):
    driver = copying(ranks=2)
    driver.movers[bad].outcome["store"] = "copy-failed"
    driver.hold(False)
    driver.settle()
    driver.movers[bad].outcome.clear()
    assert driver.totals["failed_copies"] == 1 and is_kept(driver)
    found = report(driver)
    assert (found["held_tokens"], found["host_tokens"]) == (TOKENS, 0)
    assert driver.tier.index.free_rows == driver.tier.rows
    assert come_back(driver) < 64
    check_over(driver)


def test_a_copy_that_finds_no_room_leaves_what_is_kept():
    """The rows of a session that has ended are taken until its copy is over: the core counts them free."""
    driver = copying(host_blocks=12)
    driver.engine.now += 1e6
    driver.step()
    assert len(driver.scheduler._book) == 0
    pause_another(driver)
    assert driver.totals["no_room"] == 1 and is_kept(driver, "z")
    found = report(driver)
    assert (found["copied_ahead"], found["held_tokens"], found["host_tokens"]) == (2, TOKENS, 0)
    driver.hold(False)
    assert come_back(driver, "z") < 64
    check_over(driver)


def test_a_copy_behind_rows_that_are_lost_meanwhile():
    driver = copied()
    driver.hold()
    come_back(driver)
    driver.step()
    assert report(driver)["copying_tokens"] > 0
    driver.tier.index.drop(driver.swaps._sessions[driver.handle_of("a")].image)
    driver.hold(False)
    driver.settle()
    found = report(driver)
    assert found["host_tokens"] == 0 and found["held_tokens"] > TOKENS
    check_over(driver)


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_has_been_read_is_free_as_soon_as_it_has_to_go(ranks):
    """On devices where a store has its bytes long before its copy is over."""
    driver = SwapDriver(blocks=21, ranks=ranks)
    for mover in driver.movers:
        mover.gathers = True
    pause(driver)
    driver.step()
    assert is_kept(driver) and report(driver)["copying_tokens"] == TOKENS
    crowd_out(driver)
    driver.drain()
    assert report(driver)["swapped"] == 1 and driver.tier.busy
    driver.poison_free_blocks()
    for mover in driver.movers:
        mover.gathers = False
    driver.settle()
    assert driver.totals["stored_blocks"] == BLOCKS
    assert come_back(driver) < 64
    check_over(driver)


@pytest.mark.parametrize("slow", [0, 1])
def test_all_ranks_must_have_read_what_is_used_again(slow):
    driver = SwapDriver(blocks=21, ranks=2)
    driver.movers[1 - slow].gathers = True
    driver.movers[slow].holding = True
    pause(driver)
    grow(driver)
    driver.drain()
    driver.movers[1 - slow].gathers = False
    driver.hold(False)
    driver.settle()
    assert driver.totals["stored_blocks"] == 0 and len(driver.tier.index) == 0
    assert come_back(driver) > 64
    check_over(driver)


def test_a_copy_that_has_read_its_blocks_stays_good_when_they_are_used_again():
    driver = SwapDriver(blocks=21)
    driver.movers[0].gathers = True
    pause(driver)
    driver.step()
    grow(driver)
    driver.movers[0].gathers = False
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == BLOCKS
    driver.poison_free_blocks()
    assert come_back(driver) < 64
    check_over(driver)


@pytest.mark.parametrize("used", [False, True], ids=["left alone", "used again"])
def test_a_fault_of_lamps_during_the_copy(monkeypatch, used):
    driver = copying()

    def broken() -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(driver.scheduler, "_begin_step", broken)
    driver.step(2)
    assert driver.scheduler._faulted and not driver.tier.driven
    assert driver.free_blocks == driver.all_blocks
    if used:
        driver.send("d0", 600, 20)
        driver.drain()
    driver.hold(False)
    driver.settle()
    keys = driver.tier.keys(driver.requests["a0"])
    assert driver.tier.index.found(keys) == (0 if used else BLOCKS)
    driver.check_drained()
