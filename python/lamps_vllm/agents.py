# SPDX-License-Identifier: Apache-2.0
"""The session headers of known agents, for vLLM's API server.

vLLM hands one header to its engine, ``X-Session-ID``. Agents name their sessions in headers of their own,
so this middleware copies the first of those that a request carries. Sub-agents have ids of their own
and run beside their parent, so where one is named it is part of the session's name::

    vllm serve MODEL --middleware lamps_vllm.agents.AgentSessions ...   # `lamps serve` adds it

Nothing else of a request is read or changed; a request with ``X-Session-ID`` passes as it is.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_TARGET = b"x-session-id"
# (header of the session, header of the agent within it or None), in order of preference.
_KNOWN: tuple[tuple[bytes, bytes | None], ...] = (
    (b"x-claude-code-session-id", b"x-claude-code-agent-id"),  # Claude Code
    (b"session-id", b"thread-id"),  # Codex
    (b"session_id", None),  # Codex, older
    (b"x-opencode-session", None),  # OpenCode to its own service
    (b"x-session-affinity", None),  # ... and to others
    (b"x-qwen-code-session-id", None),  # Qwen Code
)
_LONGEST = 256

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


class AgentSessions:
    """ASGI middleware."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            name = session_of(scope["headers"])
            if name is not None:
                scope = {**scope, "headers": [*scope["headers"], (_TARGET, name)]}
        await self._app(scope, receive, send)


def session_of(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """What an agent's headers call its session; None if they do not, or if vLLM is told already."""
    given = {key.lower(): value for key, value in headers}
    if _TARGET in given:
        return None
    for session, agent in _KNOWN:
        value = given.get(session)
        if not value or len(value) > _LONGEST:
            continue
        part = given.get(agent, b"") if agent else b""
        return value + b"/" + part[:_LONGEST] if part else value
    return None
