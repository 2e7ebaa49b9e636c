# SPDX-License-Identifier: Apache-2.0
"""The clairvoyant bound: by hand, and below every policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lamps_vllm.pace import PaceProfile, load_profile
from lamps_vllm.replay.workload import Segment, Session, Workload
from lamps_vllm.simulate.bound import lower_bound, shortest_remaining_first
from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind
from lamps_vllm.simulate.run import run_case, workload_of
from lamps_vllm.workloads.catalog import Source


def mean_time(*jobs: tuple[float, float]) -> float:
    arrival, work = np.array(jobs, dtype=float).T
    return shortest_remaining_first(arrival, work)


def test_shortest_remaining_first_by_hand():
    assert mean_time((5.0, 2.0)) == 2.0
    # The short one goes between: 0-1, 1-2 (short), 2-11.
    assert mean_time((0.0, 10.0), (1.0, 1.0)) == pytest.approx((11.0 + 1.0) / 2)
    # What is left of the first, 1 s, is shorter than the second's 2 s.
    assert mean_time((0.0, 3.0), (2.0, 2.0)) == pytest.approx((3.0 + 3.0) / 2)
    # Idle between.
    assert mean_time((0.0, 1.0), (10.0, 1.0)) == 1.0


def test_shortest_remaining_first_beats_any_fixed_order():
    rng = np.random.default_rng(0)
    arrival, work = np.sort(rng.uniform(0, 50, 40)), rng.exponential(1.5, 40)
    best = shortest_remaining_first(arrival, work)
    for _ in range(20):
        now, total = 0.0, 0.0
        for index in rng.permutation(40):
            now = max(now, arrival[index]) + work[index]
            total += now - arrival[index]
        assert best <= total / 40


def test_a_lone_session_takes_its_alone_time():
    segments = (
        Segment(prompt_tokens=64, output_tokens=11, call_seconds=2.0),
        Segment(prompt_tokens=32, output_tokens=6),
    )
    workload = Workload.of([Session(id="x", arrival=1.0, segments=segments)])
    profile = load_profile("cpu-demo")
    steps = 17 * (profile.base_s + profile.per_request_s)  # one a token
    assert lower_bound(workload, profile).alone == pytest.approx(steps + (63 + 31) * 1e-4)
    with pytest.raises(ValueError, match="how much KV"):
        lower_bound(workload, PaceProfile())


@pytest.mark.parametrize("rate", [0.1, 3.15, 12.0])
@pytest.mark.parametrize("policy", ["stock", "priority", "lamps", "infercept", "sjf-total"])
def test_no_policy_is_better_than_the_bound(rate, policy):
    case = Case(Source("mix"), "cpu-demo", Arm(policy), Load(LoadKind.RATE, rate))
    for seed in range(2):
        case = replace(case, seed=seed)
        bound = lower_bound(workload_of(case)[0], load_profile("cpu-demo"))
        outcome = run_case(case)
        assert outcome.more.bound_mean == bound.mean
        assert outcome.metrics.session_mean >= bound.mean
    closed = run_case(replace(case, load=Load(LoadKind.CONCURRENCY, 3)))
    assert closed.more.bound_mean is None
