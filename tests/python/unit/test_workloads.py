# SPDX-License-Identifier: Apache-2.0
"""Generated workloads against the statistics they are built from; scaling; predictions."""

from __future__ import annotations

import numpy as np
import pytest

from lamps_vllm.replay.generate import MixOptions, Shape, generate_mix
from lamps_vllm.replay.workload import Segment, Session, Workload, WorkloadError
from lamps_vllm.workloads.agents import AgentOptions, agent_fit, generate_agents
from lamps_vllm.workloads.catalog import KINDS, Source
from lamps_vllm.workloads.predictions import SAYS_NOTHING, Prediction, PredictionError
from lamps_vllm.workloads.sampling import Mixture, Quantiles
from lamps_vllm.workloads.toolbench import CALL_SECONDS, generate_toolbench
from lamps_vllm.workloads.transform import (
    capped_calls,
    fit_context,
    scaled_context,
    with_poisson_arrivals,
)


def calls(workload: Workload) -> list[float]:
    return [s.call_seconds for each in workload.sessions for s in each.segments[:-1]]


# Published means of the two variants: prompt, call time (s), tokens generated, final context.
@pytest.mark.parametrize(
    ("shape", "prompt", "call", "generated", "final"),
    [(Shape.SINGLE, 539, 7.66, 178, 742), (Shape.MULTI, 539, 12.6, 371, 1031)],
)
def test_published_means(shape, prompt, call, generated, final):
    made = generate_mix(np.random.default_rng(1), MixOptions.published(shape, 4000, 1.0))
    first = [each.segments[0].prompt_tokens for each in made.sessions]
    outputs = [sum(s.output_tokens for s in each.segments) for each in made.sessions]
    assert np.mean(first) == pytest.approx(prompt, rel=0.06)
    # Five quantiles leave the tail of the users' messages open, and with it their thinking time.
    assert np.mean(calls(made)) == pytest.approx(call, rel=0.15)
    assert np.mean(outputs) == pytest.approx(generated, rel=0.08)
    assert np.mean([each.context_tokens for each in made.sessions]) == pytest.approx(
        final, rel=0.06
    )


def test_single_has_one_call_and_multi_its_published_number():
    single = generate_mix(np.random.default_rng(0), MixOptions.published(Shape.SINGLE, 300, 1.0))
    assert {len(each.segments) for each in single.sessions} == {2}
    multi = generate_mix(np.random.default_rng(0), MixOptions.published(Shape.MULTI, 3000, 1.0))
    assert len(calls(multi)) / 3000 == pytest.approx(4.64, rel=0.06)


def test_multi_ends_on_a_call_where_the_published_one_does():
    multi = generate_mix(np.random.default_rng(0), MixOptions.published(Shape.MULTI, 1000, 1.0))
    last = [
        each.segments[-1].output_tokens
        for each in multi.sessions
        if each.segments[0].tool in ("Image", "TTS")
    ]
    assert np.mean([tokens == 1 for tokens in last]) > 0.9  # the others met the context limit


def test_toolbench_is_short_calls_with_a_heavy_tail():
    made = generate_toolbench(np.random.default_rng(0), 4000, 1.0)
    times = np.array(calls(made))
    assert times.mean() == pytest.approx(CALL_SECONDS[0], rel=0.15)
    assert np.median(times) < 0.6 * times.mean()
    assert max(each.peak_tokens for each in made.sessions) <= 2048
    by_tool = {s.tool for each in made.sessions for s in each.segments[:-1]}
    assert len(by_tool) == 40


