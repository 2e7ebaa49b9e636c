# SPDX-License-Identifier: Apache-2.0
"""Swapping under the real vLLM scheduler in virtual time: LAMPS with and without host memory, stock with it.

    python benchmarks/python/swap.py [--seeds 3] [--rate 3.15] [--call-scale 0.5] [--host 10 0.5]

Workload A with longer calls. Scheduler, KV manager and connector are real, copies too; a step takes the
time of profile cpu-demo, and a copy one step. `--host`: host memory, as a multiple of the KV pool.
"""

import argparse
import logging
import sys
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from lamps_vllm import LampsScheduler
from lamps_vllm.pace import load_profile
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.metrics import measure
from lamps_vllm.replay.workload import Workload
from tests.support import lockstep
from tests.support.swapping import Rank, SwapLockstep

BLOCKS, ROW_BYTES = 140, 2 * 16384
FIGURES = ("session_mean", "session_p99", "tool_ttft_mean", "first_ttft_mean", "hit_share")


class UncheckedLockstep(SwapLockstep):
    """Copies are made, but nobody looks at every token's KV: that is what tests do."""

    def _compute(self, request, count):
        return


def serve(workload: Workload, scheduler_cls: type, host: float, seed: int):
    """One replay; `host` 0: no connector."""
    connector = {"swap_space_gib": host * BLOCKS * ROW_BYTES / 2**30} if host else None
    config = lockstep.make_config(blocks=BLOCKS, connector=connector)
    scheduler = lockstep.make_scheduler(scheduler_cls, config)

    def engine(scheduler, pace):
        made = UncheckedLockstep(scheduler, pace)
        made.ranks = [Rank(config, scheduler.kv_cache_config)]
        return made

    plain = lockstep.Lockstep
    lockstep.Lockstep = engine if host else plain
    try:
        return measure(
            lockstep.replay(workload, scheduler, seed=seed, pace=load_profile("cpu-demo"))
        )
    finally:
        lockstep.Lockstep = plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3.15, help="sessions per second")
    parser.add_argument("--call-scale", type=float, default=0.5)
    parser.add_argument("--sessions", type=int, default=120)
    parser.add_argument("--host", type=float, nargs="+", default=[10.0, 0.5])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    arms = [("stock", AsyncScheduler, 0.0), ("lamps", LampsScheduler, 0.0)]
    for host in options.host:
        arms.append((f"lamps, host x{host:g}", LampsScheduler, host))
        arms.append((f"stock, host x{host:g}", AsyncScheduler, host))
    print(f"{'':20}" + "".join(f"{name:>17}" for name in FIGURES))
    for name, scheduler_cls, host in arms:
        runs = []
        for seed in range(options.seeds):
            mix = MixOptions(
                rate=options.rate, sessions=options.sessions, call_scale=options.call_scale
            )
            workload = generate_mix(np.random.default_rng(seed), mix)
            runs.append(serve(workload, scheduler_cls, host, seed))
        values = (median(getattr(run, figure) for run in runs) for figure in FIGURES)
        print(f"{name:20}" + "".join(f"{value:17.3f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
