# SPDX-License-Identifier: Apache-2.0
"""Calls inside a request on the real engine: the tokens are those of separate requests on stock vLLM."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from lamps_vllm.augmented import (
    AugmentedLLM,
    BlockingAugmentedLLM,
    Call,
    ContextFull,
    Tool,
    TooManyCalls,
)
from lamps_vllm.demo.three_tools import CITIES, three_tools
from tests.support import augmented as support
from tests.support.augmented import (
    LAMPS,
    Plan,
    Script,
    SeparateRequests,
    engine_args,
    plans,
    serve,
    serve_all,
)

pytestmark = pytest.mark.engine


def some_call(rng: np.random.Generator) -> Call:
    """A call of one of the three tools; some fail."""
    calls = (
        Call("calculator", {"expression": f"{rng.integers(99)} * 7 / {rng.integers(3)}"}),
        Call("query", {"sql": f"select people from cities limit {rng.integers(1, 4)}"}),
        Call("weather", {"city": [*(city[0] for city in CITIES), "Atlantis"][rng.integers(5)]}),
    )
    return calls[rng.integers(3)]


# Their contexts are some four times the pool together.
PLANS = plans(12, some_call, prompt=120, most_calls=5, longest=40)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    with three_tools(tmp_path_factory.mktemp("tools"), 0.3) as found:
        yield found


def said(outputs) -> list[list[tuple[int, ...]]]:
    return [[segment.token_ids for segment in output.segments] for output in outputs]


@pytest.fixture(scope="module")
def expected(tools, tmp_path_factory):
    """Greedy answers of stock vLLM, one request per segment, and the tools' results."""

    async def work():
        args = engine_args(tmp_path_factory.mktemp("stock"), None)
        async with support.running_engine(args) as engine:
            return await serve_all(SeparateRequests, engine, tools, PLANS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        outputs = asyncio.run(work())
    assert len({run.call.name for output in outputs for run in output.runs}) == 3
    assert any(run.failed for output in outputs for run in output.runs), "no error goes back"
    assert max(len(output.segments) for output in outputs) > 3
    return outputs


def decisions(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_tokens_are_those_of_separate_requests(expected, tools, tmp_path):
    log = tmp_path / "decisions.jsonl"

    async def waits() -> str:
        await asyncio.sleep(60)
        return ""

    async def work():
        args = engine_args(tmp_path, LAMPS, {"decision_log": str(log)})
        async with support.running_engine(args) as engine:
            outputs = await serve_all(AugmentedLLM, engine, tools, PLANS)
            assert await engine.reset_prefix_cache(), "blocks are still in use"

            # Clients that go away while their tool runs, among others that stay.
            hanging = [Plan(plan.prompt[::-1], 30, [[Call("waits")]]) for plan in PLANS[:5]]
            gone = [
                asyncio.create_task(serve(AugmentedLLM, engine, [waits], plan)) for plan in hanging
            ]
            again = asyncio.create_task(serve_all(AugmentedLLM, engine, tools, PLANS))
            await asyncio.sleep(2.0)
            assert not any(task.done() for task in gone)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            assert said(await again) == said(expected)
            assert await engine.reset_prefix_cache(), "an abort leaked blocks"

            # Errors end their request and nothing else.
            plan = Plan(PLANS[0].prompt, 10, [[Call("f")], [Call("f")]])
            llm = AugmentedLLM(
                engine, [Tool(str, "f")], call_format=Script(plan.calls), most_calls=1
            )
            with pytest.raises(TooManyCalls, match="after 1"):
                await llm.generate(plan.prompt, plan.params)
            with pytest.raises(ContextFull, match="704"):
                await serve(AugmentedLLM, engine, [Tool(lambda: "x" * 990, "f")], plan)
            assert await engine.reset_prefix_cache()
            return outputs

    outputs = asyncio.run(work())
    assert said(outputs) == said(expected)
    results = [[(run.call, run.result) for run in output.runs] for output in outputs]
    assert results == [[(run.call, run.result) for run in output.runs] for output in expected]
    whys = {line.get("why") for line in decisions(log)}
    assert {"keeping wastes least", "returned"} <= whys
    assert whys & {"room for a waiting turn", "room for running turns", "letting go wastes least"}


def test_without_async_and_with_every_pause_discarded(expected, tools, tmp_path):
    args = engine_args(tmp_path, LAMPS, {"preserve": False})
    few = PLANS[:4]
    script = Script([calls for plan in few for calls in (*plan.calls, [])])  # nothing: the answer
    with BlockingAugmentedLLM(args, tools, call_format=script) as llm:
        outputs = [llm.generate([plan.prompt], plan.params)[0] for plan in few]
        crowd = llm._wait(serve_all(AugmentedLLM, llm._engine, tools, PLANS))
    assert said(outputs) == said(expected[:4])
    assert said(crowd) == said(expected)
    with pytest.raises(RuntimeError):
        llm.generate([few[0].prompt])


def test_a_real_model_calls_three_real_tools(tmp_path):
    """The example: skipped where the model's weights are not installed."""
    from vllm import AsyncEngineArgs, SamplingParams

    from lamps_vllm.demo import augmented as example
    from lamps_vllm.demo.model import ModelError, prepare_model

    try:
        model = prepare_model()
    except ModelError as error:
        pytest.skip(str(error))
    args = AsyncEngineArgs(
        model=str(model), scheduler_cls=LAMPS, enforce_eager=True, max_model_len=1024
    )
    with three_tools(tmp_path, 1.0) as found, BlockingAugmentedLLM(args, found) as llm:
        asked = [example.prompt_for(question) for question, _, _ in example.QUESTIONS]
        outputs = llm.generate(
            asked, SamplingParams(temperature=0.0, max_tokens=example.MAX_TOKENS)
        )
    for (_, name, result), output in zip(example.QUESTIONS, outputs, strict=True):
        assert [run.call.name for run in output.runs] == [name]
        assert result in output.runs[0].result
        assert result in output.text