def test_agent_sessions_match_the_recorded_ones():
    """p10, p50, p90 over whole sessions, generated against recorded: the fit's own check."""
    made = generate_agents(np.random.default_rng(2), AgentOptions(sessions=600, gap_cap=86_400))
    rows: dict[str, list[float]] = {name: [] for name in agent_fit().checks if name != "note"}
    for session in made.sessions:
        turns = list(session.turns())
        new = sum(turn.prompt - turn.kept for turn in turns)
        new += sum(s.output_tokens for s in session.segments[:-1])
        prompts = [turn.prompt for turn in turns]
        rows["last_in"].append(prompts[-1])
        rows["largest_in"].append(max(prompts))
        rows["sum_new"].append(new)
        rows["sum_out"].append(sum(s.output_tokens for s in session.segments))
        rows["hit_share"].append(1.0 - new / sum(prompts))
        rows["sum_gaps"].append(session.tool_seconds)
    for name, values in rows.items():
        _, expected, high = agent_fit().checks[name]
        _, median, p90 = np.quantile(values, [0.1, 0.5, 0.9])
        assert median == pytest.approx(expected, rel=0.25), name
        assert p90 == pytest.approx(high, rel=0.35), name


def test_agent_pauses_are_mostly_under_a_second_and_recorded_ones_never():
    quick = np.array(calls(generate_agents(np.random.default_rng(0), AgentOptions(sessions=100))))
    slow = generate_agents(np.random.default_rng(0), AgentOptions(sessions=100, gaps="recorded"))
    assert 0.5 < (quick < 1.0).mean() < 0.75
    assert (np.array(calls(slow)) < 1.0).mean() < 0.02
    assert quick.max() <= 3600.0


def test_agents_reply_to_their_user_as_often_as_recorded():
    made = generate_agents(np.random.default_rng(0), AgentOptions(sessions=600))
    by = [s.tool for each in made.sessions for s in each.segments[:-1]]
    assert np.mean([tool == "user" for tool in by]) == pytest.approx(
        agent_fit().p_end_turn, rel=0.1
    )


def test_agents_rewrite_their_history_about_as_often_as_recorded():
    made = generate_agents(np.random.default_rng(0), AgentOptions(sessions=300))
    later = [s for each in made.sessions for s in each.segments[1:]]
    assert np.mean([s.kept_tokens is not None for s in later]) == pytest.approx(0.0188, rel=0.4)


def test_shared_prefixes_are_within_the_first_prompt():
    options = AgentOptions(sessions=50, share_prefix=True)
    for session in generate_agents(np.random.default_rng(0), options).sessions:
        assert 0 < session.shared_prefix.tokens <= session.segments[0].prompt_tokens


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_a_function_of_its_seed(name):
    source = Source(name, sessions=8)
    assert source.load(3) == source.load(3)
    assert source.load(3) != source.load(4)
    same, faster = source.load(3, rate=1.0), source.load(3, rate=5.0)
    assert [s.segments for s in same.sessions] == [s.segments for s in faster.sessions]
    assert faster.sessions[-1].arrival == pytest.approx(same.sessions[-1].arrival / 5.0)


def test_unknown_source_names_what_there_is():
    with pytest.raises(WorkloadError, match="neither a file nor a generator"):
        Source("no-such-thing").load(0)
    with pytest.raises(WorkloadError, match="sessions = -1"):
        Source("single", sessions=-1).load(0)


def chain(*sizes: tuple[int, int], arrival: float = 0.0, name: str = "s", **more) -> Session:
    last = len(sizes) - 1
    return Session(
        id=name,
        arrival=arrival,
        segments=tuple(
            Segment(prompt_tokens=p, output_tokens=o, call_seconds=None if i == last else 9.0)
            for i, (p, o) in enumerate(sizes)
        ),
        **more,
    )


def test_rewritten_history_shortens_the_context():
    segments = chain((100, 10), (5, 5), (50, 1)).segments
    rewritten = segments[1].model_copy(update={"kept_tokens": 40})
    session = Session(id="r", arrival=0.0, segments=(segments[0], rewritten, segments[2]))
    assert [*session.turns()] == [(0, 100, 110), (40, 45, 50), (50, 100, 101)]
    assert (session.peak_tokens, session.context_tokens) == (110, 101)


def test_poisson_arrivals_move_children_with_their_parent():
    workload = Workload.of(
        [chain((9, 1), name="p", arrival=1.0), chain((9, 1), name="c", arrival=31.0, parent="p")]
    )
    moved = with_poisson_arrivals(workload, 0.5, np.random.default_rng(0)).sessions
    assert moved[1].arrival - moved[0].arrival == pytest.approx(30.0)
    with pytest.raises(WorkloadError, match="rate = 0"):
        with_poisson_arrivals(workload, 0, np.random.default_rng(0))


