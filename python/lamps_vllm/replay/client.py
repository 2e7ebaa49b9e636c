# SPDX-License-Identifier: Apache-2.0
"""Open-loop replay of agent sessions against an OpenAI-compatible server.

Every session starts at its planned time whatever the server does, every session is drained, and a
failure is recorded with its turn. Token sessions go to `/v1/completions` with token ids and forced
lengths; the next prompt is the previous context, the tokens that were really generated, and the
tool's result. Sessions with real messages go to `/v1/chat/completions`, lengths capped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from lamps_vllm.hints import HINT_KEY
from lamps_vllm.replay.records import Identity, ReplayResult, SessionRecord, TurnRecord
from lamps_vllm.replay.stream import TURN_FAILURES, Answer, TurnError, describe, stream_turn
from lamps_vllm.replay.workload import Segment, Session, Workload

FIRST_TOKEN_ID = 3  # Below sit the special tokens of most vocabularies.
# A server closes idle connections (uvicorn after 5 s); a request on a closing one would fail.
KEEPALIVE_S = 2.0
READ_BUFFER_BYTES = 1 << 22  # One event with a long prompt's token ids must fit.


SessionDone = Callable[[SessionRecord], None]


class ReplayError(RuntimeError):
    """The replay cannot start: no server, no such model, or an answer without what we need."""


@dataclass(frozen=True)
class ReplayOptions:
    """How to replay. `base_url` comes without `/v1`; `timeout_s` bounds one turn, in seconds."""

    base_url: str
    model: str | None = None
    identity: Identity = Identity.SESSION_ID
    seed: int = 0
    vocab_size: int = 1024
    timeout_s: float = 900.0
    api_key: str | None = None


class Context:
    """A session's growing context, as request bodies want it."""

    def __init__(self, session: Session, rng: np.random.Generator, vocab_size: int) -> None:
        self._session = session
        self._messages: list[dict[str, Any]] = []
        self._tokens: list[int] = []
        # Drawn before the replay starts: the client must not compute while it is timed.
        self._inputs = [
            rng.integers(FIRST_TOKEN_ID, vocab_size, size=segment.prompt_tokens).tolist()
            for segment in session.segments
        ]
        if shared := session.shared_prefix:
            group_rng = np.random.default_rng([*shared.group.encode()])
            head = group_rng.integers(FIRST_TOKEN_ID, vocab_size, size=shared.tokens)
            self._inputs[0][: shared.tokens] = head.tolist()

    @property
    def path(self) -> str:
        """The endpoint that serves this session."""
        return "/v1/chat/completions" if self._session.is_chat else "/v1/completions"

    def body(self, index: int) -> dict[str, Any]:
        """Appends the input of segment `index` and returns what describes the whole context."""
        segment = self._session.segments[index]
        if segment.text is not None:
            self._messages.extend(segment.text)
            return {"messages": self._messages, "max_tokens": segment.output_tokens}
        if segment.kept_tokens is not None:
            del self._tokens[segment.kept_tokens :]
        self._tokens.extend(self._inputs[index])
        return {
            "prompt": self._tokens,
            "max_tokens": segment.output_tokens,
            "min_tokens": segment.output_tokens,
            "ignore_eos": True,
            "return_token_ids": True,
        }

    def hint(self, index: int, identity: Identity) -> dict[str, Any]:
        """What the client says about segment `index`: what the workload expects, or all there is."""
        segment = self._session.segments[index]
        told: dict[str, Any] = {}
        if segment.expected_output_tokens is not None:
            told["expected_output_tokens"] = segment.expected_output_tokens
        if identity is Identity.ORACLE:
            told = segment.truth
        elif identity is Identity.TOOLS and (tool := self._session.called_tool(index)):
            told["tool"] = tool
        elif identity is Identity.FINAL and segment.call_seconds is None:
            told["final_turn"] = True
        return {"vllm_xargs": {HINT_KEY: json.dumps(told)}} if told else {}

    def take(self, index: int, answer: Answer) -> None:
        """Appends what was generated. Raises TurnError if the length is not the forced one."""
        segment = self._session.segments[index]
        if segment.text is not None:
            self._messages.append({"role": "assistant", "content": "".join(answer.text)})
            return
        if len(answer.token_ids) != segment.output_tokens:
            raise TurnError(
                f"{len(answer.token_ids)} token ids came back where {segment.output_tokens} were "
                f"forced (finish_reason {answer.finish_reason}): the server must support "
                "return_token_ids and ignore_eos"
            )
        self._tokens.extend(answer.token_ids)


