# SPDX-License-Identifier: Apache-2.0
"""What LAMPS adds to a step of vLLM's scheduler, against vLLM's own queues.

    python benchmarks/python/bench_shim.py [--waiting 1000 10000 100000] [--running 64] [--steps 300]

The real vLLM scheduler and KV manager, no model: `running` requests decode, `waiting` ones wait behind
a full pool. Arms take turns, a block of steps each, so that the machine's drift hits all alike. Before
timing, every arm must have produced the same number of tokens from the same requests.
"""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from lamps_vllm.scheduler import LampsScheduler
from tests.support.lockstep import Lockstep, make_config, make_request, make_scheduler

ARMS = ("fcfs", "priority", "python sort", "lamps")
PROMPT, OUTPUT, BLOCK = 96, 4000, 32
WARM_UP = 5  # steps


class SortingScheduler(AsyncScheduler):
    """vLLM's scheduler with the waiting list sorted by a score in Python at every step."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        ordered = sorted(
            self.waiting, key=lambda request: (request.num_prompt_tokens, request.arrival_time)
        )
        self.waiting.clear()
        self.waiting.extend(ordered)
        return super().schedule(*args, **kwargs)


def build(arm: str, running: int, waiting: int) -> Lockstep:
    """An engine with `running` requests decoding and `waiting` more in the queue."""
    needed = running * (PROMPT + 1200) // BLOCK + 2
    config = make_config(
        blocks=needed, block_size=BLOCK, max_model_len=8192, max_num_seqs=running, step_tokens=8192,
        policy="priority" if arm == "priority" else "fcfs",
    )  # fmt: skip
    kind = {"lamps": LampsScheduler, "python sort": SortingScheduler}.get(arm, AsyncScheduler)
    engine = Lockstep(make_scheduler(kind, config))
    for i in range(running + waiting):
        # Distinct first tokens: no shared prefix. Sessions of one turn each.
        prompt = [(i >> shift) & 1023 for shift in (0, 10, 20)] + [5] * (PROMPT - 3)
        engine.scheduler.add_request(
            make_request(f"r{i}", prompt, OUTPUT, arrival=i * 1e-3, priority=i, session_id=f"s{i}")
        )
    while len(engine.scheduler.running) < running:
        engine.step()
    for _ in range(10):
        engine.step()
    return engine


def timed_block(engine: Lockstep, steps: int) -> list[float]:
    """Seconds of schedule() + update_from_output() per step."""
    scheduler = engine.scheduler
    spent = {"s": 0.0}
    schedule, update = scheduler.schedule, scheduler.update_from_output

    def wrap(call: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = call(*args, **kwargs)
            spent["s"] += time.perf_counter() - start
            return result

        return timed

    scheduler.schedule, scheduler.update_from_output = wrap(schedule), wrap(update)
    samples = []
    for _ in range(steps):
        spent["s"] = 0.0
        engine.step()
        samples.append(spent["s"])
    del scheduler.schedule, scheduler.update_from_output
    return samples


def measure(running: int, waiting: int, steps: int, block: int = 25) -> dict[str, float]:
    """Median microseconds per step and arm."""
    engines = {arm: build(arm, running, waiting) for arm in ARMS}
    produced = {
        arm: sorted(request.num_output_tokens for request in engine.scheduler.running)
        for arm, engine in engines.items()
    }
    if len({tuple(tokens) for tokens in produced.values()}) != 1:
        raise SystemExit(f"arms disagree on the work done: {produced}")
    samples: dict[str, list[float]] = {arm: [] for arm in ARMS}
    gc.collect()
    gc.freeze()  # vLLM's engine core does the same after start-up
    for turn in track(range(steps // block), description=f"{waiting} waiting", transient=True):
        for arm in ARMS[turn % len(ARMS) :] + ARMS[: turn % len(ARMS)]:
            timed_block(engines[arm], WARM_UP)  # the arm before left the caches to itself
            samples[arm] += timed_block(engines[arm], block)
    return {arm: statistics.median(values) * 1e6 for arm, values in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--waiting", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--running", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    table = Table(
        title=f"schedule() + update_from_output(), {arguments.running} running, median us per step"
    )
    for column in ("waiting", *ARMS, "LAMPS adds"):
        table.add_column(column, justify="right")
    rows = []
    for waiting in arguments.waiting:
        figures = measure(arguments.running, waiting, arguments.steps)
        added = figures["lamps"] - figures["fcfs"]
        rows.append({"waiting": waiting, **figures, "added": added})
        table.add_row(f"{waiting:,}", *(f"{figures[arm]:.0f}" for arm in ARMS), f"{added:.0f}")
    console = Console()
    console.print(table)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{platform.machine()}, Python {platform.python_version()}, commit {commit}"
    console.print(machine)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
