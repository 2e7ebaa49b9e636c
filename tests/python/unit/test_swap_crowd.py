# SPDX-License-Identifier: Apache-2.0
"""Swapping when much goes on at once, and on devices where blocks are free before their copy is done."""

import numpy as np
import pytest

from lamps_vllm import LampsScheduler
from tests.support.crowd import serve_crowd
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
    serve_crowd(driver, rng, [int(rng.integers(60, 300)) for _ in range(12)])
    assert driver.totals["stored_blocks"] > 0
    driver.check_drained()
