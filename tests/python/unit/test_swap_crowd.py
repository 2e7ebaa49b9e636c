# SPDX-License-Identifier: Apache-2.0
"""Swapping when much goes on at once, and on devices where blocks are free before their copy is done."""

import numpy as np
import pytest

from lamps_vllm import LampsScheduler
from tests.support.swap_sessions import check_over, come_back, crowd_out, pause
from tests.support.swapping import SwapDriver


def gathered(**options) -> SwapDriver:
    """Session a's blocks have been read and are b's now, though its copy is still on its way."""
    driver = SwapDriver(blocks=21, **options)
    for mover in driver.movers:
        mover.gathers = True
    pause(driver)
    crowd_out(driver)
    driver.drain()
    assert "b0" in driver.finished
    assert driver.tier.busy and driver.totals["stored_blocks"] == 0
    driver.poison_free_blocks()
    return driver


def arrive(driver: SwapDriver) -> None:
    """What was on its way is there."""
    for mover in driver.movers:
        mover.gathers = False


@pytest.mark.parametrize("ranks", [1, 2])
def test_blocks_are_free_when_they_have_been_read(ranks):
    driver = gathered(ranks=ranks)
    arrive(driver)
    driver.settle()
    assert driver.totals["stored_blocks"] == 9
    assert come_back(driver) < 64
    check_over(driver)


def test_a_turn_waits_for_a_copy_that_it_will_need():
    driver = gathered()
    request = driver.follow("a1", driver.requests["a0"], 20, 20, session_id="a")
    driver.step(5)
    assert request.num_computed_tokens == 0
    arrive(driver)
    driver.drain()
    assert driver.totals["loaded_blocks"] == 9
    check_over(driver)


def test_a_copy_that_fails_after_its_blocks_are_gone():
    driver = gathered()
    driver.movers[0].late_outcome = "copy-failed"
    arrive(driver)
    driver.settle()
    assert driver.totals["failed_copies"] == 1
    assert come_back(driver) > 300
    check_over(driver)


def test_all_ranks_must_have_read():
    driver = SwapDriver(blocks=21, ranks=2)
    driver.movers[0].gathers = True
    driver.movers[1].holding = True
    pause(driver)
    crowd_out(driver)
    driver.step(5)
    assert driver.requests["b0"].num_computed_tokens == 0
    arrive(driver)
    driver.hold(False)
    driver.drain()
    check_over(driver)


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_copies_everyone_is_served_right(seed, ahead):
    """A crowd of sessions; copies stall, fail and are called off. Every token attends to its own KV."""
    rng = np.random.default_rng(seed)
    driver = SwapDriver(
        LampsScheduler, blocks=31, host_blocks=int(rng.choice([12, 40, 200])), ahead=ahead,
        ranks=int(rng.integers(1, 3)),
    )  # fmt: skip
    turns, sent, last, due = 4, 0, {}, []
    for i in range(12):
        name = f"s{i}"
        last[name] = driver.send(f"{name}.0", int(rng.integers(60, 300)), 30, session_id=name)
        sent += 1
    for _ in range(4000):
        before = len(driver.finished)
        driver.step()
        for done in driver.finished[before:]:
            name, turn = done.split(".")
            if int(turn) + 1 < turns:
                due.append((driver.engine.now + float(rng.exponential(2.0)), name, int(turn) + 1))
        for entry in [entry for entry in due if entry[0] <= driver.engine.now]:
            due.remove(entry)
            _, name, turn = entry
            hints = {"expected_call_seconds": 2.0, "final_turn": turn == turns - 1}
            last[name] = driver.follow(
                f"{name}.{turn}", last[name], 20, 30, session_id=name, hints=hints
            )
            sent += 1
        for mover in driver.movers:
            chance = rng.random()
            if chance < 0.1:
                mover.holding = not mover.holding
                mover.let_go(None if not mover.holding else 0)
            elif chance < 0.12:
                mover.outcome = {str(rng.choice(["load", "store"])): "copy-failed"}
            elif chance < 0.2:
                mover.outcome = {}
        if rng.random() < 0.02:
            driver.poison_free_blocks()
        if not driver.scheduler.has_unfinished_requests() and due:
            driver.engine.now = max(driver.engine.now, min(due)[0])
        if not due and not driver.scheduler.has_unfinished_requests():
            break
    driver.hold(False)
    driver.drain()
    assert not driver.scheduler._faulted
    assert len(driver.finished) == sent == 12 * turns
    assert driver.totals["stored_blocks"] > 0
    driver.check_drained()
