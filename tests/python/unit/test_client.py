# SPDX-License-Identifier: Apache-2.0
"""The replay client against a fake server: what it sends, and what it makes of failures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestServer
from fake_server import FakeServer

from lamps_vllm.hints import HINT_KEY, Hints, parse_hints
from lamps_vllm.replay.client import Replay, ReplayError, ReplayOptions
from lamps_vllm.replay.metrics import measure
from lamps_vllm.replay.records import Identity, ReplayResult
from lamps_vllm.replay.workload import Segment, Session, Workload

OPTIONS = ReplayOptions(base_url="", vocab_size=400)


def session(name: str, arrival: float = 0.0, call_seconds: float = 0.02) -> Session:
    return Session(
        id=name,
        arrival=arrival,
        segments=(
            Segment(prompt_tokens=20, output_tokens=3, call_seconds=call_seconds),
            Segment(prompt_tokens=4, output_tokens=2, call_seconds=call_seconds),
            Segment(prompt_tokens=6, output_tokens=1),
        ),
    )


def run(
    fake: FakeServer, *sessions: Session, options: ReplayOptions = OPTIONS, seen: list | None = None
) -> ReplayResult:
    async def serve_and_replay() -> ReplayResult:
        async with TestServer(fake.app()) as server:
            url = str(server.make_url("/"))
            on_session = (lambda record: None) if seen is None else seen.append
            replay = Replay(Workload.of(sessions), replace(options, base_url=url), on_session)
            return await replay.run()

    return asyncio.run(serve_and_replay())


def test_next_prompt_is_context_plus_generated_plus_tool_result():
    fake = FakeServer()
    run(fake, session("a"))
    first, second, third = (body["prompt"] for body in fake.of_session("a"))
    assert len(first) == 20
    assert second[:20] == first
    assert second[20:23] == [500, 501, 502]
    assert len(second) == 20 + 3 + 4
    assert third[:27] == second
    assert third[27:29] == [500, 501]
    assert len(third) == 27 + 2 + 6


def test_lengths_are_forced_and_ids_asked_for():
    fake = FakeServer()
    run(fake, session("a"))
    body = fake.of_session("a")[0]
    assert body["max_tokens"] == body["min_tokens"] == 3
    assert body["ignore_eos"] and body["stream"] and body["return_token_ids"]
    assert body["stream_options"] == {"include_usage": True}
    assert body["model"] == "fake-model"


def test_prompts_are_seeded_and_unique_per_session():
    def prompts(seed: int) -> list[list[int]]:
        fake = FakeServer()
        run(fake, session("a"), session("b"), options=replace(OPTIONS, seed=seed))
        return [fake.of_session(name)[0]["prompt"] for name in "ab"]

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)
    assert prompts(1)[0] != prompts(1)[1]
    assert all(3 <= token < 400 for prompt in prompts(1) for token in prompt)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (Identity.SESSION_ID, {"session_id": ["early", "late"]}),
        (Identity.PRIORITY, {"priority": [0, 1]}),
        (Identity.NONE, {}),
        (Identity.TOOLS, {}),
        (Identity.FINAL, {"session_id": ["early", "late"]}),
        (Identity.ORACLE, {"session_id": ["early", "late"]}),
    ],
)
def test_identity(identity, expected):
    fake = FakeServer()
    options = replace(OPTIONS, identity=identity)
    run(fake, session("late", 0.1), session("early"), options=options)
    bodies = [body for body in fake.bodies if len(body["prompt"]) == 20]
    for name in ("session_id", "priority"):
        assert [body[name] for body in bodies if name in body] == expected.get(name, [])


def test_what_the_client_expects_is_sent_as_a_hint():
    fake = FakeServer()
    segments = (
        Segment(prompt_tokens=20, output_tokens=3, call_seconds=0.01, expected_output_tokens=42.5),
        Segment(prompt_tokens=4, output_tokens=2),
    )
    run(fake, Session(id="a", arrival=0.0, segments=segments))
    first, second = fake.of_session("a")
    assert parse_hints(first["vllm_xargs"]) == (Hints(expected_output_tokens=42.5), [])
    assert "vllm_xargs" not in second


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        (Identity.ORACLE, [{"expected_output_tokens": 3, "tool": "grep", "expected_call_seconds": 0.01},
                           {"expected_output_tokens": 3, "tool": "Chatbot", "expected_call_seconds": 0.01},
                           {"expected_output_tokens": 2, "final_turn": True}]),
        (Identity.TOOLS, [{"tool": "grep"}, None, None]),
        (Identity.FINAL, [None, None, {"final_turn": True}]),
        (Identity.NONE, [None, None, None]),
    ],
)  # fmt: skip
def test_what_an_identity_tells(identity, told):
    """A person's next message is no call that a model's tokens would show."""
    fake = FakeServer()
    segments = (
        Segment(prompt_tokens=20, output_tokens=3, call_seconds=0.01, tool="grep"),
        Segment(prompt_tokens=4, output_tokens=3, call_seconds=0.01, tool="Chatbot"),
        Segment(prompt_tokens=4, output_tokens=2),
    )
    run(fake, Session(id="a", arrival=0.0, segments=segments),
        options=replace(OPTIONS, identity=identity))  # fmt: skip
    bodies = [body for body in fake.bodies if len(body["prompt"]) >= 20]
    hints = [
        json.loads(body["vllm_xargs"][HINT_KEY]) if "vllm_xargs" in body else None
        for body in bodies
    ]
    assert hints == told


def test_times_and_counts_of_a_turn():
    result = run(FakeServer(token_delay_s=0.02), session("a", arrival=0.05, call_seconds=0.1))
    first, second, third = result.sessions[0].turns
    assert first.planned == 0.05
    assert first.send_lag >= 0.0
    assert 0.02 <= first.ttft <= first.end - first.sent
    assert second.planned == pytest.approx(first.end + 0.1)
    assert third.prompt_tokens == 35
    assert third.cached_tokens == 17
    assert [turn.output_tokens for turn in (first, second, third)] == [3, 2, 1]
    assert 6 * 0.02 <= result.sessions[0].server_seconds == pytest.approx(third.end - 0.05 - 0.2)


def test_refused_session_is_recorded_and_the_others_are_drained():
    seen = []
    result = run(
        FakeServer(refuse_session="b"), session("a"), session("b"), session("c"), seen=seen
    )
    failed = {record.id: record for record in result.sessions if record.error}
    assert list(failed) == ["b"]
    assert failed["b"].turns[0].http_status == 400
    assert "HTTP 400" in failed["b"].error
    assert measure(result).failed == 1
    assert {record.id for record in seen} == {"a", "b", "c"}


def test_error_inside_the_stream_is_recorded():
    result = run(FakeServer(break_stream_of="a"), session("a"))
    assert "engine died" in result.sessions[0].error


def test_wrong_length_is_a_failure():
    result = run(FakeServer(short_by=1), session("a"))
    assert "2 token ids came back where 3 were forced" in result.sessions[0].error


def test_timeout_is_recorded():
    fake = FakeServer(token_delay_s=5.0)
    options = replace(OPTIONS, timeout_s=0.5)
    assert run(fake, session("a"), options=options).sessions[0].error == "timed out"


def test_no_server():
    options = replace(OPTIONS, base_url="http://127.0.0.1:9")
    with pytest.raises(ReplayError, match=r"no OpenAI server at http://127\.0\.0\.1:9"):
        asyncio.run(Replay(Workload.of([session("a")]), options, lambda record: None).run())


def test_unknown_model():
    with pytest.raises(ReplayError, match="model 'other': the server has fake-model"):
        run(FakeServer(), session("a"), options=replace(OPTIONS, model="other"))


def test_server_that_refuses_the_first_request():
    with pytest.raises(ReplayError, match="a first small request failed: HTTP 400"):
        run(FakeServer(refuse_session="lamps-probe"), session("a"))


def test_chat_sessions_carry_the_real_answers():
    fake = FakeServer()
    ask = {"role": "user", "content": "hello"}
    tool = {"role": "tool", "content": "42"}
    chat = Session(
        id="a",
        arrival=0.0,
        segments=(
            Segment(output_tokens=2, call_seconds=0.01, text=(ask,)),
            Segment(output_tokens=1, text=(tool,)),
        ),
    )
    result = run(fake, chat)
    first, second = fake.of_session("a")
    assert first["messages"] == [ask]
    assert second["messages"] == [ask, {"role": "assistant", "content": "w0 w1 "}, tool]
    assert "min_tokens" not in first
    assert not result.forced_lengths
    assert result.sessions[0].error is None
