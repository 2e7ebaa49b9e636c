# SPDX-License-Identifier: Apache-2.0
"""A seeded generator of the InferCept workload mix, from its published statistics alone.

Six augmentations (arithmetic, question answering, virtual environment, chat, image and speech
tools): class shares, call counts, quantiles of lengths, call times. No trace file, no text. Image
and speech sessions alternate a tool with the user's next message, so their call times have two
modes; a user thinks for a time that grows with the length of the message typed.
Published twice: with every call of a session, and with the first call only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from lamps_vllm.replay.workload import Segment, Session, Workload

# Where the five published quantiles of a length sit.
QUANTILE_LEVELS = (0.0, 0.1, 0.5, 0.9, 1.0)
Quantiles = tuple[int, int, int, int, int]

THINK_BASE_S = 3.4
THINK_S_PER_WORD = 1.71
THINK_CAP_S = 60.0
WORDS_PER_TOKEN = 0.75


class Shape(StrEnum):
    """Which of the two published variants; `mixed` is the multi-call one without its last token."""

    MIXED = "mixed"
    MULTI = "multi"
    SINGLE = "single"


class MixOptions(BaseModel):
    """What to generate; every field is checked against its range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int = Field(default=120, ge=1, le=1_000_000)
    rate: float = Field(default=1.0, gt=0.0, le=100_000.0, description="sessions per second")
    call_scale: float = Field(default=0.1, ge=0.0, le=1_000.0)
    max_calls: int = Field(default=4, ge=0, le=100)
    mean_output: float | None = Field(default=40.0, ge=1.0, le=100_000.0)
    max_context: int = Field(default=2048, ge=16, le=1_000_000)
    shape: Shape = Shape.MIXED

    @classmethod
    def published(cls, shape: Shape, sessions: int, rate: float) -> MixOptions:
        """The variant as published: times, outputs and number of calls as they are."""
        return cls(
            sessions=sessions,
            rate=rate,
            call_scale=1.0,
            max_calls=100,
            mean_output=None,
            shape=shape,
        )


def _quantile_length(rng: Generator, quantiles: Quantiles) -> int:
    """A length whose distribution passes through the five quantiles (log-linear between them)."""
    logs = np.log(np.asarray(quantiles, dtype=float) + 1.0)
    return round(float(np.exp(np.interp(rng.random(), QUANTILE_LEVELS, logs)))) - 1


def _normal(rng: Generator, mean: float, std: float, low: float) -> float:
    return max(low, float(rng.normal(mean, std)))


def _think_seconds(user_tokens: int) -> float:
    words = WORDS_PER_TOKEN * user_tokens
    return min(THINK_CAP_S, THINK_BASE_S + THINK_S_PER_WORD * words)


@dataclass(frozen=True)
class Call:
    """One call as drawn: seconds (before scaling) and the tokens it returns."""

    seconds: float
    returned_tokens: int


@dataclass(frozen=True)
class AgentClass:
    """One augmentation. Lengths in tokens, times in seconds."""

    name: str
    weight: int
    call_counts: Mapping[int, int]
    prompt: Callable[[Generator], int]
    output: Callable[[Generator, int, int], int]  # (rng, segment index, number of segments)
    session_calls: Callable[[Generator, int], list[Call]]  # (rng, number of calls)
    single_last: Quantiles  # output after the only call of the single-call variant
    ends_on_call: bool = False  # the multi-call variant ends on a call; one token follows


def _staged(first: Quantiles, middle: Quantiles, last: Quantiles) -> Callable[..., int]:
    """Output lengths that differ between a session's first, middle and last segment."""

    def draw(rng: Generator, index: int, count: int) -> int:
        if index == count - 1:
            return _quantile_length(rng, last)
        return _quantile_length(rng, first if index == 0 else middle)

    return draw


def _tool_calls(
    seconds: tuple[float, float], returned: tuple[float, float]
) -> Callable[[Generator, int], list[Call]]:
    """Calls of one kind: normal call time and normal result length, given as (mean, std)."""

    def draw(rng: Generator, count: int) -> list[Call]:
        return [
            Call(_normal(rng, *seconds, low=0.0), round(_normal(rng, *returned, low=1.0)))
            for _ in range(count)
        ]

    return draw


def _environment_calls(rng: Generator, count: int) -> list[Call]:
    """The virtual environment answers in a time that is constant within one session."""
    seconds = _normal(rng, 0.0851, 0.0147, low=0.0)
    return [Call(seconds, round(_normal(rng, 10.0, 11.0, low=1.0))) for _ in range(count)]


USER_MESSAGE: Quantiles = (0, 4, 13, 84, 1354)
REPLY: Quantiles = (5, 40, 56, 71, 117)
CHAT_PROMPT: Quantiles = (1, 6, 21, 336, 1728)
TOOL_NOTE_TOKENS = 8  # What an image or speech tool returns: a reference, not the content.
TOOL_REMARK_TOKENS = 7  # What the model still says once such a tool is done.


def _user_turn(rng: Generator) -> Call:
    tokens = max(1, _quantile_length(rng, USER_MESSAGE))
    return Call(_think_seconds(tokens), tokens)


def _user_turns(rng: Generator, count: int) -> list[Call]:
    return [_user_turn(rng) for _ in range(count)]


def _tool_then_user(mean: float, std: float) -> Callable[[Generator, int], list[Call]]:
    """Alternating: the tool renders the reply, then the user answers."""

    def draw(rng: Generator, count: int) -> list[Call]:
        return [
            Call(_normal(rng, mean, std, low=0.1), TOOL_NOTE_TOKENS)
            if index % 2 == 0
            else _user_turn(rng)
            for index in range(count)
        ]

    return draw


