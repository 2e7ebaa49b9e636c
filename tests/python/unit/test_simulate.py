# SPDX-License-Identifier: Apache-2.0
"""Simulated cases: arrays, figures, sweeps, capacity, report. The simulator itself has C++ tests."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lamps_vllm.cli.app import app
from lamps_vllm.pace import available_profiles, load_profile
from lamps_vllm.replay.workload import Segment, Session, SharedPrefix, Workload, save_workload
from lamps_vllm.simulate import run
from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind, SimulationError, split_arms
from lamps_vllm.simulate.run import run_case, table_of
from lamps_vllm.simulate.sweep import Limits, find_capacity, run_cases
from lamps_vllm.simulate.tables import csv_text, summary_rows
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction

OVERLOAD = Case(
    Source("mix", sessions=40), "cpu-demo", Arm("lamps"), Load(LoadKind.RATE, 3.15), detail=True
)


def lone_session(tmp_path: Path, *, calls: float = 2.0) -> Source:
    """One session of two turns: everything about it can be computed by hand."""
    segments = (
        Segment(prompt_tokens=64, output_tokens=11, call_seconds=calls, tool="t"),
        Segment(prompt_tokens=32, output_tokens=6),
    )
    path = tmp_path / "lone.jsonl"
    save_workload(Workload.of([Session(id="x", arrival=1.0, segments=segments)]), path)
    return Source(str(path))


def test_arrays_of_a_workload():
    first = Session(
        id="a",
        arrival=2.0,
        segments=(
            Segment(prompt_tokens=20, output_tokens=3, call_seconds=1.5, tool="z"),
            Segment(
                prompt_tokens=5, output_tokens=2, kept_tokens=10, call_seconds=9.0, tool="user"
            ),
            Segment(prompt_tokens=6, output_tokens=4),
        ),
        shared_prefix=SharedPrefix(group="g", tokens=8),
    )
    second = Session(id="b", arrival=3.0, segments=(Segment(prompt_tokens=7, output_tokens=1),))
    table = table_of(Workload.of([first, second]))
    assert table.first_segment.tolist() == [0, 3, 4]
    assert table.prompt_tokens.tolist() == [20, 5, 6, 7]
    assert table.output_tokens.tolist() == [3, 2, 4, 1]
    assert table.call_seconds.tolist() == [1.5, 9.0, 0.0, 0.0]
    assert table.kept_tokens.tolist() == [-1, 10, -1, -1]
    assert (table.tool.tolist(), table.tool_names) == ([1, 0, -1, -1], ("user", "z"))
    assert table.called.tolist() == [1, -1, -1, -1]  # a person's answer is no call that tokens show
    assert (table.shared_group.tolist(), table.shared_tokens.tolist()) == ([0, -1], [8, 0])
    assert table.is_last.tolist() == [False, False, True, True]
    assert table.arrival.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("policy", ["stock", "priority", "lamps", "fcfs", "lamps-paper"])
def test_a_lone_session_takes_the_time_of_its_steps(tmp_path, policy):
    case = Case(lone_session(tmp_path), "cpu-demo", Arm(policy), Load(LoadKind.GIVEN))
    outcome = run_case(case)
    pace = load_profile("cpu-demo")
    prefill = pace.step_seconds(63, 1, 0)
    # 75 tokens were there, 74 with KV: two full blocks of 32 are found again.
    after_tool = pace.step_seconds(107 - 64 - 1, 1, 0)
    decode = (10 + 5) * pace.step_seconds(0, 1, 0)
    metrics = outcome.metrics
    assert metrics.first_ttft_mean == pytest.approx(prefill, abs=2e-3)
    assert metrics.tool_ttft_mean == pytest.approx(after_tool, abs=2e-3)
    assert metrics.session_mean == pytest.approx(prefill + after_tool + decode, abs=5e-3)
    assert metrics.hit_share == pytest.approx(64 / 107)
    assert metrics.failed == 0
    assert outcome.more.turns == 2
    assert outcome.more.complete


def test_equal_cases_give_equal_results():
    one, other = run_case(OVERLOAD), run_case(OVERLOAD)
    wall = {"more": {"wall_seconds"}, "reports": True}
    assert one.model_dump(exclude=wall) == other.model_dump(exclude=wall)
    assert run_case(replace(OVERLOAD, seed=1)).metrics != one.metrics


def test_sessions_are_the_same_at_every_rate():
    slow, fast = (
        run_case(replace(OVERLOAD, load=Load(LoadKind.RATE, rate))) for rate in (0.01, 3.15)
    )
    assert slow.counters["output_tokens"] == fast.counters["output_tokens"]
    assert slow.metrics.session_mean < fast.metrics.session_mean


def test_detail_is_what_plots_need():
    detail = run_case(OVERLOAD).detail
    total = np.sum([detail.series[name] for name in detail.series if name != "host_tokens"], axis=0)
    assert total == pytest.approx(np.full(len(detail.at), 4480.0), rel=0.02)
    assert detail.session_cdf == sorted(detail.session_cdf)
    assert sum(count for *_, count in detail.decisions) > 0
    for turns in detail.timelines.values():
        for turn in turns:
            assert turn.sent <= turn.admitted <= turn.first_token <= turn.end
    assert run_case(replace(OVERLOAD, detail=False)).detail is None


def test_long_runs_keep_histograms_instead_of_turns(monkeypatch):
    case = replace(OVERLOAD, source=Source("mix", sessions=300))
    exact = run_case(case).metrics
    monkeypatch.setattr(run, "MOST_RECORDED_TURNS", 10)
    long = run_case(case)
    assert long.detail.timelines == {}
    assert long.detail.session_cdf
    for name in (
        "session_mean",
        "session_median",
        "session_p99",
        "tool_ttft_mean",
        "first_ttft_p99",
    ):
        assert getattr(long.metrics, name) == pytest.approx(getattr(exact, name), rel=0.05), name
    assert long.metrics.output_tokens_per_s == pytest.approx(exact.output_tokens_per_s, rel=0.02)
    assert (long.metrics.sessions, long.metrics.failed) == (300, 0)


def test_closed_loop_keeps_so_many_sessions_going():
    case = replace(OVERLOAD, load=Load(LoadKind.CONCURRENCY, 4), arm=Arm("stock"))
    outcome = run_case(case)
    assert outcome.metrics.failed == 0
    assert max(outcome.detail.waiting) <= 4
    assert 0.0 < outcome.more.goodput_30s <= outcome.more.steady_tokens_per_s


def test_closed_loop_repeats_its_sessions():
    case = replace(OVERLOAD, load=Load(LoadKind.CONCURRENCY, 4), total=100, detail=False)
    once, more = run_case(replace(case, total=None)), run_case(case)
    assert (once.metrics.sessions, more.metrics.sessions) == (40, 100)
    assert more.metrics.failed == 0
    assert more.counters["output_tokens"] > 2.4 * once.counters["output_tokens"]
    with pytest.raises(SimulationError, match="only a closed loop"):
        run_case(replace(OVERLOAD, total=100))


def test_predictions_reach_the_policy():
    own = run_case(replace(OVERLOAD, arm=Arm("sjf")))
    oracle = run_case(replace(OVERLOAD, arm=Arm("sjf"), prediction=Prediction(0.0)))
    assert own.metrics != oracle.metrics


def test_calls_read_from_the_tokens_tell_last_turns(tmp_path):
    """As in a server: a turn that shows no call is soon known to end its session."""
    case = Case(
        Source("toolbench", sessions=500), "gpt-j-6b", Arm("lamps"), Load(LoadKind.RATE, 5.4)
    )
    read, unread = (run_case(replace(case, read_calls=read)) for read in (True, False))
    assert read.metrics.session_mean < 0.8 * unread.metrics.session_mean
    nameless = tmp_path / "nameless.jsonl"
    sessions = case.source.load(0, 5.4).sessions
    save_workload(Workload.of(map(_without_tools, sessions)), nameless)
    case = replace(case, source=Source(str(nameless)), load=Load(LoadKind.GIVEN))
    read, unread = (run_case(replace(case, read_calls=read)) for read in (True, False))
    assert read.metrics == unread.metrics


def _without_tools(session: Session) -> Session:
    segments = tuple(each.model_copy(update={"tool": None}) for each in session.segments)
    return session.model_copy(update={"segments": segments})


def test_lengths_that_the_workload_gives_reach_the_policy(tmp_path):
    def told(session: Session, factor: float) -> Session:
        segments = tuple(
            s.model_copy(update={"expected_output_tokens": factor * s.output_tokens})
            for s in session.segments
        )
        return session.model_copy(update={"segments": segments})

    def mean(factor: float, prediction: str) -> float:
        path = tmp_path / f"{factor}.jsonl"
        sessions = OVERLOAD.source.load(0, OVERLOAD.load.value).sessions
        save_workload(Workload.of(told(session, factor) for session in sessions), path)
        case = replace(
            OVERLOAD, source=Source(str(path)), arm=Arm("sjf"), load=Load(LoadKind.GIVEN),
            prediction=Prediction.parse(prediction),
        )  # fmt: skip
        return run_case(case).metrics.session_mean

    assert mean(1.0, "own") == mean(2.0, "own")
    assert mean(1.0, "given") == pytest.approx(mean(2.0, "given"), rel=0.2)  # the order is the same
    assert mean(1.0, "given") < mean(1.0, "own")


def test_a_sweep_is_the_same_in_one_process_and_in_two():
    cases = [
        replace(OVERLOAD, arm=arm, seed=seed, detail=False)
        for arm in split_arms("stock,lamps")
        for seed in (0, 1)
    ]
    seen: list[tuple[int, float]] = []
    one = run_cases(cases, workers=1, on_progress=lambda *report: seen.append(report))
    two = run_cases(cases, workers=2)
    assert [each.metrics for each in one] == [each.metrics for each in two]
    assert {index for index, share in seen if share == 1.0} == {0, 1, 2, 3}


def test_an_error_in_a_worker_is_raised():
    bad = replace(OVERLOAD, source=Source("no-such-file.jsonl"))
    with pytest.raises(ValueError, match="neither a file nor a generator"):
        run_cases([bad, OVERLOAD], workers=2)


def test_capacity_is_where_the_limit_breaks():
    case = replace(OVERLOAD, arm=Arm("stock"), detail=False)
    limits = Limits(session_mean=4.0)
    found = find_capacity(case, limits, highest=4.0)
    assert 0.0 < found.load < 4.0
    assert found.outcome.metrics.session_mean <= 4.0
    above = run_case(replace(case, load=Load(LoadKind.RATE, 1.031 * found.load)))
    assert above.metrics.session_mean > 4.0
    assert "session_mean" in found.broken_above
    assert find_capacity(case, Limits(ttft_p99=1e6), highest=2.0).load == 2.0
    closed = replace(case, load=Load(LoadKind.CONCURRENCY, 1))
    by_count = find_capacity(closed, Limits(ttft_p99=1.0), highest=40)
    assert by_count.load == round(by_count.load)
    assert find_capacity(closed, Limits(ttft_p99=1e6), highest=7).load == 7
    assert find_capacity(closed, Limits(ttft_p99=1e-6), highest=7).load == 0


def test_arms():
    assert [str(arm) for arm in split_arms("lamps{rank_weight=0,preserve=false},stock")] == [
        "lamps{rank_weight=0,preserve=0}",
        "stock",
    ]
    options = Arm.parse("lamps{admission_share=0.5}").core_options()
    assert (options.admission_share, options.min_admission_share) == (0.5, 0.5)
    assert Arm.parse("stock").scheduler == "fcfs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lampz", "policy = 'lampz': accepted are stock, priority, lamps"),
        ("lamps{rank=1}", "policy option 'rank': there is none"),
        ("lamps{rank_weight}", "expected name=number"),
        ("lamps{rank_weight=-1}", "rank_weight"),
        ("lamps{", "expected NAME"),
    ],
)
def test_bad_arm(text, message):
    with pytest.raises(SimulationError, match=message):
        Arm.parse(text)


def test_bad_cases_name_field_and_range(tmp_path):
    with pytest.raises(SimulationError, match="rate = 0"):
        Load(LoadKind.RATE, 0.0)
    with pytest.raises(SimulationError, match="concurrency = 0"):
        Load(LoadKind.CONCURRENCY, 0)
    with pytest.raises(SimulationError, match="host_gib = 4"):
        replace(OVERLOAD, host_gib=4.0).engine()
    bare = tmp_path / "bare.json"
    bare.write_text('{"base_s": 0.01}')
    with pytest.raises(SimulationError, match="has no `engine`"):
        replace(OVERLOAD, profile=str(bare)).engine()


@pytest.mark.parametrize("name", available_profiles())
def test_every_profile_simulates_and_says_where_its_numbers_are_from(name):
    profile = load_profile(name)
    case = replace(
        OVERLOAD, profile=name, source=Source("single", sessions=10), load=Load(LoadKind.RATE, 1.0)
    )
    assert run_case(case).metrics.failed == 0
    said = " ".join(profile.origin)
    for field in ("base_s", "per_prefill_token_s", "kv_tokens", "kv_bytes_per_token"):
        assert field in said, f"{name} does not say where {field} is from"


def test_tables_and_csv():
    outcomes = [run_case(replace(OVERLOAD, seed=seed, detail=False)) for seed in (0, 1)]
    (row,) = summary_rows(outcomes)
    assert row[:2] == ["3.15 sessions/s", "lamps"]
    rows = list(csv.DictReader(io.StringIO(csv_text(outcomes))))
    assert [each["seed"] for each in rows] == ["0", "1"]
    assert float(rows[0]["session_mean"]) == outcomes[0].metrics.session_mean


def simulate(*arguments: object):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_command_writes_report_json_and_csv(tmp_path):
    folder = tmp_path / "out"
    done = simulate(
        "mix", "--sessions", 30, "--profile", "cpu-demo", "--policy", "stock,lamps", "--rate", "1,3",
        "--workers", 1, "--out", folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    runs = json.loads((folder / "results.json").read_text())["runs"]
    assert [(run["policy"], run["load_value"]) for run in runs] == [
        ("stock", 1.0), ("lamps", 1.0), ("stock", 3.0), ("lamps", 3.0)
    ]  # fmt: skip
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == page.count("<details")
    assert not re.search(r"<script|<link|src=|href=\"(?!#)", page)  # needs nothing from elsewhere
    for heading in ("Against load", "Waste by cause", "KV memory", "Decisions by tool", "Sessions"):
        assert heading in page
    assert len((folder / "results.csv").read_text().splitlines()) == 5


def test_command_finds_capacity():
    done = simulate(
        "mix", "--sessions", 30, "--profile", "cpu-demo", "--policy", "stock", "--rate", "3",
        "--find-capacity", "--slo-session-mean", "4", "--workers", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "highest load" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "neither a file nor a generator"),
        (("mix", "--policy", "x"), "policy = 'x'"),
        (("mix", "--profile", "none-such"), "no such profile or file"),
        (("mix", "--rate", "fast"), "expected numbers"),
        (("mix", "--rate", "1", "--concurrency", "2"), "give one of them"),
        (("mix", "--rate", "1", "--find-capacity"), "give an SLO"),
        (("mix", "--find-capacity", "--slo-ttft-p99", "1"), "highest --rate"),
        (("mix", "--prediction", "good"), "accepted are own"),
        (("mix", "--router", "random"), "router"),
    ],
)
def test_command_names_what_is_wrong(arguments, message):
    done = simulate(*arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
