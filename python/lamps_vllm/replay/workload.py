# SPDX-License-Identifier: Apache-2.0
"""Agent workloads: sessions made of segments, one session per line of a JSONL file.

    {"id": "s0", "arrival": 0.42, "segments": [
        {"prompt_tokens": 405, "output_tokens": 60, "call_seconds": 0.7, "tool": "QA"},
        {"prompt_tokens": 57, "output_tokens": 31}]}

A session arrives `arrival` seconds after the start. Each segment appends `prompt_tokens` new tokens
(the first: the prompt; later ones: a tool's result), generates `output_tokens`, then waits
`call_seconds` for its tool; the last segment has none: a `tool` there was called and never answered.
A segment may carry real chat messages in `text` instead of lengths; `output_tokens` is then a cap, not a
forced length. A segment may say what the client expects it to generate, `expected_output_tokens`: a
hint, sent with the request.

A client may rewrite its history (compaction, dropped reasoning): `kept_tokens` says how much of the
context before a segment remains as its prefix, all of it where the field is missing. Sessions with
the same `shared_prefix.group` start with the same `shared_prefix.tokens` tokens. A file whose name
ends in .gz is compressed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_TOKENS = 10_000_000
TokenCount = Annotated[int, Field(ge=0, le=MAX_TOKENS, strict=True)]
Duration = Annotated[float, Field(ge=0.0, le=86_400.0, allow_inf_nan=False)]


class WorkloadError(ValueError):
    """A workload holds a bad value; the message names the line, field, value and range."""


class Segment(BaseModel):
    """One turn: new input, output, and the tool call that follows (None on the last turn)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: TokenCount = 0
    output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)]
    call_seconds: Duration | None = None
    tool: str | None = None
    text: tuple[dict[str, Any], ...] | None = None
    kept_tokens: TokenCount | None = None
    expected_output_tokens: Annotated[float, Field(ge=1.0, le=MAX_TOKENS)] | None = None

    @property
    def truth(self) -> dict[str, Any]:
        """Hints that say everything a client could know of the turn."""
        told: dict[str, Any] = {"expected_output_tokens": self.output_tokens}
        if self.call_seconds is None:
            return {**told, "final_turn": True}
        called = {"tool": self.tool} if self.tool else {}
        return {**told, **called, "expected_call_seconds": self.call_seconds}

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        if self.text is None and self.prompt_tokens < 1:
            raise ValueError("prompt_tokens must be at least 1 where there is no text")
        if self.text is not None and not all("role" in message for message in self.text):
            raise ValueError("every message of text needs a role")
        if self.text is not None and self.kept_tokens is not None:
            raise ValueError("kept_tokens counts tokens: it does not go with text")
        return self


# Of these classes (of the mix, of traces) every call is, or every second, a person's next message.
_PEOPLE = {"chatbot": 1, "image": 2, "tts": 2, "user": 1}


class SharedPrefix(BaseModel):
    """The first `tokens` of a session's first prompt, the same for every session of the group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Annotated[str, Field(min_length=1, max_length=200)]
    tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)]


class Turn(NamedTuple):
    """Sizes of one turn as the engine sees it, tokens."""

    kept: int  # prefix of the prompt that the context before already held
    prompt: int
    end: int  # context when the turn ends


class Session(BaseModel):
    """One agent session; `arrival` in seconds from the start of the replay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=200)]
    arrival: Duration
    segments: Annotated[tuple[Segment, ...], Field(min_length=1)]
    shared_prefix: SharedPrefix | None = None
    parent: str | None = None  # the session that launched this one; moved with it

    @model_validator(mode="after")
    def _calls_between_segments(self) -> Self:
        *earlier, last = self.segments
        if any(segment.call_seconds is None for segment in earlier):
            raise ValueError("every segment but the last needs call_seconds")
        if last.call_seconds is not None:
            raise ValueError("the last segment has no call: call_seconds must be null")
        if len({segment.text is None for segment in self.segments}) > 1:
            raise ValueError("either all segments carry text or none does")
        first = self.segments[0].prompt_tokens
        if self.shared_prefix and self.shared_prefix.tokens > first:
            raise ValueError(f"shared_prefix.tokens is more than the first prompt's {first} tokens")
        return self

    @property
    def is_chat(self) -> bool:
        """True where the session replays real messages through the chat endpoint."""
        return self.segments[0].text is not None

    def called_tool(self, index: int) -> str | None:
        """The tool whose call the tokens of a turn would show, if they were a model's."""
        tool = self.segments[index].tool
        people = _PEOPLE.get((tool or "").lower())
        return None if people and (index + 1) % people == 0 else tool

    @property
    def tool_seconds(self) -> float:
        """Time the session spends in its tools, seconds."""
        return sum(segment.call_seconds or 0.0 for segment in self.segments)

    def turns(self) -> Iterator[Turn]:
        """Sizes of every turn (for chat: without the messages)."""
        context = 0
        for segment in self.segments:
            kept = context if segment.kept_tokens is None else min(context, segment.kept_tokens)
            prompt = kept + segment.prompt_tokens
            context = prompt + segment.output_tokens
            yield Turn(kept, prompt, context)

    @property
    def context_tokens(self) -> int:
        """Tokens of the context when the session ends (for chat: without the messages)."""
        return [*self.turns()][-1].end

    @property
    def peak_tokens(self) -> int:
        """Tokens of the largest context of the session."""
        return max(turn.end for turn in self.turns())


