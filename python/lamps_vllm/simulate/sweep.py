# SPDX-License-Identifier: Apache-2.0
"""Many cases at once, on every core, with progress; and the highest load under a limit."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from multiprocessing.queues import SimpleQueue
from typing import Any

from lamps_vllm.simulate.case import Case, Load, LoadKind
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.run import run_case

# (index of the case, share of it that is done)
OnProgress = Callable[[int, float], None]

MOST_TRIALS = 16  # of a capacity search
PRECISION = 1.03  # ratio at which lowest broken and highest kept rate are close enough

_reports: SimpleQueue[tuple[int, float]] | None = None  # of a worker process


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def _start_worker(queue: SimpleQueue[tuple[int, float]]) -> None:
    global _reports  # noqa: PLW0603  (how a pool's worker is given something to keep)
    _reports = queue


def _unwatched(index: int, share: float) -> None:
    """Default for `on_progress`: nobody watches."""


def _work(indexed: tuple[int, Case]) -> tuple[int, Outcome]:
    index, case = indexed
    last = [0.0]

    def report(share: float) -> bool:
        if _reports is not None and share - last[0] >= 0.01:
            last[0] = share
            _reports.put((index, share))
        return True

    return index, run_case(case, report)


def run_cases(
    cases: Sequence[Case],
    *,
    workers: int | None = None,
    on_progress: OnProgress = _unwatched,
) -> list[Outcome]:
    """Outcomes in the order of the cases. With more than one worker, in processes of their own.

    The first error of a case is raised, with the others given up.
    """
    workers = min(workers or default_workers(), len(cases))
    outcomes: dict[int, Outcome] = {}

    if workers <= 1:
        for index, case in enumerate(cases):
            outcomes[index] = run_case(case, _in_process(index, on_progress))
            on_progress(index, 1.0)
    else:
        with _pool(workers, on_progress) as pool:
            for index, outcome in pool.imap_unordered(_work, enumerate(cases)):
                outcomes[index] = outcome
                on_progress(index, 1.0)
    return [outcomes[index] for index in range(len(cases))]


def _in_process(index: int, on_progress: OnProgress) -> Callable[[float], bool]:
    def report(share: float) -> bool:
        on_progress(index, share)
        return True

    return report


@contextmanager
def _pool(workers: int, on_progress: OnProgress) -> Iterator[Pool]:
    """Worker processes and a thread that passes their progress on."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads may lock up
    queue: Any = context.SimpleQueue()

    def listen() -> None:
        while (message := queue.get()) is not None:
            on_progress(*message)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        # Leaving the block ends the workers, also after an error or Ctrl-C.
        with context.Pool(workers, initializer=_start_worker, initargs=(queue,)) as pool:
            yield pool
    finally:
        queue.put(None)
        listener.join()


@dataclass(frozen=True)
class Limits:
    """What a load must keep to count as carried; None: no such limit. Seconds."""

    ttft_p99: float | None = None  # of every turn
    session_p99: float | None = None  # without tools
    session_mean: float | None = None

    def broken_by(self, outcome: Outcome) -> str | None:
        """The first limit that a run breaks, in words, or None."""
        seen = {
            "ttft_p99": outcome.more.ttft_p99,
            "session_p99": outcome.metrics.session_p99,
            "session_mean": outcome.metrics.session_mean,
        }
        for name, value in seen.items():
            limit = getattr(self, name)
            if limit is not None and (value is None or value > limit):
                return f"{name} {'none' if value is None else f'{value:.3g} s'} > {limit:g} s"
        return None


@dataclass(frozen=True)
class Capacity:
    """The highest load found that keeps the limits, and what broke just above it."""

    case: Case
    load: float  # 0: not even the lowest load tried
    broken_above: str
    outcome: Outcome | None


def find_capacity(case: Case, limits: Limits, highest: float) -> Capacity:
    """Bisects the load of `case` (its kind counts, not its value) between nothing and `highest`.

    Assumes that more load never helps. What is found is within 3 % (a concurrency: or one) of the
    load that breaks a limit, where MOST_TRIALS runs are enough.
    """
    whole = case.load.kind is LoadKind.CONCURRENCY
    low, high, middle = 0.0, float("inf"), highest
    best: Outcome | None = None
    broken = "nothing up to the highest load tried"
    for _ in range(MOST_TRIALS):
        outcome = run_case(replace(case, load=Load(case.load.kind, middle)))
        reason = limits.broken_by(outcome)
        if reason is None:
            low, best = middle, outcome
        else:
            high, broken = middle, reason
        if low == highest or high < PRECISION * low:
            break
        middle = _between(low, high, whole)
        if middle in (low, high):
            break
    return Capacity(case, low, broken, best)


def _between(low: float, high: float, whole: bool) -> float:
    """The next load to try: halves until something is kept, then the geometric middle."""
    middle = high / 2.0 if low == 0.0 else math.sqrt(low * high)
    return float(max(1, round(middle))) if whole else middle


def _find(job: tuple[Case, Limits, float]) -> Capacity:
    return find_capacity(*job)


def find_capacities(
    cases: Sequence[Case],
    limits: Limits,
    highest: float,
    *,
    workers: int | None = None,
    on_found: Callable[[Capacity], None] = lambda found: None,
) -> list[Capacity]:
    """`find_capacity` of every case, in their order; in processes where there are several."""
    jobs = [(case, limits, highest) for case in cases]
    workers = min(workers or default_workers(), len(jobs))
    found = []
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(workers, _unwatched)) if workers > 1 else None
        for capacity in pool.imap(_find, jobs) if pool else map(_find, jobs):
            found.append(capacity)
            on_found(capacity)
    return found