class Replay:
    """One replay of a workload. Use once."""

    def __init__(self, workload: Workload, options: ReplayOptions, on_session: SessionDone) -> None:
        self._workload = workload
        self._options = options
        self._on_session = on_session
        self._model = ""
        self._started = 0.0
        self._http: aiohttp.ClientSession

    async def run(self) -> ReplayResult:
        """Replays and drains everything. Raises ReplayError, only before the first session."""
        key = self._options.api_key
        async with aiohttp.ClientSession(
            self._options.base_url.rstrip("/"),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout_s),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            read_bufsize=READ_BUFFER_BYTES,
        ) as self._http:
            self._model = await self._served_model()
            await self._probe()
            contexts = self._contexts()
            self._started = time.perf_counter()
            sessions = await asyncio.gather(
                *(
                    self._run_session(order, session, contexts[order])
                    for order, session in enumerate(self._workload.sessions)
                )
            )
        return ReplayResult(
            base_url=self._options.base_url,
            model=self._model,
            identity=self._options.identity,
            seed=self._options.seed,
            forced_lengths=not any(session.is_chat for session in self._workload.sessions),
            sessions=list(sessions),
        )

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _contexts(self) -> list[Context]:
        seeds = np.random.SeedSequence(self._options.seed).spawn(len(self._workload.sessions))
        return [
            Context(session, np.random.default_rng(seed), self._options.vocab_size)
            for session, seed in zip(self._workload.sessions, seeds, strict=True)
        ]

    async def _served_model(self) -> str:
        """The model's name as the server knows it; also proves that a server is there."""
        try:
            async with self._http.get("/v1/models") as response:
                response.raise_for_status()
                names = [model["id"] for model in (await response.json())["data"]]
        except TURN_FAILURES as error:
            reason = describe(error)
            raise ReplayError(f"no OpenAI server at {self._options.base_url}: {reason}") from error
        wanted = self._options.model
        if not names or (wanted and wanted not in names):
            raise ReplayError(f"model {wanted!r}: the server has {', '.join(names) or 'none'}")
        return wanted or names[0]

    async def _probe(self) -> None:
        """A small unrecorded turn: warms the server up and shows that it does what we need."""
        first = self._workload.sessions[0].segments[0]
        segment = Segment(prompt_tokens=8, output_tokens=2, text=first.text)
        session = Session(id="lamps-probe", arrival=0.0, segments=(segment,))
        rng = np.random.default_rng([self._options.seed, len(self._workload.sessions)])
        context = Context(session, rng, self._options.vocab_size)
        turn = TurnRecord(index=0, planned=0.0, sent=0.0)
        try:
            body = self._common(session, 0) | context.body(0)
            answer = await stream_turn(self._http, context.path, body, turn, self._now)
            context.take(0, answer)
        except TURN_FAILURES as error:
            raise ReplayError(f"a first small request failed: {describe(error)}") from error

    def _common(self, session: Session, order: int) -> dict[str, Any]:
        """The fields that do not depend on the endpoint; `order` is the order of arrival."""
        body: dict[str, Any] = {
            "model": self._model,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._options.identity in (Identity.SESSION_ID, Identity.FINAL, Identity.ORACLE):
            body["session_id"] = session.id
        elif self._options.identity is Identity.PRIORITY:
            body["priority"] = order
        return body

    async def _run_session(self, order: int, session: Session, context: Context) -> SessionRecord:
        record = SessionRecord(
            id=session.id,
            arrival=session.arrival,
            tool_seconds=session.tool_seconds,
            planned_turns=len(session.segments),
        )
        common = self._common(session, order)
        planned = session.arrival
        for index, segment in enumerate(session.segments):
            turn = await self._run_turn(index, planned, common, context)
            record.turns.append(turn)
            if turn.error or turn.end is None:
                break
            planned = turn.end + (segment.call_seconds or 0.0)
        self._on_session(record)
        return record

    async def _run_turn(
        self, index: int, planned: float, common: dict[str, Any], context: Context
    ) -> TurnRecord:
        await asyncio.sleep(max(0.0, planned - self._now()))
        body = common | context.body(index) | context.hint(index, self._options.identity)
        turn = TurnRecord(index=index, planned=planned, sent=self._now())
        try:
            answer = await stream_turn(self._http, context.path, body, turn, self._now)
            context.take(index, answer)
        except TURN_FAILURES as error:
            turn.error = describe(error)
            turn.end = self._now()
        return turn


def replay(
    workload: Workload, options: ReplayOptions, on_session: SessionDone = lambda record: None
) -> ReplayResult:
    """Replays a workload to the end; `on_session` sees every session as it ends, failed or not.

    Raises ReplayError where the replay cannot start.
    """
    return asyncio.run(Replay(workload, options, on_session).run())
