# SPDX-License-Identifier: Apache-2.0
"""Calls inside a request: the real vLLM scheduler parks, keeps, drops and resumes streaming requests."""

import json
import logging

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import RequestStatus

from lamps_vllm import LampsScheduler
from lamps_vllm.replay.tiny_model import VOCAB_SIZE
from tests.support.driver import tokens
from tests.support.streams import Streams

KEEP = {"redecide_seconds": 3600.0}
DROP = {"preserve": False}


def held(streams: Streams) -> int:
    return len(streams.scheduler._holds)


def healthy(streams: Streams) -> None:
    streams.drain()  # the core hears of a step's events with the next
    assert not streams.scheduler._faulted
    assert not streams.scheduler._paused
    streams.check_drained()


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_a_pause_keeps_its_kv_and_no_run_slot(ahead):
    streams = Streams(ahead=ahead, blocks=41, max_num_seqs=1, lamps=KEEP)
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    streams.step(2)
    kept = streams.all_blocks - streams.free_blocks
    assert (held(streams), kept) == (1, 119 // 32)
    assert not streams.scheduler.has_unfinished_requests(), (
        "an engine with nothing to do would spin"
    )

    streams.send("b", 50, 5)  # would wait for ever for the only slot
    streams.drain()
    assert streams.finished == ["a", "b"]

    streams.feed("a", tokens(7, 30), 10)
    request = streams.scheduler.requests["a"]
    streams.step()
    assert request.status == RequestStatus.RUNNING
    assert streams.scheduler._core.report()["returns"] == 1
    streams.until_paused("a")
    streams.close("a")
    streams.drain()
    healthy(streams)


def test_the_next_segment_reads_the_kept_kv():
    streams = Streams(blocks=41, lamps=KEEP)
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    streams.feed("a", tokens(7, 30), 10)
    output = streams.step()
    assert output.num_scheduled_tokens == {"a": 119 + 30 - 96}  # three full blocks are there
    assert held(streams) == 0, "its blocks are the request's own again"
    streams.until_paused("a")
    streams.close("a")
    streams.check_tokens("a")
    healthy(streams)


def test_what_is_dropped_is_free_at_once_and_computed_again():
    streams = Streams(blocks=41, lamps=DROP)
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    assert streams.free_blocks == streams.all_blocks
    assert streams.scheduler.reset_prefix_cache()
    streams.feed("a", tokens(7, 30), 10)
    assert streams.step().num_scheduled_tokens == {"a": 119 + 30}
    streams.until_paused("a")
    streams.close("a")
    streams.check_tokens("a")
    healthy(streams)


def test_what_is_dropped_may_still_be_found():
    streams = Streams(blocks=41, lamps=DROP)
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    streams.feed("a", tokens(7, 30), 10)
    assert streams.step().num_scheduled_tokens == {"a": 119 + 30 - 96}
    streams.until_paused("a")
    streams.close("a")
    streams.check_tokens("a")
    healthy(streams)


def test_a_pause_gives_way_to_turns_that_need_room():
    streams = Streams(blocks=11, lamps=KEEP)  # ten blocks
    streams.begin("a", 200, 20)
    streams.until_paused("a")
    assert held(streams) == 1
    streams.send("b", 200, 20)
    streams.drain()
    assert "b" in streams.finished
    streams.feed("a", tokens(7, 30), 10)
    streams.until_paused("a")
    streams.close("a")
    streams.check_tokens("a")
    healthy(streams)


def test_a_session_that_is_forgotten_while_it_is_parked_goes_on_as_a_new_one():
    streams = Streams(blocks=41, lamps={**KEEP, "forget_seconds": 5.0})
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    streams.wait(6.0)
    streams.step()
    assert streams.scheduler._core.report()["sessions"] == 0
    assert streams.free_blocks == streams.all_blocks
    streams.begin("b", 100, 20)  # gets the handle that was a's
    streams.until_paused("b")
    assert held(streams) == 1
    streams.feed("a", tokens(7, 30), 10)
    streams.until_paused("a")
    assert held(streams) == 2
    streams.close("a")
    streams.step()
    assert held(streams) == 1, "b's KV is not a's"
    streams.close("b")
    streams.check_tokens("a", "b")
    healthy(streams)


def test_closing_a_forgotten_pause_does_not_touch_the_next_owner_of_its_handle():
    streams = Streams(blocks=41, lamps={**KEEP, "forget_seconds": 5.0})
    streams.begin("a", 100, 20)
    streams.until_paused("a")
    streams.wait(6.0)
    streams.step()
    streams.begin("b", 100, 20)
    streams.until_paused("b")
    streams.close("a")
    assert held(streams) == 1
    streams.close("b")
    healthy(streams)


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_input_that_is_there_before_the_stop(ahead):
    streams = Streams(ahead=ahead, blocks=41, lamps=KEEP)
    request = streams.begin("a", 100, 20)
    streams.step()
    streams.feed("a", tokens(7, 30), 10)
    streams.feed("a", tokens(8, 30), 12)
    streams.close("a")
    streams.drain()
    assert streams.finished == ["a"] * 3
    assert request.num_output_tokens == 12
    if not ahead:
        streams.check_tokens("a")
    assert held(streams) == 0, "a closed request keeps nothing"
    healthy(streams)


@pytest.mark.parametrize("lamps", [KEEP, DROP], ids=["kept", "dropped"])
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize("when", ["waiting", "running", "paused", "fed", "resumed"])
def test_aborts(when, ahead, lamps):
    streams = Streams(ahead=ahead, blocks=41, lamps=lamps)
    streams.begin("a", 100, 20)
    if when == "running":
        streams.step(5)
    if when in ("paused", "fed", "resumed"):
        streams.until_paused("a")
    if when in ("fed", "resumed"):
        streams.feed("a", tokens(7, 30), 10)
    if when == "resumed":
        streams.step(3)
    streams.engine.abort("a")
    streams.step(3)
    assert streams.free_blocks == streams.all_blocks
    healthy(streams)


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_abort_of_a_pause_whose_kv_was_taken(ahead):
    streams = Streams(ahead=ahead, blocks=11, lamps=KEEP)
    streams.begin("a", 200, 20)
    streams.until_paused("a")
    streams.send("b", 250, 20)
    streams.step(5)
    streams.engine.abort("a")
    streams.drain()
    healthy(streams)


def stopped_after_preemption(scheduler_cls) -> tuple[Streams, list[int]]:
    """Its last token arrives when it has just been preempted, then comes more input."""
    streams = Streams(scheduler_cls, ahead=True, blocks=41)
    request = streams.begin("a", 100, 3)
    while request.num_output_tokens < 2:
        streams.step()
    # The last token is on its way.
    streams.scheduler.running.remove(request)
    streams.scheduler._preempt_request(request, 0.0)
    before = list(request.all_token_ids)
    streams.step()
    assert streams.paused("a"), request.status
    streams.feed("a", tokens(7, 30), 10)
    return streams, before


def test_a_stop_that_arrives_after_the_request_was_preempted():
    streams, before = stopped_after_preemption(LampsScheduler)
    assert list(streams.requests["a"].all_token_ids) == before + tokens(7, 30)
    streams.until_paused("a")
    streams.close("a")
    streams.drain()
    assert streams.finished == ["a", "a"]
    healthy(streams)


def test_stock_vllm_loses_such_a_request():
    """Its tokens are sliced away and no queue has it: what our override is there for."""
    streams, before = stopped_after_preemption(AsyncScheduler)
    assert list(streams.requests["a"].all_token_ids) == tokens(7, 30) != before
    streams.step(50)
    assert streams.finished == ["a"]
    assert streams.requests["a"].status == RequestStatus.WAITING


def life(streams: Streams, seed: int, count: int = 8) -> None:
    """Streams that begin, pause for random times, go on and end, together far more than the pool."""
    rng = np.random.default_rng(seed)
    left = {f"s{i}": int(rng.integers(1, 4)) for i in range(count)}
    due = {name: float(rng.uniform(0, 1)) for name in left}
    begun: set[str] = set()
    for _ in range(20000):
        for name in [name for name, at in due.items() if at <= streams.engine.now]:
            del due[name]
            piece = rng.integers(3, VOCAB_SIZE, int(rng.integers(5, 60))).tolist()
            output = int(rng.integers(1, 50))
            if name not in begun:
                begun.add(name)
                streams.begin(name, piece, output)
            elif left[name]:
                left[name] -= 1
                streams.feed(name, piece, output)
            elif rng.random() < 0.2:
                streams.engine.abort(name)
            else:
                streams.close(name)
        before = len(streams.finished)
        streams.step()
        for name in streams.finished[before:]:
            due[name] = streams.engine.now + float(rng.choice([0.0, 0.05, 0.5, 4.0]))
        if not streams.scheduler.requests and not due:
            break
    streams.drain()


@pytest.mark.parametrize("policy", ["lamps", "fcfs", "session-fcfs", "infercept", "continuum"])
@pytest.mark.parametrize("seed", range(3))
def test_crowded_streams_say_what_they_would_say_alone(seed, policy):
    streams = Streams(blocks=17, step_tokens=64, max_num_seqs=32, lamps={"policy": policy})
    life(streams, seed)
    streams.check_tokens(*streams.pieces)
    healthy(streams)


@pytest.mark.parametrize(
    "options", [{"prefix_caching": False}, {"lamps": DROP}, {"max_num_seqs": 2}]
)
def test_crowded_streams_without_keeping_or_caching(options):
    streams = Streams(**{"blocks": 17, **options})
    life(streams, 11)
    streams.check_tokens(*streams.pieces)
    healthy(streams)


@pytest.mark.parametrize("seed", range(6))
def test_crowded_streams_one_step_ahead(seed):
    streams = Streams(ahead=True, blocks=17, step_tokens=64, max_num_seqs=32)
    life(streams, seed)
    healthy(streams)


def test_a_fault_during_a_pause_loses_nothing(caplog):
    streams = Streams(blocks=41, lamps=KEEP)
    streams.begin("a", 100, 20)
    streams.begin("b", 100, 20)
    streams.until_paused("a", "b")
    streams.scheduler._core = None  # every use of the core fails from here on
    with caplog.at_level(logging.CRITICAL):
        streams.feed("a", tokens(7, 30), 10)
        streams.until_paused("a")
    assert streams.scheduler._faulted
    streams.feed("b", tokens(8, 30), 10)
    streams.until_paused("b")
    for name in "ab":
        streams.close(name)
    streams.drain()
    streams.check_tokens("a", "b")
    assert streams.free_blocks == streams.all_blocks
    streams.check_drained()


def test_the_decision_log_names_the_request(tmp_path):
    path = tmp_path / "log.jsonl"
    streams = Streams(blocks=41, lamps={**KEEP, "decision_log": str(path)})
    streams.begin("call-me", 100, 20)
    streams.until_paused("call-me")
    streams.feed("call-me", tokens(7, 30), 10)
    streams.until_paused("call-me")
    streams.close("call-me")
    streams.step()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    events = [line["event"] for line in lines if line.get("session") == "call-me"]
    assert events[:3] == ["pause", "return", "pause"]
    healthy(streams)


def test_a_named_session_goes_on_after_its_stream():
    streams = Streams(blocks=41, lamps=KEEP)
    streams.begin("a", 100, 20, session_id="s")
    streams.until_paused("a")
    streams.close("a")
    streams.follow("b", streams.requests["a"], 20, 5, session_id="s")
    streams.drain()
    assert streams.scheduler._core.report()["sessions"] == 1
    healthy(streams)


def test_stock_vllm_can_lock_up_where_lamps_goes_on():
    """Two parked requests fill the pool; both come back and need more: nobody can be preempted."""
    for scheduler_cls in (AsyncScheduler, None):
        streams = Streams(*([scheduler_cls] if scheduler_cls else []), blocks=11)
        for name in "ab":
            streams.begin(name, 130, 25)  # five blocks each when they pause
            streams.until_paused(name)
        for name in "ab":
            streams.feed(name, tokens(7, 40), 40)
        streams.step(500)
        assert streams.paused("a") == streams.paused("b") == (scheduler_cls is None)
    streams.check_tokens("a", "b")
    for name in "ab":
        streams.close(name)
    healthy(streams)
