# SPDX-License-Identifier: Apache-2.0
"""A clairvoyant lower bound on mean session time, to see how far a policy is from the best.

Two relaxations, of which the larger counts.
Alone: every session has the engine for itself and finds all its KV again.
Work: the engine is one machine that does nothing but the sessions' own work, its KV memory always
full of requests that share the time of a step, and may switch between them at any time for free.
Shortest remaining work first is then optimal for the mean. Calls are left out of that machine's
way: a session may work on while its tool runs, which only makes the bound lower; their time is
subtracted at the end, so where calls are long this part says nothing.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamps_vllm.pace import PaceProfile
from lamps_vllm.replay.workload import Session, Workload


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the mean over sessions of their time without tools, seconds."""

    alone: float
    work: float

    @property
    def mean(self) -> float:
        return max(self.alone, self.work)


def _engine_seconds(session: Session, profile: PaceProfile, full_at: float | None) -> float:
    """Engine time for the session's own work.

    `full_at` None: every step's base time is the session's. Else steps are shared by as many
    requests as have `full_at` KV tokens together, and pay for the base time in proportion.
    """
    per_context = profile.per_context_token_s
    long_prefill = profile.engine.per_prefill_context_s if profile.engine else 0.0
    shared = session.shared_prefix.tokens if session.shared_prefix else 0

    def steps(count: int, context: float) -> float:
        own = max(0.0, context - shared)  # others may hold the shared blocks already
        base = profile.base_s * (1.0 if full_at is None else min(1.0, own / full_at))
        return count * (base + profile.per_request_s + per_context * context)

    seconds = 0.0
    for segment, turn in zip(session.segments, session.turns(), strict=True):
        kept = max(turn.kept, shared)
        new, decoded = turn.prompt - kept, segment.output_tokens - 1
        # The first output token comes out of the step that prefills.
        seconds += steps(1, kept) + max(0, new - 1) * profile.per_prefill_token_s
        seconds += new * (kept + new / 2.0) * long_prefill
        seconds += steps(decoded, turn.prompt + decoded / 2.0)
    return seconds


def shortest_remaining_first(arrival: NDArray[np.float64], work: NDArray[np.float64]) -> float:
    """Mean time in system on one machine under shortest remaining work first; the least there is."""
    order = np.argsort(arrival, kind="stable")
    remaining: list[float] = []  # heap of work left
    now, total = 0.0, 0.0
    upcoming = [(float(arrival[index]), float(work[index])) for index in order]
    for at, amount in [*upcoming, (float("inf"), 0.0)]:
        while remaining and now + remaining[0] <= at:
            now += heapq.heappop(remaining)
            total += now
        if remaining:
            heapq.heapreplace(remaining, remaining[0] - (at - now))
        now = at
        heapq.heappush(remaining, amount)
    return (total - float(arrival.sum())) / len(arrival)


def lower_bound(workload: Workload, profile: PaceProfile, engines: int = 1) -> Bound:
    """For open-loop arrivals on `engines` engines of this profile, which must have an `engine`."""
    shape = profile.engine
    if shape is None:
        raise ValueError("a bound needs a profile that says how much KV the engine holds")
    sessions = workload.sessions
    alone = [_engine_seconds(session, profile, None) for session in sessions]
    work = [_engine_seconds(session, profile, shape.kv_tokens) / engines for session in sessions]
    arrival = np.array([session.arrival for session in sessions])
    tools = float(np.mean([session.tool_seconds for session in sessions]))
    best = shortest_remaining_first(arrival, np.array(work))
    return Bound(alone=float(np.mean(alone)), work=best - tools)
