# SPDX-License-Identifier: Apache-2.0
"""Workload files: what is accepted, what is written, what a bad line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamps_vllm.replay.workload import (
    Segment,
    Session,
    Workload,
    WorkloadError,
    load_workload,
    save_workload,
)


def session(name: str = "a", arrival: float = 0.0) -> Session:
    return Session(
        id=name,
        arrival=arrival,
        segments=(
            Segment(prompt_tokens=30, output_tokens=5, call_seconds=2.0, tool="QA"),
            Segment(prompt_tokens=7, output_tokens=4),
        ),
    )


def good_line() -> dict:
    return json.loads(session().model_dump_json())


def load_lines(tmp_path: Path, *lines: object) -> Workload:
    path = tmp_path / "w.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return load_workload(path)


def test_round_trip_sorts_by_arrival(tmp_path):
    workload = Workload.of([session("late", 3.0), session("early", 1.0)])
    path = tmp_path / "folder" / "w.jsonl"
    save_workload(workload, path)
    assert load_workload(path) == workload
    assert [each.id for each in workload.sessions] == ["early", "late"]


def test_derived_figures():
    assert session().tool_seconds == 2.0
    assert session().context_tokens == 46
    assert not session().is_chat


def test_scaling():
    scaled = Workload.of([session(arrival=8.0)]).scaled(call_factor=0.5, rate_factor=4.0)
    assert scaled.sessions[0].arrival == 2.0
    assert scaled.sessions[0].tool_seconds == 1.0
    assert scaled.sessions[0].segments[-1].call_seconds is None


@pytest.mark.parametrize(
    ("factors", "word"),
    [
        ({"call_factor": -1.0}, "call_factor = -1.0"),
        ({"rate_factor": 0.0}, "rate_factor = 0.0"),
        ({"rate_factor": float("nan")}, "rate_factor = nan"),
    ],
)
def test_bad_factor_is_named(factors, word):
    with pytest.raises(WorkloadError, match=word):
        Workload.of([session()]).scaled(**factors)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("arrival",), -1, r"arrival = -1.*greater than or equal to 0"),
        (("arrival",), "soon", r'arrival = "soon"'),
        (("segments", 0, "prompt_tokens"), -3, r"segments.0.prompt_tokens = -3.*or equal to 0"),
        (("segments", 0, "prompt_tokens"), 0, r"prompt_tokens must be at least 1"),
        (("segments", 1, "output_tokens"), 0, r"segments.1.output_tokens = 0.*or equal to 1"),
        (("segments", 1, "output_tokens"), 1.5, r"segments.1.output_tokens = 1.5"),
        (("segments", 0, "call_seconds"), None, r"every segment but the last needs call_seconds"),
        (("segments", 0, "call_seconds"), 1e9, r"call_seconds = 1000000000.0.*or equal to 86400"),
        (("segments", 1, "call_seconds"), 1.0, r"last segment has no call"),
        (("segments", 0, "text"), [{"content": "x"}], r"needs a role"),
        (("segments", 0, "text"), [{"role": "user"}], r"either all segments carry text or none"),
        (("segments",), [], r"segments = \[\].*at least 1"),
        (("id",), "", r'id = "".*at least 1'),
        (("colour",), "red", r'colour = "red": Extra inputs'),
    ],
)
def test_bad_value_names_line_field_value_and_range(tmp_path, path, value, message):
    line = good_line()
    target = line
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(WorkloadError, match=rf"w\.jsonl, line 3: .*{message}"):
        load_lines(tmp_path, good_line() | {"id": "first"}, "", line)


def test_broken_json_names_the_line(tmp_path):
    with pytest.raises(WorkloadError, match="line 1: Invalid JSON"):
        load_lines(tmp_path, '{"id": ')


def test_duplicate_id(tmp_path):
    with pytest.raises(WorkloadError, match="session id 'a' occurs twice"):
        load_lines(tmp_path, good_line(), good_line())


def test_empty_and_missing_file(tmp_path):
    with pytest.raises(WorkloadError, match="no sessions"):
        load_lines(tmp_path, "")
    with pytest.raises(WorkloadError, match="No such file"):
        load_workload(tmp_path / "none.jsonl")


def test_chat_session_keeps_its_messages(tmp_path):
    messages = [{"role": "user", "content": "hello"}]
    line = {"id": "c", "arrival": 0, "segments": [{"output_tokens": 9, "text": messages}]}
    loaded = load_lines(tmp_path, line).sessions[0]
    assert loaded.is_chat
    assert list(loaded.segments[0].text) == messages
