# SPDX-License-Identifier: Apache-2.0
"""What LAMPS is for, at the scale of a GPU: simulated runs against the best free order.

Runs are deterministic, and the margins are wide: what breaks one is a rule that does harm somewhere
while its own tests, on small scenes, stay green. The tables are in benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from lamps_vllm.simulate.case import Arm, Case, Load, LoadKind
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.run import run_case
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction

SATURATION = {"single": 8.72, "multi": 4.27, "toolbench": 3.59}  # sessions/s of fcfs, GPT-J 6B


def both(case: Case, rival: str) -> tuple[Outcome, Outcome]:
    ours, theirs = (run_case(replace(case, arm=Arm(policy))) for policy in ("lamps", rival))
    assert ours.metrics.failed == theirs.metrics.failed == 0
    assert ours.metrics.sessions == theirs.metrics.sessions
    return ours, theirs


@pytest.mark.parametrize("told", [Prediction(None), Prediction(0.0)], ids=str)
@pytest.mark.parametrize("workload", SATURATION)
def test_overload_is_served_in_less_time_than_by_session_age(workload, told):
    case = Case(
        Source(workload, sessions=1200), "gpt-j-6b", Arm("lamps"),
        Load(LoadKind.RATE, 1.5 * SATURATION[workload]), prediction=told,
    )  # fmt: skip
    ours, theirs = both(case, "session-fcfs")
    assert ours.metrics.session_mean < 0.85 * theirs.metrics.session_mean
    assert ours.metrics.session_p99 < 1.1 * theirs.metrics.session_p99


@pytest.mark.parametrize("workload", SATURATION)
def test_light_load_is_left_alone(workload):
    case = Case(
        Source(workload, sessions=800), "gpt-j-6b", Arm("lamps"),
        Load(LoadKind.RATE, 0.4 * SATURATION[workload]),
    )  # fmt: skip
    ours, theirs = both(case, "fcfs")
    assert ours.metrics.session_mean < 1.01 * theirs.metrics.session_mean
    assert ours.metrics.session_p99 < 1.03 * theirs.metrics.session_p99


def test_agents_beyond_memory_get_twice_the_output():
    case = Case(
        Source("agents", sessions=150), "h100-tp2-qwen3-30b-a3b", Arm("lamps"),
        Load(LoadKind.CONCURRENCY, 64), total=200, final_hints=True,
    )  # fmt: skip
    ours, theirs = both(case, "fcfs")
    assert ours.more.steady_tokens_per_s > 2.0 * theirs.more.steady_tokens_per_s
