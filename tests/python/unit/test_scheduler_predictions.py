# SPDX-License-Identifier: Apache-2.0
"""What the shim tells the core about calls, sessions and requests, under the real vLLM scheduler."""

import json
import logging
from types import SimpleNamespace

import pytest
from vllm.v1.request import RequestStatus

import lamps_ext
from tests.support.driver import Driver, tokens


class Reader:
    """Stands for a tokenizer: every turn calls these tools."""

    def __init__(self, *names: str) -> None:
        self.tools = list(names)

    def names(self, token_ids) -> list[str]:
        assert len(token_ids) > 0
        return self.tools


class BrokenReader:
    def names(self, token_ids):
        raise ValueError("no such token")


def serve(driver: Driver, turns: int, **how) -> None:
    """One session whose every prompt is its whole context and something new."""
    request = driver.send("s.0", 100, 40, **how)
    driver.drain()
    for turn in range(1, turns):
        driver.wait(1.0)
        request = driver.follow(f"s.{turn}", request, 37, 40, **how)
        driver.drain()


def test_tools_are_learned_and_logged_by_name(tmp_path):
    log = tmp_path / "log"
    driver = Driver(blocks=200, lamps={"decision_log": str(log)})
    driver.scheduler._calls._reader = Reader("search")
    serve(driver, 4, session_id="a")
    scores = {(s["what"], s["name"]): s["scored"] for s in driver.scheduler._core.scores()}
    assert scores["tool", "search"] == 3
    driver.scheduler.shutdown()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["tool"] for line in lines[:-1]} == {"search"}
    assert lines[-1]["event"] == "predictions"
    assert {"tool", "call", "output"} == {score["what"] for score in lines[-1]["scores"]}


def test_sessions_are_found_without_any_name():
    driver = Driver(blocks=200)
    serve(driver, 5)
    report = driver.scheduler._core.report()
    assert report["returns"] == 4
    assert len(driver.scheduler._book) == 1


def test_a_reader_that_fails_is_put_away_and_serving_goes_on(caplog):
    logger = logging.getLogger("vllm.lamps")
    logger.addHandler(caplog.handler)
    try:
        driver = Driver(blocks=200)
        driver.scheduler._calls._reader = BrokenReader()
        serve(driver, 3, session_id="a")
    finally:
        logger.removeHandler(caplog.handler)
    assert driver.scheduler._calls._reader is None
    assert "no such token" in caplog.text
    assert not driver.scheduler._faulted


def test_without_a_tokenizer_nothing_is_read():
    assert Driver(blocks=64).scheduler._calls._reader is None


@pytest.mark.parametrize(
    ("status", "constrained", "calls"),
    [
        (RequestStatus.FINISHED_STOPPED, False, []),
        (RequestStatus.FINISHED_LENGTH_CAPPED, False, None),
        (RequestStatus.FINISHED_STOPPED, True, None),
    ],
)
def test_a_turn_that_shows_no_call_may_still_have_made_one(status, constrained, calls):
    scheduler = Driver(blocks=64).scheduler
    scheduler._calls._reader = Reader()
    request = SimpleNamespace(
        output_token_ids=[1], status=status, use_structured_output=constrained
    )
    assert scheduler._calls.of(request) == calls
    scheduler._calls._reader = Reader("search")
    assert scheduler._calls.of(request) == ["search"]


def test_predictions_outlive_the_scheduler(tmp_path):
    options = {"predictions": str(tmp_path / "p"), "predictions_seconds": 3600.0}
    first = Driver(blocks=200, lamps=options)
    first.scheduler._calls._reader = Reader("build", "test")
    serve(first, 4, session_id="a")
    first.scheduler.shutdown()
    text = (tmp_path / "p").read_text()
    assert "\ntool build%20%2B%20test " in text
    second = Driver(blocks=200, lamps=options)
    second.scheduler.shutdown()
    assert (tmp_path / "p").read_text() == text, "nothing was learned in between"


def test_a_damaged_file_does_not_stop_the_start(tmp_path):
    (tmp_path / "p").write_text("something else")
    driver = Driver(blocks=200, lamps={"predictions": str(tmp_path / "p")})
    serve(driver, 2, session_id="a")
    assert not driver.scheduler._faulted


def test_requests_that_begin_alike_are_a_class():
    driver = Driver(blocks=400)
    system = tokens(1, 128)
    seen = []
    for i in range(5):
        driver.send(f"r{i}", [*system, *tokens(100 + i, 40)], 8)
        arrival = driver.scheduler._events[-1]
        assert arrival[0] == lamps_ext.ARRIVE
        seen.append(arrival[8][0])
        driver.drain()
    assert seen[:3] == [-1, -1, -1]
    assert seen[3] == seen[4] != -1


@pytest.mark.parametrize(
    ("params", "cap"),
    [
        ({"max_tokens": 20, "min_tokens": 20, "ignore_eos": True}, 0),
        ({"max_tokens": 20, "ignore_eos": True}, 0),
        ({"max_tokens": 20}, 20),
        ({"max_tokens": 2048 - 100}, 0),
    ],
)
def test_a_cap_is_read_only_where_a_client_chose_it(params, cap):
    driver = Driver(blocks=64)
    request = driver.send("r", 100, 20)
    given = request.sampling_params
    given.ignore_eos, given.min_tokens, given.max_tokens = False, 0, None
    for key, value in params.items():
        setattr(given, key, value)
    assert driver.scheduler._free_cap(request) == cap
