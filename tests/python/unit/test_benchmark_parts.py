# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks compute themselves: sizes and hints of a served load, intervals."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks" / "python"))

import lengths_http
import predictions
from length_rivals import Turn
from lengths import requests

TURNS = [Turn("a", 0, "", 100, 400), Turn("a", 1, "", 1, 3), Turn("b", 0, "", 3000, 9000)]


def test_sizes_are_scaled_and_fit_the_context():
    sizes = [(t.prompt_tokens, t.output_tokens) for t in lengths_http.scaled(TURNS, 0.25, 1000)]
    assert sizes == [(100, 25), (1, 1), (250, 750)]
    longest = lengths_http.scaled(TURNS, 1.0, 1000)[2]
    assert (longest.prompt_tokens, longest.output_tokens) == (1, 999)


def test_clients_tell_what_is_expected_of_their_turn_in_any_order():
    workload = requests(lengths_http.scaled(TURNS, 0.5, 2048), None)
    reversed_arrivals = [
        session.model_copy(update={"arrival": 10.0 - index})
        for index, session in enumerate(workload.sessions)
    ]
    workload = type(workload).of(reversed_arrivals)
    told = lengths_http.telling([80.0, 0.5, 900.0], 0.5)(workload)
    hints = {s.id: s.segments[0].expected_output_tokens for s in told.sessions}
    assert hints == {"r0": 40.0, "r1": 1.0, "r2": 450.0}
    assert [s.arrival for s in told.sessions] == [s.arrival for s in workload.sessions]
    assert all(s.segments[0].expected_output_tokens is None for s in workload.sessions)


def test_what_was_prepared_is_found_again_with_the_same_settings_only(tmp_path):
    path = tmp_path / "expected.json"
    made = lengths_http.Prepared({"samples": 3}, 7, TURNS, {"nobody": None, "all": [1.0, 2.5, 3.0]})
    assert lengths_http.Prepared.load(path, made.settings) is None
    made.save(path)
    assert lengths_http.Prepared.load(path, made.settings) == made
    assert lengths_http.Prepared.load(path, {"samples": 4}) is None


def test_what_stock_sustains_falls_with_the_sizes():
    small, large = (
        lengths_http.sustained(
            requests(lengths_http.scaled(TURNS[:2] * 30, factor, 2048), None), "cpu-demo"
        )
        for factor in (1.0, 4.0)
    )
    assert 0.0 < large < small


def test_an_interval_is_over_sessions_not_cases():
    rng = np.random.default_rng(3)
    session = np.repeat(np.arange(50), 20)
    of_session = rng.standard_normal(50)
    low, high = predictions.interval(of_session[session], session, 50)
    assert low < of_session.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * of_session.std() / np.sqrt(50), rel=0.1)
    alone = predictions.interval(of_session[session], np.arange(1000), 1000)
    assert alone[1] - alone[0] < 0.4 * (high - low)
