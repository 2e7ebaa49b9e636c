# SPDX-License-Identifier: Apache-2.0
"""One simulated run: who arrives, on which engines, under which policy. Picklable."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import lamps_ext
from lamps_vllm.options import core_options
from lamps_vllm.pace import PaceProfile, load_profile
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction

GIB = 1 << 30
# Stock vLLM itself, simulated without a policy core; the names are those of `lamps compare`.
STOCK = {"stock": "fcfs", "priority": "priority"}


class SimulationError(ValueError):
    """A case that cannot be simulated; the message names the field, its value and the range."""


class LoadKind(StrEnum):
    """`given`: the arrivals of the file. `rate`: sessions/s. `concurrency`: closed loop."""

    GIVEN = "given"
    RATE = "rate"
    CONCURRENCY = "concurrency"


class HostTier(StrEnum):
    """Who fills the host tier: vLLM's offloading (every full block, LRU), or the policy's choice."""

    OFFLOAD = "offload"
    SWAP = "swap"


@dataclass(frozen=True, order=True)
class Load:
    """How much load; `value` is sessions per second or sessions at a time (0 for GIVEN)."""

    kind: LoadKind
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind is LoadKind.RATE and not 0.0 < self.value <= 1e6:
            raise SimulationError(f"rate = {self.value}: accepted are values above 0, up to 1e6")
        if self.kind is LoadKind.CONCURRENCY and not 1 <= self.value <= 1e6:
            raise SimulationError(f"concurrency = {self.value}: accepted are 1 to 1e6")

    def __str__(self) -> str:
        if self.kind is LoadKind.GIVEN:
            return "arrivals as given"
        unit = "sessions/s" if self.kind is LoadKind.RATE else "at a time"
        return f"{self.value:g} {unit}"


@dataclass(frozen=True)
class Arm:
    """A policy by name with changes to its options: `lamps`, `lamps{rank_weight=0}`."""

    policy: str
    options: tuple[tuple[str, float | bool], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Arm:
        """Raises SimulationError for an unknown policy or option."""
        match = re.fullmatch(r"([a-z-]+)(?:\{([^{}]*)\})?", text.strip())
        if match is None:
            raise SimulationError(f"policy = {text!r}: expected NAME or NAME{{option=value,...}}")
        known = [*STOCK, *lamps_ext.policy_names()]
        if match[1] not in known:
            raise SimulationError(f"policy = {match[1]!r}: accepted are {', '.join(known)}")
        pairs = [pair for pair in (match[2] or "").split(",") if pair.strip()]
        arm = cls(match[1], tuple(_option(pair) for pair in pairs))
        arm.core_options()
        return arm

    def __str__(self) -> str:
        if not self.options:
            return self.policy
        changes = ",".join(f"{name}={value:g}" for name, value in self.options)
        return f"{self.policy}{{{changes}}}"

    @property
    def scheduler(self) -> str:
        """What the simulator runs: stock vLLM's own rules, or the policy core."""
        return STOCK.get(self.policy, "core")

    def core_options(self) -> lamps_ext.Options:
        """Options of the policy core. Raises SimulationError naming a bad one and its range."""
        defaults = lamps_ext.Options()
        changes: dict[str, Any] = {"policy": self.policy} if self.scheduler == "core" else {}
        for name, value in self.options:
            kind = type(getattr(defaults, name, None))
            if kind not in (bool, int, float):
                raise SimulationError(f"policy option {name!r}: there is none of this name")
            changes[name] = kind(value)
        options = core_options(changes)
        try:
            options.validate()
        except lamps_ext.InvalidOption as error:
            raise SimulationError(str(error)) from error
        return options


def _option(pair: str) -> tuple[str, float | bool]:
    name, _, value = (part.strip() for part in pair.partition("="))
    words = {"true": 1.0, "false": 0.0}
    try:
        return name, words[value] if value in words else float(value)
    except ValueError as error:
        raise SimulationError(f"policy option {pair!r}: expected name=number") from error


