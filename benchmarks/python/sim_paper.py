# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison, simulated: models x workloads x rates, every session drained.

    python benchmarks/python/sim_paper.py --out tables.md

Latency is from arrival to the last token with the calls, TTFT that of a session's first turn, as
in the paper. Saturation is the highest rate at which fcfs keeps mean session time (without calls)
within twice that of an idle engine. Lengths and call times are known exactly (`oracle`), as in
the published harness.
"""

from dataclasses import replace

from simtables import Page, cell, lower, markdown, median, parser, saturation, swept

from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction

MODELS = ("gpt-j-6b", "vicuna-13b-tp2")
WORKLOADS = ("single", "multi", "toolbench")
POLICIES = (
    "fcfs", "session-fcfs", "sjf", "sjf-total", "plas", "infercept", "lamps-paper", "mars-code",
    "lamps",
)  # fmt: skip
SHARES = (0.4, 0.8, 1.0, 1.25, 1.5)
READS = (
    ("latency mean", lambda o: o.more.latency_mean),
    ("p99", lambda o: o.more.latency_p99),
    ("TTFT mean", lambda o: o.metrics.first_ttft_mean),
    ("p99", lambda o: o.metrics.first_ttft_p99),
)
HEADS = ("load", "policy", *(title for title, _ in READS), "session - calls, mean", "p99",
         "TTFT after call", "hits", "tok/s")  # fmt: skip


def row(load: str, policy: str, runs: list[Outcome]) -> list[str]:
    values = [median(runs, read) for _, read in READS]
    values += [median(runs, lambda o: o.metrics.session_mean)]
    values += [median(runs, lambda o: o.metrics.session_p99)]
    values += [median(runs, lambda o: o.metrics.tool_ttft_mean)]
    hits = median(runs, lambda o: o.metrics.hit_share)
    tokens = median(runs, lambda o: o.metrics.output_tokens_per_s)
    return [load, policy, *map(cell, values), f"{100 * hits:.0f} %", f"{tokens:.0f}"]


def claims(by: dict[tuple[float, str], list[Outcome]], ours: str, rivals: tuple[str, ...]) -> str:
    """How far `ours` is below each rival, per load: latency and TTFT, mean and p99."""
    heads = ["load", *(f"{title} vs {rival}" for rival in rivals for title, _ in READS)]
    rows = [
        [
            f"{share:g} x",
            *(
                lower(median(by[share, ours], read), median(by[share, rival], read))
                for rival in rivals
                for _, read in READS
            ),
        ]
        for share in SHARES
    ]
    return markdown(heads, rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sessions", type=int, default=3000)
    options.add_argument("--models", nargs="+", default=MODELS)
    options.add_argument("--workloads", nargs="+", default=WORKLOADS)
    options.add_argument("--prediction", type=Prediction.parse, default=Prediction(0.0))
    arguments = options.parse_args()
    page = Page()
    for model in arguments.models:
        for workload in arguments.workloads:
            base = Case(
                Source(workload, sessions=arguments.sessions), model, Arm("fcfs"),
                Load(LoadKind.RATE, 1.0), prediction=arguments.prediction,
            )  # fmt: skip
            (full,) = saturation([base], 64.0)
            cases = [
                replace(base, arm=Arm(policy), seed=seed, load=Load(LoadKind.RATE, share * full))
                for share in SHARES for policy in POLICIES for seed in range(arguments.seeds)
            ]  # fmt: skip
            outcomes = iter(swept(cases, f"{model}, {workload}"))
            by = {
                (share, policy): [next(outcomes) for _ in range(arguments.seeds)]
                for share in SHARES for policy in POLICIES
            }  # fmt: skip
            page.add(f"### {workload} on {model}: fcfs saturates at {full:.2f} sessions/s\n")
            rows = [row(f"{share:g} x", policy, runs) for (share, policy), runs in by.items()]
            page.add(markdown(HEADS, rows))
            page.add("`lamps-paper` against\n\n" + claims(by, "lamps-paper", ("infercept", "fcfs")))
            page.add("`lamps` against\n\n" + claims(by, "lamps", ("lamps-paper", "session-fcfs")))
    page.finish(arguments.out)


if __name__ == "__main__":
    main()
