# SPDX-License-Identifier: Apache-2.0
"""How good the online predictions of calls are, on recorded sessions.

    python benchmarks/python/predictions.py --named MIX.jsonl --agent AGENT.jsonl.gz

Both files hold one session a line with `turns`; a turn has `stop`, `in`, `out` and `gap`, the seconds to
the next turn (null: none), and may have `gap_est`, a better estimate of it, and `t`. In --named the session's
`class` is taken as the name of its tool; --agent has no names. Sessions are shuffled, learned from in the
order of their calls and scored as they come: every prediction is made before its outcome is seen.

Pinball loss at 50, 90 and 99 % is the mean over calls of the quantile loss in seconds; ratios are to
the rival named in the row. Nothing here is random but the shuffles: medians over --seeds.
"""

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from lamps_ext import CallKind, Predictor, TurnFacts

QUANTILES = (0.5, 0.9, 0.99)
UNRESOLVED = 0.3  # s; recorded times are whole seconds, so 0 means "under a second"
LONGEST = 3600.0  # s; later returns count as none, as `forget_seconds` does
ASKED = (0.0, 1.0, 5.0, 20.0, 60.0, 300.0, 900.0, 1800.0)  # s into a pause, for P(return)
LEARNED = 500  # calls before scoring starts
RESAMPLED = 2000  # draws behind an interval
KINDS = {"tool_use": CallKind.TOOL, "end_turn": CallKind.MESSAGE}
Json = dict[str, Any]


class Call(NamedTuple):
    at: float  # s, when it ends (or would have been given up)
    seconds: float | None  # None: the session did not return
    facts: TurnFacts
    tool: str
    context: int
    is_tool: bool
    session: int  # its place in the file

    @property
    def lasted(self) -> float:
        """Seconds until it returned or was given up."""
        return LONGEST if self.seconds is None else self.seconds


def read_sessions(path: Path) -> list[Json]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def calls_of(sessions: list[Json], seed: int, *, named: bool, per_hour: float = 5.0) -> list[Call]:
    """All calls in the order in which they end; sessions begin at `per_hour` on average."""
    random = np.random.default_rng(seed)
    calls = []
    for start, place in zip(np.cumsum(random.exponential(1.0, len(sessions))),
                            random.permutation(len(sessions)), strict=True):  # fmt: skip
        session = sessions[place]
        now, last_call = float(start) * 3600.0 / per_hour, -1.0
        for index, turn in enumerate(session["turns"]):
            gap = turn.get("gap_est", turn["gap"])
            seconds = None if gap is None or gap > LONGEST else max(float(gap), 0.0)
            if seconds is not None and not named:
                seconds = seconds or UNRESOLVED
            now += float(turn.get("model_time", 1.0)) + (LONGEST if seconds is None else seconds)
            facts = TurnFacts(turn=index, last_call=last_call,
                              kind=KINDS.get(turn["stop"], CallKind.UNKNOWN))  # fmt: skip
            calls.append(Call(now, seconds, facts, session.get("class", "") if named else "",
                              turn["in"] + turn["out"], turn["stop"] == "tool_use", int(place)))  # fmt: skip
            if seconds is None:
                break
            last_call = seconds
    return sorted(calls, key=lambda call: call.at)


