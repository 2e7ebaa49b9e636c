# SPDX-License-Identifier: Apache-2.0
"""The binding of the simulator: columns in, columns out, and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest

import lamps_ext

ENGINE = {
    "capacity_tokens": 2048, "block_tokens": 16, "max_context": 1024, "base": 0.01,
    "per_prefill": 1e-4, "per_decode": 3e-4,
}  # fmt: skip


def table(**more) -> lamps_ext.SimSessions:
    """Three sessions of two turns, one of one."""
    return lamps_ext.SimSessions(
        [0, 2, 4, 5], [300, 20, 200, 30, 100], [10, 5, 8, 8, 3], [1.0, 0.0, 0.5, 0.0, 0.0],
        arrival=[0.0, 0.1, 0.2], **more,
    )  # fmt: skip


def run(sessions=None, load=None, engine=ENGINE, **options) -> lamps_ext.SimResult:
    return lamps_ext.Simulation(
        lamps_ext.SimEngine(**engine), sessions or table(), load or lamps_ext.SimLoad("given"),
        **options,
    ).run()  # fmt: skip


@pytest.mark.parametrize("scheduler", lamps_ext.sim_schedulers())
@pytest.mark.parametrize("router", lamps_ext.sim_routers())
def test_every_turn_has_a_row(scheduler: str, router: str):
    result = run(scheduler=scheduler, router=router, engines=2, check_every=1)
    assert result.complete
    turns = result.turns
    assert sorted(zip(turns["session"], turns["segment"], strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0),
    ]  # fmt: skip
    assert (turns["sent"] <= turns["admitted"]).all()
    assert (turns["admitted"] < turns["first_token"]).all()
    assert result.sessions["template"].tolist() == [0, 1, 2]
    assert result.sessions["tool_s"].tolist() == [1.0, 0.5, 0.0]
    assert result.counters["turns"] == 5
    assert result.counters["output_tokens"] == 34
    assert result.now == turns["end"].max()
    assert len(result.reports) == (2 if scheduler == "core" else 0)
    assert result.histograms["first_ttft_s"].count == 3
    assert result.histograms["tool_ttft_s"].count == 2


def test_prompts_grow_with_the_session_unless_it_rewrites_its_history():
    assert run().turns["prompt_tokens"].tolist() == [300, 200, 100, 238, 330]
    kept = table(kept_tokens=[-1, 64, -1, -1, -1])
    assert run(kept).turns["prompt_tokens"].tolist() == [300, 200, 100, 238, 84]


def test_hints_and_tools_reach_the_core():
    hinted = table(
        tool=[3, -1, 4, -1, -1], tool_hints=True, hint_call=[1.0, -1, 0.5, -1, -1],
        hint_output=[10.0, 5, 8, 8, 3], hint_final=[False, True, False, True, True],
    )  # fmt: skip
    result = run(hinted, record_decisions=True)
    ended = [each for each in result.decisions if each[1] == "the client said it was the last turn"]
    assert sum(count for *_, count in ended) == 2  # the core hears of the last turn in a next step
    assert {tool for _, _, tool, _ in result.decisions} == {-1, 3, 4}
    assert result.reports[0]["forgotten"] > 0


def test_samples_add_up_to_the_pool():
    samples = run(sample_seconds=0.05).samples
    parts = [samples[f"{part}_tokens"] for part in ("running", "held", "cached", "empty")]
    assert (sum(parts) == ENGINE["capacity_tokens"]).all()
    assert np.allclose(np.diff(samples["at"]), 0.05)


def test_progress_is_told_and_may_stop():
    simulation = lamps_ext.Simulation(
        lamps_ext.SimEngine(**ENGINE), table(), lamps_ext.SimLoad("closed", concurrency=1)
    )
    seen = []
    result = simulation.run(lambda *at: (seen.append(at), len(seen) < 3)[1], every_steps=2)
    assert len(seen) == 3
    assert all(total == 3 for _, _, total in seen)
    assert not result.complete
    assert np.isnan(result.turns["end"]).any()
    with pytest.raises(lamps_ext.InvalidOption, match="runs once"):
        simulation.run()


def test_an_error_in_progress_gets_out():
    def fail(*_):
        raise KeyError("mine")

    simulation = lamps_ext.Simulation(
        lamps_ext.SimEngine(**ENGINE), table(), lamps_ext.SimLoad("given")
    )
    with pytest.raises(KeyError, match="mine"):
        simulation.run(fail, every_steps=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": 0.0}, "base = 0"),
        ({"capacity_tokens": 1000}, "capacity_tokens = 992"),
        ({"host_tokens": 100}, "host_bytes_per_s = 0"),
        ({"host": "cloud"}, "offload, swap"),
    ],
)
def test_bad_engines_are_named(change: dict, message: str):
    with pytest.raises(lamps_ext.InvalidOption, match=message):
        lamps_ext.SimEngine(**{**ENGINE, **change})


def test_bad_simulations_are_named():
    with pytest.raises(lamps_ext.InvalidOption, match="core, fcfs, priority"):
        run(scheduler="best")
    with pytest.raises(lamps_ext.InvalidOption, match="sticky, round-robin, least-loaded"):
        run(router="best")
    with pytest.raises(lamps_ext.InvalidOption, match="given, poisson, closed"):
        lamps_ext.SimLoad("sometimes")
    with pytest.raises(lamps_ext.InvalidOption, match="tool has 1 entries: expected 5"):
        run(table(tool=[1]))
    with pytest.raises(lamps_ext.InvalidOption, match="called has 1 entries: expected 5"):
        run(table(called=[1]))
    with pytest.raises(lamps_ext.InvalidOption, match=r"called\[0\] = -2"):
        run(table(called=[-2] * 5))
    with pytest.raises(lamps_ext.InvalidOption, match="rate = 0"):
        run(load=lamps_ext.SimLoad("poisson"))


MEMORY = """
import resource, lamps_ext
import numpy as np
engine = lamps_ext.SimEngine(capacity_tokens=20_000, block_tokens=16, max_context=1024, base=0.01,
                             per_prefill=1e-4, per_decode=3e-4)
rng = np.random.default_rng(0)
sessions = lamps_ext.SimSessions(np.arange(101) * 3, rng.integers(1, 100, 300),
                                 rng.integers(1, 20, 300), rng.random(300))
def peak(count, scheduler):
    load = lamps_ext.SimLoad("poisson", rate=5.0, sessions=count, seed=1)
    result = lamps_ext.Simulation(engine, sessions, load, scheduler=scheduler,
                                  record_turns=False, sample_seconds=1.0).run()
    assert result.complete and result.counters["turns"] == 3 * count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for scheduler in ("fcfs", "core"):
    peak(10_000, scheduler)
    small = peak(10_000, scheduler)
    print(peak(50_000, scheduler) - small)
"""


def test_memory_does_not_grow_with_the_number_of_requests():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert all(int(grown_kib) < 512 for grown_kib in done.stdout.split()), done.stdout