def split_arms(text: str) -> list[Arm]:
    """Arms from a comma-separated list; commas inside braces belong to the arm."""
    return [Arm.parse(part) for part in re.split(r",(?![^{]*\})", text) if part.strip()]


@dataclass(frozen=True)
class Case:
    """One run. Equal cases give equal results."""

    source: Source
    profile: str
    arm: Arm
    load: Load
    seed: int = 0
    total: int | None = None  # sessions of a closed loop; more than there are: over and over
    engines: int = 1
    router: str = "sticky"
    host_gib: float = 0.0
    host: HostTier = HostTier.OFFLOAD
    kv_tokens: int | None = None  # instead of the profile's
    prefix_caching: bool = True
    prediction: Prediction = field(default_factory=Prediction)
    read_calls: bool = (
        True  # calls are read from the turns' tokens, as a server with a tokenizer does
    )
    tool_hints: bool = False  # clients name the tool they call, before the turn runs
    final_hints: bool = False  # clients say which turn is their last
    detail: bool = False  # keep what the plots need: time series, decisions, time lines

    @property
    def label(self) -> str:
        """How tables name the run: the policy, and the host tier where there is one."""
        tier = f" +{self.host_gib:g} GiB {self.host}" if self.host_gib > 0.0 else ""
        return f"{self.arm}{tier}"

    def shape(self) -> PaceProfile:
        """The device profile. Raises SimulationError if it cannot be simulated on."""
        profile = load_profile(self.profile)
        engine = profile.engine
        if engine is None:
            raise SimulationError(
                f"profile {self.profile!r} paces steps only: it has no `engine` to simulate"
            )
        if self.host is HostTier.SWAP and self.host_gib > 0.0 and self.arm.policy in STOCK:
            raise SimulationError(f"host = swap: policy {self.arm.policy!r} does not decide")
        if self.host_gib > 0.0 and not (engine.host_bytes_per_s and engine.kv_bytes_per_token):
            raise SimulationError(
                f"host_gib = {self.host_gib:g}: profile {self.profile!r} has no "
                "host_bytes_per_s or kv_bytes_per_token"
            )
        return profile

    def engine(self) -> lamps_ext.SimEngine:
        """The engine for the simulator. Raises SimulationError."""
        profile = self.shape()
        shape = profile.engine
        assert shape is not None
        host_tokens = 0
        if self.host_gib > 0.0:
            host_tokens = int(self.host_gib * GIB / shape.kv_bytes_per_token)
        try:
            return lamps_ext.SimEngine(
                capacity_tokens=self.kv_tokens or shape.kv_tokens,
                block_tokens=shape.block_tokens,
                max_context=shape.max_context,
                step_tokens=shape.step_tokens,
                max_running=shape.max_running,
                base=profile.base_s,
                per_prefill=profile.per_prefill_token_s,
                per_decode=profile.per_request_s,
                per_context=profile.per_context_token_s,
                per_prefill_context=shape.per_prefill_context_s,
                prefix_caching=self.prefix_caching,
                ahead=shape.asynchronous,
                host_tokens=host_tokens,
                host=str(self.host),
                host_bytes_per_s=shape.host_bytes_per_s if host_tokens else 0.0,
                kv_bytes_per_token=shape.kv_bytes_per_token if host_tokens else 0,
            )
        except lamps_ext.InvalidOption as error:
            raise SimulationError(str(error)) from error

    def options(self) -> lamps_ext.Options:
        """What the policy is told at start: options, and the host link where there is one."""
        options = self.arm.core_options()
        shape = self.shape().engine
        if self.host_gib > 0.0 and shape is not None:
            cost = options.cost
            cost.swap_bytes_per_s = shape.host_bytes_per_s
            cost.kv_bytes_per_token = shape.kv_bytes_per_token
            options.cost = cost
        return options
