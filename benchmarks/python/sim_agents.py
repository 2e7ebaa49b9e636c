# SPDX-License-Identifier: Apache-2.0
"""Agent sessions in a closed loop, with and without a host tier.

    python benchmarks/python/sim_agents.py TRACE.jsonl.gz --out tables.md
    python benchmarks/python/sim_agents.py agents --sessions 300        # without a trace

Every arm serves the same sessions; whoever ends is replaced by the next, four times over: the given
ones are served again where they are too few. Figures are steady ones: from a tenth of the run to the
start of the last session. Clients say which turn is their last.
"""

from collections.abc import Sequence
from dataclasses import replace

from simtables import Page, cell, markdown, median, parser, swept

from lamps_vllm.simulate.case import Case, HostTier, Load, LoadKind, split_arms
from lamps_vllm.simulate.outcome import PAUSES, Outcome
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.traces import Gaps

LEAST, ROUNDS = 300, 4.0  # sessions in all: so many, and so many for each at a time
SWAPPING = ("lamps", "infercept")  # policies whose own choice of what to swap is tried
POLICIES = "fcfs,session-fcfs,plas,continuum,thunder,infercept,lamps-paper,lamps"
HEADS = ("at a time", "policy", "tok/s", "x fcfs", "tok/s with TTFT < 30 s", "TTFT median", "p99",
         "worst of a session, p99", "session mean", "hits", "preempted")  # fmt: skip


def steady(outcome: Outcome) -> float | None:
    return outcome.more.steady_tokens_per_s


def rows(by: dict[tuple[float, str], list[Outcome]]) -> list[list[str]]:
    made = []
    for (count, label), runs in by.items():
        reference = median(by[count, "fcfs"], steady)
        tokens = median(runs, steady)
        values = [
            median(runs, lambda o: o.more.goodput_30s),
            median(runs, lambda o: o.more.ttft_median),
            median(runs, lambda o: o.more.ttft_p99),
            median(runs, lambda o: o.more.worst_ttft_p99),
            median(runs, lambda o: o.metrics.session_mean),
        ]
        hits = median(runs, lambda o: o.metrics.hit_share)
        preempted = median(runs, lambda o: float(o.more.preemptions))
        made.append(
            [f"{count:g}", label, cell(tokens), f"{tokens / reference:.2f}", *map(cell, values),
             f"{100 * hits:.0f} %", f"{preempted:.0f}"]
        )  # fmt: skip
    return made


def regimes(by: dict[tuple[float, str], list[Outcome]], count: float) -> str:
    """TTFT and hits by the pause before a turn."""
    heads = ["policy", *(f"{name}: {what}" for name in PAUSES for what in ("TTFT", "p99", "hits"))]
    made = []
    for (at, label), runs in by.items():
        if at != count:
            continue
        line = [label]
        for name in PAUSES:
            found = [run.more.after_pauses[name] for run in runs if name in run.more.after_pauses]
            if not found:
                line += ["-"] * 3
                continue
            line += [cell(found[0].ttft_mean), cell(found[0].ttft_p99)]
            line += [f"{100 * found[0].hit_share:.0f} %"]
        made.append(line)
    return markdown(heads, made)


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("source")
    options.add_argument("--sessions", type=int)
    options.add_argument("--profile", default="h100-tp2-qwen3-30b-a3b")
    options.add_argument("--policy", default=POLICIES)
    options.add_argument("--concurrency", type=numbers, default=[32, 64, 128, 256])
    options.add_argument("--host-gib", type=numbers, default=[0.0, 400.0])
    options.add_argument("--gaps", type=Gaps, default=Gaps.CORRECTED)
    options.add_argument("--call-cap", type=float, default=3600.0)
    options.add_argument("--context-factor", type=float, default=1.0)
    options.set_defaults(seeds=1)
    given = options.parse_args(arguments)
    base = Case(
        Source(given.source, sessions=given.sessions, gaps=given.gaps, call_cap=given.call_cap,
               context_factor=given.context_factor),
        given.profile, split_arms("fcfs")[0], Load(LoadKind.CONCURRENCY, 1), final_hints=True,
    )  # fmt: skip
    tiers = [
        (gib, tier) for gib in given.host_gib
        for tier in ((HostTier.OFFLOAD, HostTier.SWAP) if gib else (HostTier.OFFLOAD,))
    ]  # fmt: skip
    cases = [
        replace(base, arm=arm, host_gib=gib, host=tier, seed=seed,
                load=Load(LoadKind.CONCURRENCY, count), total=max(LEAST, int(ROUNDS * count)))
        for count in given.concurrency for gib, tier in tiers
        for arm in split_arms(given.policy) for seed in range(given.seeds)
        if tier is HostTier.OFFLOAD or arm.policy in SWAPPING
    ]  # fmt: skip
    page = Page()
    by: dict[tuple[float, str], list[Outcome]] = {}
    for case, outcome in zip(cases, swept(cases, "agents"), strict=True):
        by.setdefault((case.load.value, case.label), []).append(outcome)
    scaled = "" if given.context_factor == 1.0 else f", contexts x{given.context_factor:g}"
    page.add(f"### Agents on {given.profile}, pauses {given.gaps.value}, at most "
             f"{given.call_cap:g} s{scaled}\n")  # fmt: skip
    page.add(markdown(HEADS, rows(by)))
    for count in given.concurrency:
        page.add(f"By the pause before a turn, {count:g} at a time\n\n{regimes(by, count)}")
    page.finish(given.out)


if __name__ == "__main__":
    main()
