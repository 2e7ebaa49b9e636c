# SPDX-License-Identifier: Apache-2.0
"""Outcomes as terminal tables, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from lamps_vllm.replay.metrics import RunMetrics, spread
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.sweep import Capacity


@dataclass(frozen=True)
class Column:
    """One column of the summary: how it is read from an outcome and shown."""

    title: str
    read: Callable[[Outcome], float | None]
    unit: str = "s"
    wide: bool = False  # left out where the terminal is narrow


COLUMNS = (
    Column("session\nmean", lambda o: o.metrics.session_mean),
    Column("\n>= bound", lambda o: o.more.bound_mean, wide=True),
    Column("\nmedian", lambda o: o.metrics.session_median),
    Column("\np99", lambda o: o.metrics.session_p99),
    Column("TTFT\nmedian", lambda o: o.more.ttft_median, wide=True),
    Column("TTFT\np99", lambda o: o.more.ttft_p99),
    Column("1st TTFT\np99", lambda o: o.metrics.first_ttft_p99, wide=True),
    Column("tool TTFT\nmean", lambda o: o.metrics.tool_ttft_mean),
    Column("hits\n", lambda o: o.metrics.hit_share, "%"),
    Column("tok/s\n", lambda o: o.metrics.output_tokens_per_s, "/s"),
    Column("tok/s\nsteady", lambda o: o.more.steady_tokens_per_s, "/s", wide=True),
    Column("tok/s\nin 30 s", lambda o: o.more.goodput_30s, "/s", wide=True),
    Column("preempted\n", lambda o: o.more.preemptions, "", wide=True),
    Column("failed\n", lambda o: o.metrics.failed, "", wide=True),
)


WIDE = 150  # columns of a terminal that takes the whole table


def shown(value: float | None, unit: str) -> str:
    """A number as short as it stays useful."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{100.0 * value:.1f} %"
    if unit == "s":
        return (
            f"{value:.3f}" if value < 1.0 else f"{value:.2f}" if value < 100.0 else f"{value:.0f}"
        )
    return f"{value:.1f}" if unit == "/s" else f"{value:.0f}"


def grouped(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes by (load, policy), in the order in which they come; a group holds the seeds."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.load, outcome.policy), []).append(outcome)
    return groups


def _cell(values: list[float | None], unit: str) -> str:
    known = spread([value for value in values if value is not None])
    return "-" if known is None else shown(known.median, unit)


def summary_rows(
    outcomes: Sequence[Outcome], columns: Sequence[Column] = COLUMNS
) -> list[list[str]]:
    """One row per load and policy: load, policy, medians over seeds of the columns."""
    return [
        [load, policy, *(_cell([column.read(o) for o in group], column.unit) for column in columns)]
        for (load, policy), group in grouped(outcomes).items()
    ]


def summary_table(outcomes: Sequence[Outcome], title: str, width: int = WIDE) -> Table:
    """Times in seconds; sessions without their tools' time; medians over seeds."""
    columns = [column for column in COLUMNS if width >= WIDE or not column.wide]
    table = Table(title=title, title_justify="left")
    table.add_column("load", no_wrap=True)
    table.add_column("policy", overflow="fold")
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    before = ""
    for load, *cells in summary_rows(outcomes, columns):
        if before and load != before:
            table.add_section()
        table.add_row(load if load != before else "", *cells)
        before = load
    return table


def runs_by_policy(outcomes: Sequence[Outcome], load: str) -> dict[str, dict[int, RunMetrics]]:
    """The runs at one load as `lamps compare` keeps its arms: policy, then seed."""
    runs: dict[str, dict[int, RunMetrics]] = {}
    for outcome in outcomes:
        if outcome.load == load:
            runs.setdefault(outcome.policy, {})[outcome.seed] = outcome.metrics
    return runs


def csv_text(outcomes: Sequence[Outcome]) -> str:
    """One line per run: policy, load, seed, every figure and counter."""
    rows = [
        {
            "policy": outcome.policy,
            "load": outcome.load,
            "load_value": outcome.load_value,
            "seed": outcome.seed,
            **outcome.metrics.model_dump(),
            **outcome.more.model_dump(exclude={"after_pauses"}),
        }
        for outcome in outcomes
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def capacity_table(found: Sequence[Capacity], title: str) -> Table:
    """The highest load of each policy that keeps the limits."""
    table = Table(title=title, title_justify="left")
    for name in ("policy", "seed", "highest load", "tok/s there", "above it"):
        table.add_column(name, overflow="fold")
    for capacity in found:
        tokens = capacity.outcome.metrics.output_tokens_per_s if capacity.outcome else None
        table.add_row(
            capacity.case.label,
            str(capacity.case.seed),
            f"{capacity.load:.3g}",
            shown(tokens, "/s"),
            capacity.broken_above,
        )
    return table
