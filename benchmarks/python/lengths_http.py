# SPDX-License-Identifier: Apache-2.0
"""What output lengths are worth on the real engine, by who predicts them.

    python benchmarks/python/lengths_http.py --prepare && python benchmarks/python/lengths_http.py

ShareGPT turns as requests of their own, over HTTP on the paced CPU engine, at --load times what stock
vLLM sustains (found by simulation). Prompts have the sizes of the real ones, outputs their lengths,
forced; all sizes are multiplied by --scale, since the engine's memory is small. The prompts' tokens are
random: a predictor reads the text beforehand, and the client sends what it expects as
`expected_output_tokens`, and that the turn is the last. Every arm is the same server, `lamps`; only what
its clients say differs. --prepare only trains and asks the predictors; what they expect is kept in
`expected.json` in the --out folder and taken from there the next time.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from length_rivals import Turn, constant
from lengths import ONLINE, SCORED, Bars, frozen, requests, sharegpt_turns, told
from rich.progress import Progress
from simtables import Page, cell, lower, markdown, median, saturation

from lamps_vllm.cli.compare import show
from lamps_vllm.cli.console import replay_with_progress
from lamps_vllm.replay.arms import BUILT_IN, Arm, Deployment
from lamps_vllm.replay.comparison import Comparison, Telling
from lamps_vllm.replay.comparison import Plan as Runs
from lamps_vllm.replay.records import Identity
from lamps_vllm.replay.report import save_json
from lamps_vllm.replay.workload import Session, Workload, save_workload
from lamps_vllm.simulate.case import Arm as Policy
from lamps_vllm.simulate.case import Case, Load, LoadKind
from lamps_vllm.train.bases import ENCODER
from lamps_vllm.train.bins import Floats
from lamps_vllm.train.data import SHAREGPT, Split, split
from lamps_vllm.train.loop import Plan
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.transform import with_poisson_arrivals

SUSTAINED_AT_MOST = 200.0  # requests/s, where the search begins


@dataclass(frozen=True)
class Prepared:
    """What is sent and told, and what it depends on."""

    settings: dict[str, int]
    learned: int  # turns that the predictors learned from
    turns: list[Turn]  # to send, without their texts
    expected: dict[str, list[float] | None]
    """Lengths of the turns by who predicts them; None: nobody, the server learns."""

    @classmethod
    def load(cls, path: Path, settings: dict[str, int]) -> Self | None:
        """What `save` wrote with the same settings, else None."""
        if not path.is_file():
            return None
        found = cls(**json.loads(path.read_text(encoding="utf-8")))
        turns = [Turn(**turn) for turn in found.turns]  # type: ignore[arg-type]  # from JSON
        return replace(found, turns=turns) if found.settings == settings else None

    def save(self, path: Path) -> None:
        save_json(path, asdict(self))


def prepared(options: argparse.Namespace) -> Prepared:
    """From the folder of the results, or made and put there."""
    path = options.out / "expected.json"
    settings = {name: getattr(options, name) for name in ("samples", "epochs", "max_tokens")}
    found = Prepared.load(path, settings)
    if found is None:
        parts = split(sharegpt_turns(options.samples), *SCORED[SHAREGPT])
        with Progress(transient=True) as progress:
            plan = Plan(epochs=options.epochs, max_tokens=options.max_tokens)
            lists = expectations(parts, plan, progress)
        found = Prepared(
            settings,
            len(parts.fit),
            [replace(turn, text="") for turn in parts.score],
            {name: None if each is None else each.tolist() for name, each in lists.items()},
        )
        found.save(path)
    return found


def expectations(parts: Split, plan: Plan, progress: Progress) -> dict[str, Floats | None]:
    """Expected lengths of the scored turns by who predicts them."""
    trained = f"trained, frozen {ENCODER}"
    models = frozen(parts, ENCODER, plan, Bars(progress, ENCODER))
    found = {"constant": (constant(parts.fit, parts.score), 0.0), trained: models[trained]}
    return told(found, parts)


def scaled(turns: Sequence[Turn], factor: float, longest: int) -> list[Turn]:
    """Sizes times `factor`, no context above `longest` tokens: prompts are cut."""
    out = []
    for turn in turns:
        output = min(max(1, round(turn.output_tokens * factor)), longest - 1)
        prompt = min(max(1, round(turn.prompt_tokens * factor)), longest - output)
        out.append(replace(turn, prompt_tokens=prompt, output_tokens=output))
    return out


def telling(expected: Sequence[float], factor: float) -> Telling:
    """Writes the hints: what is expected of the turn that a session's name counts, times `factor`."""

    def with_hint(session: Session) -> Session:
        hint = max(1.0, factor * expected[int(session.id.removeprefix("r"))])
        (segment,) = session.segments
        told = segment.model_copy(update={"expected_output_tokens": hint})
        return session.model_copy(update={"segments": (told,)})

    return lambda workload: Workload.of(map(with_hint, workload.sessions))


