# SPDX-License-Identifier: Apache-2.0
"""Descriptors for a swap: our planner against vectorised numpy, on the same block lists.

No two blocks are neighbours, so the planner cannot save a single one. All write into memory they
keep; results are compared before they are timed, and timed in turn, beside the bound: filling as
much memory with one number. (The mover makes slices that stay in the cache: `Plan` in bench_swap.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

import lamps_ext

PAGE, LAYERS, ROUNDS = 8192, 40, 300
HOST = 1 << 20


class ByNumpy:
    """Vectorised layer by layer into arrays that are kept between calls, as offloaders do it."""

    def __init__(self, regions: np.ndarray, count: int) -> None:
        self.regions = regions
        self.moves = np.empty((3, len(regions) * count), dtype=np.uint64)

    def plan(self, blocks: np.ndarray, slots: np.ndarray) -> np.ndarray:
        n = len(blocks)
        for layer, (base, stride, page) in enumerate(self.regions.tolist()):
            part = slice(layer * n, (layer + 1) * n)
            self.moves[0, part] = base + blocks.astype(np.uint64) * stride
            self.moves[1, part] = HOST + layer * page * n + slots.astype(np.uint64) * page
            self.moves[2, part] = page
        return self.moves.T


class ByBroadcast(ByNumpy):
    """All layers in one expression: the best numpy can do, for regions that are all alike."""

    def plan(self, blocks: np.ndarray, slots: np.ndarray) -> np.ndarray:
        shape = (len(self.regions), len(blocks))
        sources, targets, _ = (row.reshape(shape) for row in self.moves)
        bases = self.regions[:, :1].astype(np.uint64)
        layers = HOST + np.arange(shape[0], dtype=np.uint64)[:, None] * (PAGE * shape[1])
        np.add(bases, blocks.astype(np.uint64) * PAGE, out=sources)
        np.add(layers, slots.astype(np.uint64) * PAGE, out=targets)
        self.moves[2] = PAGE
        return self.moves.T


def seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> None:
    regions = np.array([(layer << 40, PAGE, PAGE) for layer in range(1, LAYERS + 1)])
    for count in (1024, 4096):
        blocks = 2 * np.random.default_rng(1).permutation(count)
        slots = np.arange(count)
        planner = lamps_ext.MovePlanner(regions, 2 * count)
        plans = [
            partial(planner.plan, blocks, slots, HOST, count, "store"),
            partial(ByNumpy(regions, count).plan, blocks, slots),
            partial(ByBroadcast(regions, count).plan, blocks, slots),
        ]
        expected = plans[1]()
        for plan in plans:
            assert (plan() == expected).all()
        plans.append(partial(np.empty_like(expected).fill, PAGE))
        # The fastest of many: the others were interrupted.
        times = np.array([[seconds(plan) for plan in plans] for _ in range(ROUNDS)])
        ours, layers, broadcast, fill = times.min(axis=0)
        print(
            f"{count * LAYERS:7,} descriptors: C++ {ours * 1e6:5.0f} us; numpy layer by layer "
            f"{layers * 1e6:5.0f} us, x {layers / ours:.1f}; numpy at once "
            f"{broadcast * 1e6:5.0f} us, x {broadcast / ours:.1f}; fill {fill * 1e6:5.0f} us"
        )


if __name__ == "__main__":
    main()
