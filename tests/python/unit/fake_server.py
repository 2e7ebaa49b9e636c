# SPDX-License-Identifier: Apache-2.0
"""A small OpenAI-compatible server that records what it is asked: no model behind it.

Also a program: `python fake_server.py PORT` serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class FakeServer:
    """Streams `max_tokens` tokens numbered from 500. The fields make it misbehave."""

    refuse_session: str | None = None
    break_stream_of: str | None = None
    short_by: int = 0
    token_delay_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    def of_session(self, name: str) -> list[dict[str, Any]]:
        return [body for body in self.bodies if body.get("session_id") == name]

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake-model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        name = body.get("session_id")
        if name is not None and name == self.refuse_session:
            return web.json_response({"error": "refused"}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if name is not None and name == self.break_stream_of:
            await _send(response, {"error": {"message": "engine died"}})
            return response
        is_chat = "messages" in body
        count = body["max_tokens"] - (0 if name == "lamps-probe" else self.short_by)
        for number in range(count):
            await asyncio.sleep(0.0 if name == "lamps-probe" else self.token_delay_s)
            await _send(response, {"choices": [_choice(number, is_chat, number == count - 1)]})
        prompt = len(body.get("prompt", ()))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": count,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
        }
        await _send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response


def _choice(number: int, is_chat: bool, is_last: bool) -> dict[str, Any]:
    content = {"delta": {"content": f"w{number} "}} if is_chat else {"token_ids": [500 + number]}
    return {"index": 0, "finish_reason": "length" if is_last else None, **content}


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())


if __name__ == "__main__":
    web.run_app(FakeServer().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
