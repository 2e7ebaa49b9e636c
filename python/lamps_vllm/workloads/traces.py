# SPDX-License-Identifier: Apache-2.0
"""Recorded sessions with one entry per turn, as agent traces are published.

    {"id": "x", "shared_prefix": 15000, "prefix_group": 3, "turns": [
        {"in": 71175, "out": 169, "new": 71175, "gap": 11.7, "gap_est": 2.5, "stop": "tool_use"},
        {"in": 72762, "out": 296, "new": 1594, "gap": null}], "subagents": [...]}

`in` is the whole prompt, `new` its part beyond the prefix shared with the previous prompt (counted
in blocks of 64), `gap` the recorded pause after the turn, `gap_est` a corrected one. A sub-agent
becomes a session of its own that arrives `start` seconds after its parent; the parent's pause
already holds its run time.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamps_vllm.replay.workload import (
    Segment,
    Session,
    SharedPrefix,
    Workload,
    WorkloadError,
    describe_invalid,
    read_lines,
)

BLOCK = 64  # granularity of `new`
# A corrected gap of 0 means "below the resolution of the clock": under a second.
UNRESOLVED_GAP_S = 0.3
LONGEST_GAP_S = 86_400.0


class Gaps(StrEnum):
    """Which pauses: corrected where the trace has them, or as recorded (a slower client)."""

    CORRECTED = "corrected"
    RECORDED = "recorded"


class TraceTurn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    prompt: int = Field(alias="in", ge=1)
    out: int = Field(ge=0)
    new: int = Field(ge=0)
    stop: str = "unknown"
    gap: float | None = Field(default=None, ge=0)
    gap_est: float | None = Field(default=None, ge=0)
    ret: int | None = Field(default=None, ge=0)

    def pause(self, gaps: Gaps) -> float | None:
        """Seconds until the next turn; None where none follows."""
        if self.gap is None:
            return None
        if gaps is Gaps.CORRECTED and self.gap_est is not None:
            return min(self.gap_est or UNRESOLVED_GAP_S, LONGEST_GAP_S)
        return min(self.gap, LONGEST_GAP_S)


class SubAgent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    start: float = Field(ge=0)
    shared_prefix: int | None = None
    turns: tuple[TraceTurn, ...] = Field(min_length=1)


class TraceSession(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str
    kind: str | None = Field(default=None, alias="class")
    shared_prefix: int | None = None
    prefix_group: int | str | None = None
    turns: tuple[TraceTurn, ...] = Field(min_length=1)
    subagents: tuple[SubAgent, ...] = ()


def _input(before: TraceTurn | None, turn: TraceTurn) -> tuple[int | None, int]:
    """(kept_tokens, prompt_tokens) of a turn that follows `before`."""
    if before is None:
        return None, turn.prompt
    shared = turn.prompt - turn.new
    if shared <= before.prompt - BLOCK:  # the history was rewritten
        kept = min(max(0, shared), turn.prompt - 1)
        return kept, turn.prompt - kept
    context = before.prompt + max(1, before.out)
    if turn.prompt > context:
        return None, turn.prompt - context
    # The client left out part of the reply (reasoning), or nothing came back from the call: what
    # follows the old prompt is new, the last token at least.
    kept = turn.prompt - 1 if turn.prompt == context else min(before.prompt, turn.prompt - 1)
    return kept, turn.prompt - kept


def _segments(turns: tuple[TraceTurn, ...], gaps: Gaps, tool: str | None) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    before: TraceTurn | None = None
    for index, turn in enumerate(turns):
        kept, prompt = _input(before, turn)
        pause = turn.pause(gaps)
        last = index == len(turns) - 1
        if pause is None and not last:
            pause = 0.0  # unknown pause in the middle of a session
        by = tool or ("user" if turn.stop == "end_turn" else "tool")
        called = pause is not None or turn.stop == "tool_use"  # or: and the session never came back
        segments.append(
            Segment(
                prompt_tokens=prompt, output_tokens=max(1, turn.out), kept_tokens=kept,
                call_seconds=pause, tool=by if called else None,
            )
        )  # fmt: skip
        before = turn
    if segments[-1].call_seconds is not None:  # ends on a call: one more token follows it
        segments.append(Segment(prompt_tokens=max(1, turns[-1].ret or 1), output_tokens=1))
    return tuple(segments)


def _prefix(group: int | str | None, tokens: int | None, first: int) -> SharedPrefix | None:
    if group is None or not tokens:
        return None
    return SharedPrefix(group=str(group), tokens=min(tokens, first))


def _sessions(trace: TraceSession, gaps: Gaps, share: bool, subagents: bool) -> list[Session]:
    main = _segments(trace.turns, gaps, trace.kind)
    group = trace.prefix_group if share else None
    sessions = [
        Session(
            id=trace.id, arrival=0.0, segments=main,
            shared_prefix=_prefix(group, trace.shared_prefix, main[0].prompt_tokens),
        )
    ]  # fmt: skip
    for number, agent in enumerate(trace.subagents if subagents else ()):
        segments = _segments(agent.turns, gaps, None)
        sessions.append(
            Session(
                id=f"{trace.id}/{number}", arrival=min(agent.start, LONGEST_GAP_S),
                segments=segments, parent=trace.id,
            )
        )  # fmt: skip
    return sessions


def load_trace(
    path: Path, *, gaps: Gaps = Gaps.CORRECTED, share_prefix: bool = False, subagents: bool = True
) -> Workload:
    """Reads a per-turn trace (.jsonl or .jsonl.gz). All sessions arrive at 0: see `arrivals`.

    Raises WorkloadError naming the line, field and value.
    """
    sessions: list[Session] = []
    for number, line in read_lines(path):
        try:
            trace = TraceSession.model_validate_json(line)
            sessions += _sessions(trace, gaps, share_prefix, subagents)
        except ValidationError as error:
            raise WorkloadError(f"{path}, line {number}: {describe_invalid(error)}") from error
    if not sessions:
        raise WorkloadError(f"{path}: no sessions in it; accepted is one JSON object per line")
    return Workload.of(sessions)
