# SPDX-License-Identifier: Apache-2.0
"""Turns of recorded sessions that carry no text: what is known of one before it runs, in words.

A model trained on these sizes shows what a trace holds. It is not served: a server has the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamps_vllm.workloads.traces import Gaps, TraceTurn

REMEMBERED = 4  # earlier outputs


@dataclass(frozen=True)
class Facts:
    """Sizes in tokens, times in seconds. First turn: no pause, no earlier outputs."""

    turn: int
    prompt: int
    new: int  # of the prompt, beyond the prefix shared with the turn before
    after_user: bool  # a person answered, or the session begins; else a tool did
    pause: float | None
    outputs: tuple[int, ...]  # of the turns before, latest last, at most REMEMBERED


def facts_of(turns: Sequence[TraceTurn]) -> Iterator[Facts]:
    """What is known before each turn of a session."""
    for index, turn in enumerate(turns):
        before = turns[index - 1] if index else None
        yield Facts(
            turn=index,
            prompt=turn.prompt,
            new=turn.new,
            after_user=before is None or before.stop == "end_turn",
            pause=before.pause(Gaps.CORRECTED) if before else None,
            outputs=tuple(each.out for each in turns[max(0, index - REMEMBERED) : index]),
        )


def text_of(facts: Facts) -> str:
    """One line for a text encoder; numbers have two digits that count."""
    who = "user" if facts.after_user else "tool"
    pause = "" if facts.pause is None else f" {float(f'{facts.pause:.1g}'):g} s"
    outputs = " ".join(_short(tokens) for tokens in facts.outputs) or "none"
    return (
        f"outputs {outputs}; {who}{pause}; new {_short(facts.new)}; "
        f"prompt {_short(facts.prompt)}; turn {_short(facts.turn)}"
    )


def _short(value: int) -> str:
    return f"{int(float(f'{value:.2g}'))}"