class Workload(BaseModel):
    """Sessions in order of arrival, with distinct ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: Annotated[tuple[Session, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct_ids(self) -> Self:
        seen: set[str] = set()
        for session in self.sessions:
            if session.id in seen:
                raise ValueError(f"session id {session.id!r} occurs twice")
            seen.add(session.id)
        return self

    @classmethod
    def of(cls, sessions: Iterable[Session]) -> Self:
        """A workload of these sessions, sorted by arrival. Raises WorkloadError."""
        try:
            return cls(sessions=tuple(sorted(sessions, key=lambda session: session.arrival)))
        except ValidationError as error:
            raise WorkloadError(describe_invalid(error)) from error

    def scaled(self, call_factor: float = 1.0, rate_factor: float = 1.0) -> Workload:
        """The same sessions with call times and the arrival rate multiplied by these factors.

        call_factor >= 0 and rate_factor > 0, else WorkloadError.
        """
        if not 0.0 <= call_factor < float("inf"):
            raise WorkloadError(f"call_factor = {call_factor}: accepted are values >= 0")
        if not 0.0 < rate_factor < float("inf"):
            raise WorkloadError(f"rate_factor = {rate_factor}: accepted are values > 0")
        return Workload.of(
            session.model_copy(
                update={
                    "arrival": session.arrival / rate_factor,
                    "segments": tuple(
                        _scaled(segment, call_factor) for segment in session.segments
                    ),
                }
            )
            for session in self.sessions
        )


def _scaled(segment: Segment, call_factor: float) -> Segment:
    if segment.call_seconds is None:
        return segment
    return segment.model_copy(update={"call_seconds": segment.call_seconds * call_factor})


def describe_invalid(error: ValidationError) -> str:
    """`segments.1.output_tokens = -3: Input should be greater than or equal to 1`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":  # Raised by our own validators: names its field itself.
        return f"{field}: {first['ctx']['error']}" if field else str(first["ctx"]["error"])
    value = json.dumps(first["input"], default=str)
    return f"{field} = {value[:80]}: {first['msg']}" if field else f"{first['msg']}: {value[:80]}"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1; unpacks .gz. Raises WorkloadError."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def load_workload(path: Path) -> Workload:
    """Reads a JSONL workload; blank lines are skipped. Raises WorkloadError naming the line."""
    sessions = []
    for number, line in read_lines(path):
        try:
            sessions.append(Session.model_validate_json(line))
        except ValidationError as error:
            raise WorkloadError(f"{path}, line {number}: {describe_invalid(error)}") from error
    if not sessions:
        raise WorkloadError(f"{path}: no sessions in it; accepted is one JSON object per line")
    try:
        return Workload.of(sessions)
    except WorkloadError as error:
        raise WorkloadError(f"{path}: {error}") from error


def save_workload(workload: Workload, path: Path) -> None:
    """Writes one session per line."""
    lines = (session.model_dump_json(exclude_none=True) for session in workload.sessions)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
