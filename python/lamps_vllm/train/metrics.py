# SPDX-License-Identifier: Apache-2.0
"""How good predicted length distributions are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lamps_vllm.train.bins import Floats, Ints, bin_of, expected, median

CONFIDENCE_BINS = 10
_ROWS = 512  # of a pairwise comparison at a time


@dataclass(frozen=True)
class Scores:
    """Figures of one predictor on turns it has not seen."""

    samples: int
    exact: float  # share whose most likely bin is the true one
    within_one: float  # ... or a neighbour of it
    mae: float  # tokens, of the distribution's median
    calibration_error: float  # expected |confidence - accuracy| of the most likely bin
    kendall_tau: float  # tau-b between the order of expected lengths and the true order


def score(distributions: Floats, tokens: Ints, means: Floats) -> Scores:
    """Scores distributions of shape (n, BINS) against true lengths of shape (n,).

    `means` says what a bin stands for, see `bin_means`.
    """
    truth = bin_of(tokens)
    guess = distributions.argmax(axis=1)
    return Scores(
        samples=len(tokens),
        exact=float((guess == truth).mean()),
        within_one=float((np.abs(guess - truth) <= 1).mean()),
        mae=float(np.abs(median(distributions, means) - tokens).mean()),
        calibration_error=calibration_error(distributions.max(axis=1), guess == truth),
        kendall_tau=kendall_tau(expected(distributions, means), tokens),
    )


def calibration_error(confidence: Floats, correct: np.ndarray) -> float:
    """Expected calibration error: over equal bins of confidence, |mean confidence - accuracy|."""
    place = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    gap = np.bincount(place, weights=confidence - correct, minlength=CONFIDENCE_BINS)
    return float(np.abs(gap).sum() / len(confidence))


def kendall_tau(predicted: Floats, actual: np.ndarray) -> float:
    """Tau-b of two orders: 1 the same, -1 reversed, 0 unrelated or one of them all ties. O(n^2)."""
    agree = moved = varied = 0.0
    for start in range(0, len(predicted), _ROWS):
        x = np.sign(predicted[start : start + _ROWS, None] - predicted[None, :])
        y = np.sign(actual[start : start + _ROWS, None] - actual[None, :])
        agree += (x * y).sum()
        moved += np.abs(x).sum()
        varied += np.abs(y).sum()
    return float(agree / np.sqrt(moved * varied)) if moved and varied else 0.0
