# SPDX-License-Identifier: Apache-2.0
"""Swapping in a real vLLM engine whose model mixes full attention and sliding windows."""

import json
from typing import Any

import pytest
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

from lamps_vllm.replay.tiny_model import tiny_config
from tests.python.engine.test_in_process import LAMPS, chat, engine, in_process, scheduler_of
from tests.python.engine.test_swapping import converse, poisoned, swapping

__all__ = ["in_process", "poisoned"]  # fixtures

pytestmark = pytest.mark.engine

LAYERS = 2 * ["full_attention", "sliding_attention", "sliding_attention"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> dict[str, Any]:
    """A tiny Llama, most layers with a window of a block and a half; options of its engine."""
    folder = tmp_path_factory.mktemp("windows")
    config = tiny_config() | {"num_hidden_layers": len(LAYERS), "layer_types": LAYERS}
    config["sliding_window"] = 48
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return {"model": str(folder), "num_gpu_blocks_override": 36}


@pytest.fixture(scope="module")
def expected(model) -> list[list[list[int]]]:
    """What is said without swapping."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        with engine(None, **model) as llm:
            groups = scheduler_of(llm).kv_cache_config.kv_cache_groups
            kinds = [type(group.kv_cache_spec) for group in groups]
            assert kinds == [FullAttentionSpec, SlidingWindowSpec, SlidingWindowSpec]
            return chat(llm)


def test_without_host_memory_answers_are_the_same(model, expected):
    with engine(LAMPS, **model) as llm:
        assert chat(llm) == expected
        assert not scheduler_of(llm)._faulted


@pytest.mark.parametrize("scheduler_cls", [LAMPS, None], ids=["lamps", "stock"])
def test_sessions_that_were_swapped_say_the_same(scheduler_cls, model, expected, poisoned):
    with swapping(scheduler_cls, model, checksums=True) as (llm, tier, _):
        assert converse(llm) == expected
        assert tier.totals["stored_blocks"] > 8
        assert tier.totals["loaded_blocks"] + tier.totals["prefetched_blocks"] > 8
        assert tier.totals["failed_copies"] == 0
    assert scheduler_cls is None or len(poisoned) > 8


@pytest.mark.parametrize("scheduler_cls", [LAMPS, None], ids=["lamps", "stock"])
def test_the_test_sees_loads_that_do_not_happen(scheduler_cls, model, expected, poisoned):
    with swapping(scheduler_cls, model) as (llm, tier, mover):
        mover.outcome["load"] = "done"
        assert converse(llm) != expected
        assert tier.totals["stored_blocks"] > 0


@pytest.mark.parametrize("scheduler_cls", [LAMPS, None], ids=["lamps", "stock"])
def test_what_cannot_be_loaded_is_recomputed(scheduler_cls, model, expected, poisoned):
    with swapping(scheduler_cls, model, checksums=True) as (llm, tier, mover):
        mover.outcome["load"] = "copy-failed"
        assert converse(llm) == expected
        assert tier.totals["failed_copies"] > 0
        assert tier.totals["loaded_blocks"] == tier.totals["prefetched_blocks"] == 0
