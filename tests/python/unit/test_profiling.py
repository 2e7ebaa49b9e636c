# SPDX-License-Identifier: Apache-2.0
"""The profile that is fitted to a server's times, and what the fit does with odd ones."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from fake_server import FakeServer

from lamps_vllm.pace import PaceProfile
from lamps_vllm.profiling import (
    Decode,
    Observations,
    Plan,
    Prefill,
    Profiler,
    ProfilingError,
    cache_config,
    fit,
    least_squares,
)

TRUE = PaceProfile(
    base_s=0.006, per_request_s=4e-5, per_prefill_token_s=2e-5, per_context_token_s=3e-8
)
HTTP_S = 0.002


def observed(noise: float = 0.0) -> Observations:
    rng = np.random.default_rng(0)

    def measured(seconds: float) -> float:
        return seconds * (1.0 + noise * rng.standard_normal())

    loads = [(n, 40.0) for n in (1, 2, 4, 8, 16, 32)] + [(1, 100_000.0), (8, 50_000.0)]
    decodes = [
        Decode(n, context, measured(TRUE.step_seconds(0, n, round(n * context))))
        for n, context in loads
    ]
    prefills = [
        Prefill(tokens, measured(HTTP_S + 0.006 + 2e-5 * tokens + 1e-9 * tokens**2 / 2))
        for tokens in (64, 512, 2048, 8192, 32768, 65536)
    ]
    return Observations("m", decodes, prefills, 131_072, 400_000, 16)


def test_fit_recovers_the_coefficients():
    profile, error = fit(observed())
    assert profile.base_s == pytest.approx(TRUE.base_s, rel=1e-3)
    assert profile.per_request_s == pytest.approx(TRUE.per_request_s, rel=1e-3)
    assert profile.per_context_token_s == pytest.approx(TRUE.per_context_token_s, rel=1e-3)
    assert profile.per_prefill_token_s == pytest.approx(TRUE.per_prefill_token_s, rel=1e-3)
    assert profile.engine.per_prefill_context_s == pytest.approx(1e-9, rel=1e-3)
    assert error < 1e-6


def test_fit_with_noise_is_near_and_says_how_near():
    profile, error = fit(observed(noise=0.03))
    assert profile.base_s == pytest.approx(TRUE.base_s, rel=0.1)
    assert profile.per_prefill_token_s == pytest.approx(TRUE.per_prefill_token_s, rel=0.2)
    assert 0.002 < error < 0.06


def test_what_the_server_does_not_tell_is_left_out():
    seen = observed()
    seen.kv_tokens = None
    assert fit(seen)[0].engine is None
    with pytest.raises(ProfilingError, match="too few"):
        fit(Observations("m", seen.decodes[:2], seen.prefills))


def test_no_coefficient_is_negative():
    rows = np.array([[1.0, x] for x in range(1, 9)])
    falling = np.array([1.0 - 0.05 * x for x in range(1, 9)])
    constant, slope = least_squares(rows, falling)
    assert slope == 0.0
    assert constant == pytest.approx(falling.mean(), rel=0.1)


def test_cache_config():
    line = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="5000",engine="0"} 1.0\n'
    assert cache_config("# HELP x\n" + line) == (80_000, 16)
    assert cache_config("") == (None, None)
    assert cache_config('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1') == (
        None,
        None,
    )


def run(fake: FakeServer, **plan) -> Observations:
    async def serve_and_measure() -> Observations:
        async with TestServer(fake.app()) as server:
            return await Profiler(Plan(base_url=str(server.make_url("/")), **plan)).run()

    return asyncio.run(serve_and_measure())


def test_against_a_server():
    fake = FakeServer(token_delay_s=0.004)
    seen = run(fake, requests=(1, 4), prompts=(8, 32, 64), decode_tokens=8, repeats=1)
    assert [each.requests for each in seen.decodes] == [1, 4, 1]
    assert [each.tokens for each in seen.prefills] == [8, 32, 64]
    assert all(0.003 < each.seconds < 0.1 for each in seen.decodes)
    assert all(body["min_tokens"] == body["max_tokens"] for body in fake.bodies)
    prompts = [tuple(body["prompt"]) for body in fake.bodies]
    assert len(set(prompts)) == len(prompts)  # nothing for a prefix cache to hit


def test_no_server_and_no_such_model():
    with pytest.raises(ProfilingError, match="none of this name"):
        run(FakeServer(), model="other")
    with pytest.raises(ProfilingError, match=r"127\.0\.0\.1:9"):
        asyncio.run(Profiler(Plan(base_url="http://127.0.0.1:9")).run())
