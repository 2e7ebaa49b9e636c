# SPDX-License-Identifier: Apache-2.0
"""Scheduler options against each other in virtual time: the real vLLM scheduler, no model.

    python benchmarks/python/sweep.py --seeds 4 '{"rank_weight": 10}' '{"rank_weight": 40}'

Serves workloads A, B and C (docs/measurements.md) with stock vLLM, with priority = session age, with the
default options and with each option set given, and prints medians over seeds of the ratios to stock.
Step times follow the pace profile, lengths are forced, nothing is generated: it ranks settings in
seconds, and what it finds has to be confirmed on the engine (`lamps compare`). What a change of the code
did: --json FILE before it, --against FILE after it.
"""

import argparse
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.metrics import RunMetrics, measure
from lamps_vllm.replay.records import Identity

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


class Case(NamedTuple):
    """A load: sessions per second, factor on call times, KV blocks of 32 tokens."""

    rate: float
    call_scale: float
    blocks: int


# Stock vLLM sustains 1.58 sessions/s of this mix with KV for 6 average contexts (140 blocks), 2.3 with KV
# for 6 of the longest (384): overload is twice that, moderate load half of it.
CASES = {
    "A": Case(3.15, 0.1, 140),
    "B": Case(0.79, 0.1, 140),
    "C": Case(3.15, 1.0, 140),
    "A-large": Case(4.6, 0.1, 384),
    "B-large": Case(1.15, 0.1, 384),
}
COLUMNS = (
    ("session_mean", "mean"), ("session_median", "median"), ("session_p90", "p90"),
    ("session_p99", "p99"), ("tool_ttft_mean", "TTFT tool"), ("first_ttft_mean", "TTFT first"),
    ("first_ttft_p99", "first p99"), ("hit_share", "hits"), ("output_tokens_per_s", "tok/s"),
)  # fmt: skip
STOCK, PRIORITY = "stock", "priority"
CALLS, ORACLE = TOLD = "calls", "oracle"


def serve(job: tuple[str, str, int, int, Identity]) -> tuple[tuple[str, str, int], RunMetrics]:
    """One replay. A job is (case, arm, seed, sessions, identity); an arm is a name or JSON options."""
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    from lamps_vllm.scheduler import LampsScheduler
    from tests.support.lockstep import make_config, make_scheduler, replay

    name, arm, seed, sessions, identity = job
    case = CASES[name]
    workload = generate_mix(
        np.random.default_rng(seed),
        MixOptions(sessions=sessions, rate=case.rate, call_scale=case.call_scale),
    )
    if arm in (STOCK, PRIORITY):
        config = make_config(blocks=case.blocks, policy="priority" if arm == PRIORITY else "fcfs")
        scheduler = make_scheduler(AsyncScheduler, config)
        identity = Identity.PRIORITY if arm == PRIORITY else Identity.NONE
    else:
        options: dict[str, Any] = {} if arm in TOLD else json.loads(arm)
        scheduler = make_scheduler(LampsScheduler, make_config(blocks=case.blocks, lamps=options))
    if arm == CALLS:
        calls = {
            f"{s.id}.{i}": [tool] if (tool := s.called_tool(i)) else []
            for s in workload.sessions for i in range(len(s.segments))
        }  # fmt: skip
        scheduler._calls.of = lambda request: calls[request.request_id]
    hints = (lambda segment: segment.truth) if arm == ORACLE else (lambda segment: None)
    figures = measure(replay(workload, scheduler, identity=identity, seed=seed, hints=hints))
    if figures.failed:
        raise RuntimeError(f"{figures.failed} sessions of {job} did not finish")
    return (name, arm, seed), figures


Results = dict[tuple[str, str, int], RunMetrics]
Read = Callable[[tuple[str, str, int], str], float]


def ratio_to_stock(results: Results) -> Read:
    """Reads a figure of a run as its ratio to stock vLLM's; prefix hits as they are."""

    def read(run: tuple[str, str, int], field: str) -> float:
        value = getattr(results[run], field)
        if field == "hit_share":
            return value
        return value / max(getattr(results[run[0], STOCK, run[2]], field), 1e-9)

    return read


def ratio_to_file(results: Results, path: Path) -> Read:
    """The same to the same run in a file written by --json; of prefix hits the difference."""
    rows = json.loads(path.read_text())
    before = {(row["case"], row["arm"], row["seed"]): row for row in rows}

    def read(run: tuple[str, str, int], field: str) -> float:
        was, now = before[run][field], getattr(results[run], field)
        return now - was if field == "hit_share" else now / max(was, 1e-9)

    return read


def show(title: str, case: str, arms: list[str], seeds: int, read: Read) -> None:
    """A table with a row per arm: medians over seeds."""
    table = Table("arm", *(heading for _, heading in COLUMNS), title=title)
    for arm in arms:
        medians = [
            np.median([read((case, arm, seed), field) for seed in range(seeds)])
            for field, _ in COLUMNS
        ]
        table.add_row("lamps" if arm == "{}" else arm, *(f"{value:.3f}" for value in medians))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "options",
        nargs="*",
        help="arms: JSON objects of scheduler options; calls (calls are recognised in the tokens);\n"
        "oracle (clients say everything)",
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["A", "B", "C"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=120)
    parser.add_argument(
        "--identity", type=Identity, choices=list(Identity)[:2], default=Identity.SESSION_ID
    )
    parser.add_argument("--json", type=Path, help="write every run's figures here")
    parser.add_argument("--against", type=Path, help="compare with figures written by --json")
    arguments = parser.parse_args()
    arms = [STOCK, PRIORITY, "{}", *arguments.options]
    jobs = [
        (case, arm, seed, arguments.sessions, arguments.identity)
        for case in arguments.cases for arm in arms for seed in range(arguments.seeds)
    ]  # fmt: skip
    with ProcessPoolExecutor() as pool:
        results = dict(track(pool.map(serve, jobs), total=len(jobs), description="replays"))
    medians = f"medians of {arguments.seeds} seeds"
    for case in arguments.cases:
        title = f"workload {case}: {CASES[case]}, ratios to stock, {medians}"
        show(title, case, arms, arguments.seeds, ratio_to_stock(results))
    if arguments.against:
        read = ratio_to_file(results, arguments.against)
        for case in arguments.cases:
            title = (
                f"workload {case}: ratios to {arguments.against.name} (hits: difference), {medians}"
            )
            show(title, case, arms, arguments.seeds, read)
    if arguments.json:
        rows = [
            {"case": c, "arm": a, "seed": s, **m.model_dump()} for (c, a, s), m in results.items()
        ]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
