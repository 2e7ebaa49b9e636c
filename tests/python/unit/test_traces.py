# SPDX-License-Identifier: Apache-2.0
"""Traces with one entry per turn: prompts, rewrites, pauses, sub-agents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lamps_vllm.replay.workload import Workload, WorkloadError, load_workload, save_workload
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.traces import UNRESOLVED_GAP_S, Gaps, load_trace

TURNS = [
    {"in": 20_000, "out": 100, "new": 20_000, "gap": 9.0, "gap_est": 2.0, "stop": "tool_use"},
    # Extends the context: `new` holds the reply and, in blocks of 64, up to 63 tokens too many.
    {"in": 20_400, "out": 50, "new": 432, "gap": 8.0, "gap_est": 0, "stop": "end_turn"},
    # 20 tokens less than prompt and reply: part of the reply was left out.
    {"in": 20_430, "out": 50, "new": 62, "gap": 5.0, "stop": "tool_use"},
    # Rewritten: only the first 15,000 tokens are as before.
    {"in": 18_000, "out": 50, "new": 3_000, "gap": None, "stop": "end_turn"},
]


def session(name: str = "a", **more) -> dict:
    return {"id": name, "turns": TURNS, "shared_prefix": 15_000, "prefix_group": 3, **more}


def write(path: Path, *lines: dict) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_prompts_are_those_of_the_trace(tmp_path):
    loaded = load_trace(write(tmp_path / "t.jsonl", session())).sessions[0]
    assert [turn.prompt for turn in loaded.turns()] == [20_000, 20_400, 20_430, 18_000]
    assert [s.prompt_tokens for s in loaded.segments] == [20_000, 300, 30, 3_000]
    assert [s.kept_tokens for s in loaded.segments] == [None, None, 20_400, 15_000]
    assert [s.tool for s in loaded.segments] == ["tool", "user", "tool", None]


def test_pauses_are_the_corrected_ones_unless_asked(tmp_path):
    path = write(tmp_path / "t.jsonl", session())
    corrected = [s.call_seconds for s in load_trace(path).sessions[0].segments]
    assert corrected == [2.0, UNRESOLVED_GAP_S, 5.0, None]
    recorded = load_trace(path, gaps=Gaps.RECORDED).sessions[0].segments
    assert [s.call_seconds for s in recorded] == [9.0, 8.0, 5.0, None]


def test_sharing_is_asked_for(tmp_path):
    path = write(tmp_path / "t.jsonl", session())
    assert load_trace(path).sessions[0].shared_prefix is None
    shared = load_trace(path, share_prefix=True).sessions[0].shared_prefix
    assert (shared.group, shared.tokens) == ("3", 15_000)


def test_subagents_are_sessions_of_their_own(tmp_path):
    agent = {"parent_turn": 0, "start": 19.5, "dur": 60, "wait": 1, "turns": TURNS[:1]}
    path = write(tmp_path / "t.jsonl.gz", session(subagents=[agent]))
    loaded = load_trace(path).sessions
    assert [(s.id, s.arrival, s.parent) for s in loaded] == [("a", 0.0, None), ("a/0", 19.5, "a")]
    assert len(load_trace(path, subagents=False).sessions) == 1


def test_a_session_that_ends_on_a_call_generates_one_more_token(tmp_path):
    turns = [{"in": 405, "out": 60, "new": 405, "gap": 0.7, "ret": 21}]
    loaded = load_trace(write(tmp_path / "t.jsonl", {"id": "m", "class": "qa", "turns": turns}))
    first, last = loaded.sessions[0].segments
    assert (first.call_seconds, first.tool) == (0.7, "qa")
    assert (last.prompt_tokens, last.output_tokens, last.call_seconds) == (21, 1, None)


def test_a_session_that_never_comes_back_from_a_call_shows_it(tmp_path):
    turns = [
        {"in": 405, "out": 60, "new": 405, "gap": 30.0, "stop": "end_turn"},
        {"in": 500, "out": 60, "new": 95, "gap": None, "stop": "tool_use"},
    ]
    (loaded,) = load_trace(write(tmp_path / "t.jsonl", {"id": "m", "turns": turns})).sessions
    assert [s.tool for s in loaded.segments] == ["user", "tool"]
    assert [loaded.called_tool(index) for index in range(2)] == [None, "tool"]


def test_source_tells_the_formats_apart(tmp_path):
    trace = write(tmp_path / "trace.jsonl.gz", session("a"), session("b"))
    assert len(Source(str(trace)).load(0).sessions) == 2
    assert len(Source(str(trace), sessions=1).load(0).sessions) == 1
    ours = tmp_path / "ours.jsonl"
    save_workload(load_trace(trace), ours)
    assert Source(str(ours)).load(0) == Source(str(trace)).load(0)


def test_our_own_format_may_be_compressed(tmp_path):
    plain = tmp_path / "w.jsonl"
    workload = load_trace(write(tmp_path / "t.jsonl", session()))
    save_workload(workload, plain)
    packed = tmp_path / "w.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load_workload(packed) == workload == load_workload(plain)
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnot")
    with pytest.raises(WorkloadError, match=r"broken\.gz"):
        load_workload(tmp_path / "broken.gz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"turns": []}, r"line 2: turns = \[\]"),
        ({"turns": [{"in": 0, "out": 1, "new": 0}]}, r"line 2: turns.0.in = 0.*or equal to 1"),
        ({"turns": [{"in": 5, "out": 1, "new": 5, "gap": -1}]}, r"line 2: turns.0.gap = -1"),
        ({"subagents": [{"start": -1, "turns": TURNS}]}, r"line 2: subagents.0.start = -1"),
    ],
)
def test_bad_value_names_line_field_and_range(tmp_path, change, message):
    path = write(tmp_path / "t.jsonl", session("ok"), session("bad") | change)
    with pytest.raises(WorkloadError, match=message):
        load_trace(path)


def test_empty_file(tmp_path):
    with pytest.raises(WorkloadError, match="no sessions"):
        load_trace(write(tmp_path / "t.jsonl"))


def test_a_converted_trace_is_a_workload(tmp_path):
    loaded = load_trace(write(tmp_path / "t.jsonl", session("x"), session("y")))
    assert isinstance(loaded, Workload)
    assert loaded.scaled(call_factor=2.0).sessions[0].tool_seconds == pytest.approx(14.6)
