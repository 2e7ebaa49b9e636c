# SPDX-License-Identifier: Apache-2.0
"""Measures a device profile from a running OpenAI-compatible server with short controlled requests.

Three kinds of trials, each repeated and its fastest repeat kept: small prompts decoding together
(step time against requests), one request decoding behind a long prompt (against context), and the
time to the first token of prompts of several lengths (prefill, linear and quadratic). Prompts are
random tokens, so no prefix cache helps; lengths are forced.

What it cannot see: the times hold HTTP and client overhead, an otherwise idle server is assumed,
batches beyond `requests` and contexts beyond `prompts` are extrapolated, and steps that mix prefill
and decode are taken to cost the sum of both.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from lamps_vllm.pace import EngineShape, PaceProfile
from lamps_vllm.replay.records import TurnRecord
from lamps_vllm.replay.stream import TURN_FAILURES, describe, stream_turn

FIRST_TOKEN_ID = 3
SHORT_PROMPT = 16


class ProfilingError(RuntimeError):
    """The server cannot be profiled; the message says what it answered."""


@dataclass(frozen=True)
class Plan:
    """What to try. Sizes in tokens."""

    base_url: str
    model: str | None = None
    api_key: str | None = None
    requests: tuple[int, ...] = (1, 2, 4, 8, 16)
    prompts: tuple[int, ...] = (64, 256, 512, 1024, 1536)
    decode_tokens: int = 48
    repeats: int = 3
    vocab_size: int = 1024
    seed: int = 0
    timeout_s: float = 600.0

    def trials(self) -> int:
        """Trials in all, for a progress bar."""
        return self.repeats * (len(self.requests) + len(self.prompts) + 1)


@dataclass(frozen=True)
class Decode:
    """Seconds per step while `requests` decode with `context` tokens each."""

    requests: int
    context: float
    seconds: float


@dataclass(frozen=True)
class Prefill:
    """Seconds to the first token of a lone prompt of `tokens`."""

    tokens: int
    seconds: float


@dataclass
class Observations:
    """Everything measured, and what the server says about itself."""

    model: str = ""
    decodes: list[Decode] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    max_context: int | None = None
    kv_tokens: int | None = None
    block_tokens: int | None = None


def least_squares(features: NDArray[np.float64], seconds: NDArray[np.float64]) -> list[float]:
    """Coefficients >= 0 with the least relative error; a column that wants to be below is left out."""
    weights = 1.0 / np.maximum(seconds, 1e-9)
    active = list(range(features.shape[1]))
    while active:
        found, *_ = np.linalg.lstsq(
            features[:, active] * weights[:, None], seconds * weights, rcond=None
        )
        if (found >= 0.0).all():
            result = [0.0] * features.shape[1]
            for column, value in zip(active, found, strict=True):
                result[column] = float(value)
            return result
        active.pop(int(np.argmin(found)))
    return [0.0] * features.shape[1]


def fit(seen: Observations) -> tuple[PaceProfile, float]:
    """The profile, and the median relative error of its own observations.

    Raises ProfilingError where there is too little to fit.
    """
    if len(seen.decodes) < 3 or len(seen.prefills) < 3:
        raise ProfilingError("too few trials succeeded: at least 3 decodes and 3 prefills needed")
    decode_rows = np.array([[1.0, d.requests, d.requests * d.context] for d in seen.decodes])
    decode_times = np.array([each.seconds for each in seen.decodes])
    base, per_request, per_context = least_squares(decode_rows, decode_times)
    prefill_rows = np.array([[1.0, p.tokens, p.tokens**2 / 2.0] for p in seen.prefills])
    prefill_times = np.array([each.seconds for each in seen.prefills])
    prefill = least_squares(prefill_rows, prefill_times)
    error = np.concatenate(
        [
            decode_rows @ np.array([base, per_request, per_context]) / decode_times - 1.0,
            prefill_rows @ np.array(prefill) / prefill_times - 1.0,
        ]
    )
    profile = PaceProfile(
        description=f"Measured from a running server of {seen.model}.",
        base_s=base,
        per_request_s=per_request,
        per_context_token_s=per_context,
        per_prefill_token_s=prefill[1],
        engine=_shape(seen, prefill[2]),
        origin=_origin(seen),
    )
    return profile, float(np.median(np.abs(error)))


def _shape(seen: Observations, per_prefill_context: float) -> EngineShape | None:
    """What the server tells about its memory; None where it does not say enough."""
    if seen.kv_tokens is None or seen.max_context is None:
        return None
    return EngineShape(
        kv_tokens=seen.kv_tokens,
        block_tokens=seen.block_tokens or 16,
        max_context=min(seen.max_context, seen.kv_tokens),
        kv_bytes_per_token=0,
        per_prefill_context_s=per_prefill_context,
    )


def _origin(seen: Observations) -> dict[str, str]:
    most = max(each.requests for each in seen.decodes)
    longest = max(each.tokens for each in seen.prefills)
    return {
        "base_s, per_request_s, per_context_token_s": f"lamps profile: time between tokens of 1 to "
        f"{most} requests, HTTP included",
        "per_prefill_token_s, per_prefill_context_s": "lamps profile: time to the first token of "
        f"prompts of up to {longest} tokens",
        "kv_tokens, block_tokens, max_context": "the server's /metrics and /v1/models",
        "step_tokens, max_running": "vLLM's defaults: correct them if the server has others",
        "kv_bytes_per_token, host_bytes_per_s": "not measured: fill in for a host tier",
    }


class Profiler:
    """Runs a plan against its server. Use once."""

    def __init__(self, plan: Plan, on_trial: Callable[[str], None] = lambda what: None) -> None:
        self._plan = plan
        self._on_trial = on_trial
        self._rng = np.random.default_rng(plan.seed)
        self._seen = Observations()
        self._http: aiohttp.ClientSession

    async def run(self) -> Observations:
        """Raises ProfilingError where the server does not answer as needed."""
        key = self._plan.api_key
        async with aiohttp.ClientSession(
            self._plan.base_url.rstrip("/"),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._plan.timeout_s),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        ) as self._http:
            try:
                await self._introduce()
                await self._decode_trials()
                await self._prefill_trials()
            except TURN_FAILURES as error:
                raise ProfilingError(f"{self._plan.base_url}: {describe(error)}") from error
        return self._seen

    async def _introduce(self) -> None:
        async with self._http.get("/v1/models") as response:
            response.raise_for_status()
            models = (await response.json())["data"]
        wanted = [m for m in models if self._plan.model in (None, m["id"])]
        if not wanted:
            raise ProfilingError(f"model {self._plan.model!r}: the server has none of this name")
        self._seen.model = wanted[0]["id"]
        self._seen.max_context = wanted[0].get("max_model_len")
        async with self._http.get("/metrics") as response:
            text = await response.text() if response.ok else ""
        self._seen.kv_tokens, self._seen.block_tokens = cache_config(text)

    async def _decode_trials(self) -> None:
        output = self._plan.decode_tokens
        for requests in self._plan.requests:
            seconds = await self._fastest(
                f"{requests} decoding", lambda n=requests: self._between_tokens(n, SHORT_PROMPT)
            )
            self._seen.decodes.append(Decode(requests, SHORT_PROMPT + output / 2, seconds))
        longest = self._fitting(max(self._plan.prompts))
        seconds = await self._fastest(
            f"decoding behind {longest} tokens", lambda: self._between_tokens(1, longest)
        )
        self._seen.decodes.append(Decode(1, longest + output / 2, seconds))

    async def _prefill_trials(self) -> None:
        for tokens in sorted({self._fitting(prompt) for prompt in self._plan.prompts}):
            seconds = await self._fastest(
                f"prompt of {tokens}", lambda n=tokens: self._first_token(n)
            )
            self._seen.prefills.append(Prefill(tokens, seconds))

    def _fitting(self, prompt: int) -> int:
        limit = self._seen.max_context
        return prompt if limit is None else min(prompt, limit - self._plan.decode_tokens - 1)

    async def _fastest(self, what: str, trial: Callable[[], Any]) -> float:
        best = math.inf
        for _ in range(self._plan.repeats):
            best = min(best, await trial())
            self._on_trial(what)
        return best

    async def _between_tokens(self, requests: int, prompt: int) -> float:
        """Median over requests of the mean time between a request's tokens."""
        output = self._plan.decode_tokens
        turns = await asyncio.gather(*(self._turn(prompt, output) for _ in range(requests)))
        return float(np.median([(t.end - t.first_token) / (output - 1) for t in turns]))

    async def _first_token(self, prompt: int) -> float:
        turn = await self._turn(prompt, 1)
        return float(turn.first_token - turn.sent)

    async def _turn(self, prompt: int, output: int) -> Any:
        tokens = self._rng.integers(FIRST_TOKEN_ID, self._plan.vocab_size, size=prompt).tolist()
        body = {
            "model": self._seen.model,
            "prompt": tokens,
            "max_tokens": output,
            "min_tokens": output,
            "ignore_eos": True,
            "return_token_ids": True,
            "temperature": 0.0,
            "stream": True,
        }
        started = time.perf_counter()
        turn = TurnRecord(index=0, planned=started, sent=started)
        await stream_turn(self._http, "/v1/completions", body, turn, time.perf_counter)
        return turn


def cache_config(metrics: str) -> tuple[int | None, int | None]:
    """(KV tokens, block size) from the text of vLLM's /metrics; None where it has none."""
    line = re.search(r"^vllm:cache_config_info\{(.*)\}", metrics, re.MULTILINE)
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line[1])) if line else {}
    try:
        block = int(labels["block_size"])
        return int(labels["num_gpu_blocks"]) * block, block
    except (KeyError, ValueError):
        return None, None


def profile_server(
    plan: Plan, on_trial: Callable[[str], None] = lambda what: None
) -> tuple[PaceProfile, float, Sequence[Decode | Prefill]]:
    """(profile, median relative error, observations). Raises ProfilingError."""
    seen = asyncio.run(Profiler(plan, on_trial).run())
    profile, error = fit(seen)
    return profile, error, [*seen.decodes, *seen.prefills]
