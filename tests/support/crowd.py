# SPDX-License-Identifier: Apache-2.0
"""A crowd of sessions over an engine whose copies stall, fail and go well again."""

import numpy as np

from tests.support.swapping import SwapDriver

TURNS = 4


def serve_crowd(
    driver: SwapDriver, rng: np.random.Generator, prompts: list[int] | list[list[int]]
) -> None:
    """Serves a session of a few turns for each of these first prompts, all at once, to their ends."""
    last, due = {}, []
    for i, prompt in enumerate(prompts):
        last[f"s{i}"] = driver.send(f"s{i}.0", prompt, 30, session_id=f"s{i}")
    for _ in range(4000):
        before = len(driver.finished)
        driver.step()
        for done in driver.finished[before:]:
            name, turn = done.split(".")
            if int(turn) + 1 < TURNS:
                due.append((driver.engine.now + float(rng.exponential(2.0)), name, int(turn) + 1))
        for entry in [entry for entry in due if entry[0] <= driver.engine.now]:
            due.remove(entry)
            _, name, turn = entry
            hints = {"expected_call_seconds": 2.0, "final_turn": turn == TURNS - 1}
            last[name] = driver.follow(
                f"{name}.{turn}", last[name], 20, 30, session_id=name, hints=hints
            )
        stir(driver, rng)
        if not driver.scheduler.has_unfinished_requests() and due:
            driver.engine.now = max(driver.engine.now, min(due)[0])
        if not due and not driver.scheduler.has_unfinished_requests():
            break
    driver.hold(False)
    driver.drain()
    assert not driver.scheduler._faulted
    assert len(driver.finished) == len(prompts) * TURNS


def stir(driver: SwapDriver, rng: np.random.Generator) -> None:
    """Copies are held up, go on, fail, go well again, or are over long after they have read."""
    for mover in driver.movers:
        chance = rng.random()
        if chance < 0.1:
            mover.holding = not mover.holding
            mover.let_go(None if not mover.holding else 0)
        elif chance < 0.12:
            mover.outcome = {str(rng.choice(["load", "store"])): "copy-failed"}
        elif chance < 0.2:
            mover.outcome = {}
        elif chance < 0.24:
            mover.gathers = not mover.gathers
    if rng.random() < 0.02:
        driver.poison_free_blocks()