def sustained(workload: Workload, profile: str) -> float:
    """Requests per second that stock vLLM carries, simulated."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        save_workload(workload, path)
        load = Load(LoadKind.RATE, 1.0)
        (rate,) = saturation([Case(Source(str(path)), profile, Policy("stock"), load)],
                             SUSTAINED_AT_MOST)  # fmt: skip
    return rate


def planned(made: Prepared, options: argparse.Namespace) -> Runs:
    """An arm for each predictor, the online one first; a repeat for each seed."""
    deployment = Deployment()
    sizes = scaled(made.turns, options.scale, deployment.max_model_len or 2048)
    rate = options.load * sustained(requests(sizes, None), deployment.pace or "cpu-demo")
    workload = requests(sizes[: options.requests], None)
    repeats = [
        with_poisson_arrivals(workload, rate, np.random.default_rng([seed, 2]))
        for seed in range(options.seeds)
    ]
    return Runs(
        arms=[Arm(name, BUILT_IN["lamps"].command, Identity.FINAL) for name in made.expected],
        workloads=repeats,
        deployment=deployment,
        folder=options.out,
        title=f"{len(workload.sessions)} ShareGPT turns, sizes x{options.scale:g}, {rate:.2f}/s\n"
        f"{deployment.describe()}",
        telling={
            name: telling(expected, options.scale)
            for name, expected in made.expected.items()
            if expected is not None
        },
    )


def table(comparison: Comparison) -> str:
    """Session mean and p99 by predictor, seconds, median over seeds."""
    rows = []
    online = median([*comparison.runs[ONLINE].values()], lambda run: run.session_mean)
    for name, by_seed in comparison.runs.items():
        runs = [*by_seed.values()]
        mean = median(runs, lambda run: run.session_mean)
        rows.append([name, cell(mean), lower(mean, online),
                     cell(median(runs, lambda run: run.session_p99))])  # fmt: skip
    return markdown(["told", "session mean, s", "to online", "p99, s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=4000, help="ShareGPT turns to learn from")
    parser.add_argument("--requests", type=int, default=240, help="sent per run")
    parser.add_argument("--max-tokens", type=int, default=96, help="of a prompt that are read")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--scale", type=float, default=0.25, help="of all sizes")
    parser.add_argument("--load", type=float, default=1.5, help="times what stock sustains")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/lengths_http"))
    parser.add_argument("--prepare", action="store_true", help="stop before anything is sent")
    options = parser.parse_args()
    page = Page()
    made = prepared(options)
    if options.prepare:
        return
    comparison = Comparison(planned(made, options))
    page.add(f"{made.learned} turns learned from; {comparison.plan.title}\n")
    comparison.run(replay_with_progress)
    show(comparison)
    page.add(table(comparison))
    page.finish(options.out / "table.md")


if __name__ == "__main__":
    main()
