# SPDX-License-Identifier: Apache-2.0
"""The decision log: one JSON line per decision, readable by people."""

import json
from pathlib import Path

from lamps_vllm.decisions import DecisionLog
from tests.support.driver import Driver


def decision(**changed):
    entry = {
        "session": 3, "at": 1.5, "handling": "preserve", "reason": "keeping wastes least",
        "context_tokens": 96, "expected_call_s": 1 / 3, "p_return": 0.5, "pressure": 0.0,
        "waste": {"preserve": 0.0, "discard": 1.23456789, "swap": float("inf")},
    }  # fmt: skip
    return {**entry, **changed}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_per_decision(tmp_path):
    path = tmp_path / "logs" / "decisions.jsonl"
    log = DecisionLog(path)
    assert log.on
    log.write(
        2.0,
        [decision(), decision(reason="returned"), decision(reason="not expected back")],
        "s{}".format,
    )
    first, *others = lines(path)
    assert first == {
        "t": 1.5, "session": "s3", "event": "pause", "why": "keeping wastes least", "handling": "preserve",
        "context_tokens": 96, "expected_call_s": 0.333333, "p_return": 0.5, "pressure": 0.0,
        "waste": {"preserve": 0.0, "discard": 1.23457, "swap": None},
    }  # fmt: skip
    assert [line["event"] for line in others] == ["return", "release"]
    log.close()
    assert not log.on


def test_a_log_is_continued(tmp_path):
    path = tmp_path / "decisions.jsonl"
    for _ in range(2):
        log = DecisionLog(path)
        log.write(0.0, [decision()], str)
        log.close()
    assert len(lines(path)) == 2


def test_no_path_no_log():
    log = DecisionLog(None)
    assert not log.on
    log.write(0.0, [decision()], str)
    log.close()


def test_the_scheduler_logs_pause_return_and_release(tmp_path):
    path = tmp_path / "decisions.jsonl"
    driver = Driver(blocks=21, lamps={"decision_log": str(path)})
    first = driver.send("a0", 100, 5, session_id="agent-7")
    driver.drain()
    driver.wait(1.0)
    driver.follow("a1", first, 20, 5, session_id="agent-7", hints={"final_turn": True})
    driver.drain()
    driver.scheduler.shutdown()
    *decisions, last = lines(path)
    assert last["event"] == "predictions"
    found = [(line["session"], line["event"], line["why"]) for line in decisions]
    assert found == [
        ("agent-7", "pause", "keeping wastes least"),
        ("agent-7", "return", "returned"),
        ("agent-7", "release", "the client said it was the last turn"),
    ]
