# SPDX-License-Identifier: Apache-2.0
"""Sessions that go to the host and come back, where windows have KV cache groups of their own."""

import ctypes

import numpy as np
import pytest

from tests.support.crowd import serve_crowd
from tests.support.driver import tokens
from tests.support.swap_sessions import (
    about_to_return,
    check_over,
    crowd_out,
    fetch,
    is_kept,
    pause,
    report,
)
from tests.support.windows import (
    FINAL,
    HINTS,
    KINDS,
    LEFT,
    ONE,
    aligned,
    blocks_of,
    come_back,
    early_or_late,
    engine,
    kinds,
    leaving,
    overwrite,
    swapped,
)


@kinds
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_session_goes_out_and_is_loaded_on_return(windows, ahead, ranks):
    driver = swapped(windows=windows, ahead=ahead, ranks=ranks, checksums=True)
    found = report(driver)
    slots = int(blocks_of(windows) / (1 / 32 + windows.groups / windows.block_size))
    assert (found["held_tokens"], found["host_tokens"]) == (0, slots)
    assert come_back(driver) >= aligned(windows, LEFT) - 1
    assert driver.totals["loaded_blocks"] == blocks_of(windows)
    check_over(driver)


@kinds
def test_a_session_that_is_expected_is_fetched_back_before_it_returns(windows):
    driver = swapped(windows=windows)
    driver.engine.now = about_to_return(driver)
    driver.step()
    driver.settle()
    assert driver.totals["prefetched_blocks"] == blocks_of(windows)
    overwrite(driver)
    assert come_back(driver) >= aligned(windows, LEFT) - 1
    assert driver.totals["loaded_blocks"] == 0
    check_over(driver)


@pytest.mark.parametrize("first", [0, 1])
def test_one_part_of_a_fetch_that_fails_is_enough(first):
    driver = swapped()
    fetch(driver)
    mover = driver.movers[0]
    mover.let_go(first)
    mover.outcome["load"] = "checksum-mismatch"
    mover.let_go(1)
    mover.outcome.clear()
    driver.hold(False)
    driver.settle()
    assert driver.totals["failed_copies"] == 1
    assert come_back(driver) == 0
    check_over(driver)


def test_a_turn_waits_for_its_kv_that_is_being_fetched():
    driver = swapped()
    fetch(driver)
    request = driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.movers[0].let_go(1)  # one group is there
    driver.step(5)
    assert request.num_computed_tokens == 0
    driver.hold(False)
    driver.drain()
    assert driver.totals["loaded_blocks"] == 0
    assert driver.totals["prefetched_blocks"] == blocks_of(ONE)
    check_over(driver)


def test_a_fetch_whose_session_has_ended_leaves_nothing():
    driver = swapped()
    fetch(driver)
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step()
    driver.engine.abort("a1")
    driver.step(2)
    driver.hold(False)
    driver.settle()
    assert driver.free_blocks == driver.all_blocks
    check_over(driver)


def test_abort_while_its_kv_is_loaded():
    driver = swapped()
    driver.hold()
    driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(3)
    driver.engine.abort("a1")
    driver.step(3)
    assert driver.all_blocks - driver.free_blocks == blocks_of(ONE), "nobody else's while written"
    driver.hold(False)
    driver.settle()
    assert driver.free_blocks == driver.all_blocks
    check_over(driver)


def test_damage_on_the_host_is_recomputed():
    driver = swapped(checksums=True)
    ctypes.c_uint8.from_address(driver.movers[0].host_address + 40).value ^= 1
    assert come_back(driver) == 0
    assert driver.totals["failed_copies"] == 1
    check_over(driver)


@early_or_late
@pytest.mark.parametrize("first", [0, 1, 2])
def test_nobody_gets_a_block_that_is_being_copied_out(early, first):
    """Whichever of the two copies, of windows and of the rest, is over first."""
    driver = leaving(early)
    driver.movers[0].let_go(first)
    driver.step(20)
    overwrite(driver)
    assert first == 2 or driver.tier.busy
    assert first > 0 or driver.requests["b0"].num_computed_tokens == 0
    driver.hold(False)
    driver.drain()
    overwrite(driver)
    assert come_back(driver) >= aligned(ONE, LEFT) - 1
    check_over(driver)


@early_or_late
@pytest.mark.parametrize("first", [0, 1])
def test_one_copy_that_fails_is_enough(early, first):
    driver = leaving(early)
    mover = driver.movers[0]
    mover.let_go(first)
    mover.outcome["store"] = "copy-failed"
    mover.let_go(1)
    mover.outcome.clear()
    driver.hold(False)
    driver.drain()
    driver.settle()
    assert driver.totals["failed_copies"] == 1
    assert report(driver)["host_tokens"] == 0
    overwrite(driver)
    assert come_back(driver) == 0
    check_over(driver)


@early_or_late
def test_a_session_that_returns_while_it_is_copied_out_keeps_its_blocks(early):
    driver = leaving(early)
    driver.engine.abort("b0")
    assert come_back(driver) >= aligned(ONE, LEFT) - 1
    assert driver.totals["loaded_blocks"] == 0
    driver.hold(False)
    driver.settle()
    overwrite(driver)
    assert come_back(driver, 2) > LEFT
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
    assert come_back(driver) == 0
    check_over(driver)


