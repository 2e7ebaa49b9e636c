# SPDX-License-Identifier: Apache-2.0
"""One streamed OpenAI request: server-sent events in, an answer and its times out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from lamps_vllm.replay.records import TurnRecord

HTTP_OK = 200
ERROR_TEXT_LIMIT = 300


class TurnError(RuntimeError):
    """One turn failed. Recorded with the turn, never lost."""


# What a turn can die of without being a fault of this program.
TURN_FAILURES = (TurnError, aiohttp.ClientError, OSError, ValueError, LookupError)


@dataclass
class Answer:
    """What one response brought: token ids (completions) or text (chat)."""

    token_ids: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    finish_reason: str | None = None


def describe(error: BaseException) -> str:
    """A failure in words; a timeout's own message is empty."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = str(error) or type(error).__name__
    return text if isinstance(error, TurnError) else f"{type(error).__name__}: {text}"


async def stream_turn(
    http: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any],
    turn: TurnRecord,
    clock: Callable[[], float],
) -> Answer:
    """Sends `body` and reads the stream to its end, filling in `turn`'s times and counts.

    Raises one of TURN_FAILURES.
    """
    answer = Answer()
    async with http.post(path, json=body) as response:
        turn.http_status = response.status
        if response.status != HTTP_OK:
            reason = (await response.text())[:ERROR_TEXT_LIMIT]
            raise TurnError(f"HTTP {response.status}: {reason}")
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                break
            _take_chunk(json.loads(data), answer, turn, clock)
    turn.end = clock()
    if turn.first_token is None:
        raise TurnError("the stream ended without a token")
    return answer


def _take_chunk(
    chunk: dict[str, Any], answer: Answer, turn: TurnRecord, clock: Callable[[], float]
) -> None:
    if error := chunk.get("error"):
        raise TurnError(f"error in the stream: {str(error)[:ERROR_TEXT_LIMIT]}")
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta") or {}
        token_ids = choice.get("token_ids") or []
        text = choice.get("text") or delta.get("content") or ""
        if turn.first_token is None and (token_ids or text or delta.get("tool_calls")):
            turn.first_token = clock()
        answer.token_ids.extend(token_ids)
        answer.text.append(text)
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    if usage := chunk.get("usage"):
        turn.prompt_tokens = usage["prompt_tokens"]
        turn.output_tokens = usage["completion_tokens"]
        details = usage.get("prompt_tokens_details") or {}
        turn.cached_tokens = details.get("cached_tokens")