def pinball(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Mean loss per quantile; predicted is [calls, quantiles]."""
    error = actual[:, None] - predicted
    levels = np.array(QUANTILES)
    return np.maximum(levels * error, (levels - 1.0) * error).mean(axis=0)


def quantiles_online(calls: list[Call], *, named: bool) -> np.ndarray:
    """The quantiles predicted for each call before it was learned."""
    predictor, out = Predictor(), []
    for call in calls:
        facts = call.facts
        if named:
            facts = TurnFacts(tool=predictor.tool_id(call.tool))
        out.append([predictor.call_quantile(facts, 0.0, p) for p in QUANTILES])
        predictor.observe_call(facts, call.seconds)
    return np.array(out)


def tool_means(calls: list[Call]) -> np.ndarray:
    """The running mean of each tool, as its prediction whatever the quantile."""
    sums: dict[str, tuple[float, int]] = {}
    out = []
    for call in calls:
        total, count = sums.get(call.tool, (1.0, 1))
        out.append([total / count] * len(QUANTILES))
        sums[call.tool] = (total + call.seconds, count + 1)
    return np.array(out)


def log_normal_quantiles(seconds: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(seconds, 1e-5))
    return np.exp(logs.mean() + logs.std() * np.array([0.0, 1.2816, 2.3263]))


def named_tools(sessions: list[Json], seed: int) -> Json:
    """Tools by name against one log-normal for all, and against each tool's mean."""
    calls = [call for call in calls_of(sessions, seed, named=True) if call.seconds is not None]
    seconds = np.array([call.seconds for call in calls])
    future = slice(len(calls) // 2, None)
    ours = pinball(quantiles_online(calls, named=True)[future], seconds[future])
    one = np.broadcast_to(log_normal_quantiles(seconds[: len(calls) // 2]), (len(seconds), 3))
    return {
        "tools by name, to one log-normal": ours / pinball(one[future], seconds[future]),
        "tools by name, to each tool's mean": ours
        / pinball(tool_means(calls)[future], seconds[future]),
    }


def agent_tool_calls(sessions: list[Json], seed: int) -> list[Call]:
    return [c for c in calls_of(sessions, seed, named=False) if c.seconds is not None and c.is_tool]


def unnamed_tools(sessions: list[Json], seed: int) -> Json:
    """No names: against the quantiles of the scored calls themselves, which no forecast can know."""
    calls = agent_tool_calls(sessions, seed)
    seconds = np.array([call.seconds for call in calls])[LEARNED:]
    ours = pinball(quantiles_online(calls, named=False)[LEARNED:], seconds)
    static = np.broadcast_to(np.quantile(seconds, QUANTILES), (len(seconds), 3))
    return {"no names, to the best static quantiles": ours / pinball(static, seconds)}


def drift(sessions: list[Json], seed: int, before: int = 3000, window: int = 500) -> Json:
    """All calls become ten times as long: loss to the best static quantiles of the new calls."""
    calls = agent_tool_calls(sessions, seed)[: before + 4 * window]
    calls = [
        c._replace(seconds=c.seconds * (10.0 if i >= before else 1.0)) for i, c in enumerate(calls)
    ]
    seconds = np.array([call.seconds for call in calls])
    predicted = quantiles_online(calls, named=False)
    best = np.quantile(seconds[before:], QUANTILES)
    out = {}
    for first in (0, window, 2 * window):
        part = slice(before + first, before + first + window)
        static = pinball(np.broadcast_to(best, (window, 3)), seconds[part])
        out[f"calls {first} to {first + window} after a x10 drift"] = (
            pinball(predicted[part], seconds[part]) / static
        )
    return out


def interval(error: np.ndarray, session: np.ndarray, sessions: int) -> tuple[float, float]:
    """95 % of the mean error, by drawing whole sessions: their cases are not independent."""
    sums, counts = (np.bincount(session, each, sessions) for each in (error, np.ones(len(error))))
    drawn = np.random.default_rng(0).multinomial(
        sessions, np.full(sessions, 1 / sessions), RESAMPLED
    )
    cases = drawn @ counts
    low, high = np.quantile((drawn @ sums)[cases > 0] / cases[cases > 0], (0.025, 0.975))
    return float(low), float(high)


def pauses(calls: list[Call]) -> list[tuple[float, int, float | None]]:
    """What happens when: (time, call, elapsed), elapsed None when it is over.

    A call is looked at when it begins, at the instants that are scored, and in between so often as
    the core does, which counts its silence each time.
    """
    looks = sorted({*ASKED, *0.1 * 2.0 ** np.arange(16)})
    events: list[tuple[float, int, float | None]] = []
    for index, call in enumerate(calls):
        begin = call.at - call.lasted
        events += [(begin + each, index, each) for each in looks if each <= call.lasted]
        events.append((call.at, index, None))
    return sorted(events, key=lambda event: event[0])


def returns_by_decile(sessions: list[Json], seeds: int) -> Iterator[tuple[str, ...]]:
    """P(return) at several instants of each pause against what happened."""
    predicted, happened, whose = [], [], []
    for seed in range(seeds):
        predictor, calls = Predictor(), calls_of(sessions, seed, named=False)
        counted = np.zeros(len(calls))
        for _, index, elapsed in pauses(calls):
            call = calls[index]
            if elapsed in ASKED and index >= LEARNED:
                predicted.append(predictor.p_return(call.facts, elapsed))
                happened.append(call.seconds is not None)
                whose.append(call.session)
            counted[index] = predictor.observe_silence(call.facts, elapsed or 0.0, counted[index])
            if elapsed is None and call.seconds is None:
                predictor.observe_no_return(call.facts)
            elif elapsed is None:
                predictor.observe_call(call.facts, call.seconds)
    p, returned, session = np.array(predicted), np.array(happened), np.array(whose)
    for decile in range(10):
        inside = (p >= decile / 10) & ((p < (decile + 1) / 10) | (decile == 9))
        if inside.any():
            error = 100.0 * (p[inside] - returned[inside])
            low, high = interval(error, session[inside], len(sessions))
            yield (f"{decile * 10} to {decile * 10 + 10} %", str(int(inside.sum() / seeds)),
                   f"{100 * p[inside].mean():.1f}", f"{100 * returned[inside].mean():.1f}",
                   f"{error.mean():+.1f} ({low:+.1f} to {high:+.1f})")  # fmt: skip


# --- what conditioning on the elapsed time is worth ---


class Costs(NamedTuple):
    """Of an engine under pressure, in seconds per token and tokens: one large GPU's order."""

    prefill: float = 1e-4
    others: float = 300_000.0


def best_tau(still_out: Callable[[float], float], context: float, lost: float, p: float) -> float:
    """As csrc/lamps/hold.h: the tau with the least waste of "keep until tau, then let go"."""
    best, until, held, last, last_out = lost * p, 0.0, 0.0, 0.0, 1.0
    for tau in np.geomspace(1e-3, LONGEST, 24):
        survival = still_out(tau)
        out = p * survival + (1.0 - p)
        held += context * 0.5 * (out + last_out) * (tau - last)
        if held + lost * p * survival <= best:
            best, until = held + lost * p * survival, tau
        last, last_out = tau, out
    return until


def decide(predictor: Predictor, call: Call, mode: str, costs: Costs) -> float:
    """Waste in token-seconds of one pause. Modes: see WASTE_ROWS."""
    seconds = call.lasted
    recompute = costs.prefill * call.context * (call.context / 2 + costs.others)
    lost = 0.0 if call.seconds is None else recompute
    if mode == "clairvoyant":
        return min(call.context * seconds if call.seconds is not None else 0.0, recompute)
    if mode == "mean":
        keep = call.context * predictor.remaining_call(call.facts, 0.0)
        p = predictor.p_return(call.facts, 0.0)
        return call.context * seconds if keep <= recompute * p else lost
    elapsed = 0.0
    while elapsed < seconds:
        known = elapsed if mode == "conditional" else 0.0
        p = predictor.p_return(call.facts, known)
        tau = best_tau(lambda later, known=known: predictor.still_out(call.facts, known, later),
                       call.context, recompute, p)  # fmt: skip
        if mode == "once":
            return call.context * min(tau, seconds) + (lost if tau < seconds else 0.0)
        if tau <= 0.0:
            return call.context * elapsed + lost
        elapsed = max(0.1, 1.5 * elapsed)
    return call.context * seconds


WASTE_ROWS = {
    "mean": "by the mean, once",
    "once": "by the distribution, once",
    "fresh": "decided again, elapsed time not used",
    "conditional": "decided again, given the elapsed time",
}


def waste(sessions: list[Json], seed: int, most: int = 4000) -> dict[str, float]:
    """Total waste of each way to decide, to a clairvoyant's."""
    predictor, total = Predictor(), dict.fromkeys([*WASTE_ROWS, "clairvoyant"], 0.0)
    for index, call in enumerate(calls_of(sessions, seed, named=False)[: LEARNED + most]):
        if index >= LEARNED:
            for mode in total:
                total[mode] += decide(predictor, call, mode, Costs())
        if call.seconds is None:
            predictor.observe_no_return(call.facts)
        else:
            predictor.observe_call(call.facts, call.seconds)
    return {mode: total[mode] / total["clairvoyant"] for mode in WASTE_ROWS}


def medians(results: list[Json]) -> Json:
    return {key: np.median([result[key] for result in results], axis=0) for key in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--named", type=Path, help="sessions whose class names the tool")
    parser.add_argument("--agent", type=Path, help="agent sessions without tool names")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    console = Console()

    losses = Table("pinball loss, ratio", "50 %", "90 %", "99 %")
    studies: list[tuple[Callable[..., Json], Path | None]] = [
        (named_tools, args.named), (unnamed_tools, args.agent), (drift, args.agent)]  # fmt: skip
    for study, path in studies:
        if path is None:
            continue
        sessions = read_sessions(path)
        for name, ratio in medians([study(sessions, seed) for seed in range(args.seeds)]).items():
            losses.add_row(name, *(f"{value:.3f}" for value in ratio))
    console.print(losses)
    if args.agent is None:
        return
    sessions = read_sessions(args.agent)
    deciles = Table("P(return) predicted", "cases per seed", "mean predicted, %", "returned, %",
                    "too high by, points (95 % interval)")  # fmt: skip
    for row in returns_by_decile(sessions, args.seeds):
        deciles.add_row(*row)
    console.print(deciles)
    wastes = Table("keep or let go", "waste to a clairvoyant's")
    for mode, value in medians([waste(sessions, s) for s in range(min(args.seeds, 3))]).items():
        wastes.add_row(WASTE_ROWS[mode], f"{value:.2f}")
    console.print(wastes)


if __name__ == "__main__":
    main()
