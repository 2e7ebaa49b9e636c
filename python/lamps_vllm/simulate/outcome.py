# SPDX-License-Identifier: Apache-2.0
"""What is kept of a simulated run: figures, and what plots need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lamps_vllm.replay.metrics import Observed, RunMetrics, figures, percentile

if TYPE_CHECKING:
    import lamps_ext
    from lamps_vllm.simulate.case import Case
    from lamps_vllm.simulate.run import Table

CDF_POINTS = 200
TIMELINE_SESSIONS = 40
TIMELINE_TURNS = 60
SERIES_POINTS = 600
# Regimes of pauses by their upper ends, seconds: what is decided in one is little use in another.
PAUSES = {"short": 1.0, "seconds": 60.0, "minutes": float("inf")}
SERIES = ("running_tokens", "held_tokens", "cached_tokens", "empty_tokens", "host_tokens")


class AfterPause(BaseModel):
    """Turns that follow a pause of one regime. Seconds, shares."""

    model_config = ConfigDict(extra="forbid")

    turns: int
    ttft_mean: float
    ttft_median: float
    ttft_p99: float
    hit_share: float


class SimFigures(BaseModel):
    """Figures that only a simulator has, or that closed loops need. Seconds, tokens, shares."""

    model_config = ConfigDict(extra="forbid")

    turns: int
    latency_mean: float | None  # of sessions with their tools' time
    latency_p99: float | None
    bound_mean: float | None  # no policy has a lower mean session time; open loop only
    ttft_median: float | None  # of every turn
    ttft_p99: float | None
    ttft_max: float | None
    worst_ttft_p99: float | None  # p99 over sessions of a session's worst TTFT
    steady_tokens_per_s: float | None  # output tokens/s while the load is complete
    goodput_30s: float | None  # the same, only of turns whose TTFT is at most 30 s
    preemptions: int
    recomputed_tokens: int
    recomputed_after_preemption: int
    loaded_tokens: int
    stored_tokens: int
    prefill_tokens: int
    cached_tokens: int
    busy_share: float  # of the engines' time
    running_share: float  # of the KV token-seconds: requests that run
    held_share: float  # sessions in a call whose KV is kept
    steps: int
    wall_seconds: float  # real time the simulation took
    after_pauses: dict[str, AfterPause]  # by regime, see PAUSES
    cut_sessions: int  # dropped or ended early: more context than the engine takes
    complete: bool


class TimelineTurn(BaseModel):
    """One turn of a session's time line, seconds."""

    model_config = ConfigDict(extra="forbid")

    sent: float
    admitted: float
    first_token: float
    end: float


class Detail(BaseModel):
    """What the plots of one run need."""

    model_config = ConfigDict(extra="forbid")

    session_cdf: list[float]
    tool_ttft_cdf: list[float]
    first_ttft_cdf: list[float]
    at: list[float]
    series: dict[str, list[float]]  # KV tokens by state, summed over engines
    waiting: list[float]
    decisions: list[tuple[str, str, str, int]]  # handling, reason, tool, count
    timelines: dict[str, list[TimelineTurn]]


class Outcome(BaseModel):
    """One run: where it stands in the sweep, its figures, and details if they were asked for."""

    model_config = ConfigDict(extra="forbid")

    policy: str
    load: str
    load_value: float
    seed: int
    metrics: RunMetrics
    more: SimFigures
    counters: dict[str, float]
    reports: list[dict[str, Any]]
    detail: Detail | None = None


class Prepared(NamedTuple):
    """What is known of a run before it starts."""

    cut: int  # sessions dropped or ended early
    bound_mean: float | None


Columns = dict[str, NDArray[Any]]


class Recorded(NamedTuple):
    """What a simulation recorded, fetched once: SimResult copies all columns at every access."""

    now: float
    complete: bool
    turns: Columns | None  # None where the run was too long to keep them
    sessions: Columns
    counters: dict[str, Any]
    histograms: dict[str, lamps_ext.SimHistogram]

    @classmethod
    def of(cls, result: lamps_ext.SimResult) -> Recorded:
        turns = result.turns
        return cls(
            now=result.now,
            complete=bool(result.complete),
            turns=turns if len(turns.get("sent", ())) else None,
            sessions=result.sessions,
            counters=result.counters,
            histograms=result.histograms,
        )


def _cdf(histogram: lamps_ext.SimHistogram) -> list[float]:
    """Values at CDF_POINTS even levels from 0 to 1; good to the bins' 2 %."""
    if not histogram.count:
        return []
    return [round(histogram.quantile(level), 6) for level in np.linspace(0.0, 1.0, CDF_POINTS)]