def test_fit_context_ends_sessions_before_the_turn_that_does_not_fit():
    workload = Workload.of(
        [chain((50, 10), (30, 10), name="a"), chain((200, 1), name="b"), chain((5, 5), name="c")]
    )
    fitted = fit_context(workload, 99)
    assert [len(each.segments) for each in fitted.workload.sessions] == [1, 1]
    assert (fitted.ended_early, fitted.dropped) == (1, 1)
    assert fitted.workload.sessions[0].segments[-1].call_seconds is None
    with pytest.raises(WorkloadError, match="max_context = 3"):
        fit_context(workload, 3)


def test_scaling_context_and_capping_calls():
    workload = Workload.of([chain((50, 10), (30, 10))])
    bigger = scaled_context(workload, 2.0).sessions[0]
    assert [s.prompt_tokens for s in bigger.segments] == [100, 60]
    assert [s.output_tokens for s in bigger.segments] == [10, 10]
    assert capped_calls(workload, 2.5).sessions[0].tool_seconds == 2.5
    with pytest.raises(WorkloadError, match="context_factor = 0"):
        scaled_context(workload, 0.0)


def test_predictions():
    outputs, waits = np.full(4000, 100.0), np.full(4000, 2.0)
    last = np.arange(4000) % 4 == 3
    own = Prediction.parse("own").hints(outputs, waits, last, np.random.default_rng(0))
    assert (own.output_tokens == SAYS_NOTHING).all()
    assert not own.final_turn.any()
    oracle = Prediction.parse("oracle").hints(outputs, waits, last, np.random.default_rng(0))
    assert (oracle.output_tokens == 100.0).all()
    assert (oracle.call_seconds[last] == SAYS_NOTHING).all()
    assert (oracle.call_seconds[~last] == 2.0).all()
    lengths = np.where(last, SAYS_NOTHING, 70.0)
    given = Prediction.parse("given").hints(outputs, waits, last, np.random.default_rng(0), lengths)
    assert (given.output_tokens == lengths).all()
    assert (given.call_seconds == SAYS_NOTHING).all()
    own = Prediction.parse("own").hints(outputs, waits, last, np.random.default_rng(0), lengths)
    assert (own.output_tokens == SAYS_NOTHING).all()
    noisy = Prediction.parse("gauss:30").hints(outputs, waits, last, np.random.default_rng(0))
    assert np.std(noisy.output_tokens) == pytest.approx(30.0, rel=0.05)
    assert np.mean(noisy.call_seconds[~last]) == pytest.approx(2.0, rel=0.05)
    wild = Prediction.parse("gauss:500").hints(outputs, waits, last, np.random.default_rng(0))
    assert wild.output_tokens.min() == 1.0
    assert wild.call_seconds[~last].min() > 0.0
    names = ("own", "given", "oracle", "gauss:5")
    assert tuple(str(Prediction.parse(text)) for text in names) == names
    for bad in ("", "gauss", "gauss:-1", "gauss:x", "normal:3"):
        with pytest.raises(PredictionError, match="accepted are own"):
            Prediction.parse(bad)


def test_samplers():
    table = Quantiles(levels=(0.0, 0.5, 1.0), values=(1.0, 10.0, 1000.0))
    draws = [table.draw(np.random.default_rng(seed)) for seed in range(2000)]
    assert np.median(draws) == pytest.approx(10.0, rel=0.15)
    assert 1.0 <= min(draws) <= max(draws) <= 1000.0
    mixed = Mixture(components=((0.5, 0.0, 0.1), (0.5, 5.0, 0.1)), atom=(0.25, -7.0))
    rng = np.random.default_rng(0)
    draws = np.array([mixed.draw(rng) for _ in range(4000)])
    assert np.mean(draws == -7.0) == pytest.approx(0.25, abs=0.03)
    assert np.mean(draws > 50.0) == pytest.approx(0.375, abs=0.03)
    with pytest.raises(ValueError, match="one positive value per level"):
        Quantiles(levels=(0.0, 1.0), values=(0.0, 1.0))
