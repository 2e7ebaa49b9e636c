# SPDX-License-Identifier: Apache-2.0
"""Runs and comparisons as tables, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from lamps_vllm.replay.metrics import FIGURES, Figure, RunMetrics, Spread, compare_arms, spread
from lamps_vllm.replay.records import ReplayResult

# A client later than this distorts what it measures.
SEND_LAG_LIMIT_S = 0.020

NOT_MEASURED = "-"

RunsByArm = Mapping[str, Mapping[int, RunMetrics]]


def _number(figure: Figure, value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    if figure.unit == "%":
        return f"{100.0 * value:.1f} %"
    if figure.unit == "s":
        return f"{value:.3f} s" if value < 1.0 else f"{value:.2f} s"
    return f"{value:.1f}" if figure.unit == "/s" else f"{value:.0f}"


def run_table(metrics: RunMetrics, title: str) -> Table:
    """The figures of one replay."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure in FIGURES:
        table.add_row(figure.title, _number(figure, getattr(metrics, figure.field)))
    return table


def run_warnings(metrics: RunMetrics) -> list[str]:
    """What makes a run's figures doubtful, in words; empty for a sound run."""
    warnings = []
    if metrics.failed:
        warnings.append(
            f"{metrics.failed} of {metrics.sessions} sessions failed: the times are those of the "
            "others and must not be compared"
        )
    if metrics.send_lag_p99 is not None and metrics.send_lag_p99 > SEND_LAG_LIMIT_S:
        warnings.append(
            f"the client sent late (p99 {1000 * metrics.send_lag_p99:.0f} ms, limit "
            f"{1000 * SEND_LAG_LIMIT_S:.0f} ms): this machine was too busy to measure on"
        )
    return warnings


def _ratio_cell(figure: Figure, value: Spread | None, is_ratio: bool) -> str:
    if value is None:
        return NOT_MEASURED
    if not is_ratio:
        return _number(figure, value.median)
    if value.low == value.high:
        return f"{value.median:.2f}"
    return f"{value.median:.2f} ({value.low:.2f}..{value.high:.2f})"


def comparison_table(runs: RunsByArm, reference: str, title: str) -> Table:
    """The reference arm in its own units, the others as ratios to it: median (min..max) of seeds.

    Shares and counts are shown as they are in every column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    ratios = compare_arms(runs, reference)
    for arm, by_seed in runs.items():
        noun = "run" if len(by_seed) == 1 else "runs"
        table.add_column(f"{arm}\n{len(by_seed)} {noun}", justify="right")
    for figure in FIGURES:
        cells = []
        for arm, by_seed in runs.items():
            if arm == reference:
                values = [getattr(metrics, figure.field) for metrics in by_seed.values()]
                cell = spread([value for value in values if value is not None])
            else:
                cell = ratios[arm][figure.field]
            cells.append(_ratio_cell(figure, cell, figure.as_ratio and arm != reference))
        if any(cell != NOT_MEASURED for cell in cells):
            table.add_row(figure.title, *cells)
    return table


def save_run(path: Path, result: ReplayResult, metrics: RunMetrics) -> None:
    """Writes one replay: its figures and every turn behind them."""
    save_json(path, {"metrics": metrics.model_dump(), "result": result.model_dump(mode="json")})


def load_run(path: Path) -> tuple[ReplayResult, RunMetrics]:
    """Reads what `save_run` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return (
        ReplayResult.model_validate(content["result"]),
        RunMetrics.model_validate(content["metrics"]),
    )


def save_json(path: Path, content: object) -> None:
    """Replaces the file in one step, so that an interruption leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def plot_comparison(
    path: Path,
    runs: RunsByArm,
    times: Mapping[str, Sequence[float]],
    reference: str,
    title: str,
) -> None:
    """A PNG: the distribution of session times per arm (seconds, all seeds), and the ratios."""
    import matplotlib  # noqa: PLC0415  (half a second of imports)

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), constrained_layout=True)
    for arm, values in times.items():
        ordered = np.sort(np.asarray(values))
        left.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", label=arm)
    left.set(xlabel="session time minus tool time, s", ylabel="share of sessions", ylim=(0, 1))
    left.set_xscale("log")
    left.grid(alpha=0.3)
    left.legend()
    _plot_ratios(right, runs, reference)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _plot_ratios(axes, runs: RunsByArm, reference: str) -> None:  # type: ignore[no-untyped-def]
    """Bars of every ratio figure; whiskers from the lowest to the highest seed."""
    ratios = compare_arms(runs, reference)
    arms = [arm for arm in runs if arm != reference]
    figures = [figure for figure in FIGURES if figure.as_ratio]
    height = 0.8 / max(len(arms), 1)
    for position, arm in enumerate(arms):
        rows = [(row, ratios[arm][figure.field]) for row, figure in enumerate(figures)]
        known = [(row, value) for row, value in rows if value is not None]
        axes.barh(
            [row + position * height for row, _ in known],
            [value.median for _, value in known],
            height=height,
            xerr=[
                [value.median - value.low for _, value in known],
                [value.high - value.median for _, value in known],
            ],
            color=f"C{list(runs).index(arm)}",
            label=arm,
        )
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(figures))])
    axes.set_yticklabels([figure.title for figure in figures])
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel(f"ratio to {reference}")
    axes.grid(axis="x", alpha=0.3)
    if arms:
        axes.legend()
