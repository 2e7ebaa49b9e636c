# SPDX-License-Identifier: Apache-2.0
"""What sessions do in the tests of swapping: pause, go to the host or are copied there, come back."""

from tests.support.swapping import SwapDriver

CALL = 5.0  # seconds, as the client says
BLOCKS = 9  # of session a, full ones
TOKENS = BLOCKS * 32


def pause(driver: SwapDriver, name: str = "a", tokens: int = 300, **hints) -> None:
    """A session's first turn, 9 full blocks of KV kept, and its call begins."""
    hints = {"expected_call_seconds": CALL, **hints}
    driver.send(f"{name}0", tokens, 20, session_id=name, hints=hints)
    driver.drain()
    assert len(driver.scheduler._holds) == 1


def crowd_out(driver: SwapDriver, name: str = "b") -> None:
    """A turn that needs all memory, and with it that of whoever is paused."""
    driver.send(f"{name}0", 600, 20, session_id=name, hints={"final_turn": True})
    driver.step()


def swapped(**options) -> SwapDriver:
    """Session a is on the host, and its blocks are used by others."""
    driver = SwapDriver(blocks=21, **options)
    pause(driver)
    crowd_out(driver)
    driver.drain()
    driver.settle()
    assert driver.totals["stored_blocks"] == 9
    driver.poison_free_blocks()
    return driver


def come_back(driver: SwapDriver, name: str = "a", turn: int = 1) -> int:
    """The session's next turn, served to its end. Returns prompt tokens that it computed."""
    hints = {"expected_call_seconds": CALL}
    request = driver.follow(
        f"{name}{turn}", driver.requests[f"{name}{turn - 1}"], 20, 20, session_id=name, hints=hints
    )
    computed = 0
    for _ in range(200):
        output = driver.step()
        if request.num_output_tokens <= 1:
            computed += output.num_scheduled_tokens.get(request.request_id, 0)
        if request.is_finished():
            break
    assert request.num_output_tokens == 20
    assert not driver.scheduler._faulted
    return min(computed, request.num_prompt_tokens)


def check_over(driver: SwapDriver) -> None:
    assert not driver.scheduler._faulted
    driver.drain()
    driver.check_drained()


def about_to_return(driver: SwapDriver) -> float:
    """Shortly before session a is expected back."""
    return driver.ended["a0"] + CALL - 0.0001


def fetch(driver: SwapDriver) -> None:
    """The load ahead of session a's return is under way, and held there."""
    driver.hold()
    driver.engine.now = about_to_return(driver)
    driver.step()
    assert driver.tier.busy and driver.totals["prefetched_blocks"] == 0


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


def pause_another(driver: SwapDriver) -> None:
    """Session z's first turn, and its call begins."""
    hints = {"expected_call_seconds": CALL}
    driver.send("z0", 300, 20, session_id="z", hints=hints)
    driver.drain()
