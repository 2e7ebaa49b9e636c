# SPDX-License-Identifier: Apache-2.0
"""Generations with tools: inside one request with LAMPS and stock vLLM, and as separate requests.

    python benchmarks/python/augmented_load.py [--count 50] [--blocks 800 160] [--repeats 3] [--out FILE]

The real CPU engine on the tiny model, its steps padded to the profile `cpu-demo` (simulated in that
respect). All generations are sent within --spread seconds; lengths and calls are planned, the tools are
real: calculator, SQLite, an HTTP server on loopback that takes --seconds. Before anything is
reported, every generation that ended must have said the same in all arms.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lamps_vllm.augmented import AugmentedLLM, AugmentedOutput, Call, Segment
from lamps_vllm.demo.three_tools import CITIES, three_tools
from tests.support.augmented import (
    LAMPS,
    Plan,
    SeparateRequests,
    engine_args,
    plans,
    running_engine,
    serve,
)


def some_call(rng: np.random.Generator) -> Call:
    """One of the three tools, each as likely as the others."""
    city = CITIES[rng.integers(4)][0]
    calls = (
        Call("calculator", {"expression": f"{rng.integers(97)} * {rng.integers(89)}"}),
        Call("query", {"sql": f"select people from cities where name = '{city}'"}),
        Call("weather", {"city": city}),
    )
    return calls[rng.integers(3)]


ARMS: dict[str, tuple[type[AugmentedLLM], str | None, bool]] = {
    "one request, LAMPS": (AugmentedLLM, LAMPS, False),
    "one request, stock": (AugmentedLLM, None, False),
    "separate requests, LAMPS": (SeparateRequests, LAMPS, True),
    "separate requests, stock": (SeparateRequests, None, False),
}
"""Arm -> how, scheduler, whether requests name their session."""


@dataclass
class Watched:
    """An engine that notes the seconds from each input to the first token after it."""

    engine: Any
    first: list[float] = field(default_factory=list)
    after_call: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **options: Any
    ) -> AsyncIterator[Any]:
        streamed = isinstance(prompt, AsyncGenerator)
        sent = [] if streamed else [time.monotonic()]

        async def told() -> AsyncGenerator[Any, None]:
            async for piece in prompt:
                sent.append(time.monotonic())
                yield piece

        outputs = self.engine.generate(
            told() if streamed else prompt, params, request_id, **options
        )
        seen = 0
        async with aclosing(outputs):
            async for output in outputs:
                if len(sent) > seen:
                    seen = len(sent)
                    later = seen > 1 or not (streamed or request_id.endswith("-0"))
                    waits = self.after_call if later else self.first
                    waits.append(time.monotonic() - sent[-1])
                yield output


@dataclass
class Run:
    """One arm, once: seconds."""

    outputs: list[AugmentedOutput | None]
    latency: list[float]
    after_call: list[float]
    first: list[float]
    whole: float

    def figures(self) -> dict[str, float]:
        done = [each for each in self.outputs if each]
        tokens = sum(len(s.token_ids) for each in done for s in each.segments)
        late = np.array(self.latency) if self.latency else np.array([np.nan])
        after = np.array(self.after_call) if self.after_call else np.array([np.nan])
        return {
            "ended": len(done),
            "mean_s": float(late.mean()),
            "median_s": float(np.median(late)),
            "p99_s": float(np.quantile(late, 0.99)),
            "after_call_mean_s": float(after.mean()),
            "after_call_p99_s": float(np.quantile(after, 0.99)),
            "whole_s": self.whole,
            "tokens_per_s": tokens / self.whole,
        }


async def run_arm(options: argparse.Namespace, arm: str, blocks: int, seed: int, tools: Any) -> Run:
    """All generations, once; those that have not ended after --limit seconds are given up."""
    how, scheduler, named = ARMS[arm]
    planned = plans(
        options.count, some_call, prompt=options.prompt, most_calls=options.calls,
        longest=options.longest, seed=seed,
    )  # fmt: skip
    starts = np.sort(np.random.default_rng(seed).uniform(0, options.spread, options.count))
    with tempfile.TemporaryDirectory() as folder:
        args = engine_args(
            Path(folder), scheduler, num_gpu_blocks_override=blocks, max_model_len=2048,
            max_num_batched_tokens=2048, worker_cls="lamps_vllm.paced.PacedCPUWorker",
            additional_config={"lamps_pace": "cpu-demo"}, disable_log_stats=True,
        )  # fmt: skip
        async with running_engine(args) as engine:
            watched = Watched(engine)
            await serve(how, watched, tools, Plan(list(range(3, 43)), 20, []))  # warm
            watched.first.clear()
            watched.after_call.clear()
            latency: list[float] = []

            async def one(index: int) -> AugmentedOutput:
                await asyncio.sleep(starts[index])
                began = time.monotonic()
                session = {"session_id": f"s{index}"} if named else {}
                output = await serve(how, watched, tools, planned[index], **session)
                latency.append(time.monotonic() - began)
                return output

            began = time.monotonic()
            tasks = [asyncio.create_task(one(i)) for i in range(options.count)]
            _, stuck = await asyncio.wait(tasks, timeout=options.limit)
            whole = time.monotonic() - began
            for task in stuck:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    outputs = [each if isinstance(each, AugmentedOutput) else None for each in ended]
    return Run(outputs, latency, watched.after_call, watched.first, whole)


def check_same(runs: dict[str, Run]) -> None:
    """Raises SystemExit if two arms said different things."""
    for name, run in runs.items():
        for other, against in runs.items():
            for i, (a, b) in enumerate(zip(run.outputs, against.outputs, strict=True)):
                if a and b and said(a.segments) != said(b.segments):
                    raise SystemExit(f"generation {i} differs between {name!r} and {other!r}")


def said(segments: list[Segment]) -> list[tuple[int, ...]]:
    return [segment.token_ids for segment in segments]


def table(blocks: int, results: dict[str, list[dict[str, float]]], count: int) -> Table:
    shown = Table(title=f"{blocks} blocks; medians over repeats")
    columns = [
        "ended",
        "mean_s",
        "median_s",
        "p99_s",
        "after_call_mean_s",
        "after_call_p99_s",
        "whole_s",
    ]
    for column in ["arm", *columns, "tokens_per_s"]:
        shown.add_column(column, justify="left" if column == "arm" else "right")
    for arm, figures in results.items():
        medians = {key: float(np.median([each[key] for each in figures])) for key in figures[0]}
        cells = [f"{medians[key]:.2f}" for key in columns[1:]]
        shown.add_row(
            arm, f"{medians['ended']:.0f}/{count}", *cells, f"{medians['tokens_per_s']:.0f}"
        )
    return shown


async def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        three_tools(Path(folder), options.seconds) as tools,
    ):
        for blocks in options.blocks:
            results: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
            calls = 0
            for repeat in range(options.repeats):
                runs = {}
                for arm in options.arms:  # in turns: the machine's drift hits all alike
                    runs[arm] = await run_arm(options, arm, blocks, repeat, tools)
                    results[arm].append(runs[arm].figures())
                    console.print(f"{blocks} blocks, repeat {repeat}, {arm}: {results[arm][-1]}")
                check_same(runs)
                calls += max(
                    sum(len(each.runs) for each in run.outputs if each) for run in runs.values()
                )
            console.print(table(blocks, results, options.count))
            console.print(f"{calls / options.repeats:.0f} calls a repeat; same answers in all arms")
            found[str(blocks)] = results
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="generations at a time")
    parser.add_argument("--blocks", type=int, nargs="+", default=[800, 160], help="of 32 tokens")
    parser.add_argument("--prompt", type=int, default=200, help="mean prompt, tokens")
    parser.add_argument("--longest", type=int, default=48, help="longest segment, tokens")
    parser.add_argument("--calls", type=int, default=6, help="most calls of a generation")
    parser.add_argument("--seconds", type=float, default=2.0, help="the slow tool takes")
    parser.add_argument("--spread", type=float, default=2.0, help="seconds within which all start")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which to give up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    console = Console(width=160)
    found = asyncio.run(measure(options, console))
    if options.out:
        about = {"machine": platform.processor() or platform.machine(), "options": vars(options)}
        options.out.write_text(json.dumps({**about, "blocks": found}, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main()