def _reply_then_remark(rng: Generator, index: int, count: int) -> int:
    return _quantile_length(rng, REPLY) if index % 2 == 0 else TOOL_REMARK_TOKENS


def _prompt_normal(mean: float, std: float) -> Callable[[Generator], int]:
    return lambda rng: round(_normal(rng, mean, std, low=1.0))


def _prompt_chat(rng: Generator) -> int:
    return max(1, _quantile_length(rng, CHAT_PROMPT))


CHAT_CALLS = {1: 15, 2: 9, 3: 10, 4: 9, 5: 13, 6: 4, 7: 3, 8: 2}
RENDER_CALLS = {2 * calls: count for calls, count in CHAT_CALLS.items()}

CLASSES = (
    AgentClass(
        "Math", 98, {1: 29, 2: 10, 3: 10, 4: 49}, _prompt_normal(405, 18),
        _staged((33, 39, 137, 270, 518), (20, 50, 84, 201, 456), (13, 17, 46, 163, 1353)),
        _tool_calls((8e-5, 5e-5), (21, 5)),
        single_last=(13, 18, 68, 213, 1353),
    ),
    AgentClass(
        "QA", 50, {1: 9, 2: 7, 3: 7, 4: 27}, _prompt_normal(934, 7),
        _staged((18, 114, 222, 460, 714), (34, 52, 143, 259, 475), (38, 44, 121, 343, 910)),
        _tool_calls((0.709, 0.209), (57, 9)),
        single_last=(34, 56, 174, 438, 910),
    ),
    AgentClass(
        "VE", 54, {4: 11, 5: 22, 6: 14, 7: 5, 8: 2}, _prompt_normal(1973, 0),
        lambda rng, index, count: 4,
        _environment_calls,
        single_last=(4, 4, 4, 4, 4),
        ends_on_call=True,
    ),
    AgentClass(
        "Chatbot", 65, CHAT_CALLS, _prompt_chat,
        _staged(REPLY, REPLY, (1, 33, 248, 599, 1164)),
        _user_turns,
        single_last=(5, 29, 58, 302, 1164),
    ),
    AgentClass(
        "Image", 65, RENDER_CALLS, _prompt_chat, _reply_then_remark, _tool_then_user(11.54, 0.93),
        single_last=(7, 7, 7, 7, 7),
        ends_on_call=True,
    ),
    AgentClass(
        "TTS", 65, RENDER_CALLS, _prompt_chat, _reply_then_remark, _tool_then_user(6.06, 2.66),
        single_last=(7, 7, 7, 7, 7),
        ends_on_call=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A session before outputs are scaled and the context is cut."""

    agent: AgentClass
    prompt: int
    outputs: list[int]
    calls: list[Call]


def _draw_session(rng: Generator, options: MixOptions) -> Draft:
    weights = np.asarray([agent.weight for agent in CLASSES], dtype=float)
    agent = CLASSES[rng.choice(len(CLASSES), p=weights / weights.sum())]
    counts = np.asarray(list(agent.call_counts.values()), dtype=float)
    calls = int(rng.choice(list(agent.call_counts), p=counts / counts.sum()))
    calls = min(calls, 1 if options.shape is Shape.SINGLE else options.max_calls)
    prompt = agent.prompt(rng)
    outputs = [max(1, agent.output(rng, index, calls + 1)) for index in range(calls + 1)]
    if options.shape is Shape.SINGLE:
        outputs[-1] = _quantile_length(rng, agent.single_last)
    elif options.shape is Shape.MULTI and agent.ends_on_call:
        outputs[-1] = 1
    return Draft(agent, prompt, outputs, agent.session_calls(rng, calls))


def _fit(draft: Draft, output_scale: float, options: MixOptions) -> list[Segment]:
    """Segments of a draft, ended early where the context limit is reached."""
    segments: list[Segment] = []
    room = options.max_context
    new_tokens = draft.prompt
    for index, raw_output in enumerate(draft.outputs):
        if segments and room < new_tokens + 1:
            break
        new_tokens = min(new_tokens, room - 1)
        output = min(max(1, round(raw_output * output_scale)), room - new_tokens)
        room -= new_tokens + output
        call = draft.calls[index] if index < len(draft.calls) else None
        segments.append(
            Segment(
                prompt_tokens=new_tokens,
                output_tokens=output,
                call_seconds=call.seconds * options.call_scale if call else None,
                tool=draft.agent.name if call else None,
            )
        )
        new_tokens = call.returned_tokens if call else 0
    segments[-1] = segments[-1].model_copy(update={"call_seconds": None, "tool": None})
    return segments


def generate_mix(rng: Generator, options: MixOptions) -> Workload:
    """Sessions of the mix with Poisson arrivals.

    Arrivals come from a child generator, so the same seed gives the same sessions at every rate and
    call scale. Outputs are multiplied by one factor that brings their mean to `mean_output`.
    """
    arrival_rng, session_rng = rng.spawn(2)
    drafts = [_draw_session(session_rng, options) for _ in range(options.sessions)]
    arrivals = np.cumsum(arrival_rng.exponential(1.0 / options.rate, size=options.sessions))
    raw_mean = float(np.mean([output for draft in drafts for output in draft.outputs]))
    scale = options.mean_output / raw_mean if options.mean_output else 1.0
    return Workload.of(
        Session(
            id=f"s{index:04d}",  # Says nothing about the class: a scheduler sees it.
            arrival=float(arrival),
            segments=tuple(_fit(draft, scale, options)),
        )
        for index, (draft, arrival) in enumerate(zip(drafts, arrivals, strict=True))
    )
