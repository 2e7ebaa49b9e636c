# SPDX-License-Identifier: Apache-2.0
"""Modelled step times: what a paced engine step should cost, and the sleep that makes it so.

A paced engine runs real scheduling, KV management, HTTP and sampling, but every step is padded to
the time a profile predicts for it. That hides the drift of a shared machine and lets a CPU show a
GPU's timing. Nothing here imports vLLM; `lamps_vllm.paced` holds the worker.

A profile that also says how much KV the deployment holds (`engine`) is one for `lamps simulate`;
`origin` says where its numbers come from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# Below "vllm", whose handlers and level the worker process has set up.
logger = logging.getLogger("vllm.lamps.pace")

CONFIG_KEY = "lamps_pace"
REPORT_EVERY_STEPS = 1000
# A step this much above its model still counts as on time: a sleep overshoots by about as much.
TOLERANCE = 0.02

StepSeconds = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]


class PaceError(ValueError):
    """The pace option names no usable profile, or a profile holds a bad value."""


class EngineShape(BaseModel):
    """What a simulated engine is, beside its step times. Sizes in tokens unless a name says more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kv_tokens: int = Field(ge=16, le=1_000_000_000)
    """KV tokens the device holds."""
    block_tokens: int = Field(default=16, ge=1, le=4096)
    max_context: int = Field(ge=16, le=100_000_000)
    step_tokens: int = Field(default=8192, ge=16, le=1_000_000)
    """Tokens a step may compute (vLLM: max_num_batched_tokens)."""
    max_running: int = Field(default=256, ge=1, le=100_000)
    """Requests a step may hold (vLLM: max_num_seqs)."""
    kv_bytes_per_token: int = Field(ge=0, le=1 << 30)
    host_bytes_per_s: float = Field(default=0.0, ge=0.0, le=1e13)
    """Copies between device and host, each way; 0: no host tier can be simulated."""
    asynchronous: bool = False
    """Step k+1 is planned while step k runs (vLLM's asynchronous scheduling)."""
    per_prefill_context_s: float = Field(default=0.0, ge=0.0, le=1e-3)
    """Attention of long prefills: seconds per prefill token and token of context before it."""

    @model_validator(mode="after")
    def _context_fits(self) -> EngineShape:
        if self.max_context > self.kv_tokens:
            raise ValueError(f"max_context is larger than kv_tokens = {self.kv_tokens}")
        return self


class PaceProfile(BaseModel):
    """Coefficients of the modelled step time, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    base_s: StepSeconds = 0.010
    per_prefill_token_s: StepSeconds = 0.0001
    per_request_s: StepSeconds = 0.0003
    per_context_token_s: StepSeconds = 0.0
    origin: dict[str, str] = {}
    """Where each number comes from, by field."""
    engine: EngineShape | None = None

    def step_seconds(self, prefill_tokens: int, requests: int, context_tokens: int) -> float:
        """Time of a step that prefills `prefill_tokens` over `requests` requests in all."""
        return (
            self.base_s
            + self.per_prefill_token_s * prefill_tokens
            + self.per_request_s * requests
            + self.per_context_token_s * context_tokens
        )


def available_profiles() -> list[str]:
    """Names of the profiles that ship with the package, sorted."""
    folder = resources.files("lamps_vllm") / "profiles"
    return sorted(
        entry.name.removesuffix(".json")
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    )


def load_profile(name_or_path: str) -> PaceProfile:
    """Loads a shipped profile by name, or any JSON file by path. Raises PaceError."""
    names = available_profiles()
    if name_or_path in names:
        text = (resources.files("lamps_vllm") / "profiles" / f"{name_or_path}.json").read_text()
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text(encoding="utf-8")
    else:
        raise PaceError(
            f"{CONFIG_KEY} = {name_or_path!r}: no such profile or file; "
            f"profiles that ship with lamps-vllm: {', '.join(names)}"
        )
    try:
        return PaceProfile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        value = "" if first["type"] == "json_invalid" else f" = {first['input']!r}"
        raise PaceError(
            f"pace profile {name_or_path!r}: {field}{value}: {first['msg']}; accepted: "
            f"{', '.join(PaceProfile.model_fields)}, each of the times in 0..10 s"
        ) from error


def profile_from_config(additional_config: Any) -> PaceProfile:
    """The profile chosen by vLLM's `--additional-config '{"lamps_pace": NAME_OR_PATH}'`."""
    config = additional_config if isinstance(additional_config, dict) else {}
    choice = config.get(CONFIG_KEY, "cpu-demo")
    if not isinstance(choice, str):
        raise PaceError(
            f"{CONFIG_KEY} = {choice!r}: expected a profile name "
            f"({', '.join(available_profiles())}) or the path of a JSON file"
        )
    return load_profile(choice)


class _CachedRequests(Protocol):
    num_computed_tokens: Iterable[int]


class StepPlan(Protocol):
    """The part of vLLM's SchedulerOutput that the model of a step needs."""

    num_scheduled_tokens: dict[str, int]
    scheduled_new_reqs: Iterable[Any]
    scheduled_cached_reqs: _CachedRequests


@dataclass
class Pacer:
    """Pads steps to a profile and counts those that were already too long.

    `clock` and `sleep` are in seconds and exist for tests.
    """

    profile: PaceProfile
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    steps: int = 0
    late_steps: int = 0
    worst_excess_s: float = 0.0
    _reported_at: int = 0

    def modelled_seconds(self, plan: StepPlan) -> float:
        """Modelled time of one step; 0 for a step that runs no tokens.

        A request that gets one token decodes; one that gets more prefills all of them.
        """
        scheduled = plan.num_scheduled_tokens
        if not scheduled:
            return 0.0
        prefill_tokens = sum(tokens for tokens in scheduled.values() if tokens > 1)
        context_tokens = 0
        if self.profile.per_context_token_s > 0.0:
            context_tokens = sum(plan.scheduled_cached_reqs.num_computed_tokens) + sum(
                request.num_computed_tokens for request in plan.scheduled_new_reqs
            )
        return self.profile.step_seconds(prefill_tokens, len(scheduled), context_tokens)

    def finish_step(self, started: float, modelled: float) -> None:
        """Sleeps until `started + modelled`, or counts the step as late."""
        if modelled <= 0.0:
            return
        self.steps += 1
        left = started + modelled - self.clock()
        if left > 0.0:
            self.sleep(left)
        elif -left > TOLERANCE * modelled:
            self.late_steps += 1
            self.worst_excess_s = max(self.worst_excess_s, -left)
        if self.steps - self._reported_at >= REPORT_EVERY_STEPS:
            self.report()

    def report(self) -> None:
        """Warns when steps ran longer than the model: their times are then not the profile's."""
        self._reported_at = self.steps
        if self.late_steps:
            logger.warning("%s", self.summary())

    def summary(self) -> str:
        """One sentence: how many steps were longer than modelled, and by how much at worst."""
        share = 100.0 * self.late_steps / max(self.steps, 1)
        return (
            f"paced: {self.late_steps} of {self.steps} steps ({share:.1f} %) ran longer than the "
            f"profile says, the worst by {1000.0 * self.worst_excess_s:.1f} ms"
        )
