# SPDX-License-Identifier: Apache-2.0
"""Output lengths in bins: 50 of 10 tokens, the last one open above.

Distributions are arrays of shape (n, BINS) whose rows sum to 1; lengths are in tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BIN_TOKENS = 10
BINS = 50

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bin_of(tokens: Ints) -> Ints:
    """The bin of each length; everything from 490 tokens on is in the last."""
    return np.minimum(tokens // BIN_TOKENS, BINS - 1)


def bin_means(tokens: Ints) -> Floats:
    """Mean length in each bin, its centre where there is none: what a bin stands for, shape (BINS,)."""
    labels = bin_of(tokens)
    counts = np.bincount(labels, minlength=BINS)
    sums = np.bincount(labels, weights=tokens, minlength=BINS)
    centres = (np.arange(BINS) + 0.5) * BIN_TOKENS
    return np.where(counts > 0, sums / np.maximum(counts, 1), centres)


def shares(tokens: Ints) -> Floats:
    """How the lengths are spread over the bins, shape (BINS,)."""
    return np.bincount(bin_of(tokens), minlength=BINS) / max(len(tokens), 1)


def expected(distributions: Floats, means: Floats) -> Floats:
    """Expected length under each distribution: what the scheduler is told."""
    return np.round(distributions @ means, 6)  # equal rows may differ in the last bit otherwise


def median(distributions: Floats, means: Floats) -> Floats:
    """The length that is as likely exceeded as not: linear within a bin, the mean of the last one."""
    cumulated = np.cumsum(distributions, axis=1)
    found = np.minimum((cumulated < 0.5).sum(axis=1), BINS - 1)
    rows = np.arange(len(distributions))
    inside = distributions[rows, found]
    before = cumulated[rows, found] - inside
    share = np.clip((0.5 - before) / np.maximum(inside, 1e-12), 0.0, 1.0)
    return np.where(found == BINS - 1, means[-1], (found + share) * BIN_TOKENS)
