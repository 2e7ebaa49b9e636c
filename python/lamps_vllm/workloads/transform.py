# SPDX-License-Identifier: Apache-2.0
"""The same sessions at another load: arrivals, context sizes, pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from lamps_vllm.replay.workload import Segment, Session, Workload, WorkloadError


def with_poisson_arrivals(workload: Workload, rate: float, rng: Generator) -> Workload:
    """New Poisson arrivals at `rate` sessions per second, in the order of the workload.

    A session with a parent keeps its distance to it. Raises WorkloadError for a rate <= 0.
    """
    if not 0.0 < rate < float("inf"):
        raise WorkloadError(f"rate = {rate}: accepted are values > 0")
    roots = [session for session in workload.sessions if session.parent is None]
    times = np.cumsum(rng.exponential(1.0 / rate, size=len(roots)))
    before = {session.id: session.arrival for session in roots}
    after = dict(zip(before, (float(time) for time in times), strict=True))

    def moved(session: Session) -> Session:
        origin = session.parent if session.parent in after else session.id
        if origin not in after:  # its parent is not in the workload
            return session
        at = after[origin] + session.arrival - before[origin]
        return session.model_copy(update={"arrival": max(0.0, at)})

    return Workload.of(moved(session) for session in workload.sessions)


def _map_segments(workload: Workload, change: Callable[[Segment], Segment]) -> Workload:
    return Workload.of(
        session.model_copy(update={"segments": tuple(map(change, session.segments))})
        for session in workload.sessions
    )


def scaled_context(workload: Workload, factor: float) -> Workload:
    """Inputs (prompts, tool results, what a rewrite keeps) times `factor` > 0; outputs as they are."""
    if not 0.0 < factor < float("inf"):
        raise WorkloadError(f"context_factor = {factor}: accepted are values > 0")

    def change(segment: Segment) -> Segment:
        kept = segment.kept_tokens
        return segment.model_copy(
            update={
                "prompt_tokens": max(1, round(segment.prompt_tokens * factor)),
                "kept_tokens": None if kept is None else round(kept * factor),
            }
        )

    if factor == 1.0:
        return workload
    changed = _map_segments(workload, change)
    return Workload.of(_scaled_prefix(session, factor) for session in changed.sessions)


def _scaled_prefix(session: Session, factor: float) -> Session:
    shared = session.shared_prefix
    if shared is None:
        return session
    tokens = max(1, min(round(shared.tokens * factor), session.segments[0].prompt_tokens))
    return session.model_copy(
        update={"shared_prefix": shared.model_copy(update={"tokens": tokens})}
    )


def capped_calls(workload: Workload, seconds: float) -> Workload:
    """No call longer than `seconds` (a day's pause would only stretch the run)."""

    def change(segment: Segment) -> Segment:
        if segment.call_seconds is None or segment.call_seconds <= seconds:
            return segment
        return segment.model_copy(update={"call_seconds": seconds})

    return _map_segments(workload, change)


class Fitted(NamedTuple):
    """A workload within a context limit, and what that took."""

    workload: Workload
    ended_early: int  # sessions that end before the turn that would not fit
    dropped: int  # sessions whose first turn does not fit


def fit_context(workload: Workload, max_context: int) -> Fitted:
    """Ends sessions before the first turn that needs more than `max_context` tokens.

    Raises WorkloadError where no session is left.
    """
    kept: list[Session] = []
    ended = 0
    for session in workload.sessions:
        turns = 0
        for turn in session.turns():
            if turn.end > max_context:
                break
            turns += 1
        if turns == len(session.segments):
            kept.append(session)
        elif turns > 0:
            ended += 1
            kept.append(_first_turns(session, turns))
    if not kept:
        raise WorkloadError(f"max_context = {max_context}: no session's first turn fits")
    return Fitted(Workload.of(kept), ended, len(workload.sessions) - len(kept))


def _first_turns(session: Session, count: int) -> Session:
    *earlier, last = session.segments[:count]
    last = last.model_copy(update={"call_seconds": None, "tool": None})
    return session.model_copy(update={"segments": (*earlier, last)})
