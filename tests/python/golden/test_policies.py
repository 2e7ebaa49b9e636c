# SPDX-License-Identifier: Apache-2.0
"""Policies by name under the real vLLM scheduler, overloaded: those that claim to be vLLM's are, step for
step, and every one serves everybody and gives every block back."""

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

import lamps_ext
from lamps_vllm import LampsScheduler
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.records import Identity
from lamps_vllm.replay.workload import Segment
from tests.support.driver import Driver, tokens
from tests.support.lockstep import make_config, make_scheduler, replay

SEEDS = range(3)
BLOCKS = 100


def load(seed: int):
    """Sessions of an agent mix, about three times as many as the pool can serve."""
    options = MixOptions(sessions=30, rate=6.0, call_scale=0.1)
    return generate_mix(np.random.default_rng(seed), options)


def call_time(segment: Segment) -> dict[str, float] | None:
    if segment.call_seconds is None:
        return None
    return {"expected_call_seconds": segment.call_seconds}


class Watched:
    """A scheduler that notes what each step schedules and preempts, and checks the core's books."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.steps: list[tuple[list[tuple[str, int]], list[str]]] = []
        self._schedule = scheduler.schedule
        scheduler.schedule = self.schedule

    def schedule(self):
        output = self._schedule()
        preempted = sorted(output.preempted_req_ids or ())
        if output.num_scheduled_tokens or preempted:  # idle steps differ in nothing
            self.steps.append((list(output.num_scheduled_tokens.items()), preempted))
        if isinstance(self.scheduler, LampsScheduler):
            assert not self.scheduler._faulted
            self.scheduler._core.check_invariants()
        return output

    @property
    def preemptions(self) -> int:
        return sum(len(preempted) for _, preempted in self.steps)


def serve(
    scheduler_cls: type[Scheduler], seed: int, identity: Identity, *, hints=lambda segment: None, **config
) -> Watched:  # fmt: skip
    watched = Watched(make_scheduler(scheduler_cls, make_config(blocks=BLOCKS, **config)))
    result = replay(load(seed), watched.scheduler, identity=identity, seed=seed, hints=hints)
    for session in result.sessions:
        assert len(session.turns) == session.planned_turns, f"{session.id} is not served to its end"
        assert session.turns[-1].end is not None
    assert not watched.scheduler.requests
    assert not watched.scheduler.running
    return watched


@pytest.mark.parametrize("seed", SEEDS)
def test_fcfs_schedules_as_stock_vllm_does(seed: int):
    stock = serve(AsyncScheduler, seed, Identity.NONE)
    ours = serve(LampsScheduler, seed, Identity.SESSION_ID, lamps={"policy": "fcfs"})
    assert stock.preemptions > 0, "the load preempts nobody: it proves little"
    assert ours.steps == stock.steps


@pytest.mark.parametrize("seed", SEEDS)
def test_session_fcfs_schedules_as_vllm_does_with_session_numbers_as_priorities(seed: int):
    stock = serve(AsyncScheduler, seed, Identity.PRIORITY, policy="priority")
    ours = serve(LampsScheduler, seed, Identity.SESSION_ID, lamps={"policy": "session-fcfs"})
    assert stock.preemptions > 0
    assert ours.steps == stock.steps


@pytest.mark.parametrize("policy", lamps_ext.policy_names())
def test_every_policy_serves_everybody_and_leaves_no_block_behind(policy: str):
    # Told how long each call lasts: without that the mean of a mix is too long for those who go by it.
    watched = serve(
        LampsScheduler, 7, Identity.SESSION_ID, hints=call_time, lamps={"policy": policy}
    )
    scheduler = watched.scheduler
    scheduler.schedule()  # tells the core how the last turn ended
    report = scheduler._core.report()
    assert (report["waiting"], report["running"]) == (0, 0)
    keeps = policy in {"lamps", "infercept", "lamps-paper", "mars-code", "continuum"}
    assert (report["preserved"] > 0) == keeps
    assert scheduler.reset_prefix_cache() is True  # what is kept is let go
    pool = scheduler.kv_cache_manager.block_pool
    assert pool.get_num_free_blocks() == BLOCKS - 1  # one is vLLM's null block


def test_policies_differ():
    """Names select behaviour: hardly two policies schedule the same load alike."""
    schedules = {
        policy: str(serve(LampsScheduler, 1, Identity.SESSION_ID, lamps={"policy": policy}).steps)
        for policy in lamps_ext.policy_names()
    }
    assert len(set(schedules.values())) == len(schedules)


def crowd(scheduler_cls: type[Scheduler], *, ahead: bool, **config) -> list:
    """Forty sessions of one or two turns in a pool for about six; who got how many tokens, step by step."""
    driver = Driver(scheduler_cls, blocks=41, step_tokens=256, ahead=ahead, **config)
    watched = Watched(driver.scheduler)
    rng = np.random.default_rng(5)
    for i in range(40):
        prompt, output = tokens(i, int(rng.integers(20, 300))), int(rng.integers(2, 120))
        driver.send(f"{i}.0", prompt, output, session_id=f"s{i}", priority=i)
        driver.step(int(rng.integers(1, 4)))
    again = [name for name in driver.finished if name.endswith(".0")][:10]
    for name in again:
        number = int(name.split(".")[0])
        driver.follow(
            f"{number}.1", driver.requests[name], 40, 60, session_id=f"s{number}", priority=number
        )
    driver.drain()
    assert len(driver.finished) == len(driver.requests)
    assert watched.preemptions > 0
    return watched.steps


@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
@pytest.mark.parametrize(("ours", "theirs"), [("fcfs", "fcfs"), ("session-fcfs", "priority")])
def test_chunked_prefills_and_steps_in_flight_change_nothing(ours: str, theirs: str, ahead: bool):
    stock = crowd(AsyncScheduler, ahead=ahead, policy=theirs)
    assert crowd(LampsScheduler, ahead=ahead, lamps={"policy": ours}) == stock
