# SPDX-License-Identifier: Apache-2.0
"""What a trained length model is compared with: distributions over its bins, shape (turns, BINS)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lamps_vllm.train.bins import BINS, Floats, bin_of, shares
from lamps_vllm.train.facts import REMEMBERED, Facts

FORGETTING = 0.998  # as the core's histograms
SHRINKAGE = 5.0  # turns that the fallback counts for
NEIGHBOURS = 32


@dataclass(frozen=True)
class Turn:
    """A turn to predict: `text` for encoders, the rest for counting ones."""

    session: str
    place: int  # in the session
    text: str
    output_tokens: int
    prompt_tokens: int
    facts: Facts | None = None


def lengths(turns: Sequence[Turn]) -> np.ndarray:
    return np.array([turn.output_tokens for turn in turns])


def constant(fit: Sequence[Turn], turns: Sequence[Turn]) -> Floats:
    """Always the spread of what was learned from."""
    return np.tile(shares(lengths(fit)), (len(turns), 1))


class OnlineHistograms:
    """The core's output predictor in small: by decade of the last call and place, shrunk to all."""

    def __init__(self) -> None:
        self._all = np.zeros(BINS)
        self._special: dict[tuple[int, int], np.ndarray] = {}

    def predict(self, turn: Turn) -> Floats:
        general = (self._all + SHRINKAGE / BINS) / (self._all.sum() + SHRINKAGE)
        special = self._special.get(self._key(turn))
        if special is None:
            return general
        return (special + SHRINKAGE * general) / (special.sum() + SHRINKAGE)

    def learn(self, turn: Turn) -> None:
        label = bin_of(np.array([turn.output_tokens]))[0]
        special = self._special.setdefault(self._key(turn), np.zeros(BINS))
        for counts in (self._all, special):
            np.multiply(counts, FORGETTING, out=counts)
            counts[label] += 1.0

    def _key(self, turn: Turn) -> tuple[int, int]:
        pause = turn.facts.pause if turn.facts else None
        decade = 0 if pause is None else 5 + int(np.floor(np.log10(max(pause, 1e-4))))
        return decade, int(turn.place).bit_length() if turn.place < 8 else 4


def online(before: Sequence[Turn], turns: Sequence[Turn]) -> Floats:
    """Turn by turn: predicts, then learns what happened."""
    histograms = OnlineHistograms()
    for turn in before:
        histograms.learn(turn)
    found = []
    for turn in turns:
        found.append(histograms.predict(turn))
        histograms.learn(turn)
    return np.array(found)


def similar(fitted: Floats, labels: np.ndarray, vectors: Floats, prior: Floats) -> Floats:
    """The lengths of the nearest past turns by cosine, the nearer the more, shrunk to the prior.

    `fitted` and `vectors` have rows of length 1, `labels` are the bins of `fitted`.
    """
    found = []
    for vector in vectors:
        closeness = fitted @ vector
        nearest = np.argpartition(-closeness, NEIGHBOURS)[:NEIGHBOURS]
        weights = np.exp(10.0 * (closeness[nearest] - closeness[nearest].max()))
        counts = np.bincount(labels[nearest], weights=weights, minlength=BINS)
        found.append((counts + SHRINKAGE * prior) / (counts.sum() + SHRINKAGE))
    return np.array(found)


def numbers(turn: Turn) -> list[float]:
    """Logarithms of the sizes that are known before a turn."""
    facts = turn.facts
    assert facts is not None
    outputs = [0.0] * (REMEMBERED - len(facts.outputs)) + [np.log1p(x) for x in facts.outputs]
    pause = -5.0 if facts.pause is None else np.log(max(facts.pause, 1e-2))
    sizes = [np.log1p(facts.prompt), np.log1p(facts.new), np.log1p(facts.turn)]
    return [*sizes, pause, float(facts.after_user), *outputs]


def network(fit: Sequence[Turn], choose: Sequence[Turn], turns: Sequence[Turn]) -> Floats:
    """A small network on the numbers themselves: what they hold, without a text encoder between."""
    torch.manual_seed(0)
    inputs = [torch.tensor([numbers(t) for t in part]).float() for part in (fit, choose, turns)]
    mean, spread = inputs[0].mean(dim=0), inputs[0].std(dim=0) + 1e-6
    fitted, chosen, asked = ((each - mean) / spread for each in inputs)
    labels, held = (torch.from_numpy(bin_of(lengths(part))) for part in (fit, choose))
    size = fitted.shape[1]
    model = nn.Sequential(nn.Linear(size, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(),
                          nn.Linear(64, BINS))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    best, kept = float("inf"), torch.empty(0)
    for _ in range(30):
        for batch in torch.randperm(len(fitted)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(fitted[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(functional.cross_entropy(model(chosen), held))
            if loss < best:
                best, kept = loss, model(asked).softmax(dim=-1)
    return kept.double().numpy()
