# SPDX-License-Identifier: Apache-2.0
r"""The simulator against measured runs of `lamps compare` on the generated mix.

    python benchmarks/python/sim_validate.py benchmarks/results/A.json --rate 3.15 --overhead 1.34 \
        --per-token fit
    python benchmarks/python/sim_validate.py benchmarks/results/B.json --rate 0.79 --overhead 1.34

Serves the very workloads of those runs (same seeds) on profile cpu-demo and puts medians over the
repeats side by side: measured, simulated, and how far the simulation is off.

A real step takes longer than its model by what the engine does around it (scheduling, sampling,
output), which the pace cannot hide, and where prefills compute longer than the pace pads them to.
`--overhead fit` finds the former, ms a step, from the throughput of the first arm of an overloaded
run, `--per-token fit` the latter, us a prefill token. One of them can be fitted; everything else is
then predicted.
"""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from simtables import Page, cell, markdown, parser

from lamps_vllm.cli.workload import mix
from lamps_vllm.pace import load_profile
from lamps_vllm.replay.metrics import RunMetrics
from lamps_vllm.replay.workload import save_workload
from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind
from lamps_vllm.simulate.sweep import run_cases
from lamps_vllm.workloads.catalog import Source

HIGHEST = {"overhead": 10.0, "per_token": 200.0}  # that a fit may find
ARMS = {"stock": "stock", "priority": "priority", "lamps": "lamps"}
FIGURES = ("session_mean", "session_median", "session_p99", "tool_ttft_mean", "first_ttft_mean",
           "first_ttft_p99", "hit_share", "output_tokens_per_s")  # fmt: skip


def measured(path: Path) -> dict[str, dict[int, RunMetrics]]:
    """Runs by arm and repeat, from what `lamps compare` wrote."""
    runs: dict[str, dict[int, RunMetrics]] = {}
    for run in json.loads(path.read_text())["runs"]:
        if run["arm"] in ARMS:
            metrics = RunMetrics.model_validate(run["metrics"])
            runs.setdefault(run["arm"], {})[run["repeat"]] = metrics
    return runs


def simulated(arm: str, paths: list[Path], profile: str) -> list[RunMetrics]:
    cases = [
        Case(Source(str(path), call_cap=None), profile, Arm(ARMS[arm]), Load(LoadKind.GIVEN))
        for path in paths
    ]
    return [outcome.metrics for outcome in run_cases(cases, workers=1)]


def slower(folder: Path, overhead: float, per_token: float) -> str:
    """cpu-demo with `overhead` ms more a step and `per_token` us a prefill token, as a file."""
    demo = load_profile("cpu-demo")
    changes = {
        "base_s": demo.base_s + 1e-3 * overhead,
        "per_prefill_token_s": demo.per_prefill_token_s + 1e-6 * per_token,
    }
    path = folder / "profile.json"
    path.write_text(demo.model_copy(update=changes).model_dump_json())
    return str(path)


def fitted(profile_of: Callable[[float], str], high: float, arm: str, paths: list[Path],
           tokens_per_s: float) -> float:  # fmt: skip
    """The number up to `high` with which the simulated throughput of `arm` is the measured one."""
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2.0
        runs = simulated(arm, paths, profile_of(middle))
        made = float(np.median([run.output_tokens_per_s for run in runs]))
        low, high = (middle, high) if made > tokens_per_s else (low, middle)
    return middle


def main() -> None:
    options = parser(__doc__)
    options.add_argument("results", type=Path, help="results.json of `lamps compare`")
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--call-scale", type=float, default=0.1)
    options.add_argument("--sessions", type=int, default=120)
    options.add_argument("--overhead", default="0", help="ms a step, or `fit`")
    options.add_argument("--per-token", default="0", help="us a prefill token, or `fit`")
    given = options.parse_args()
    if given.overhead == given.per_token == "fit":
        options.error("only one of --overhead and --per-token can be fitted")
    with TemporaryDirectory() as folder:
        validate(given, Path(folder))


def validate(given: Namespace, folder: Path) -> None:
    runs = measured(given.results)
    repeats = sorted({repeat for by_repeat in runs.values() for repeat in by_repeat})
    paths = []
    for repeat in repeats:
        path = folder / f"workload-{repeat}.jsonl"
        workload = mix(
            repeat, rate=given.rate, sessions=given.sessions, call_scale=given.call_scale
        )
        save_workload(workload, path)
        paths.append(path)
    page = Page()
    page.add(f"### {given.rate:g} sessions/s, {len(repeats)} repeats\n")
    first, by_repeat = next(iter(runs.items()))
    tokens = float(np.median([run.output_tokens_per_s for run in by_repeat.values()]))
    texts = {name: getattr(given, name) for name in HIGHEST}
    numbers = {name: float(text) for name, text in texts.items() if text != "fit"}
    how = ""
    for name in HIGHEST.keys() - numbers.keys():
        numbers[name] = fitted(
            lambda value, name=name: slower(folder, **{**numbers, name: value}),
            HIGHEST[name], first, paths, tokens,
        )  # fmt: skip
        how = f", fitted to {first}'s tok/s"
    step, token = numbers["overhead"], numbers["per_token"]
    page.add(f"{step:.2f} ms a step and {token:.0f} us a prefill token on top of the model{how}\n")
    profile = slower(folder, step, token)
    rows = []
    order: dict[str, list[tuple[float, str]]] = {"measured": [], "simulated": []}
    for arm, by_repeat in runs.items():
        ours = simulated(arm, [paths[repeats.index(repeat)] for repeat in by_repeat], profile)
        for figure in FIGURES:
            real = float(np.median([getattr(run, figure) for run in by_repeat.values()]))
            made = float(np.median([getattr(run, figure) for run in ours]))
            rows.append([arm, figure, cell(real), cell(made), f"{100 * (made / real - 1):+.0f} %"])
            if figure == "session_mean":
                order["measured"].append((real, arm))
                order["simulated"].append((made, arm))
    page.add(markdown(["arm", "figure", "measured", "simulated", "off by"], rows))
    for name, pairs in order.items():
        page.add(f"{name}, best mean first: {', '.join(arm for _, arm in sorted(pairs))}")
    page.finish(given.out)


if __name__ == "__main__":
    main()
