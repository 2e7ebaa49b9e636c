# SPDX-License-Identifier: Apache-2.0
"""Agents' own session headers."""

import asyncio

import pytest

from lamps_vllm.agents import AgentSessions, session_of


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([], None),
        ([(b"accept", b"*/*")], None),
        ([(b"x-claude-code-session-id", b"abc")], b"abc"),
        ([(b"X-Claude-Code-Session-Id", b"abc")], b"abc"),
        ([(b"x-claude-code-session-id", b"abc"), (b"x-claude-code-agent-id", b"7")], b"abc/7"),
        ([(b"session-id", b"s"), (b"thread-id", b"t")], b"s/t"),
        ([(b"session_id", b"s")], b"s"),
        ([(b"x-session-affinity", b"s")], b"s"),
        ([(b"x-session-affinity", b"")], None),
        ([(b"x-session-affinity", b"s" * 257)], None),
        ([(b"x-session-id", b"told"), (b"x-claude-code-session-id", b"abc")], None),
    ],
)
def test_what_a_request_calls_its_session(headers, name):
    assert session_of(headers) == name


def test_the_header_is_added_and_nothing_else_changes():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def run(scope):
        await AgentSessions(app)(scope, "receive", "send")
        return seen.pop()

    headers = [(b"host", b"h"), (b"session-id", b"s")]
    scope, *rest = asyncio.run(run({"type": "http", "headers": headers, "path": "/v1/responses"}))
    assert scope["headers"] == [*headers, (b"x-session-id", b"s")]
    assert scope["path"] == "/v1/responses"
    assert rest == ["receive", "send"]
    assert headers == [(b"host", b"h"), (b"session-id", b"s")], "the server's own list stays"
    untouched = {"type": "http", "headers": [(b"host", b"h")]}
    assert asyncio.run(run(untouched))[0] is untouched
    lifespan = {"type": "lifespan"}
    assert asyncio.run(run(lifespan))[0] is lifespan
