# SPDX-License-Identifier: Apache-2.0
"""Pace profiles, the padding of steps, and the worker that uses them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lamps_vllm.pace import (
    REPORT_EVERY_STEPS,
    PaceError,
    PaceProfile,
    Pacer,
    available_profiles,
    load_profile,
    profile_from_config,
)


class FakeTime:
    """A clock that moves only when told to, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def plan(scheduled: dict[str, int], new=(), cached=()) -> SimpleNamespace:
    return SimpleNamespace(
        num_scheduled_tokens=scheduled,
        scheduled_new_reqs=[SimpleNamespace(num_computed_tokens=count) for count in new],
        scheduled_cached_reqs=SimpleNamespace(num_computed_tokens=list(cached)),
    )


def pacer(time: FakeTime, **coefficients: float) -> Pacer:
    return Pacer(PaceProfile(**coefficients), clock=time.clock, sleep=time.sleep)


def test_shipped_profiles_load():
    assert "cpu-demo" in available_profiles()
    for name in available_profiles():
        profile = load_profile(name)
        assert profile.description
        assert profile.step_seconds(0, 1, 0) > 0.0


def test_default_model():
    profile = load_profile("cpu-demo")
    assert profile.step_seconds(512, 4, 9999) == pytest.approx(0.010 + 0.0512 + 0.0012)


def test_prefill_decode_and_context_are_told_apart():
    time = FakeTime()
    model = pacer(time, base_s=1, per_prefill_token_s=0.1, per_request_s=0.01,
                  per_context_token_s=0.001)  # fmt: skip
    step = plan({"new": 20, "decode": 1, "other": 1}, new=[5], cached=[30, 40])
    assert model.modelled_seconds(step) == pytest.approx(1 + 2.0 + 0.03 + 0.075)
    assert model.modelled_seconds(plan({})) == 0.0


def test_a_short_step_sleeps_until_the_modelled_end():
    time = FakeTime()
    model = pacer(time)
    time.now = 0.004
    model.finish_step(0.0, 0.010)
    assert time.slept == [pytest.approx(0.006)]
    assert (model.steps, model.late_steps) == (1, 0)


def test_a_long_step_is_counted_and_said(caplog):
    time = FakeTime()
    model = pacer(time)
    for number in range(REPORT_EVERY_STEPS):
        started = time.now
        time.now += 0.015 if number % 10 == 0 else 0.001
        model.finish_step(started, 0.010)
    assert model.late_steps == REPORT_EVERY_STEPS // 10
    assert model.worst_excess_s == pytest.approx(0.005)
    expected = (
        "paced: 100 of 1000 steps (10.0 %) ran longer than the profile says, the worst by 5.0 ms"
    )
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_empty_steps_are_not_padded():
    time = FakeTime()
    model = pacer(time)
    model.finish_step(0.0, 0.0)
    assert time.slept == []
    assert model.steps == 0


def test_profile_from_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base_s": 0.5}))
    assert profile_from_config({"lamps_pace": str(path)}).base_s == 0.5


@pytest.mark.parametrize("config", [{}, None, {"lamps": {"rank_weight": 1}}])
def test_default_profile(config):
    assert profile_from_config(config) == load_profile("cpu-demo")


def test_unknown_profile_names_the_known_ones():
    with pytest.raises(PaceError, match=r"lamps_pace = 'warp'.*cpu-demo"):
        profile_from_config({"lamps_pace": "warp"})


def test_ill_typed_choice():
    with pytest.raises(PaceError, match=r"lamps_pace = 3: expected a profile name"):
        profile_from_config({"lamps_pace": 3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"base_s": -1}', r"base_s = -1: .*greater than or equal to 0"),
        ('{"base_s": 11}', r"base_s = 11: .*less than or equal to 10"),
        ('{"bass_s": 1}', r"bass_s = 1: Extra inputs.*accepted: description, base_s"),
        ("{", r"file: Invalid JSON"),
    ],
)
def test_bad_profile_names_field_value_and_range(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(PaceError, match=message):
        load_profile(str(path))


@pytest.mark.parametrize("samples_later", [True, False])
def test_worker_pads_the_whole_step(monkeypatch, samples_later):
    """Forward and sampling are one step: the padding comes after whichever is last."""
    pytest.importorskip("vllm")
    from lamps_vllm import paced

    time = FakeTime()

    def execute(worker, scheduler_output):
        time.now += 0.003
        return None if samples_later else "output"

    def sample(worker, grammar_output):
        time.now += 0.002
        return "output"

    monkeypatch.setattr(paced.CPUWorker, "execute_model", execute)
    monkeypatch.setattr(paced.CPUWorker, "sample_tokens", sample)
    worker = object.__new__(paced.PacedCPUWorker)
    worker._pacer = pacer(time)
    output = worker.execute_model(plan({"a": 1}))
    if samples_later:
        assert time.slept == []
        output = worker.sample_tokens(None)
    assert output == "output"
    assert time.now == pytest.approx(0.0103)
