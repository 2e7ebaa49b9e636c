# SPDX-License-Identifier: Apache-2.0
"""Plots of simulated runs, each as SVG text to be put into a page."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lamps_vllm.simulate.outcome import Detail, Outcome
from lamps_vllm.simulate.tables import grouped

STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, and it can be searched
    "svg.hashsalt": "lamps",  # the same run gives the same file
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
STATES = {
    "running_tokens": ("running", "#3b6fb6"),
    "held_tokens": ("kept over a call", "#e0903a"),
    "cached_tokens": ("free, cached", "#b9cbe0"),
    "empty_tokens": ("empty", "#eeeeee"),
}
WAITING, RUNNING, CALLING = "#d9534f", "#3b6fb6", "#e6e6e6"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), count=1, flags=re.DOTALL)
    return re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def _color(policies: Sequence[str], policy: str) -> str:
    return f"C{list(policies).index(policy) % 10}"


LOAD_FIGURES: tuple[tuple[str, Callable[[Outcome], float | None]], ...] = (
    ("session without tools, mean (s)", lambda o: o.metrics.session_mean),
    ("session without tools, p99 (s)", lambda o: o.metrics.session_p99),
    ("TTFT of every turn, p99 (s)", lambda o: o.more.ttft_p99),
    ("TTFT after a tool, mean (s)", lambda o: o.metrics.tool_ttft_mean),
    ("output tokens per s", lambda o: o.metrics.output_tokens_per_s),
    ("prefix hits after a tool (share)", lambda o: o.metrics.hit_share),
)


def load_curves(outcomes: Sequence[Outcome], policies: Sequence[str]) -> str:
    """Figures against load, a line per policy: median over seeds, band from lowest to highest."""
    figure, axes = _axes(2, 3, 12.0, 6.0)
    for axis, (title, read) in zip(axes, LOAD_FIGURES, strict=True):
        for policy in policies:
            points = defaultdict(list)
            for outcome in outcomes:
                value = read(outcome)
                if outcome.policy == policy and value is not None:
                    points[outcome.load_value].append(value)
            loads = sorted(points)
            if not loads:
                continue
            color = _color(policies, policy)
            axis.plot(
                loads, [np.median(points[x]) for x in loads], "o-", color=color, ms=3, label=policy
            )
            axis.fill_between(
                loads, [min(points[x]) for x in loads], [max(points[x]) for x in loads],
                color=color, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axis.set_title(title, fontsize=9)
        if "(s)" in title:
            axis.set_yscale("log")
    axes[0].legend(fontsize=8)
    return _svg(figure)


def distributions(details: dict[str, Detail]) -> str:
    """CDFs of session time, first TTFT and TTFT after a tool; a line per policy."""
    names = ("session_cdf", "first_ttft_cdf", "tool_ttft_cdf")
    titles = ("session without tools (s)", "TTFT of the first turn (s)", "TTFT after a tool (s)")
    figure, axes = _axes(1, 3, 12.0, 3.4)
    for axis, name, title in zip(axes, names, titles, strict=True):
        for policy, detail in details.items():
            values = np.asarray(getattr(detail, name))
            if len(values):
                shares = np.linspace(0.0, 1.0, len(values))
                color = _color([*details], policy)
                axis.plot(np.maximum(values, 1e-3), shares, color=color, label=policy)
        axis.set_xscale("log")
        axis.set_title(title, fontsize=9)
    axes[0].set_ylabel("share")
    axes[0].legend(fontsize=8)
    return _svg(figure)


def memory(details: dict[str, Detail]) -> str:
    """KV tokens over time, stacked by state; the line is what the host tier holds."""
    figure, axes = _axes(len(details), 1, 12.0, 0.6 + 1.9 * len(details))
    for axis, (policy, detail) in zip(axes, details.items(), strict=True):
        axis.stackplot(
            detail.at,
            *(detail.series[state] for state in STATES),
            labels=[label for label, _ in STATES.values()],
            colors=[color for _, color in STATES.values()],
            linewidth=0,
        )
        if any(detail.series["host_tokens"]):
            axis.plot(detail.at, detail.series["host_tokens"], "k--", lw=0.8, label="on the host")
        axis.set_title(policy, fontsize=9, loc="left")
        axis.set_ylabel("KV tokens")
        axis.margins(0)
    axes[0].legend(fontsize=8, ncols=5, loc="upper right")
    axes[-1].set_xlabel("s")
    return _svg(figure)


def waiting(details: dict[str, Detail]) -> str:
    """Requests that wait, over time."""
    figure, (axis,) = _axes(1, 1, 12.0, 2.4)
    for policy, detail in details.items():
        axis.plot(detail.at, detail.waiting, lw=0.9, color=_color([*details], policy), label=policy)
    axis.set_ylabel("waiting requests")
    axis.set_xlabel("s")
    axis.legend(fontsize=8)
    return _svg(figure)


def decisions(details: dict[str, Detail]) -> str | None:
    """What was decided for the KV of each class of calls, as shares; None: nobody decided."""
    decided = {policy: detail for policy, detail in details.items() if detail.decisions}
    if not decided:
        return None
    tools = sorted({tool for detail in decided.values() for *_, tool, _ in detail.decisions})[:12]
    figure, axes = _axes(1, len(decided), 3.0 + 2.6 * len(decided), 1.2 + 0.3 * len(tools))
    kinds = sorted(
        {f"{h}: {reason}" for detail in decided.values() for h, reason, *_ in detail.decisions}
    )
    for axis, (policy, detail) in zip(axes, decided.items(), strict=True):
        counts = np.zeros((len(kinds), len(tools)))
        for handling, reason, tool, count in detail.decisions:
            if tool in tools:
                counts[kinds.index(f"{handling}: {reason}"), tools.index(tool)] += count
        shares = counts / np.maximum(counts.sum(axis=0), 1.0)
        left = np.zeros(len(tools))
        for number, kind in enumerate(kinds):
            axis.barh(tools, shares[number], left=left, color=f"C{number % 10}", label=kind)
            left += shares[number]
        axis.set_title(policy, fontsize=9, loc="left")
        axis.set_xlim(0, 1)
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def timeline(detail: Detail) -> str:
    """Sessions over time, one row each: red waits, blue runs, grey is in a call."""
    lines = [(name, turns) for name, turns in detail.timelines.items() if turns]
    figure, (axis,) = _axes(1, 1, 12.0, 0.8 + 0.17 * max(len(lines), 4))
    bars: dict[str, list[tuple[int, float, float]]] = {WAITING: [], RUNNING: [], CALLING: []}
    for row, (_, turns) in enumerate(lines):
        bars[CALLING].append((row, turns[0].sent, turns[-1].end - turns[0].sent))
        for turn in turns:
            bars[WAITING].append((row, turn.sent, turn.admitted - turn.sent))
            bars[RUNNING].append((row, turn.admitted, turn.end - turn.admitted))
    for color in (CALLING, WAITING, RUNNING):
        rows, starts, lengths = zip(*bars[color], strict=True) if bars[color] else ((), (), ())
        axis.barh(rows, lengths, left=starts, height=0.8, color=color, linewidth=0)
    axis.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=6)
    axis.invert_yaxis()
    axis.set_xlabel("s")
    axis.margins(y=0.01)
    return _svg(figure)


def waste(outcomes: Sequence[Outcome], policies: Sequence[str]) -> str:
    """Where memory and compute went without use, by policy; medians over seeds."""
    panels: tuple[tuple[str, Callable[[Outcome], float]], ...] = (
        ("KV held over calls (share of token-seconds)", lambda o: o.more.held_share),
        ("tokens computed again after a call", _recomputed_after_calls),
        ("tokens computed again after preemption", lambda o: o.more.recomputed_after_preemption),
        ("engine idle (share of time)", lambda o: 1.0 - o.more.busy_share),
    )
    figure, axes = _axes(1, len(panels), 12.0, 0.9 + 0.28 * len(policies))
    by_policy: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_policy[outcome.policy].append(outcome)
    for number, (axis, (title, read)) in enumerate(zip(axes, panels, strict=True)):
        values = [float(np.median([read(o) for o in by_policy[policy]])) for policy in policies]
        axis.barh(policies, values, color=[_color(policies, policy) for policy in policies])
        axis.invert_yaxis()
        axis.set_title(title, fontsize=8)
        if number:
            axis.set_yticklabels([])
    return _svg(figure)


def _recomputed_after_calls(outcome: Outcome) -> float:
    return float(outcome.more.recomputed_tokens - outcome.more.recomputed_after_preemption)


def sections(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """(heading, SVG) of everything there is to show."""
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    values = {outcome.load: outcome.load_value for outcome in outcomes}
    loads = sorted(values, key=values.__getitem__)
    shown: list[tuple[str, str]] = []
    if len(loads) > 1:
        shown.append(("Against load", load_curves(outcomes, policies)))
    for load in loads:
        details = _details(outcomes, load)
        if details:
            shown.append((f"Distributions, {load}", distributions(details)))
    for load in loads:
        here = [outcome for outcome in outcomes if outcome.load == load]
        shown.append((f"Waste by cause, {load}", waste(here, policies)))
    details = _details(outcomes, loads[-1]) if loads else {}
    if details:
        shown += _at_one_load(details, loads[-1])
    return shown


def _details(outcomes: Sequence[Outcome], load: str) -> dict[str, Detail]:
    """The details of the first seed of every policy at one load."""
    found: dict[str, Detail] = {}
    for (at, policy), group in grouped(outcomes).items():
        if at == load and group[0].detail is not None:
            found[policy] = group[0].detail
    return found


def _at_one_load(details: dict[str, Detail], load: str) -> list[tuple[str, Any]]:
    shown = [
        (f"KV memory over time, {load}", memory(details)),
        (f"Waiting requests, {load}", waiting(details)),
    ]
    if (chosen := decisions(details)) is not None:
        shown.append((f"Decisions by tool class, {load}", chosen))
    shown += [
        (f"Sessions over time, {policy}, {load}", timeline(detail))
        for policy, detail in details.items()
        if detail.timelines
    ]
    return shown
