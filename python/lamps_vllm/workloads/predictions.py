# SPDX-License-Identifier: Apache-2.0
"""What clients predict about their turns: nothing, the truth, the truth with an error, or what the

workload says they do (`expected_output_tokens`).

The error is the usual one in the literature: a normal with mean 0 and a standard deviation of p
percent of the true value is added to the output length and to the call time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SAYS_NOTHING = -1.0
SHORTEST_CALL_S = 1e-9  # a predicted call is never 0: that would mean "no call"

Column = NDArray[np.float64]


class PredictionError(ValueError):
    """The text of a prediction option is not understood."""


class Hints(NamedTuple):
    """Per segment; SAYS_NOTHING where the client gives no hint."""

    output_tokens: Column
    call_seconds: Column
    final_turn: NDArray[np.bool_]


@dataclass(frozen=True)
class Prediction:
    """`error_percent` None: clients say nothing and the server's own predictors are on their own, but

    for the output lengths that the workload gives, where `given`.
    """

    error_percent: float | None = None
    given: bool = False

    @classmethod
    def parse(cls, text: str) -> Prediction:
        """`own`, `given`, `oracle` or `gauss:PERCENT` (0 to 1000). Raises PredictionError."""
        if text in ("own", "given"):
            return cls(None, text == "given")
        if text == "oracle":
            return cls(0.0)
        kind, _, number = text.partition(":")
        try:
            percent = float(number)
        except ValueError:
            percent = -1.0
        if kind != "gauss" or not 0.0 <= percent <= 1000.0:
            raise PredictionError(
                f"prediction = {text!r}: accepted are own, given, oracle, gauss:PERCENT (0 to 1000)"
            )
        return cls(percent)

    def __str__(self) -> str:
        if self.error_percent is None:
            return "given" if self.given else "own"
        return f"gauss:{self.error_percent:g}" if self.error_percent else "oracle"

    def hints(
        self,
        output_tokens: Column,
        call_seconds: Column,
        is_last: NDArray[np.bool_],
        rng: Generator,
        expected_tokens: Column | None = None,
    ) -> Hints:
        """Hints for segments with these true values (call_seconds of a last one is ignored).

        `expected_tokens` are the workload's own, SAYS_NOTHING where it has none.
        """
        count = len(output_tokens)
        if self.error_percent is None:
            nothing = np.full(count, SAYS_NOTHING)
            outputs = nothing if expected_tokens is None or not self.given else expected_tokens
            return Hints(outputs.copy(), nothing, np.zeros(count, dtype=bool))
        spread = self.error_percent / 100.0
        errors = rng.standard_normal((2, count)) * spread
        outputs = np.maximum(1.0, output_tokens * (1.0 + errors[0]))
        calls = np.maximum(SHORTEST_CALL_S, call_seconds * (1.0 + errors[1]))
        return Hints(outputs, np.where(is_last, SAYS_NOTHING, calls), is_last.copy())
