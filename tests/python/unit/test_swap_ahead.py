# SPDX-License-Identifier: Apache-2.0
"""Kept KV that is copied to the host ahead of need: always the KV of its own prefix, whatever comes first."""

import pytest

import lamps_ext
from tests.python.unit.test_swap_sessions import (
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

BLOCKS = 9  # of session a, full ones
TOKENS = BLOCKS * 32


def report(driver: SwapDriver) -> dict:
    core = driver.scheduler._core
    core.check_invariants()
    return core.report()


def is_kept(driver: SwapDriver, name: str = "a") -> bool:
    return driver.handle_of(name) in driver.scheduler._holds


def copied(**options) -> SwapDriver:
    """Session a pauses; its KV is kept, and on the host as well."""
    driver = SwapDriver(blocks=21, **options)
    pause(driver)
    driver.settle()
    found = report(driver)
    assert (found["held_tokens"], found["host_tokens"]) == (TOKENS, TOKENS)
    assert (found["copied_ahead"], driver.totals["stored_blocks"]) == (1, BLOCKS)
    assert is_kept(driver)
    return driver


def copying(**options) -> SwapDriver:
    """Session a pauses; its KV is kept, and a copy of it is held up at its beginning."""
    driver = SwapDriver(blocks=21, **options)
    driver.hold()
    pause(driver)
    found = report(driver)
    assert (found["held_tokens"], found["copying_tokens"]) == (TOKENS, TOKENS)
    assert driver.tier.busy and is_kept(driver)
    return driver


def grow(driver: SwapDriver) -> None:
    """A turn enters while session a pauses, and then grows until a's KV has to go at once."""
    driver.send(
        "c0", 350, 60, session_id="c", hints={"expected_output_tokens": 1, "final_turn": True}
    )
    for _ in range(200):
        driver.step()
        if not is_kept(driver):
            break
    assert not is_kept(driver) and "c0" not in driver.finished
    assert report(driver)["preemptions"] == 0


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


def pause_another(driver: SwapDriver) -> None:
    hints = {"expected_call_seconds": CALL}
    driver.send("z0", 300, 20, session_id="z", hints=hints)
    driver.drain()


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


# --- something else comes first ---


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
