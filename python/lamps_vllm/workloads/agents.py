# SPDX-License-Identifier: Apache-2.0
"""Coding-agent sessions, drawn from distributions fitted to recorded ones.

`agent_fit.json` holds every number and its origin. A session is fresh or resumed (its recording
began in the middle of a conversation), takes a number of turns in runs of tool calls that end with
a reply to the user, and sometimes has its history rewritten. Draws are independent given these:
measured dependences are weak (rank correlations below 0.25). Contexts are the weakest part of
the fit: where their exact sizes matter, replay recorded sessions.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from lamps_vllm.replay.workload import Segment, Session, SharedPrefix, Workload
from lamps_vllm.workloads.sampling import Mixture, Quantiles

TOOL, USER = "tool", "user"


class RewriteBin(BaseModel):
    """Rewrites of prompts below `below_tokens`: how often, and what is left of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    below_tokens: int
    p_after_end_turn: float
    p_after_tool_use: float
    p_rewind: float
    rebuilt_size_quantiles: tuple[float, ...]


class Rewrites(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    size_levels: tuple[float, ...]
    rewind_kept: float
    rewind_size: float
    bins: tuple[RewriteBin, ...]

    def bin_of(self, prompt: int) -> RewriteBin:
        return next((each for each in self.bins if prompt < each.below_tokens), self.bins[-1])


class _Values(BaseModel):
    """A quantile table without its levels: those are common to the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantiles: tuple[float, ...]


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: _Values
    first_in: _Values


class AgentFit(BaseModel):
    """The fitted numbers; see `agent_fit.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    origin: str
    quantile_levels: tuple[float, ...]
    p_fresh: float
    fresh: _Kind
    resumed: _Kind
    shared_prefix: _Values
    turns_until_end_turn: _Values
    run_stretch: float
    p_end_turn: float
    out_tool_use: Mixture
    out_end_turn: Mixture
    returned_tool: Mixture
    returned_user: Mixture
    gap_tool: Mixture
    gap_tool_recorded: Mixture
    gap_human: Mixture
    rewrites: Rewrites
    checks: dict[str, tuple[float, float, float] | str]

    def run_length(self, rng: Generator) -> int:
        """Turns until the model replies to the user. The table lacks runs that outlast their

        recording; the stretch brings the share of such replies to the recorded one.
        """
        drawn = self.draw(rng, self.turns_until_end_turn)
        return drawn if drawn <= 1 else round(drawn * self.run_stretch)

    def draw(self, rng: Generator, table: _Values) -> int:
        return round(Quantiles(levels=self.quantile_levels, values=table.quantiles).draw(rng))


@cache
def agent_fit() -> AgentFit:
    """The fit that ships with the package."""
    text = (resources.files("lamps_vllm.workloads") / "agent_fit.json").read_text(encoding="utf-8")
    return AgentFit.model_validate_json(text)


class AgentOptions(BaseModel):
    """What to generate. `gaps`: corrected tool times, or as recorded, which hold a hidden request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int = Field(default=100, ge=1, le=1_000_000)
    rate: float = Field(default=0.1, gt=0.0, le=100_000.0, description="sessions per second")
    gaps: Literal["corrected", "recorded"] = "corrected"
    gap_cap: float = Field(default=3600.0, ge=0.0, le=86_400.0, description="longest pause, s")
    max_context: int = Field(default=1_000_000, ge=1_000, le=10_000_000)
    max_turns: int = Field(default=1_000, ge=1, le=100_000)
    share_prefix: bool = Field(default=False, description="equal prefix sizes share their tokens")


class _Drawing:
    """One session being drawn."""

    def __init__(self, rng: Generator, options: AgentOptions) -> None:
        self.rng, self.options, self.fit = rng, options, agent_fit()
        kind = self.fit.fresh if rng.random() < self.fit.p_fresh else self.fit.resumed
        self.turns = min(self.fit.draw(rng, kind.turns), options.max_turns)
        first = self.fit.draw(rng, kind.first_in)
        self.shared = min(self.fit.draw(rng, self.fit.shared_prefix), first - 1)
        self.prompt = min(first, options.max_context - 1)
        self.left_in_run = self.fit.run_length(rng)

    def _gap(self, ends_turn: bool) -> float:
        tool = self.fit.gap_tool if self.options.gaps == "corrected" else self.fit.gap_tool_recorded
        gap = (self.fit.gap_human if ends_turn else tool).draw(self.rng)
        return round(min(gap, self.options.gap_cap), 3)

    def _rewritten(self, ends_turn: bool) -> tuple[int, int] | None:
        """(kept, prompt) of the next turn where it does not extend the last one, else None."""
        rewrites = self.fit.rewrites
        sizes = rewrites.bin_of(self.prompt)
        chance, kind, level = self.rng.random(3)
        if chance >= (sizes.p_after_end_turn if ends_turn else sizes.p_after_tool_use):
            return None
        if kind < sizes.p_rewind:
            kept = round(rewrites.rewind_kept * self.prompt)
            return kept, max(kept + 1, round(rewrites.rewind_size * self.prompt))
        ratio = float(np.interp(level, rewrites.size_levels, sizes.rebuilt_size_quantiles))
        kept = min(self.shared, self.prompt)
        return kept, max(kept + 1, round(ratio * self.prompt))

    def _next_prompt(self, context: int, ends_turn: bool) -> tuple[int | None, int]:
        returned = (self.fit.returned_user if ends_turn else self.fit.returned_tool).draw(self.rng)
        if rewritten := self._rewritten(ends_turn):
            return rewritten
        return None, context + max(1, round(returned))

    def segments(self) -> list[Segment]:
        done: list[Segment] = []
        kept: int | None = None
        before = 0
        for index in range(self.turns):
            self.left_in_run -= 1
            ends_turn = self.left_in_run <= 0
            if ends_turn:
                self.left_in_run = self.fit.run_length(self.rng)
            output_of = self.fit.out_end_turn if ends_turn else self.fit.out_tool_use
            output = max(1, round(output_of.draw(self.rng)))
            gap = self._gap(ends_turn)
            if done and self.prompt + output > self.options.max_context:
                break
            output = min(output, self.options.max_context - self.prompt)
            last = index == self.turns - 1
            done.append(
                Segment(
                    prompt_tokens=self.prompt - (before if kept is None else kept),
                    output_tokens=output,
                    call_seconds=None if last else gap,
                    tool=None if last else (USER if ends_turn else TOOL),
                    kept_tokens=kept,
                )
            )
            before = self.prompt + output
            kept, self.prompt = self._next_prompt(before, ends_turn)
        done[-1] = done[-1].model_copy(update={"call_seconds": None, "tool": None})
        return done


def _draw_session(name: str, arrival: float, rng: Generator, options: AgentOptions) -> Session:
    drawing = _Drawing(rng, options)
    segments = drawing.segments()
    shared = None
    if options.share_prefix:
        tokens = min(drawing.shared, segments[0].prompt_tokens)
        shared = SharedPrefix(group=f"prefix-{drawing.shared}", tokens=tokens)
    return Session(id=name, arrival=arrival, segments=tuple(segments), shared_prefix=shared)


def generate_agents(rng: Generator, options: AgentOptions) -> Workload:
    """Sessions with Poisson arrivals. A session's draws depend on the seed and its number only."""
    arrival_rng, session_rng = rng.spawn(2)
    arrivals = np.cumsum(arrival_rng.exponential(1.0 / options.rate, size=options.sessions))
    children = session_rng.spawn(options.sessions)
    return Workload.of(
        _draw_session(f"a{index:05d}", float(arrival), child, options)
        for index, (arrival, child) in enumerate(zip(arrivals, children, strict=True))
    )
