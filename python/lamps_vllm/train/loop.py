# SPDX-License-Identifier: Apache-2.0
"""Training: texts to features once where the base is frozen, then epochs; the best one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lamps_vllm.train.bases import Base
from lamps_vllm.train.bins import Floats, Ints, bin_means, bin_of, shares
from lamps_vllm.train.card import Card
from lamps_vllm.train.data import Dataset, Sample, Split, split
from lamps_vllm.train.errors import DataError
from lamps_vllm.train.metrics import score
from lamps_vllm.train.model import LengthModel

OnProgress = Callable[[str, int, int], None]
"""(what is done, steps done, steps in all)"""

READING = 32  # texts of a batch that is only read
HEAD_EPOCHS = 30  # of a head alone, which costs next to nothing
HEAD_RATE, UPDATE_RATE = 1e-3, 3e-4  # learning rates: a head alone, a head and updates


@dataclass(frozen=True)
class Plan:
    """How to train. `rank` 0: only the head is trained."""

    epochs: int = HEAD_EPOCHS
    batch: int = 32
    learning_rate: float | None = None  # None: HEAD_RATE or UPDATE_RATE
    max_tokens: int = 256
    rank: int = 0
    seed: int = 0

    @property
    def rate(self) -> float:
        return self.learning_rate or (UPDATE_RATE if self.rank else HEAD_RATE)


@dataclass(frozen=True)
class Part:
    """Samples as the model takes them: texts, and once the base has read them, features."""

    texts: list[str]
    labels: Tensor
    features: Tensor | None = None


def train(
    data: Sequence[Dataset], base: Base, plan: Plan, on_progress: OnProgress
) -> tuple[Card, LengthModel]:
    """Fits a model on the first sessions, scores it on the last. Raises TooFewSamples, DataError."""
    inputs = {each.input for each in data}
    if len(inputs) != 1:
        raise DataError("data: prompts and recorded sizes cannot be learned from together")
    parts = _joined([split(each.samples) for each in data])
    model = fit(parts, base, plan, on_progress)
    means = bin_means(_lengths(parts.fit))
    truth = _lengths(parts.score)
    found = predict(model, [each.text for each in parts.score],
                    lambda done: on_progress("scoring", done, len(truth)))  # fmt: skip
    constant = np.tile(shares(_lengths(parts.fit)), (len(truth), 1))
    card = Card(
        base=base.name, base_digest=base.digest, causal=base.causal, input=inputs.pop(),
        max_tokens=model.max_tokens, rank=plan.rank, bin_means=tuple(means),
        data=tuple(each.source for each in data),
        samples={name: len(part) for name, part in parts._asdict().items()},
        settings={"epochs": plan.epochs, "batch": plan.batch, "learning rate": plan.rate,
                  "seed": plan.seed},
        scores=score(found, truth, means), constant=score(constant, truth, means),
    )  # fmt: skip
    return card, model


def fit(parts: Split, base: Base, plan: Plan, on_progress: OnProgress) -> LengthModel:
    """A model trained on `parts.fit`, as it was after the epoch that was best on `parts.choose`."""
    torch.manual_seed(plan.seed)
    tokenizer, encoder = base.load()
    model = LengthModel(
        tokenizer, encoder, causal=base.causal, max_tokens=plan.max_tokens, rank=plan.rank
    )
    learned, held = _part(parts.fit), _part(parts.choose)
    before, total = len(learned.texts), len(learned.texts) + len(held.texts)
    read = _read(model, learned, lambda done: on_progress("reading", done, total))
    read_held = _read(model, held, lambda done: on_progress("reading", before + done, total))
    head = replace(plan, rank=0, epochs=HEAD_EPOCHS) if plan.rank else plan
    optimise(model, read, read_held, head, on_progress)
    if plan.rank:  # from the best head on: updates are slow, and start at 0
        optimise(model, learned, held, plan, on_progress)
    return model


def predict(model: LengthModel, texts: Sequence[str], on_progress: Callable[[int], None]) -> Floats:
    """Distributions of many texts, shape (texts, BINS)."""
    with torch.inference_mode():
        logits = by_length(model, texts, model.forward, on_progress)
        return logits.softmax(dim=-1).double().numpy()


def _joined(splits: Sequence[Split]) -> Split:
    """Every data set has its place in each part."""
    return Split(*([*chain(*part)] for part in zip(*splits, strict=True)))


def _lengths(samples: Sequence[Sample]) -> Ints:
    return np.array([sample.output_tokens for sample in samples], dtype=np.int64)


def _part(samples: Sequence[Sample]) -> Part:
    return Part([each.text for each in samples], torch.from_numpy(bin_of(_lengths(samples))))


def by_length(
    model: LengthModel,
    texts: Sequence[str],
    compute: Callable[[dict[str, Tensor]], Tensor],
    on_progress: Callable[[int], None],
) -> Tensor:
    """Rows for texts, in their order; computed together where texts are about as long."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    rows: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), READING):
        chosen = order[start : start + READING]
        made = compute(model.encode([texts[index] for index in chosen]))
        for index, row in zip(chosen, made, strict=True):
            rows[index] = row
        on_progress(start + len(chosen))
    return torch.stack(rows)


def _read(model: LengthModel, part: Part, on_progress: Callable[[int], None]) -> Part:
    with torch.no_grad():
        return replace(part, features=by_length(model, part.texts, model.features, on_progress))


def optimise(
    model: LengthModel, learned: Part, held: Part, plan: Plan, on_progress: OnProgress
) -> None:
    """Trains in place; leaves the model as it was after the epoch that was best on `held`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if plan.rank else 1)  # in a head they only wait for each other
    stage = "training updates" if plan.rank else "training"
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.rate, weight_decay=0.01)
    shuffler = torch.Generator().manual_seed(plan.seed)
    steps = -(-len(learned.labels) // plan.batch)
    best, kept = _loss(model.eval(), held), model.trained()
    for epoch in range(plan.epochs):
        model.train()
        for step, chosen in enumerate(
            torch.randperm(len(learned.labels), generator=shuffler).split(plan.batch)
        ):
            optimizer.zero_grad()
            logits = _logits(model, learned, chosen)
            functional.cross_entropy(logits, learned.labels[chosen]).backward()
            optimizer.step()
            on_progress(stage, epoch * steps + step + 1, plan.epochs * steps)
        loss = _loss(model.eval(), held)
        if loss < best:
            best, kept = loss, model.trained()
    model.restore(kept)
    torch.set_num_threads(threads)


def _logits(model: LengthModel, part: Part, chosen: Tensor) -> Tensor:
    if part.features is not None:
        return model.head(part.features[chosen])
    return model(model.encode([part.texts[index] for index in chosen.tolist()]))


@torch.no_grad()
def _loss(model: LengthModel, part: Part) -> float:
    chosen = torch.arange(len(part.labels)).split(READING)
    total = sum(
        functional.cross_entropy(_logits(model, part, each), part.labels[each], reduction="sum")
        for each in chosen
    )
    return float(total) / len(part.labels)
