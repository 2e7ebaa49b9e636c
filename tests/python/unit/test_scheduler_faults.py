# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong, no request is lost and no block leaks: the real vLLM scheduler in virtual time."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import FCFSRequestQueue
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.request import StructuredOutputRequest

from lamps_vllm import LampsScheduler
from lamps_vllm.options import OptionError
from lamps_vllm.queue import LampsQueue
from tests.support.driver import Driver

GUARDED = [
    "_begin_step", "_on_new", "_on_finish", "_end_step", "_observe", "_release_order", "_on_preemption",
]  # fmt: skip
ENGINES = [
    pytest.param(cls, ahead, id=f"{name}-{'ahead' if ahead else 'sync'}")
    for name, cls in (("lamps", LampsScheduler), ("stock", AsyncScheduler))
    for ahead in (False, True)
]


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """What the scheduler logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("vllm.lamps")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def crowd(driver: Driver, sessions: int = 6, turns: int = 3, seed: int = 0) -> dict[str, int]:
    """Sessions that outgrow a pool of about 20 blocks together. Returns the tokens owed per turn."""
    rng = np.random.default_rng(seed)
    owed: dict[str, int] = {}
    last: dict[str, str] = {}
    for i in range(sessions):
        owed[f"s{i}.0"] = int(rng.integers(40, 150))
        driver.send(f"s{i}.0", int(rng.integers(30, 120)), owed[f"s{i}.0"], session_id=f"s{i}")
        last[f"s{i}"] = f"s{i}.0"
    for _ in range(6000):
        before = len(driver.finished)
        driver.step()
        for done in driver.finished[before:]:
            session, turn = done.split(".")
            if int(turn) + 1 < turns:
                name = f"{session}.{int(turn) + 1}"
                owed[name] = int(rng.integers(40, 150))
                driver.follow(name, driver.requests[done], 20, owed[name], session_id=session)
        if not driver.scheduler.has_unfinished_requests():
            break
    driver.drain()
    return owed


def outgrow(driver: Driver) -> dict[str, int]:
    """Two turns outgrow the pool while a third session's KV is kept. Returns the tokens owed per turn."""
    owed = {"a0": 8, "b0": 140, "c0": 60}
    driver.send("a0", 120, owed["a0"], session_id="A")
    driver.drain()
    driver.send("b0", 100, owed["b0"], session_id="B", hints={"final_turn": True})
    driver.step()
    driver.send("c0", 20, owed["c0"], session_id="C", hints={"final_turn": True})
    driver.drain()
    return owed


