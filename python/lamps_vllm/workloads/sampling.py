# SPDX-License-Identifier: Apache-2.0
"""Draws from fitted distributions: quantile tables and log-normal mixtures."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, model_validator


class Quantiles(BaseModel):
    """A distribution through `values` at `levels`, log-linear between them. Values are positive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[float, ...]
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _matched(self) -> Quantiles:
        if len(self.levels) != len(self.values) or min(self.values) <= 0.0:
            raise ValueError("quantiles need one positive value per level")
        return self

    def draw(self, rng: Generator) -> float:
        return float(np.exp(np.interp(rng.random(), self.levels, np.log(self.values))))


class Mixture(BaseModel):
    """Log-normal components [weight, mu, sigma] of ln x beside an optional atom [weight, value]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    components: tuple[tuple[float, float, float], ...]
    atom: tuple[float, float] | None = None

    def draw(self, rng: Generator) -> float:
        # Three draws whatever is chosen: a changed weight then leaves later draws where they were.
        which, component, normal = rng.random(), rng.random(), rng.standard_normal()
        if self.atom is not None and which < self.atom[0]:
            return self.atom[1]
        bounds = np.cumsum([weight for weight, _, _ in self.components])
        index = int(np.searchsorted(bounds, component * bounds[-1], side="right"))
        _, mu, sigma = self.components[min(index, len(self.components) - 1)]
        return math.exp(mu + sigma * normal)


def lognormal(rng: Generator, mean: float, deviation: float) -> float:
    """One draw from the log-normal distribution with this mean and standard deviation (> 0)."""
    variance = math.log1p((deviation / mean) ** 2)
    return float(rng.lognormal(math.log(mean) - variance / 2.0, math.sqrt(variance)))
