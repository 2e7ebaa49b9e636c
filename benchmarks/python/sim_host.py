# SPDX-License-Identifier: Apache-2.0
"""What a host tier is worth on the load of `lamps compare`, by who fills it: vLLM or the policy.

    python benchmarks/python/sim_host.py --out tables.md

Workloads A and C (docs/measurements.md) on the paced deployment, with a link that copies a token in so
many microseconds (computing one takes 100) and host memory for so many times the pool. Clients say
nothing about what they will do.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from simtables import Page, cell, markdown, median, parser, swept

from lamps_vllm.pace import load_profile
from lamps_vllm.simulate.case import GIB, Case, HostTier, Load, LoadKind, split_arms
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.workloads.catalog import Source

WORKLOADS = {"A": 1.0, "C": 10.0}  # factor on the mix's call times
RATE = 3.15
POLICIES = "fcfs,session-fcfs,infercept,lamps"
SWAPPING = ("infercept", "lamps")
READS = (
    ("session mean", lambda o: o.metrics.session_mean),
    ("median", lambda o: o.metrics.session_median),
    ("p99", lambda o: o.metrics.session_p99),
    ("TTFT after call", lambda o: o.metrics.tool_ttft_mean),
    ("tok/s", lambda o: o.metrics.output_tokens_per_s),
)
COUNTS = ("recomputed", "loaded", "stored")
HEADS = (
    "policy",
    *(title for title, _ in READS),
    "hits",
    *(f"{name}, k tokens" for name in COUNTS),
)


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def profile_with_link(name: str, us_per_token: float, folder: Path) -> str:
    """Path of the profile with a host link of that speed."""
    profile = load_profile(name)
    assert profile.engine is not None
    speed = profile.engine.kv_bytes_per_token / (us_per_token * 1e-6)
    engine = profile.engine.model_copy(update={"host_bytes_per_s": speed})
    path = folder / f"{name}-{us_per_token:g}.json"
    path.write_text(profile.model_copy(update={"engine": engine}).model_dump_json())
    return str(path)


def gib_of(profile: str, pools: float) -> float:
    shape = load_profile(profile).engine
    assert shape is not None
    return pools * shape.kv_tokens * shape.kv_bytes_per_token / GIB


def row(label: str, runs: list[Outcome]) -> list[str]:
    hits = median(runs, lambda o: o.metrics.hit_share)
    counts = [
        median(runs, lambda o, name=name: getattr(o.more, f"{name}_tokens") / 1000.0)
        for name in COUNTS
    ]
    return [
        label, *(cell(median(runs, read)) for _, read in READS), f"{100 * hits:.0f} %",
        *map(cell, counts),
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sessions", type=int, default=400)
    options.add_argument("--profile", default="cpu-demo")
    options.add_argument("--policy", default=POLICIES)
    options.add_argument("--us-per-token", type=numbers, default=[5.0, 100.0])
    options.add_argument("--pools", type=numbers, default=[11.0])
    given = options.parse_args()
    page = Page()
    arms = split_arms(given.policy)
    with tempfile.TemporaryDirectory() as folder:
        for speed in given.us_per_token:
            profile = profile_with_link(given.profile, speed, Path(folder))
            for name, factor in WORKLOADS.items():
                base = Case(
                    Source("mix", sessions=given.sessions, call_factor=factor), profile, arms[0],
                    Load(LoadKind.RATE, RATE),
                )  # fmt: skip
                tiers = [(0.0, HostTier.OFFLOAD)]
                tiers += [(pools, tier) for pools in given.pools for tier in HostTier]
                kinds = [
                    (arm, pools, tier) for pools, tier in tiers for arm in arms
                    if tier is HostTier.OFFLOAD or arm.policy in SWAPPING
                ]  # fmt: skip
                cases = [
                    replace(base, arm=arm, host=tier, host_gib=gib_of(profile, pools), seed=seed)
                    for arm, pools, tier in kinds for seed in range(given.seeds)
                ]  # fmt: skip
                outcomes = iter(swept(cases, name))
                rows = []
                for arm, pools, tier in kinds:
                    tier_name = f" +{pools:g} pools {tier}" if pools else ""
                    rows.append(
                        row(f"{arm}{tier_name}", [next(outcomes) for _ in range(given.seeds)])
                    )
                page.add(f"### Workload {name}, {speed:g} us to copy a token\n")
                page.add(markdown(HEADS, rows))
    page.finish(given.out)


if __name__ == "__main__":
    main()
