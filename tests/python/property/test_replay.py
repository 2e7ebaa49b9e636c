# SPDX-License-Identifier: Apache-2.0
"""Random workloads, served to the end by the real vLLM scheduler under LAMPS in virtual time."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from lamps_vllm import LampsScheduler
from lamps_vllm.options import LampsOptions
from lamps_vllm.replay.records import Identity, ReplayResult
from lamps_vllm.replay.workload import Segment, Session, Workload
from tests.support.lockstep import make_config, make_scheduler, replay


@st.composite
def sessions(draw) -> Session:
    """Up to four turns of up to 160 tokens: the context fits the smallest pool below."""
    lengths = draw(
        st.lists(st.tuples(st.integers(1, 120), st.integers(1, 40)), min_size=1, max_size=4)
    )
    calls = [draw(st.sampled_from([0.0, 0.05, 0.5, 20.0, 4000.0])) for _ in lengths[1:]] + [None]
    segments = [
        Segment(prompt_tokens=prompt, output_tokens=output, call_seconds=call)
        for (prompt, output), call in zip(lengths, calls, strict=True)
    ]
    return Session(
        id=f"s{draw(st.uuids())}",
        arrival=draw(st.floats(0, 3, allow_nan=False)),
        segments=tuple(segments),
    )


WORKLOADS = st.lists(sessions(), min_size=1, max_size=12, unique_by=lambda s: s.id).map(Workload.of)
ENGINES = st.fixed_dictionaries(
    {
        "blocks": st.sampled_from([22, 40, 120]),
        "max_num_seqs": st.sampled_from([1, 3, 32]),
        "step_tokens": st.sampled_from([64, 2048]),
        "prefix_caching": st.booleans(),
    }
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "rank_weight": st.sampled_from([0.0, 500.0]),
        "starvation_threshold": st.sampled_from([1, 5]),
        "starvation_seconds": st.sampled_from([0.0, 0.5]),
        "min_admission_share": st.sampled_from([0.1, 1.0]),
        "preserve": st.booleans(),
        "victim_hysteresis": st.sampled_from([0.0, 3.0]),
        "redecide_seconds": st.sampled_from([0.001, 10.0]),
    },
)


def served(result: ReplayResult) -> dict[str, list[int]]:
    return {
        session.id: [turn.output_tokens for turn in session.turns] for session in result.sessions
    }


def check_clean(scheduler: LampsScheduler) -> None:
    """Nothing is left of the requests at once, and nothing of the sessions when they are forgotten."""
    assert not scheduler.requests and len(scheduler._turns) == 0
    scheduler.schedule()  # tells the core of the last step
    scheduler._core.check_invariants()
    report = scheduler._core.report()
    assert (report["waiting"], report["running"]) == (0, 0)
    assert report["holders"] == len(scheduler._holds)
    end = scheduler.clock() + LampsOptions().forget_seconds
    scheduler.clock = lambda: end
    scheduler.schedule()
    assert not scheduler._faulted
    pool = scheduler.kv_cache_manager.block_pool
    assert pool.get_num_free_blocks() == scheduler.cache_config.num_gpu_blocks - 1
    assert scheduler._core.report()["sessions"] == 0
    assert len(scheduler._book) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    workload=WORKLOADS, engine=ENGINES, options=OPTIONS,
    identity=st.sampled_from([Identity.SESSION_ID, Identity.NONE]),
)  # fmt: skip
def test_everything_is_served_and_everything_is_given_back(workload, engine, options, identity):
    results = []
    for _ in range(2):
        scheduler = make_scheduler(LampsScheduler, make_config(**engine, lamps=options))
        results.append(replay(workload, scheduler, identity=identity))
        check_clean(scheduler)
    stock = replay(
        workload, make_scheduler(AsyncScheduler, make_config(**engine)), identity=Identity.NONE
    )
    planned = {s.id: [segment.output_tokens for segment in s.segments] for s in workload.sessions}
    assert served(results[0]) == served(stock) == planned
    assert results[0] == results[1], "two runs of one workload differ"
