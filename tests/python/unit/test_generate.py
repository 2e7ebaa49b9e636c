# SPDX-License-Identifier: Apache-2.0
"""The generated mix against the published statistics it is built from."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from pydantic import ValidationError

from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.workload import Session, Workload

# Mean prompt, calls per session and call time (s) of the published table.
PUBLISHED = {
    "Math": (405, 2.81, 8e-5),
    "QA": (934, 3.04, 0.709),
    "VE": (1973, 5.35, 0.0851),
    "Chatbot": (108, 3.46, 28.2),
    "Image": (108, 6.92, 19.9),
    "TTS": (108, 6.92, 17.1),
}


def generate(seed: int = 0, **options) -> Workload:
    return generate_mix(np.random.default_rng(seed), MixOptions(**options))


@pytest.fixture(scope="module")
def raw_mix() -> dict[str, list[Session]]:
    """The mix as published: nothing scaled, no cap on calls, context not cut."""
    workload = generate(
        sessions=3000, call_scale=1.0, max_calls=100, mean_output=None, max_context=100_000
    )
    by_class = defaultdict(list)
    for session in workload.sessions:
        by_class[session.segments[0].tool].append(session)
    return by_class


@pytest.mark.parametrize("name", PUBLISHED)
def test_class_means(raw_mix, name):
    prompt, calls, seconds = PUBLISHED[name]
    sessions = raw_mix[name]
    times = [s.call_seconds for each in sessions for s in each.segments[:-1]]
    # Chat prompts: five quantiles fix the median well and the mean of a heavy tail less well.
    tolerance = 0.5 if prompt == 108 else 0.02
    assert np.mean([each.segments[0].prompt_tokens for each in sessions]) == pytest.approx(
        prompt, rel=tolerance
    )
    assert np.mean([len(each.segments) - 1 for each in sessions]) == pytest.approx(calls, rel=0.1)
    assert np.mean(times) == pytest.approx(seconds, rel=0.1)


def test_class_shares(raw_mix):
    shares = {name: len(sessions) / 3000 for name, sessions in raw_mix.items()}
    weights = {"Math": 98, "QA": 50, "VE": 54, "Chatbot": 65, "Image": 65, "TTS": 65}
    for name, weight in weights.items():
        assert shares[name] == pytest.approx(weight / 397, abs=0.03)


def test_image_calls_have_two_modes(raw_mix):
    tools = [s.call_seconds for each in raw_mix["Image"] for s in each.segments[:-1:2]]
    users = [s.call_seconds for each in raw_mix["Image"] for s in each.segments[1:-1:2]]
    assert np.mean(tools) == pytest.approx(11.54, rel=0.05)
    assert np.std(tools) < 1.5
    assert max(users) == 60.0
    assert min(users) >= 3.4


def test_environment_time_is_constant_within_a_session(raw_mix):
    for session in raw_mix["VE"]:
        assert len({segment.call_seconds for segment in session.segments[:-1]}) == 1


def test_workload_a():
    workload = generate(sessions=120, rate=4.0)
    segments = [segment for session in workload.sessions for segment in session.segments]
    assert len(workload.sessions) == 120
    assert all(1 <= len(session.segments) <= 5 for session in workload.sessions)
    assert np.mean([segment.output_tokens for segment in segments]) == pytest.approx(40, rel=0.05)
    assert max(session.context_tokens for session in workload.sessions) <= 2048
    assert workload.sessions[-1].arrival == pytest.approx(30, rel=0.35)


def test_same_seed_same_sessions_at_any_rate_and_call_scale():
    base = generate(seed=3, sessions=50, rate=1.0, call_scale=1.0)
    assert generate(seed=3, sessions=50, rate=1.0, call_scale=1.0) == base
    assert generate(seed=4, sessions=50, rate=1.0, call_scale=1.0) != base
    other = generate(seed=3, sessions=50, rate=5.0, call_scale=0.1)
    for mine, theirs in zip(base.sessions, other.sessions, strict=True):
        assert theirs.arrival == pytest.approx(mine.arrival / 5.0)
        assert theirs.tool_seconds == pytest.approx(mine.tool_seconds * 0.1)
        assert theirs.context_tokens == mine.context_tokens


def test_context_limit_cuts_prompts_and_ends_sessions():
    workload = generate(sessions=200, max_context=256)
    assert max(session.context_tokens for session in workload.sessions) <= 256
    assert all(session.segments[-1].call_seconds is None for session in workload.sessions)


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"sessions": 0}, {"max_calls": -1}, {"max_context": 1}, {"ratte": 1}]
)
def test_bad_option(options):
    with pytest.raises(ValidationError):
        MixOptions(**options)
