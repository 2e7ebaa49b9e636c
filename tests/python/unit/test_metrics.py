# SPDX-License-Identifier: Apache-2.0
"""Figures of a run, ratios over seeds, and the reports made of them."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from lamps_vllm.replay.metrics import FIGURES, RunMetrics, compare_arms, measure, spread
from lamps_vllm.replay.records import Identity, ReplayResult, SessionRecord, TurnRecord
from lamps_vllm.replay.report import (
    comparison_table,
    load_run,
    plot_comparison,
    run_table,
    run_warnings,
    save_run,
)


def turn(index: int, planned: float, ttft: float, end: float, cached: int = 0) -> TurnRecord:
    return TurnRecord(
        index=index, planned=planned, sent=planned + 0.001, first_token=planned + 0.001 + ttft,
        end=end, prompt_tokens=100, cached_tokens=cached, output_tokens=10, http_status=200,
    )  # fmt: skip


def two_turns(name: str, arrival: float, scale: float = 1.0) -> SessionRecord:
    """A session with a 5 s tool between two turns of `scale` seconds each."""
    middle = arrival + scale
    back = middle + 5.0
    return SessionRecord(
        id=name, arrival=arrival, tool_seconds=5.0, planned_turns=2,
        turns=[
            turn(0, arrival, 0.5 * scale, middle),
            turn(1, back, 0.1 * scale, back + scale, cached=64),
        ],
    )  # fmt: skip


def result(*sessions: SessionRecord) -> ReplayResult:
    return ReplayResult(
        base_url="http://x", model="m", identity=Identity.NONE, seed=0, forced_lengths=True,
        sessions=list(sessions),
    )  # fmt: skip


def failed_session() -> SessionRecord:
    broken = TurnRecord(index=0, planned=1.0, sent=1.0, end=9.0, http_status=500, error="HTTP 500")
    return SessionRecord(id="f", arrival=1.0, tool_seconds=3.0, planned_turns=2, turns=[broken])


def test_figures_of_a_run():
    metrics = measure(result(two_turns("a", 0.0), two_turns("b", 2.0, scale=3.0)))
    assert metrics.sessions == 2
    assert metrics.failed == 0
    assert metrics.session_mean == pytest.approx((2.0 + 6.0) / 2)
    assert metrics.session_max == pytest.approx(6.0)
    assert metrics.first_ttft_mean == pytest.approx(1.0)
    assert metrics.tool_ttft_mean == pytest.approx(0.2)
    assert metrics.hit_share == pytest.approx(0.64)
    assert metrics.makespan == pytest.approx(13.0)
    assert metrics.output_tokens_per_s == pytest.approx(40 / 13.0)
    assert metrics.send_lag_p99 == pytest.approx(0.001)


def test_failures_are_counted_and_flagged():
    metrics = measure(result(two_turns("a", 0.0), failed_session()))
    assert metrics.failed == 1
    assert metrics.session_mean == pytest.approx(2.0)
    assert "1 of 2 sessions failed" in run_warnings(metrics)[0]


def test_unfinished_session_counts_as_failed():
    session = two_turns("a", 0.0)
    session.turns.pop()
    assert session.error == "not finished"
    assert measure(result(session)).failed == 1


def test_nothing_to_measure_is_none_not_zero():
    metrics = measure(result(failed_session()))
    assert metrics.session_mean is None
    assert metrics.hit_share is None
    assert metrics.tool_ttft_mean is None


def test_late_client_is_flagged():
    session = two_turns("a", 0.0)
    session.turns[0].sent = 0.5
    assert any("sent late" in warning for warning in run_warnings(measure(result(session))))


def runs() -> dict[str, dict[int, RunMetrics]]:
    def run(scale: float) -> RunMetrics:
        return measure(result(two_turns("a", 0.0, scale)))

    return {"stock": {0: run(1.0), 1: run(2.0), 2: run(4.0)}, "lamps": {0: run(0.5), 1: run(0.5)}}


def test_ratios_pair_seeds():
    ratios = compare_arms(runs(), "stock")
    assert ratios["stock"]["session_mean"] == (1.0, 1.0, 1.0)
    assert ratios["lamps"]["session_mean"].low == pytest.approx(0.25)
    assert ratios["lamps"]["session_mean"].high == pytest.approx(0.5)
    assert ratios["lamps"]["hit_share"].median == pytest.approx(0.64)


def test_ratio_without_a_reference_run_is_left_out():
    partial = runs()
    partial["stock"] = {}
    assert compare_arms(partial, "stock")["lamps"]["session_mean"] is None


def test_spread():
    assert spread([]) is None
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def rendered(table) -> str:
    console = Console(width=200, record=True, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_tables_show_every_figure():
    text = rendered(run_table(runs()["stock"][0], "one"))
    assert all(figure.title in text for figure in FIGURES)
    text = rendered(comparison_table(runs(), "stock", "title"))
    assert "0.38 (0.25..0.50)" in text
    assert "64.0 %" in text


def test_saved_run_comes_back(tmp_path):
    original = result(two_turns("a", 0.0), failed_session())
    path = tmp_path / "deep" / "run.json"
    save_run(path, original, measure(original))
    loaded, metrics = load_run(path)
    assert loaded == original
    assert metrics == measure(original)
    assert json.loads(path.read_text())["metrics"]["failed"] == 1


def test_plot_is_a_png(tmp_path):
    path = tmp_path / "plot.png"
    times = {"stock": [1.0, 2.0], "lamps": [0.5]}
    plot_comparison(path, runs(), times, "stock", "title")
    assert path.read_bytes().startswith(b"\x89PNG")
