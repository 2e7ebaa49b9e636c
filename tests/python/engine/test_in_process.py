# SPDX-License-Identifier: Apache-2.0
"""A real vLLM engine in this process: LAMPS changes when requests run, never what they say."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from lamps_vllm.replay.tiny_model import VOCAB_SIZE, write_tiny_model
from tests.support.byte_tokenizer import write_byte_tokenizer

pytestmark = pytest.mark.engine

LAMPS = "lamps_vllm.LampsScheduler"
SESSIONS, TURNS, OUTPUT = 8, 3, 8


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """The engine core in this process: its scheduler can be looked at."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


@contextmanager
def engine(scheduler_cls: str | None, **options) -> Iterator:
    """A tiny model with random weights; float32, so that batching does not change the argmax."""
    from vllm import LLM

    chosen = {"scheduler_cls": scheduler_cls} if scheduler_cls else {}
    defaults = {
        "model": str(write_tiny_model()), "skip_tokenizer_init": True, "num_gpu_blocks_override": 24,
    }  # fmt: skip
    llm = LLM(
        **{**defaults, **options, **chosen}, load_format="dummy", enforce_eager=True, dtype="float32",
        max_model_len=640, block_size=32, max_num_batched_tokens=64, max_num_seqs=8,
    )  # fmt: skip
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()


def scheduler_of(llm):
    return llm.llm_engine.engine_core.engine_core.scheduler


def chat(llm) -> list[list[list[int]]]:
    """Greedy answers of every session and turn; together the sessions outgrow the 24 blocks."""
    from vllm import SamplingParams

    rng = np.random.default_rng(0)
    contexts: list[list[int]] = [[] for _ in range(SESSIONS)]
    answers: list[list[list[int]]] = [[] for _ in range(SESSIONS)]
    for _ in range(TURNS):
        for context in contexts:
            context.extend(rng.integers(3, VOCAB_SIZE, int(rng.integers(30, 70))).tolist())
        params = [
            SamplingParams(
                temperature=0.0, max_tokens=OUTPUT, min_tokens=OUTPUT, ignore_eos=True, detokenize=False,
                extra_args={"lamps": json.dumps({"session": f"s{i}"})},
            )
            for i in range(SESSIONS)
        ]  # fmt: skip
        prompts = [{"prompt_token_ids": list(context)} for context in contexts]
        for i, output in enumerate(llm.generate(prompts, params, use_tqdm=False)):
            answers[i].append(list(output.outputs[0].token_ids))
            contexts[i] += answers[i][-1]
    return answers


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_answers_are_those_of_stock_vllm(prefix_caching):
    with engine(None, enable_prefix_caching=prefix_caching) as llm:
        expected = chat(llm)
    with engine(LAMPS, enable_prefix_caching=prefix_caching) as llm:
        answers = chat(llm)
        scheduler = scheduler_of(llm)
        report = scheduler._core.report()
        assert type(scheduler).__name__ == "LampsScheduler"
        assert not scheduler._faulted
        assert report["arrivals"] == SESSIONS * TURNS
        assert report["returns"] == SESSIONS * (TURNS - 1)
        assert bool(scheduler._holds) == prefix_caching
        assert llm.reset_prefix_cache()
        assert scheduler.get_kv_cache_usage() == 0.0
    assert answers == expected
    assert len({tuple(turn) for session in answers for turn in session}) > SESSIONS, (
        "degenerate model"
    )


def test_structured_output_passes_through(tmp_path):
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    model = write_tiny_model(tmp_path / "model")
    write_byte_tokenizer(model)
    choices = ["yes", "no", "perhaps"]
    structured = SamplingParams(
        temperature=0.0,
        max_tokens=60,
        structured_outputs=StructuredOutputsParams(choice=choices),
    )
    plain = SamplingParams(temperature=0.0, max_tokens=20, min_tokens=20, ignore_eos=True)
    with engine(LAMPS, model=str(model), skip_tokenizer_init=False) as llm:
        outputs = llm.generate(
            ["Is it?", "Tell me", "Was it?"], [structured, plain, structured], use_tqdm=False
        )
        scheduler = scheduler_of(llm)
        assert not scheduler._faulted
        assert scheduler._core.report()["arrivals"] == 3
    assert all(outputs[i].outputs[0].text in choices for i in (0, 2))
    assert len(outputs[1].outputs[0].token_ids) == 20
