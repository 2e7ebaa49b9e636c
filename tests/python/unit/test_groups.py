# SPDX-License-Identifier: Apache-2.0
"""What a prefix needs in every KV cache group: as vLLM finds it, and kept for the next turn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheGroupSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from lamps_vllm.connector import LampsConnector
from lamps_vllm.groups import PrefixGroups, run, tokens_per_block, why_not_prefixes
from lamps_vllm.swap.settings import SwapError
from tests.support.driver import Driver
from tests.support.lockstep import Windows, make_cache, make_config
from tests.support.swapping import SwapDriver
from tests.support.windows import KINDS as WINDOWED

KINDS = [None, Windows(33), *WINDOWED]
kinds = pytest.mark.parametrize("windows", KINDS, ids=str)
SHAPE = {"block_size": 32, "num_kv_heads": 2, "head_size": 64, "dtype": torch.bfloat16}


@kinds
@pytest.mark.parametrize("seed", range(4))
def test_the_longest_prefix_is_the_one_that_vllm_finds(windows, seed):
    """With any blocks missing; and it needs just the blocks that vLLM takes."""
    rng = np.random.default_rng(seed)
    driver = Driver(AsyncScheduler, blocks=200, windows=windows)
    request = driver.send("a", 700, 1)
    while request.num_computed_tokens < 700:
        driver.step()
    manager = driver.scheduler.kv_cache_manager
    groups = PrefixGroups(manager)
    hashes = request.block_hashes
    for _ in range(40):
        cached = [block.block_id for block in manager.block_pool.blocks if block.block_hash]
        if not cached:
            break
        manager.evict_blocks(set(rng.choice(cached, 1).tolist()))
        limit = int(rng.integers(1, 700))
        blocks, found, _ = manager.coordinator.find_longest_cache_hit(hashes, limit)

        def there(group, indexes):
            return run(map(groups.find, groups.keys(hashes, group, indexes)))

        assert groups.longest(0, limit, there) == found
        needed = list(groups.needed(0, found))
        keys = groups.needed_keys(hashes, 0, found)
        assert all(map(groups.find, keys)) and len(keys) == len(needed)
        taken = {
            (group, index)
            for group, row in enumerate(blocks)
            for index, block in enumerate(row)
            if not block.is_null
        }
        assert set(needed) <= taken
    driver.drain()


def there_is(group, indexes):
    return len(indexes)


def there_is_not(group, indexes):
    return 0


@kinds
def test_a_prefix_goes_on_behind_what_is_there(windows):
    driver = Driver(AsyncScheduler, blocks=200, windows=windows)
    groups = PrefixGroups(driver.scheduler.kv_cache_manager)
    step = groups.alignment
    assert groups.longest(2 * step, 9 * step + 5, there_is) == 9 * step
    assert groups.longest(2 * step, 9 * step, there_is_not) == 2 * step
    assert groups.longest(2 * step, step, there_is) == 2 * step, "nothing is asked for"
    behind = set(groups.needed(2 * step, 9 * step))
    assert behind == {p for p in groups.needed(0, 9 * step) if groups.end_of(p) > 2 * step}


@kinds
def test_a_block_is_worth_a_slot_in_every_group(windows):
    driver = Driver(blocks=200, windows=windows)
    sizes = [32] + ([] if windows is None else [windows.block_size] * windows.groups)
    worth = tokens_per_block(driver.scheduler.kv_cache_manager, 0)
    assert worth == pytest.approx(1 / sum(1 / size for size in sizes))
    assert (
        tokens_per_block(SimpleNamespace(coordinator=SimpleNamespace(single_type_managers=())), 7)
        == 7
    )


@kinds
@pytest.mark.parametrize("output", [1, 2, 9, 16, 21, 31, 32, 33])
@pytest.mark.parametrize("ahead", [False, True], ids=["sync", "ahead"])
def test_what_is_kept_is_what_the_next_turn_finds(windows, output, ahead):
    """Nothing more is kept, and the window of its beginning although vLLM has let go of it."""
    driver = Driver(blocks=200, windows=windows, ahead=ahead)
    hints = {"expected_call_seconds": 1.0}
    driver.send("a0", 300, output, session_id="a", hints=hints)
    driver.drain()
    pool = driver.scheduler.kv_cache_manager.block_pool
    kept = driver.all_blocks - driver.free_blocks
    groups = PrefixGroups(driver.scheduler.kv_cache_manager)
    end = groups.aligned(300 + output - 1)
    assert kept == len(list(groups.needed(0, end)))
    assert driver.scheduler._core.report()["held_tokens"] == driver.scheduler._holds.worth(kept)
    pool.free_blocks(pool.get_new_blocks(driver.free_blocks))  # others have had the rest
    request = driver.follow("a1", driver.requests["a0"], 20, 2, session_id="a")
    scheduled = driver.step().num_scheduled_tokens["a1"]
    assert request.num_prompt_tokens - scheduled == end
    driver.drain()
    assert not driver.scheduler._faulted
    driver.check_drained()


def group(spec, **more) -> KVCacheGroupSpec:
    return KVCacheGroupSpec(["layer"], spec, **more)


FULL = FullAttentionSpec(**SHAPE)
WINDOW = SlidingWindowSpec(**SHAPE, sliding_window=64)
CHUNKED = ChunkedLocalAttentionSpec(**SHAPE, attention_chunk_size=64)
STATE = MambaSpec(block_size=32, shapes=((4, 4),), dtypes=(torch.float32,))


def test_attention_of_all_and_of_windows_can_be_told():
    latent = MLAAttentionSpec(block_size=32, num_kv_heads=1, head_size=64, dtype=torch.bfloat16)
    mixed = UniformTypeKVCacheSpecs(block_size=32, kv_cache_specs={"a": FULL, "b": FULL})
    for groups in ([FULL], [WINDOW], [latent], [mixed, WINDOW], [FULL, FULL, WINDOW]):
        assert why_not_prefixes([group(spec) for spec in groups], False) == ""
    assert why_not_prefixes([group(FULL)], True) == ""


@pytest.mark.parametrize(
    ("groups", "drops_block", "message"),
    [
        (
            [group(FULL), group(STATE)],
            False,
            "group 1 of 2 is MambaSpec: expected full attention or",
        ),
        ([group(CHUNKED)], False, "group 0 of 1 is ChunkedLocalAttentionSpec"),
        ([group(FULL), group(WINDOW, enable_kv_transfer=False)], False, "group 1 is a replica"),
        ([group(FULL, host_resident=True)], False, "group 0 is a replica"),
        (
            [group(FULL), group(WINDOW)],
            True,
            "speculative decoding with sliding windows or several",
        ),
        ([group(WINDOW)], True, "speculative decoding"),
        ([group(FULL), group(WINDOW, is_eagle_group=True)], False, "speculative decoding"),
    ],
)
def test_other_caches_are_refused_at_start(groups, drops_block, message):
    assert message in why_not_prefixes(groups, drops_block)
    if drops_block:  # as the configuration of speculative decoding would say
        return
    config = make_config(blocks=20, connector={})
    cache = make_cache(config)
    cache.kv_cache_groups = groups
    for role in KVConnectorRole:
        with pytest.raises(SwapError, match=message):
            LampsConnector(config, role, cache)


def test_without_an_answer_everything_is_kept():
    """As before: it does no harm where nobody swaps."""
    manager = SwapDriver(blocks=20).scheduler.kv_cache_manager
    assert PrefixGroups.of(manager) is not None
    manager.kv_cache_config.kv_cache_groups = [group(FULL), group(STATE)]
    assert PrefixGroups.of(manager) is None
