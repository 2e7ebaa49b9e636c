# SPDX-License-Identifier: Apache-2.0
"""What the model generates between two calls."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that were generated in one go, from the prompt or a call's result to the next stop."""

    token_ids: tuple[int, ...]
    """With the token that ended it."""
    text: str
    """Without the token that ended it; special tokens inside are written out."""
    finish_reason: str
    """``stop``: the model ended it; ``length``: ``max_tokens`` or the context did."""
