# SPDX-License-Identifier: Apache-2.0
"""Generations with tools on the tiny model, planned ahead: its tokens mean nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vllm import AsyncEngineArgs, SamplingParams
from vllm.inputs import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM

from lamps_vllm.augmented import AugmentedLLM, AugmentedOutput, Call, Segment
from lamps_vllm.replay.tiny_model import VOCAB_SIZE, write_tiny_model
from tests.support.byte_tokenizer import write_byte_tokenizer

LAMPS = "lamps_vllm.LampsScheduler"


class Script:
    """A format for a model that says nothing: what is called after each segment is written down.

    Args:
        calls: after each segment but the last.
    """

    stops = ()

    def __init__(self, calls: Sequence[list[Call]]) -> None:
        self._left = deque(calls)

    def calls(self, segment: Segment) -> list[Call]:
        return self._left.popleft() if self._left else []

    def results(self, results: Sequence[tuple[Call, str]]) -> str:
        return "".join(f"<{call.name}:{text}>" for call, text in results)


@dataclass(frozen=True)
class Plan:
    """One generation: prompt, tokens per segment, and the calls after each segment but the last."""

    prompt: list[int]
    length: int
    calls: list[list[Call]]

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(
            temperature=0.0, max_tokens=self.length, min_tokens=self.length, ignore_eos=True
        )


def plans(count: int, tools: Callable[[np.random.Generator], Call], *, prompt: int, most_calls: int,
          longest: int, seed: int = 0) -> list[Plan]:  # fmt: skip
    """Random plans; one call in five comes with a second beside it. No two prompts share a block."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        size = int(rng.integers(prompt // 2, prompt * 3 // 2))
        calls = [
            [tools(rng) for _ in range(1 + (rng.random() < 0.2))]
            for _ in range(int(rng.integers(1, most_calls + 1)))
        ]
        length = int(rng.integers(longest // 4, longest + 1))
        made.append(Plan(rng.integers(3, VOCAB_SIZE, size).tolist(), length, calls))
    return made


def engine_args(
    folder: Path, scheduler_cls: str | None, lamps: dict[str, Any] | None = None, **more: Any
) -> AsyncEngineArgs:
    """The tiny model in float32, so that batching does not change the argmax."""
    model = write_tiny_model(folder / "model")
    write_byte_tokenizer(model)
    chosen = {"scheduler_cls": scheduler_cls} if scheduler_cls else {}
    defaults = {
        "load_format": "dummy", "enforce_eager": True, "dtype": "float32", "block_size": 32,
        "max_model_len": 704, "num_gpu_blocks_override": 24, "max_num_batched_tokens": 256,
        "additional_config": {"lamps": lamps or {}},
    }  # fmt: skip
    return AsyncEngineArgs(model=str(model), **{**defaults, **chosen, **more})


@asynccontextmanager
async def running_engine(args: AsyncEngineArgs) -> AsyncIterator[AsyncLLM]:
    engine = AsyncLLM.from_engine_args(args)
    try:
        yield engine
    finally:
        engine.shutdown()


async def serve(
    how: type[AugmentedLLM], engine: AsyncLLM, tools: Any, plan: Plan, **options: Any
) -> AugmentedOutput:
    llm = how(engine, tools, call_format=Script(plan.calls))
    return await llm.generate(plan.prompt, plan.params, **options)


async def serve_all(
    how: type[AugmentedLLM], engine: AsyncLLM, tools: Any, planned: Iterable[Plan]
) -> list[AugmentedOutput]:
    return await asyncio.gather(*(serve(how, engine, tools, plan) for plan in planned))


class SeparateRequests(AugmentedLLM):
    """The same generations as one request per segment, each with the whole context as its prompt."""

    async def generate(
        self, prompt: list[int], params: SamplingParams, *, session_id: str | None = None
    ) -> AugmentedOutput:
        output = AugmentedOutput(list(prompt), [], [])
        context = list(prompt)
        while True:
            name = f"separate-{id(output)}-{len(output.segments)}"
            outputs = self.engine.generate(
                tokens_input(context), self._params_of(params), name, session_id=session_id
            )
            segment = [segment async for segment in self._segments(outputs)][-1]
            output.segments.append(segment)
            wanted = self._format.calls(segment)
            if not wanted:
                return output
            runs = await asyncio.gather(*map(self._tools.run, wanted))
            output.runs.extend(runs)
            told = self._format.results([(run.call, run.result) for run in runs])
            context = [*context, *segment.token_ids, *self._encode(told)]