def check_served(driver: Driver, owed: dict[str, int]) -> None:
    assert sorted(driver.finished) == sorted(owed)
    assert {name: driver.requests[name].num_output_tokens for name in owed} == owed
    driver.check_drained()


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("guarded", GUARDED)
def test_a_fault_is_logged_once_and_vllm_goes_on_alone(guarded, ahead, log, monkeypatch):
    short = guarded == "_release_order"  # reached only when running turns outgrow the pool
    driver = Driver(ahead=ahead, blocks=11 if short else 21, lamps={"redecide_seconds": 3600.0})
    scheduler = driver.scheduler
    calls = []

    def broken(*args):
        calls.append(args)
        raise RuntimeError("injected")

    broken.__name__ = guarded
    monkeypatch.setattr(scheduler, guarded, broken)

    owed = outgrow(driver) if short else crowd(driver)

    assert len(calls) == 1, "the workload never got there, or the step ran again after its fault"
    errors = [record for record in log if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert guarded in errors[0].getMessage()
    assert errors[0].exc_info
    assert type(scheduler.waiting) is FCFSRequestQueue
    assert scheduler.kv_cache_manager.allocate_slots == scheduler._stock_allocate
    assert len(scheduler._holds) == 0
    check_served(driver, owed)


@pytest.mark.parametrize("policy", ["lamps", "session-fcfs"])  # which lends vLLM its priorities
def test_after_a_fault_the_waiting_go_in_order_of_arrival(policy: str):
    driver = Driver(blocks=21, max_num_seqs=1, lamps={"policy": policy})
    for name, output in (("old", 60), ("long", 200), ("short", 5)):
        driver.send(name, 60, output)
        driver.wait(0.5)
    driver.scheduler._core = None  # every use of the core fails from here on
    driver.step()
    driver.send("late", 60, 5)
    driver.drain()
    assert driver.finished == ["old", "long", "short", "late"]
    driver.check_drained()


@pytest.mark.parametrize(("scheduler_cls", "ahead"), ENGINES)
def test_a_crowded_pool_is_drained(scheduler_cls, ahead):
    driver = Driver(scheduler_cls, ahead=ahead, blocks=21)
    owed = crowd(driver)
    if scheduler_cls is LampsScheduler:
        assert not driver.scheduler._faulted
        assert isinstance(driver.scheduler.waiting, LampsQueue)
    check_served(driver, owed)


@pytest.mark.parametrize(("scheduler_cls", "ahead"), ENGINES)
def test_chunked_prefill_is_drained(scheduler_cls, ahead):
    driver = Driver(scheduler_cls, ahead=ahead, blocks=41, step_tokens=48, max_num_seqs=8)
    check_served(driver, crowd(driver, seed=1))


@pytest.mark.parametrize(("scheduler_cls", "ahead"), ENGINES)
def test_without_prefix_caching_nothing_is_kept(scheduler_cls, ahead):
    driver = Driver(scheduler_cls, ahead=ahead, blocks=21, prefix_caching=False)
    owed = crowd(driver)
    assert driver.free_blocks == driver.all_blocks
    if scheduler_cls is LampsScheduler:
        assert not driver.scheduler._faulted
    check_served(driver, owed)


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_growth_beyond_the_pool_preempts_and_still_serves_everyone(ahead):
    driver = Driver(ahead=ahead, blocks=11)
    for i in range(3):  # the prompts fit together, the outputs do not
        driver.send(f"r{i}", 60, 150, session_id=f"r{i}")
    driver.drain()
    assert driver.scheduler._core.report()["preemptions"] > 0
    assert not driver.scheduler._faulted
    check_served(driver, {f"r{i}": 150 for i in range(3)})


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_one_session_id_from_two_clients(ahead):
    driver = Driver(ahead=ahead, blocks=41)
    for client in "ab":
        driver.send(f"{client}0", 100, 30 if client == "a" else 50, session_id="same")
    driver.drain()
    for client in "ab":
        driver.follow(f"{client}1", driver.requests[f"{client}0"], 20, 30, session_id="same")
    driver.drain()
    assert not driver.scheduler._faulted
    assert driver.scheduler._core.report()["sessions"] == 1
    check_served(driver, {"a0": 30, "b0": 50, "a1": 30, "b1": 30})


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_parallel_samples_of_one_prompt(ahead):
    """As vLLM splits n = 3: three requests with the same prompt and session."""
    driver = Driver(ahead=ahead, blocks=41)
    prompt = list(range(3, 103))
    for i in range(3):
        driver.send(f"{i}_p", prompt, 20 + 10 * i, session_id="fan")
    driver.step()
    driver.engine.abort("2_p")
    driver.drain()
    assert not driver.scheduler._faulted
    assert len(driver.scheduler._holds) == 1, "the session keeps one context, not one per sample"
    check_served(driver, {"0_p": 20, "1_p": 30})


def test_a_session_that_never_returns_is_forgotten():
    driver = Driver(blocks=21, lamps={"forget_seconds": 5.0})
    driver.send("gone", 100, 20, session_id="gone")
    driver.drain()
    assert driver.free_blocks < driver.all_blocks, "nothing was kept: this test tests nothing"
    driver.wait(5.0)
    driver.step()
    assert driver.free_blocks == driver.all_blocks
    assert driver.scheduler._core.report()["sessions"] == 0
    assert len(driver.scheduler._book) == 0
    driver.check_drained()


def test_a_decision_shortly_before_does_not_put_off_the_end_of_a_session():
    driver = Driver(blocks=21, lamps={"forget_seconds": 5.0})
    driver.send("gone", 100, 20, session_id="gone")
    driver.drain()
    driver.wait(4.0)
    driver.step()  # decided again, and still kept
    assert len(driver.scheduler._holds) == 1
    driver.wait(1.0)
    driver.step()
    assert driver.free_blocks == driver.all_blocks
    driver.check_drained()


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_abort_while_waiting_or_running(steps, ahead):
    driver = Driver(ahead=ahead, blocks=21, max_num_seqs=1)
    for name in ("runs", "waits"):
        driver.send(name, 100, 50, session_id=name)
    driver.step(steps)
    for name in ("runs", "waits"):
        driver.engine.abort(name)
    driver.drain()
    driver.step()
    assert not driver.scheduler._faulted
    assert driver.free_blocks == driver.all_blocks, "an aborted session keeps nothing"
    assert len(driver.scheduler._book) == 0
    driver.check_drained()


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_abort_of_a_preempted_request(ahead):
    driver = Driver(ahead=ahead, blocks=11)
    for i in range(3):
        driver.send(f"r{i}", 60, 150, session_id=f"r{i}")
    preempted = None
    for _ in range(300):
        driver.step()
        preempted = next(
            (r for r in driver.requests.values() if r.status == RequestStatus.PREEMPTED), None
        )
        if preempted:
            break
    assert preempted is not None
    driver.engine.abort(preempted.request_id)
    driver.drain()
    assert not driver.scheduler._faulted
    assert len(driver.finished) == 2
    driver.check_drained()


def test_abort_during_a_call():
    """The next turn is aborted as it arrives, before the engine saw it: the kept KV goes with it."""
    driver = Driver(blocks=21)
    first = driver.send("t0", 100, 20, session_id="s")
    driver.drain()
    assert len(driver.scheduler._holds) == 1
    driver.follow("t1", first, 20, 20, session_id="s")
    driver.engine.abort("t1")
    driver.step()
    assert driver.free_blocks == driver.all_blocks
    assert not driver.scheduler._faulted
    driver.check_drained()


def test_a_prompt_larger_than_the_pool_blocks_nobody_for_ever():
    driver = Driver(blocks=11)  # 10 blocks of 32
    driver.send("before", 60, 20, session_id="before")
    driver.send("huge", 400, 10, session_id="huge")
    driver.send("after", 60, 20, session_id="after")
    driver.step(200)
    assert "huge" not in driver.finished
    driver.engine.abort(
        "huge"
    )  # vLLM's front end refuses it; if one gets here, its client gives up
    driver.drain()
    assert sorted(driver.finished) == ["after", "before"]
    assert not driver.scheduler._faulted
    driver.check_drained()


def test_reset_prefix_cache_lets_kept_blocks_go():
    driver = Driver(blocks=21)
    first = driver.send("t0", 100, 20, session_id="s")
    driver.drain()
    assert driver.free_blocks < driver.all_blocks
    assert driver.scheduler.reset_prefix_cache() is True
    assert driver.free_blocks == driver.all_blocks
    driver.follow("t1", first, 20, 20, session_id="s")
    driver.drain()
    assert driver.scheduler._core.report()["returns"] == 1
    assert not driver.scheduler._faulted
    check_served(driver, {"t0": 20, "t1": 20})


def test_reset_prefix_cache_with_running_requests():
    driver = Driver(blocks=41)
    driver.send("kept", 100, 10, session_id="kept")
    driver.drain()
    for i in range(3):
        driver.send(f"r{i}", 60, 40, session_id=f"r{i}")
    driver.step(5)
    assert driver.scheduler.reset_prefix_cache(reset_running_requests=True) is True
    assert driver.free_blocks == driver.all_blocks
    driver.drain()
    assert not driver.scheduler._faulted
    check_served(driver, {"kept": 10, **{f"r{i}": 40 for i in range(3)}})


class Grammar(SimpleNamespace):
    """Accepts every token."""

    def accept_tokens(self, *_):
        return True


def wait_for_grammar(driver: Driver, name: str) -> Future:
    """A request that vLLM may not start before the returned grammar is there."""
    request = driver.send(name, 60, 10, session_id=name)
    compiled: Future = Future()
    params = StructuredOutputsParams(json={"type": "object"})
    request.structured_output_request = StructuredOutputRequest(params=params, _grammar=compiled)
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    return compiled


@pytest.mark.parametrize(("scheduler_cls", "ahead"), ENGINES)
def test_a_request_whose_grammar_compiles_holds_nobody_up(scheduler_cls, ahead):
    driver = Driver(scheduler_cls, ahead=ahead, blocks=21)
    compiled = wait_for_grammar(driver, "grammar")
    driver.send("plain", 60, 10, session_id="plain")
    driver.step(30)
    assert driver.finished == ["plain"]
    compiled.set_result(Grammar())
    driver.drain()
    assert getattr(driver.scheduler, "_faulted", False) is False
    check_served(driver, {"grammar": 10, "plain": 10})


@pytest.mark.parametrize(("scheduler_cls", "ahead"), ENGINES)
def test_a_grammar_that_does_not_compile_fails_its_request_alone(scheduler_cls, ahead):
    driver = Driver(scheduler_cls, ahead=ahead, blocks=21)
    compiled = wait_for_grammar(driver, "grammar")
    driver.send("plain", 60, 10, session_id="plain")
    driver.step(3)
    compiled.set_exception(ValueError("bad schema"))
    driver.drain()
    assert driver.requests["grammar"].status == RequestStatus.FINISHED_ERROR
    assert driver.requests["plain"].num_output_tokens == 10
    assert getattr(driver.scheduler, "_faulted", False) is False
    driver.check_drained()


def test_abort_while_the_grammar_compiles():
    driver = Driver(blocks=21)
    wait_for_grammar(driver, "grammar")
    driver.step(3)
    driver.engine.abort("grammar")
    driver.step()
    assert not driver.scheduler._faulted
    driver.check_drained()


def test_bad_hints_are_ignored_with_one_warning_per_field(log):
    driver = Driver(blocks=21)
    for i in range(3):
        driver.send(f"r{i}", 60, 5, hints={"final_turn": "yes", "colour": 1, "session": f"s{i}"})
    driver.drain()
    warnings = [r.getMessage() for r in log if r.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert any("final_turn" in w and "'yes'" in w and "true or false" in w for w in warnings)
    assert any("colour" in w and "expected_call_seconds" in w for w in warnings)
    check_served(driver, {f"r{i}": 5 for i in range(3)})


def test_priority_policy_is_refused():
    with pytest.raises(OptionError, match=r"--scheduling-policy = 'priority'.*'fcfs'"):
        Driver(blocks=21, policy="priority")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_weight": -1}, r"rank_weight = -1: .*greater than or equal to 0"),
        ({"rank_wait": 1}, r"rank_wait: unknown option; known are .*rank_weight"),
        ({"preserve": "no"}, r"preserve = 'no': .*valid boolean"),
        ({"min_admission_share": 0.9, "admission_share": 0.5}, r"min_admission_share = 0.9.*0.5"),
    ],
)
def test_bad_options_stop_the_start(options, message):
    with pytest.raises(OptionError, match=message):
        Driver(blocks=21, lamps=options)
