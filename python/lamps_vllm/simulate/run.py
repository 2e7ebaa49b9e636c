# SPDX-License-Identifier: Apache-2.0
"""Runs a case: sessions as arrays, the simulator, and what is kept of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lamps_ext
from lamps_vllm.replay.workload import Workload
from lamps_vllm.simulate.bound import lower_bound
from lamps_vllm.simulate.case import Case, LoadKind, SimulationError
from lamps_vllm.simulate.outcome import Outcome, Prepared, outcome_of
from lamps_vllm.workloads.predictions import SAYS_NOTHING
from lamps_vllm.workloads.transform import fit_context, with_poisson_arrivals

Progress = Callable[[float], bool]  # share of the sessions that have ended; False: stop

# Runs beyond this many turns keep histograms instead of every turn.
MOST_RECORDED_TURNS = 3_000_000
EVERY_STEPS = 4096
SAMPLES = 1200  # samples of a time series, about
NO_TOOL = -1


@dataclass(frozen=True)
class Table:
    """Sessions as the simulator takes them. Segment columns are concatenated session by session."""

    first_segment: NDArray[np.int64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    call_seconds: NDArray[np.float64]
    kept_tokens: NDArray[np.int32]
    arrival: NDArray[np.float64]
    tool: NDArray[np.int32]
    called: NDArray[np.int32]  # what the turn's tokens show; NO_TOOL: no call
    tool_names: tuple[str, ...]
    shared_group: NDArray[np.int32]
    shared_tokens: NDArray[np.int32]
    session_ids: tuple[str, ...]
    expected_tokens: NDArray[np.float64]  # SAYS_NOTHING where the workload has none

    @property
    def is_last(self) -> NDArray[np.bool_]:
        last = np.zeros(len(self.prompt_tokens), dtype=bool)
        last[self.first_segment[1:] - 1] = True
        return last


def table_of(workload: Workload) -> Table:
    """The arrays of a workload; sessions of real messages have no lengths and are refused."""
    sessions = workload.sessions
    segments = [segment for session in sessions for segment in session.segments]
    counts = [len(session.segments) for session in sessions]
    names = sorted({segment.tool for segment in segments if segment.tool is not None})
    number = {name: index for index, name in enumerate(names)}
    groups = sorted({s.shared_prefix.group for s in sessions if s.shared_prefix is not None})
    group = {name: index for index, name in enumerate(groups)}
    shared = [session.shared_prefix for session in sessions]

    def column(values: list[Any], kind: type) -> NDArray[Any]:
        return np.asarray(values, dtype=kind)

    return Table(
        first_segment=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        prompt_tokens=column([segment.prompt_tokens for segment in segments], np.int32),
        output_tokens=column([segment.output_tokens for segment in segments], np.int32),
        call_seconds=column([segment.call_seconds or 0.0 for segment in segments], np.float64),
        kept_tokens=column(
            [-1 if s.kept_tokens is None else s.kept_tokens for s in segments], np.int32
        ),
        arrival=column([session.arrival for session in sessions], np.float64),
        tool=column([number.get(segment.tool or "", NO_TOOL) for segment in segments], np.int32),
        called=column(
            [
                number.get(session.called_tool(index) or "", NO_TOOL)
                for session in sessions
                for index in range(len(session.segments))
            ],
            np.int32,
        ),
        tool_names=tuple(names),
        shared_group=column([group[p.group] if p else -1 for p in shared], np.int32),
        shared_tokens=column([p.tokens if p else 0 for p in shared], np.int32),
        session_ids=tuple(session.id for session in sessions),
        expected_tokens=column(
            [s.expected_output_tokens or SAYS_NOTHING for s in segments], np.float64
        ),
    )


def _sessions(table: Table, case: Case) -> lamps_ext.SimSessions:
    hints = case.prediction.hints(
        table.output_tokens.astype(np.float64),
        table.call_seconds,
        table.is_last,
        np.random.default_rng([case.seed, 1]),
        table.expected_tokens,
    )
    return lamps_ext.SimSessions(
        table.first_segment,
        table.prompt_tokens,
        table.output_tokens,
        table.call_seconds,
        arrival=table.arrival,
        tool=table.tool,
        tool_hints=case.tool_hints,
        called=table.called if case.read_calls else None,
        hint_output=hints.output_tokens,
        hint_call=hints.call_seconds,
        hint_final=hints.final_turn | (table.is_last & case.final_hints),
        kept_tokens=table.kept_tokens,
        shared_group=table.shared_group,
        shared_tokens=table.shared_tokens,
    )


def workload_of(case: Case) -> tuple[Workload, int]:
    """The sessions of a case within the engine's limit, and how many of them were cut or dropped.

    Open loop: the sessions of a seed are the same at every rate.
    """
    shape = case.shape().engine
    assert shape is not None
    rate = case.load.value if case.load.kind is LoadKind.RATE else 1.0
    workload = case.source.load(case.seed, rate)
    if case.source.is_file and case.load.kind is LoadKind.RATE:
        workload = with_poisson_arrivals(workload, rate, np.random.default_rng([case.seed, 0]))
    fitted = fit_context(workload, shape.max_context)
    return fitted.workload, fitted.ended_early + fitted.dropped


def _load(case: Case) -> lamps_ext.SimLoad:
    if case.load.kind is LoadKind.CONCURRENCY:
        concurrency = int(case.load.value)
        return lamps_ext.SimLoad("closed", concurrency=concurrency, sessions=case.total or 0)
    if case.total is not None:
        raise SimulationError(f"total = {case.total}: only a closed loop repeats its sessions")
    return lamps_ext.SimLoad("given")


def _simulation(case: Case, table: Table) -> lamps_ext.Simulation:
    rounds = (case.total or 0) / len(table.session_ids)
    turns = len(table.prompt_tokens) * max(1.0, rounds)
    try:
        return lamps_ext.Simulation(
            case.engine(),
            _sessions(table, case),
            _load(case),
            case.options(),
            scheduler=case.arm.scheduler,
            engines=case.engines,
            router=case.router,
            record_turns=turns <= MOST_RECORDED_TURNS,
            sample_seconds=_sample_seconds(table) if case.detail else 0.0,
            record_decisions=case.detail,
        )
    except lamps_ext.InvalidOption as error:
        raise SimulationError(str(error)) from error


def run_case(case: Case, progress: Progress = lambda share: True) -> Outcome:
    """Simulates one case to the end. Deterministic, but for the seconds it takes.

    Raises SimulationError, WorkloadError or PaceError for a case that cannot be run.
    """
    workload, cut = workload_of(case)
    table = table_of(workload)
    simulation = _simulation(case, table)
    started = time.perf_counter()
    result = simulation.run(
        progress=lambda now, ended, total: progress(ended / max(total, 1)),
        every_steps=EVERY_STEPS,
    )
    seconds = time.perf_counter() - started
    return outcome_of(case, table, result, seconds, Prepared(cut, _bound(case, workload)))


def _bound(case: Case, workload: Workload) -> float | None:
    """Least possible mean session time; None for a closed loop, whose arrivals depend on the policy."""
    if case.load.kind is LoadKind.CONCURRENCY:
        return None
    profile = case.shape()
    shape = profile.engine
    if shape is not None and case.kv_tokens is not None:
        shape = shape.model_copy(update={"kv_tokens": case.kv_tokens})
    return lower_bound(workload, profile.model_copy(update={"engine": shape}), case.engines).mean


def _sample_seconds(table: Table) -> float:
    """Spacing that gives some SAMPLES of a run that lasts as long as arrivals and pauses alone.

    A longer run only gives more of them: the simulator widens the spacing when there are too many.
    """
    pauses = np.add.reduceat(table.call_seconds, table.first_segment[:-1])
    return max(0.05, float(np.max(table.arrival + pauses)) / SAMPLES)
