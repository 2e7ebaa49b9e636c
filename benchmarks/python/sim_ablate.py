# SPDX-License-Identifier: Apache-2.0
"""What each part and each option is worth, simulated: parts, bounds, intervals, what is told, surfaces.

    python benchmarks/python/sim_ablate.py --workloads multi toolbench --groups parts error

Loads are multiples of what fcfs saturates at (see sim_paper.py). Times are sessions without their
calls, mean / p99 in seconds, median over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from simtables import Page, cell, markdown, median, parser, saturation, swept

from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind, split_arms
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction


class Variant(NamedTuple):
    """A row of a table: a policy, what it is told, and the fields of the case that say so."""

    arm: Arm
    told: str
    changes: Mapping[str, Any]


OWN = Prediction(None)
ORACLE = Prediction(0.0)
ERRORS = (OWN, ORACLE, *(Prediction(float(percent)) for percent in (5, 10, 20, 30, 50)))


def _told(arm: Arm, prediction: Prediction) -> Variant:
    return Variant(arm, str(prediction), {"prediction": prediction})


def _arms(*texts: str) -> list[Variant]:
    return [_told(arm, ORACLE) for text in texts for arm in split_arms(text)]


def _options(name: str, values: Sequence[float]) -> list[Variant]:
    return _arms(*(f"lamps{{{name}={value:g}}}" for value in values))


GROUPS: dict[str, list[Variant]] = {
    "parts": _arms(
        "session-fcfs", "infercept", "lamps-paper", "lamps{rank_weight=0,preserve=false}",
        "lamps{preserve=false}", "lamps{rank_weight=0}", "lamps",
    ),
    "bound": [
        *_options("starvation_seconds", (15, 30, 60, 120, 600)),
        *_options("starvation_threshold", (10, 100, 1000, 10_000)),
    ],
    "interval": _options("score_update_interval", (1, 10, 100, 1000)),
    "error": [
        _told(arm, error)
        for arm in split_arms("sjf-total,infercept,lamps-paper,lamps") for error in ERRORS
    ],
    "told": [
        Variant(Arm("lamps"), "nothing, calls not read", {"read_calls": False}),
        Variant(Arm("lamps"), "tools, calls not read", {"read_calls": False, "tool_hints": True}),
        Variant(Arm("lamps"), "nothing", {}),
        Variant(Arm("lamps"), "last turns", {"final_hints": True}),
        Variant(Arm("lamps"), "everything", {"prediction": ORACLE}),
    ],
    "order": _options("rank_weight", (0, 5, 20, 50, 80, 320)),
    "horizon": _options("rank_horizon", (0, 10, 30, 60, 300)),
    "share": _options("admission_share", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
    "hold": _options("redecide_seconds", (0.03, 0.1, 0.3, 1, 5)),
    "order x share": _arms(
        *(
            f"lamps{{rank_weight={weight},admission_share={share}}}"
            for weight in (0, 20, 50) for share in (0.6, 0.8, 1.0)
        )
    ),
}  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--profile", default="gpt-j-6b")
    options.add_argument("--sessions", type=int, default=2000)
    options.add_argument("--workloads", nargs="+", default=["single", "multi", "toolbench"])
    options.add_argument("--groups", nargs="+", choices=GROUPS, default=[*GROUPS])
    options.add_argument("--shares", nargs="+", type=float, default=[0.8, 1.25, 1.5])
    given = options.parse_args()
    page = Page()
    bases = [
        Case(Source(name, sessions=given.sessions), given.profile, Arm("fcfs"), Load(LoadKind.RATE, 1.0))
        for name in given.workloads
    ]  # fmt: skip
    full = dict(zip(given.workloads, saturation(bases, 64.0), strict=True))
    columns = [(base, share) for base in bases for share in given.shares]
    heads = [f"{base.source.name} {share:g} x" for base, share in columns]
    for group in given.groups:
        variants = GROUPS[group]
        cases = [
            replace(base, arm=variant.arm, seed=seed, **variant.changes,
                    load=Load(LoadKind.RATE, share * full[base.source.name]))
            for variant in variants for base, share in columns for seed in range(given.seeds)
        ]  # fmt: skip
        outcomes = iter(swept(cases, group))
        rows = []
        for variant in variants:
            line = [str(variant.arm), variant.told]
            for _ in columns:
                runs = [next(outcomes) for _ in range(given.seeds)]
                mean = median(runs, lambda o: o.metrics.session_mean)
                line.append(f"{cell(mean)} / {cell(median(runs, lambda o: o.metrics.session_p99))}")
            rows.append(line)
        page.add(f"### {group}, {given.profile}\n\n{markdown(['policy', 'told', *heads], rows)}")
    page.finish(given.out)


if __name__ == "__main__":
    main()
