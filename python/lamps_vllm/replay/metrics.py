# SPDX-License-Identifier: Apache-2.0
"""The figures of a run, and ratios between arms over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lamps_vllm.replay.records import ReplayResult, SessionRecord, TurnRecord

Values = Sequence[float] | NDArray[np.float64]


class RunMetrics(BaseModel):
    """Figures of one replay. Times in seconds; None where a run has nothing to measure.

    A session's time runs from its planned arrival to its last token, minus the time of its tools.
    Sessions that failed have none: `failed` must be 0 before the other figures are compared.
    """

    model_config = ConfigDict(extra="forbid")

    sessions: int
    failed: int
    session_mean: float | None
    session_median: float | None
    session_p90: float | None
    session_p99: float | None
    session_max: float | None
    first_ttft_mean: float | None
    first_ttft_p99: float | None
    tool_ttft_mean: float | None
    tool_ttft_p99: float | None
    hit_share: float | None
    output_tokens_per_s: float | None
    makespan: float | None
    send_lag_p99: float | None


class Figure(NamedTuple):
    """How a figure of RunMetrics is shown. Ratio figures are divided by the first arm's."""

    field: str
    title: str
    unit: str
    as_ratio: bool = True


FIGURES = (
    Figure("session_mean", "session minus tools, mean", "s"),
    Figure("session_median", "session minus tools, median", "s"),
    Figure("session_p90", "session minus tools, p90", "s"),
    Figure("session_p99", "session minus tools, p99", "s"),
    Figure("session_max", "session minus tools, max", "s"),
    Figure("tool_ttft_mean", "TTFT after a tool, mean", "s"),
    Figure("tool_ttft_p99", "TTFT after a tool, p99", "s"),
    Figure("first_ttft_mean", "TTFT of the first turn, mean", "s"),
    Figure("first_ttft_p99", "TTFT of the first turn, p99", "s"),
    Figure("hit_share", "prefix hits after a tool", "%", as_ratio=False),
    Figure("output_tokens_per_s", "output tokens per s", "/s"),
    Figure("send_lag_p99", "client send lag, p99", "s", as_ratio=False),
    Figure("failed", "failed sessions", "", as_ratio=False),
)


def _mean(values: Values) -> float | None:
    return float(np.mean(values)) if len(values) else None


def percentile(values: Values, percent: float) -> float | None:
    """None of no values."""
    return float(np.percentile(values, percent)) if len(values) else None


def _ttfts(turns: Iterable[TurnRecord]) -> list[float]:
    return [turn.ttft for turn in turns if turn.error is None and turn.ttft is not None]


def _hit_share(turns: Sequence[TurnRecord]) -> float | None:
    """Cached share of the prompt tokens of these turns; None if the server does not report it."""
    known = [turn for turn in turns if turn.cached_tokens is not None and turn.prompt_tokens]
    prompt = sum(turn.prompt_tokens or 0 for turn in known)
    return sum(turn.cached_tokens or 0 for turn in known) / prompt if prompt else None


def session_times(sessions: Iterable[SessionRecord]) -> list[float]:
    """Server times of the sessions that finished, seconds."""
    return [session.server_seconds for session in sessions if session.server_seconds is not None]


class Observed(NamedTuple):
    """What the figures of a run are made of; times in seconds, one value per session or turn."""

    sessions: int
    failed: int
    session_times: Values  # without tools; finished sessions
    first_ttfts: Values
    tool_ttfts: Values
    hit_share: float | None
    output_tokens: int
    makespan: float | None
    send_lags: Values


def figures(observed: Observed) -> RunMetrics:
    """All figures of one run."""
    times, first, after_tool = observed.session_times, observed.first_ttfts, observed.tool_ttfts
    makespan = observed.makespan
    return RunMetrics(
        sessions=observed.sessions,
        failed=observed.failed,
        session_mean=_mean(times),
        session_median=percentile(times, 50),
        session_p90=percentile(times, 90),
        session_p99=percentile(times, 99),
        session_max=float(np.max(times)) if len(times) else None,
        first_ttft_mean=_mean(first),
        first_ttft_p99=percentile(first, 99),
        tool_ttft_mean=_mean(after_tool),
        tool_ttft_p99=percentile(after_tool, 99),
        hit_share=observed.hit_share,
        output_tokens_per_s=observed.output_tokens / makespan if makespan else None,
        makespan=makespan,
        send_lag_p99=percentile(observed.send_lags, 99),
    )


def measure(result: ReplayResult) -> RunMetrics:
    """All figures of one replay."""
    turns = [turn for session in result.sessions for turn in session.turns]
    returning = [turn for turn in turns if turn.index > 0]
    ends = [turn.end for turn in turns if turn.end is not None]
    return figures(
        Observed(
            sessions=len(result.sessions),
            failed=sum(session.error is not None for session in result.sessions),
            session_times=session_times(result.sessions),
            first_ttfts=_ttfts(turn for turn in turns if turn.index == 0),
            tool_ttfts=_ttfts(returning),
            hit_share=_hit_share(returning),
            output_tokens=sum(turn.output_tokens for turn in turns),
            makespan=max(ends) - min(each.arrival for each in result.sessions) if ends else None,
            send_lags=[turn.send_lag for turn in turns],
        )
    )


class Spread(NamedTuple):
    """A figure over seeds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """Median with minimum and maximum; None for no values."""
    if not values:
        return None
    return Spread(float(np.median(values)), min(values), max(values))


def compare_arms(
    runs: Mapping[str, Mapping[int, RunMetrics]], reference: str
) -> dict[str, dict[str, Spread | None]]:
    """Per arm and figure: the ratio to `reference` on the same seed (plain values where a ratio

    makes no sense), over the seeds that both arms have finished.
    """
    base = runs.get(reference, {})
    return {
        arm: {figure.field: spread(_over_seeds(figure, by_seed, base)) for figure in FIGURES}
        for arm, by_seed in runs.items()
    }


def _over_seeds(
    figure: Figure, by_seed: Mapping[int, RunMetrics], base: Mapping[int, RunMetrics]
) -> list[float]:
    values = []
    for seed, metrics in by_seed.items():
        value = getattr(metrics, figure.field)
        if figure.as_ratio:
            reference = getattr(base[seed], figure.field) if seed in base else None
            value = value / reference if value is not None and reference else None
        if value is not None:
            values.append(float(value))
    return values
