# SPDX-License-Identifier: Apache-2.0
"""Bins and held-out figures against values worked out by hand."""

import numpy as np
import pytest

from lamps_vllm.train.bins import BINS, bin_means, bin_of, expected, median, shares
from lamps_vllm.train.metrics import calibration_error, kendall_tau, score


def one_hot(*labels: int) -> np.ndarray:
    return np.eye(BINS)[list(labels)]


def test_bins_are_ten_tokens_wide_and_the_last_is_open():
    tokens = np.array([0, 1, 9, 10, 19, 489, 490, 499, 500, 100_000])
    assert bin_of(tokens).tolist() == [0, 0, 0, 1, 1, 48, 49, 49, 49, 49]


def test_a_bin_stands_for_what_was_seen_in_it():
    means = bin_means(np.array([12, 18, 600, 1400]))
    assert means[1] == 15.0
    assert means[49] == 1000.0
    assert (means[0], means[2], means[48]) == (5.0, 25.0, 485.0)  # nothing seen: the centre
    assert shares(np.array([12, 18, 600, 1400]))[[1, 49]].tolist() == [0.5, 0.5]


def test_expectation_and_median():
    means = bin_means(np.array([1000]))
    halves = (one_hot(0) + one_hot(49)) / 2
    assert expected(halves, means) == pytest.approx([(5 + 1000) / 2])
    assert median(one_hot(3), means) == pytest.approx([35.0])
    assert median(one_hot(49), means) == [1000.0]
    assert median(0.25 * one_hot(0) + 0.75 * one_hot(2), means) == pytest.approx([20 + 10 / 3])


def test_scores_by_hand():
    tokens = np.array([5, 15, 35, 800])
    found = score(one_hot(0, 0, 1, 49), tokens, bin_means(np.array([700])))
    assert found.samples == 4
    assert found.exact == 0.5
    assert found.within_one == 0.75
    assert found.mae == pytest.approx((0 + 10 + 20 + 100) / 4)
    assert found.calibration_error == pytest.approx(0.5)  # certain, and right half the time
    # Pairs: one tied in the prediction, the other five in order.
    assert found.kendall_tau == pytest.approx(5 / np.sqrt(5 * 6))


@pytest.mark.parametrize("rows", [3, 58, 393])
def test_a_constant_guess_has_no_order(rows):
    """Products of equal rows differ in the last bit: that must not count as an order."""
    rng = np.random.default_rng(rows)
    for _ in range(20):
        tokens = rng.integers(1, 900, rows)
        found = score(np.tile(rng.dirichlet(np.ones(BINS)), (rows, 1)), tokens, bin_means(tokens))
        assert found.kendall_tau == 0.0


def test_calibration_is_judged_where_the_confidence_is():
    confidence = np.array([0.95, 0.95, 0.25, 0.25])
    assert calibration_error(confidence, np.array([1, 1, 0, 0])) == pytest.approx(0.15)
    assert calibration_error(confidence, np.array([1, 0, 1, 0])) == pytest.approx(0.35)
    assert calibration_error(np.array([1.0]), np.array([1])) == 0.0


@pytest.mark.parametrize(
    ("predicted", "actual", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([3, 2, 1], [10, 20, 30], -1.0),
        ([1, 1, 1], [10, 20, 30], 0.0),
        ([1, 3, 2], [10, 20, 30], 1 / 3),
        ([1, 1, 2], [10, 20, 20], 1 / 2),  # one pair in order, two tied on one side
    ],
)
def test_kendall_tau_by_hand(predicted, actual, tau):
    assert kendall_tau(np.array(predicted, float), np.array(actual)) == pytest.approx(tau)


def test_kendall_tau_of_many_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 100, 1300)  # more than one block of rows
    predicted = actual + rng.normal(0, 30, 1300)
    pairs = [
        (np.sign(predicted[i] - predicted[j]), np.sign(actual[i] - actual[j]))
        for i in range(0, 1300, 13)
        for j in range(0, 1300, 13)
    ]
    sample = sum(x * y for x, y in pairs) / np.sqrt(
        sum(abs(x) for x, _ in pairs) * sum(abs(y) for _, y in pairs)
    )
    assert kendall_tau(predicted[::13], actual[::13]) == pytest.approx(sample)
    assert kendall_tau(predicted, actual) == pytest.approx(sample, abs=0.1)
