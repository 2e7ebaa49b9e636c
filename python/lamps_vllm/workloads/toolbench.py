# SPDX-License-Identifier: Apache-2.0
"""Sessions like those of ToolBench: tool descriptions up front, a few short calls to web APIs.

Public and used here: prompts hold at most 2,048 tokens, outputs before a call are mostly 10 to 110
tokens, a session makes several calls. The moments of the call times and counts below are what is
quoted for the serving workload of the paper, which we could not check against its data: they are
assumptions about its kind, not figures of the data set.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lamps_vllm.replay.workload import Segment, Session, Workload
from lamps_vllm.workloads.sampling import lognormal

CALL_SECONDS = (1.72, 3.33)  # mean, standard deviation: a heavy tail
CALLS = (2.45, 1.81)
PROMPT_TOKENS = (950.0, 350.0)  # tool descriptions and the question; cut at PROMPT_CAP
PROMPT_CAP = 1600
OUTPUT_TOKENS = (55.0, 30.0)  # thought, tool name and arguments
ANSWER_TOKENS = (110.0, 60.0)
RETURNED_TOKENS = (90.0, 90.0)  # the API's reply
TOOL_NAMES = 40  # tools differ in their mean time; a scheduler that is told names can learn them


def _calls(rng: Generator) -> int:
    """At least one; what is above is Poisson-gamma, which has the wanted mean and deviation."""
    mean, deviation = CALLS[0] - 1.0, CALLS[1]
    shape = mean**2 / (deviation**2 - mean)
    return 1 + int(rng.poisson(rng.gamma(shape, mean / shape)))


def _tokens(rng: Generator, moments: tuple[float, float], cap: int = 2048) -> int:
    return min(cap, max(1, round(lognormal(rng, *moments))))


def _draw(name: str, arrival: float, rng: Generator, max_context: int) -> Session:
    # Half of the spread of call times lies between tools, half between calls of one tool.
    log_variance = np.log1p((CALL_SECONDS[1] / CALL_SECONDS[0]) ** 2)
    half = float(np.sqrt(log_variance / 2.0))
    log_mean = float(np.log(CALL_SECONDS[0]) - log_variance / 2.0)
    calls = _calls(rng)
    new = _tokens(rng, PROMPT_TOKENS, PROMPT_CAP)
    room = max_context
    segments: list[Segment] = []
    for index in range(calls + 1):
        tool = int(rng.integers(TOOL_NAMES))
        of_tool = np.random.default_rng(tool).standard_normal()  # the same in every workload
        seconds = float(np.exp(log_mean + half * (of_tool + rng.standard_normal())))
        output = _tokens(rng, OUTPUT_TOKENS if index < calls else ANSWER_TOKENS)
        if segments and new + output > room:
            break
        new, output = min(new, room - 1), min(output, max(1, room - new))
        segments.append(
            Segment(
                prompt_tokens=new,
                output_tokens=output,
                call_seconds=round(seconds, 4) if index < calls else None,
                tool=f"api-{tool:02d}" if index < calls else None,
            )
        )
        room -= new + output
        new = _tokens(rng, RETURNED_TOKENS)
    segments[-1] = segments[-1].model_copy(update={"call_seconds": None, "tool": None})
    return Session(id=name, arrival=arrival, segments=tuple(segments))


def generate_toolbench(
    rng: Generator, sessions: int, rate: float, max_context: int = 2048
) -> Workload:
    """Sessions with Poisson arrivals at `rate` per second."""
    arrival_rng, session_rng = rng.spawn(2)
    arrivals = np.cumsum(arrival_rng.exponential(1.0 / rate, size=sessions))
    children = session_rng.spawn(sessions)
    return Workload.of(
        _draw(f"t{index:05d}", float(arrival), child, max_context)
        for index, (arrival, child) in enumerate(zip(arrivals, children, strict=True))
    )