def test_reset_while_kv_is_fetched():
    driver = swapped()
    fetch(driver)
    assert driver.scheduler.reset_prefix_cache(reset_connector=True) is False, "blocks are written"
    driver.hold(False)
    driver.settle()
    assert driver.scheduler.reset_prefix_cache(reset_connector=True) is True
    assert len(driver.tier.index) == 0
    assert come_back(driver) == 0
    check_over(driver)


@kinds
def test_kv_that_was_copied_ahead_of_need_is_let_go_at_once(windows):
    driver = engine(windows=windows)
    pause(driver)
    driver.settle()
    found = report(driver)
    assert found["copied_ahead"] == 1 and found["held_tokens"] == found["host_tokens"] > 0
    assert driver.totals["stored_blocks"] == blocks_of(windows)
    driver.hold()  # nothing more has to be copied for b
    crowd_out(driver)
    assert driver.requests["b0"].num_computed_tokens > 0
    driver.drain()
    driver.hold(False)
    overwrite(driver)
    assert come_back(driver) >= aligned(windows, LEFT) - 1
    assert driver.totals["loaded_blocks"] == blocks_of(windows)
    check_over(driver)


def test_a_turn_that_moves_its_window_on_while_that_is_copied():
    """vLLM frees blocks behind the window, and others get them, which nobody tells the copy."""
    driver = engine(room=1000)
    driver.hold()
    pause(driver)
    assert report(driver)["copying_tokens"] > 0
    request = driver.follow("a1", driver.requests["a0"], 200, 20, session_id="a", hints=HINTS)
    while request.num_computed_tokens < 500:
        driver.step()
    overwrite(driver)
    driver.hold(False)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] >= 9, "all but the window could be copied"
    overwrite(driver)
    driver.follow("f0", driver.requests["a0"], 20, 20)  # where a's window was then
    driver.drain()
    assert come_back(driver, 2) >= aligned(ONE, LEFT + 220) - 1
    check_over(driver)


def test_windows_of_the_past_are_spare():
    driver = swapped()
    for turn in range(1, 5):
        assert come_back(driver, turn) >= aligned(ONE, LEFT + 40 * (turn - 1)) - 1
        driver.settle()
        crowd_out(driver, f"b{turn}")
        driver.drain()
        driver.settle()
        overwrite(driver)
    session = driver.swaps._sessions[driver.handle_of("a")]
    images = driver.tier.index._images
    wanted = images.keys() - driver.tier.index._spare.keys()
    assert wanted == session.images
    live = sum(len(images[image]) for image in wanted)
    assert live <= blocks_of(ONE, LEFT + 4 * 40) + 2, "at most the rest of one window more"
    check_over(driver)


def test_no_room_for_a_window_is_no_room():
    driver = engine(host_blocks=10)  # 9 of full attention, 2 of the window
    pause(driver)
    driver.settle()
    crowd_out(driver)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == 0 and driver.totals["no_room"] == 0, "the core knows"
    handle, tier = driver.handle_of("a"), driver.tier
    assert come_back(driver) >= 0
    blocks = driver.scheduler._holds.blocks_of(handle)
    assert tier.store(None, blocks, kept=[]) == [] and tier.totals["no_room"] == 1
    assert tier.index.free_rows == 10 and not tier.busy
    check_over(driver)


@pytest.mark.parametrize("windows", KINDS[:4], ids=str)
def test_a_prefix_that_others_use_goes_out_too(windows):
    """It stays on the device, but without a window at its end nobody finds it there."""
    driver = engine(windows=windows, room=1000)
    system = tokens(77, 128)
    driver.send("c0", system + tokens(2, 100), 400, session_id="c", hints=FINAL)
    driver.send("a0", system + tokens(1, 172), 20, session_id="a", hints=HINTS)
    while "a0" not in driver.finished:
        driver.step()
    crowd_out(driver)
    while "b0" not in driver.finished:
        driver.step()
    overwrite(driver)
    assert "c0" not in driver.finished and not is_kept(driver)
    driver.settle()
    assert come_back(driver) >= aligned(windows, LEFT) - 1
    assert driver.totals["loaded_blocks"] == blocks_of(windows)
    check_over(driver)


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_to_copies_everyone_is_served_right(seed, ahead):
    """A crowd of sessions, half of them with a prefix in common; every token attends to its own KV."""
    rng = np.random.default_rng(seed)
    driver = engine(
        windows=KINDS[seed % len(KINDS)], room=1000, host_blocks=int(rng.choice([40, 200, 1000])),
        ahead=ahead, ranks=int(rng.integers(1, 3)),
    )  # fmt: skip
    system = tokens(1000, 96)
    prompts = [system * (i % 2) + tokens(2000 + i, int(rng.integers(60, 200))) for i in range(12)]
    serve_crowd(driver, rng, prompts)
    assert driver.totals["stored_blocks"] > 0
    driver.check_drained()
