# SPDX-License-Identifier: Apache-2.0
"""The simulator against the real vLLM scheduler and KV manager in virtual time: every turn of every session
gets its first and its last token at the same instant and finds the same cached blocks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

import lamps_ext
from lamps_vllm import LampsScheduler
from lamps_vllm.pace import PaceProfile
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.records import Identity, ReplayResult
from lamps_vllm.replay.tiny_model import VOCAB_SIZE
from lamps_vllm.replay.workload import Segment, Workload
from tests.support import lockstep
from tests.support.driver import AheadLockstep

BLOCK = 32
PACE = PaceProfile()
STOCK = ("fcfs", "priority")


@dataclass
class Load:
    """Sessions, and what a workload file does not say: rewritten histories and shared prefixes."""

    workload: Workload
    kept: dict[tuple[int, int], int] = field(default_factory=dict)
    """(session, segment) -> leading tokens of the context that stay."""
    shared: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Session -> (group, leading tokens of its first prompt that the whole group has)."""
    hinted: bool = False
    """Clients say what is to come: output, call, tool, last turn."""
    read: bool = False
    """Tool calls are read from the turns' tokens at their end."""

    def rows(self) -> list[tuple[int, int, Any]]:
        return [
            (number, index, segment)
            for number, session in enumerate(self.workload.sessions)
            for index, segment in enumerate(session.segments)
        ]


def mix(seed: int, *, sessions: int = 40, rate: float = 3.15, call_scale: float = 0.1) -> Load:
    options = MixOptions(sessions=sessions, rate=rate, call_scale=call_scale, max_context=2000)
    return Load(generate_mix(np.random.default_rng(seed), options))


def oracle(segment: Segment) -> dict[str, Any]:
    hints: dict[str, Any] = {"expected_output_tokens": segment.output_tokens}
    if segment.call_seconds is None:
        return hints | {"final_turn": True}
    tool = {} if segment.tool is None else {"tool": segment.tool}
    return hints | tool | {"expected_call_seconds": segment.call_seconds}


class Shown:
    """Stands for calls.TurnCalls: what the tokens would show if they were a model's."""

    def __init__(self, workload: Workload) -> None:
        self._sessions = {session.id: session for session in workload.sessions}

    def of(self, request: Request) -> list[str]:
        session, _, index = request.request_id.rpartition(".")
        called = self._sessions[session].called_tool(int(index))
        return [] if called is None else [called]


def real(load: Load, policy: str, monkeypatch, *, ahead: bool = False, **config) -> ReplayResult:
    class Client(lockstep._Client):
        def request(self, now: float, block_size: int) -> Request:
            index = len(self.record.turns)
            del self.context[load.kept.get((self.number, index), len(self.context)) :]
            request = super().request(now, block_size)
            if index == 0 and self.number in load.shared:
                group, count = load.shared[self.number]
                same = np.random.default_rng((99, group)).integers(3, VOCAB_SIZE, count)
                self.context[:count] = same.tolist()
            return lockstep.make_request(
                request.request_id, list(self.context), request.max_tokens, arrival=now,
                block_size=block_size, session_id=request.session_id, priority=request.priority,
                hints=oracle(self.session.segments[index]) if load.hinted else None,
            )  # fmt: skip

    monkeypatch.setattr(lockstep, "_Client", Client)
    monkeypatch.setattr(lockstep, "Lockstep", AheadLockstep if ahead else lockstep.Lockstep)
    stock = policy in STOCK
    built = lockstep.make_config(
        policy="priority" if policy == "priority" else "fcfs",
        lamps=None if stock else {"policy": policy}, **config,
    )  # fmt: skip
    built.scheduler_config.async_scheduling = ahead
    scheduler = lockstep.make_scheduler(AsyncScheduler if stock else LampsScheduler, built)
    if load.read:
        monkeypatch.setattr(scheduler, "_calls", Shown(load.workload), raising=not stock)
    identity = Identity.PRIORITY if policy == "priority" else Identity.SESSION_ID
    result = lockstep.replay(load.workload, scheduler, identity=identity, pace=PACE)
    assert stock or not scheduler._faulted
    return result


def table_of(load: Load) -> lamps_ext.SimSessions:
    sessions, rows = load.workload.sessions, load.rows()
    alone = (-1, 0)
    tools = sorted({segment.tool for _, _, segment in rows if segment.tool is not None})
    last = [segment.call_seconds is None for _, _, segment in rows]
    called = [sessions[number].called_tool(index) for number, index, _ in rows]
    hints = {
        "tool_hints": True,
        "hint_output": [segment.output_tokens for _, _, segment in rows],
        "hint_call": [-1.0 if end else s.call_seconds for end, (_, _, s) in zip(last, rows, strict=True)],
        "hint_final": last,
    }  # fmt: skip
    return lamps_ext.SimSessions(
        np.cumsum([0] + [len(session.segments) for session in sessions]),
        [segment.prompt_tokens for _, _, segment in rows],
        [segment.output_tokens for _, _, segment in rows],
        [segment.call_seconds or 0.0 for _, _, segment in rows],
        arrival=[session.arrival for session in sessions],
        tool=[
            -1 if s.call_seconds is None or s.tool is None else tools.index(s.tool)
            for _, _, s in rows
        ],
        called=[-1 if c is None else tools.index(c) for c in called] if load.read else None,
        **(hints if load.hinted else {}),
        kept_tokens=[load.kept.get((number, index), -1) for number, index, _ in rows],
        shared_group=[load.shared.get(i, alone)[0] for i in range(len(sessions))],
        shared_tokens=[load.shared.get(i, alone)[1] for i in range(len(sessions))],
    )