def _observed(run: Recorded, sessions: int, turns: Columns) -> Observed:
    """The run as `lamps compare` sees one: from turns, or from histograms where they were not kept."""
    ended = run.sessions
    times = ended["end"] - ended["arrival"] - ended["tool_s"]
    done = np.isfinite(ended["end"])
    first = turns["segment"] == 0
    ttft = turns["first_token"] - turns["sent"]
    seen = np.isfinite(ttft)
    returning = seen & ~first
    prompts = float(turns["prompt_tokens"][returning].sum())
    cached = float((turns["cached_tokens"] + turns["loaded_tokens"])[returning].sum())
    return Observed(
        sessions=sessions,
        failed=sessions - int(done.sum()),
        session_times=times[done],
        first_ttfts=ttft[seen & first],
        tool_ttfts=ttft[returning],
        hit_share=cached / prompts if prompts else None,
        output_tokens=int(turns["output_tokens"].sum()),
        makespan=run.now - float(ended["arrival"].min()) if len(times) else None,
        send_lags=[],
    )


def _from_histograms(run: Recorded, sessions: int) -> RunMetrics:
    """Figures of a run too long to keep its turns; quantiles are good to the bins' 2 %."""
    of = run.histograms
    session, first, tool = of["session_without_tools_s"], of["first_ttft_s"], of["tool_ttft_s"]

    def mean(each: lamps_ext.SimHistogram) -> float | None:
        return each.mean if each.count else None

    def quantile(each: lamps_ext.SimHistogram, share: float) -> float | None:
        return each.quantile(share) if each.count else None

    return RunMetrics(
        sessions=sessions,
        failed=sessions - session.count,
        session_mean=mean(session),
        session_median=quantile(session, 0.5),
        session_p90=quantile(session, 0.9),
        session_p99=quantile(session, 0.99),
        session_max=session.max if session.count else None,
        first_ttft_mean=mean(first),
        first_ttft_p99=quantile(first, 0.99),
        tool_ttft_mean=mean(tool),
        tool_ttft_p99=quantile(tool, 0.99),
        hit_share=None,
        output_tokens_per_s=run.counters["output_tokens"] / run.now if run.now else None,
        makespan=run.now,
        send_lag_p99=None,
    )


def _emitted(turns: Columns, start: float, stop: float) -> NDArray[np.float64]:
    """Output tokens of each turn between two times, spread evenly from first token to end."""
    first, end = turns["first_token"], turns["end"]
    known = np.isfinite(first) & np.isfinite(end)
    length = np.maximum(end - first, 1e-9)
    inside = np.minimum(end, stop) - np.maximum(first, start)
    share = np.clip(inside / length, 0.0, 1.0)
    return np.where(known, share * turns["output_tokens"], 0.0)


def _steady(ended: Columns, turns: Columns) -> tuple[float | None, float | None]:
    """(tokens/s, tokens/s of turns with TTFT <= 30 s) from the first tenth to the last arrival."""
    arrivals = ended["arrival"]
    stop = float(arrivals.max()) if len(arrivals) else 0.0
    start = 0.1 * stop
    if stop <= start:
        return None, None
    tokens = _emitted(turns, start, stop)
    in_time = turns["first_token"] - turns["sent"] <= 30.0
    return float(tokens.sum() / (stop - start)), float(tokens[in_time].sum() / (stop - start))


def _worst_per_session(turns: Columns, ttft: NDArray[np.float64]) -> NDArray[np.float64]:
    worst = np.zeros(int(turns["session"].max()) + 1 if len(ttft) else 0)
    np.maximum.at(worst, turns["session"], np.nan_to_num(ttft))
    return worst


def _after_pauses(table: Table, turns: Columns, ended: Columns) -> dict[str, AfterPause]:
    """Turns after the first by the length of the pause before them."""
    ttft = turns["first_token"] - turns["sent"]
    later = np.flatnonzero((turns["segment"] > 0) & np.isfinite(ttft))
    rows = table.first_segment[ended["template"][turns["session"][later]]]
    pause = table.call_seconds[rows + turns["segment"][later] - 1]
    found: dict[str, AfterPause] = {}
    low = -1.0
    for name, high in PAUSES.items():
        chosen = later[(pause > low) & (pause <= high)]
        low = high
        if not len(chosen):
            continue
        cached = turns["cached_tokens"][chosen] + turns["loaded_tokens"][chosen]
        found[name] = AfterPause(
            turns=len(chosen),
            ttft_mean=float(ttft[chosen].mean()),
            ttft_median=float(np.median(ttft[chosen])),
            ttft_p99=float(np.quantile(ttft[chosen], 0.99)),
            hit_share=float(cached.sum() / turns["prompt_tokens"][chosen].sum()),
        )
    return found


