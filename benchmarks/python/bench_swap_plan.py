# SPDX-License-Identifier: Apache-2.0
"""Descriptors for a swap: our planner against vectorised numpy, on the same block lists.

No two blocks are neighbours, so the planner cannot save a single one; both results are compared
before they are timed, and timed in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import lamps_ext

PAGE, LAYERS, ROUNDS = 8192, 40, 60
HOST = 1 << 20

Moves = tuple[np.ndarray, np.ndarray, np.ndarray]


def by_numpy(regions: np.ndarray, blocks: np.ndarray, slots: np.ndarray) -> Moves:
    """Addresses by broadcasting, layer by layer, as vectorised Python would."""
    sources = (regions[:, :1] + blocks[None, :] * regions[:, 1:2]).ravel()
    layers = HOST + np.arange(len(regions))[:, None] * (PAGE * len(blocks))
    targets = (layers + slots[None, :] * PAGE).ravel()
    return sources, targets, np.full(sources.size, PAGE, dtype=np.int64)


def seconds(action: Callable[[], Moves]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> None:
    regions = np.array([(layer << 40, PAGE, PAGE) for layer in range(1, LAYERS + 1)])
    for count in (1024, 4096):
        blocks = 2 * np.random.default_rng(1).permutation(count)
        slots = np.arange(count)

        def ours(blocks: np.ndarray = blocks, slots: np.ndarray = slots) -> Moves:
            n = len(blocks)
            return lamps_ext.plan_moves(regions, 2 * n, blocks, slots, HOST, n, "store")

        def theirs(blocks: np.ndarray = blocks, slots: np.ndarray = slots) -> Moves:
            return by_numpy(regions, blocks, slots)

        for mine, reference in zip(ours(), theirs(), strict=True):
            assert (mine == reference).all()
        times = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
        fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(slow / fast for fast, slow in times)
        print(
            f"{count * LAYERS:7,} descriptors: C++ {fast * 1e6:6.0f} us, numpy {slow * 1e6:6.0f} us, "
            f"x {ratio:.1f}"
        )


if __name__ == "__main__":
    main()