def engine_of(
    *, blocks: int, max_num_seqs: int = 256, step_tokens: int = 2048, **more: Any
) -> lamps_ext.SimEngine:
    return lamps_ext.SimEngine(
        capacity_tokens=(blocks - 1) * BLOCK,  # vLLM never hands out its block 0
        block_tokens=BLOCK, max_context=2048, step_tokens=step_tokens, max_running=max_num_seqs,
        base=PACE.base_s, per_prefill=PACE.per_prefill_token_s, per_decode=PACE.per_request_s,
        **more,
    )  # fmt: skip


def simulated(load: Load, policy: str, **shape: Any) -> lamps_ext.SimResult:
    options = lamps_ext.Options()
    if policy not in STOCK:
        options.policy = policy
    simulation = lamps_ext.Simulation(
        engine_of(**shape), table_of(load), lamps_ext.SimLoad("given"), options,
        scheduler=policy if policy in STOCK else "core", check_every=20,
    )  # fmt: skip
    return simulation.run()


def check_same(load: Load, policy: str, monkeypatch, **config) -> lamps_ext.SimResult:
    config = {"blocks": 140, **config}
    expected = real(load, policy, monkeypatch, **config)
    result = simulated(load, policy, **config)
    assert result.complete
    turns = result.turns
    names = ("first_token", "end", "cached_tokens")
    rows = zip(turns["session"], turns["segment"], *(turns[name] for name in names), strict=True)
    actual = {(session, segment): values for session, segment, *values in rows}
    for number, session in enumerate(expected.sessions):
        for turn in session.turns:
            first = turn.first_token
            if (
                first is None
            ):  # ahead of its output, lockstep sees no first token of one-token turns
                first = turn.end
            wanted = [first, turn.end, turn.cached_tokens]
            assert actual.pop((number, turn.index)) == pytest.approx(wanted, abs=1e-9)
    assert not actual
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", [*STOCK, *lamps_ext.policy_names()])
def test_every_policy_under_overload(policy: str, seed: int, monkeypatch):
    check_same(mix(seed), policy, monkeypatch)


SHAPES = {
    "hardly any memory": {"blocks": 66},
    "chunked prefill": {"step_tokens": 96, "max_num_seqs": 64},
    "few slots": {"max_num_seqs": 4},
    "no prefix caching": {"prefix_caching": False},
    "memory for all": {"blocks": 400},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", [*STOCK, "lamps"])
def test_every_shape_of_engine(policy: str, shape: str, monkeypatch):
    check_same(mix(5), policy, monkeypatch, **SHAPES[shape])


@pytest.mark.parametrize("policy", [*STOCK, "lamps", "infercept"])
def test_long_calls_between_which_kv_is_lost(policy: str, monkeypatch):
    check_same(mix(6, call_scale=1.0), policy, monkeypatch)


@pytest.mark.parametrize("policy", [*STOCK, "lamps", "infercept"])
def test_shared_prefixes_and_rewritten_histories(policy: str, monkeypatch):
    load = mix(7)
    rng = np.random.default_rng(7)
    for number, session in enumerate(load.workload.sessions):
        first = session.segments[0].prompt_tokens
        load.shared[number] = (number % 2, int(rng.integers(1, 300)) % first)
    for number, index, _ in load.rows():
        if index > 0 and rng.random() < 0.3:
            load.kept[number, index] = int(rng.integers(0, 600))
    result = check_same(load, policy, monkeypatch)
    assert result.counters["cached_tokens"] > 0


@pytest.mark.parametrize("policy", ["lamps", "lamps-paper", "infercept", "continuum", "thunder"])
def test_what_clients_say_is_to_come(policy: str, monkeypatch):
    load = mix(9)
    load.hinted = True
    assert any(segment.tool for _, _, segment in load.rows())
    check_same(load, policy, monkeypatch)


@pytest.mark.parametrize("call_scale", [0.1, 1.0])
@pytest.mark.parametrize("policy", ["lamps", "lamps-paper", "infercept", "continuum", "thunder"])
def test_calls_read_from_the_tokens(policy: str, call_scale: float, monkeypatch):
    load = mix(10, sessions=80, call_scale=call_scale)
    load.read = True
    check_same(load, policy, monkeypatch)


@pytest.mark.parametrize("policy", [*STOCK, "lamps"])
def test_asynchronous_scheduling(policy: str, monkeypatch):
    result = check_same(mix(8), policy, monkeypatch, ahead=True)
    assert result.counters["preemptions"] > 0


def test_the_comparison_can_fail(monkeypatch):
    load = mix(0)
    expected = real(load, "fcfs", monkeypatch, blocks=140)
    other = simulated(load, "priority", blocks=140)
    ends = {
        (number, turn.index): turn.end
        for number, session in enumerate(expected.sessions)
        for turn in session.turns
    }
    turns = other.turns
    rows = zip(turns["session"], turns["segment"], turns["end"], strict=True)
    assert any(ends[session, segment] != end for session, segment, end in rows)