def _sim_figures(
    case: Case,
    table: Table,
    run: Recorded,
    wall: float,
    prepared: Prepared,
) -> SimFigures:
    counters, turns = run.counters, run.turns
    latency = run.histograms["session_s"]
    token_seconds = sum(
        counters[f"{state}_token_s"] for state in ("running", "held", "cached", "empty")
    )
    steady, goodput, ttft, worst = None, None, np.zeros(0), np.zeros(0)
    after_pauses: dict[str, AfterPause] = {}
    if turns is not None:
        steady, goodput = _steady(run.sessions, turns)
        after_pauses = _after_pauses(table, turns, run.sessions)
        ttft = turns["first_token"] - turns["sent"]
        worst = _worst_per_session(turns, ttft)
        ttft = ttft[np.isfinite(ttft)]

    return SimFigures(
        turns=int(counters["turns"]),
        latency_mean=latency.mean if latency.count else None,
        latency_p99=latency.quantile(0.99) if latency.count else None,
        bound_mean=prepared.bound_mean,
        ttft_median=percentile(ttft, 50),
        ttft_p99=percentile(ttft, 99),
        ttft_max=percentile(ttft, 100),
        worst_ttft_p99=percentile(worst, 99),
        steady_tokens_per_s=steady,
        goodput_30s=goodput,
        **{
            name: int(counters[name])
            for name in (
                "preemptions", "recomputed_tokens", "recomputed_after_preemption", "loaded_tokens",
                "stored_tokens", "prefill_tokens", "cached_tokens", "steps",
            )
        },
        busy_share=counters["busy_s"] / (case.engines * run.now) if run.now else 0.0,
        running_share=counters["running_token_s"] / token_seconds if token_seconds else 0.0,
        held_share=counters["held_token_s"] / token_seconds if token_seconds else 0.0,
        wall_seconds=wall,
        after_pauses=after_pauses,
        cut_sessions=prepared.cut,
        complete=run.complete,
    )  # fmt: skip


def _series(samples: Columns) -> tuple[list[float], dict[str, list[float]], list[float]]:
    """Times, KV tokens by state and waiting requests, summed over engines and thinned."""
    at = np.unique(samples["at"])
    where = np.searchsorted(at, samples["at"])
    keep = np.unique(np.linspace(0, max(len(at) - 1, 0), SERIES_POINTS).astype(int))[: len(at)]

    def summed(name: str) -> list[float]:
        total = np.bincount(where, weights=samples[name], minlength=len(at))
        return total[keep].round(3).tolist()

    return at[keep].round(6).tolist(), {name: summed(name) for name in SERIES}, summed("waiting")


def _timelines(table: Table, turns: Columns, ended: Columns) -> dict[str, list[TimelineTurn]]:
    """Sessions spread evenly over the run, with their first turns."""
    count = len(ended["template"])
    chosen = np.unique(np.linspace(0, count - 1, TIMELINE_SESSIONS).astype(int)) if count else []
    lines: dict[str, list[TimelineTurn]] = {}
    order = np.argsort(turns["session"], kind="stable")
    bounds = np.searchsorted(turns["session"][order], np.arange(count + 1))
    for session in chosen:
        rows = order[bounds[session] : bounds[session + 1]][:TIMELINE_TURNS]
        name = table.session_ids[int(ended["template"][session])]
        lines[f"{session}: {name}"] = [
            TimelineTurn(
                **{
                    name: round(float(turns[name][row]), 6)
                    for name in ("sent", "admitted", "first_token", "end")
                }
            )
            for row in rows
            if np.isfinite(turns["end"][row])
        ]
    return lines


def _detail(table: Table, result: lamps_ext.SimResult, run: Recorded) -> Detail:
    of = run.histograms
    at, series, waiting = _series(result.samples)
    names = table.tool_names
    return Detail(
        session_cdf=_cdf(of["session_without_tools_s"]),
        tool_ttft_cdf=_cdf(of["tool_ttft_s"]),
        first_ttft_cdf=_cdf(of["first_ttft_s"]),
        at=at,
        series=series,
        waiting=waiting,
        decisions=[
            (handling, reason, names[tool] if 0 <= tool < len(names) else "-", count)
            for handling, reason, tool, count in result.decisions
        ],
        timelines={} if run.turns is None else _timelines(table, run.turns, run.sessions),
    )


def outcome_of(
    case: Case, table: Table, result: lamps_ext.SimResult, wall: float, prepared: Prepared
) -> Outcome:
    """The outcome of one finished (or stopped) simulation."""
    sessions = case.total or len(table.session_ids)
    run = Recorded.of(result)
    observed = _observed(run, sessions, run.turns) if run.turns is not None else None
    return Outcome(
        policy=case.label,
        load=str(case.load),
        load_value=case.load.value,
        seed=case.seed,
        metrics=figures(observed) if observed else _from_histograms(run, sessions),
        more=_sim_figures(case, table, run, wall, prepared),
        counters={name: float(value) for name, value in run.counters.items()},
        reports=list(result.reports),
        detail=_detail(table, result, run) if case.detail else None,
    )
