# SPDX-License-Identifier: Apache-2.0
"""Kept blocks, with vLLM's own block pool: references in, references out, nothing lost."""

import pytest
from vllm.v1.core.block_pool import BlockPool

from lamps_vllm.holds import HeldBlocks

TOTAL, BLOCK = 12, 16


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(num_gpu_blocks=TOTAL, enable_caching=True, hash_block_size=BLOCK)


@pytest.fixture
def holds(pool) -> HeldBlocks:
    return HeldBlocks(pool, BLOCK)


def taken(pool: BlockPool, count: int, hashed: int) -> list:
    """Blocks of a request, the first `hashed` of them full."""
    blocks = pool.get_new_blocks(count)
    for block in blocks[:hashed]:
        block.set_block_hash(b"hash%d" % block.block_id, BLOCK)
    return blocks


def test_only_full_blocks_are_kept(pool, holds):
    free = pool.get_num_free_blocks()
    assert holds.keep(1, taken(pool, 5, hashed=3)) == 3 * BLOCK
    assert pool.get_num_free_blocks() == free - 3
    assert 1 in holds and len(holds) == 1 and holds


def test_what_is_not_kept_can_be_freed_later(pool, holds):
    free, later = pool.get_num_free_blocks(), []
    blocks = taken(pool, 5, hashed=3)
    assert holds.keep(1, blocks, free=later.extend) == 3 * BLOCK
    assert later == blocks[3:] and pool.get_num_free_blocks() == free - 5


def test_nothing_full_is_nothing_kept(pool, holds):
    free = pool.get_num_free_blocks()
    assert holds.keep(1, taken(pool, 2, hashed=0)) == 0
    assert pool.get_num_free_blocks() == free
    assert 1 not in holds and not holds


def test_release_gives_everything_back_once(pool, holds):
    free = pool.get_num_free_blocks()
    holds.keep(1, taken(pool, 4, hashed=4))
    assert holds.release(1) is True
    assert pool.get_num_free_blocks() == free
    assert holds.release(1) is False
    assert holds.unique_tokens(1) == 0


def test_the_tail_is_let_go_first(pool, holds):
    """vLLM reuses what was freed first: the head, which others may share, lives longest."""
    blocks = taken(pool, 3, hashed=3)
    holds.keep(1, blocks)
    pool.get_new_blocks(pool.get_num_free_blocks())  # whatever was free before
    holds.release(1)
    assert pool.get_new_blocks(3) == blocks[::-1]


def test_keeping_again_replaces(pool, holds):
    free = pool.get_num_free_blocks()
    holds.keep(1, taken(pool, 4, hashed=4))
    assert holds.keep(1, taken(pool, 2, hashed=2)) == 2 * BLOCK
    assert pool.get_num_free_blocks() == free - 2


def test_blocks_that_others_use_cost_nothing(pool, holds):
    blocks = taken(pool, 4, hashed=4)
    pool.touch(blocks[:3])  # another request found them
    assert holds.keep(1, blocks) == BLOCK
    pool.free_blocks(blocks[:3])
    assert holds.unique_tokens(1) == 4 * BLOCK


def test_release_all_names_who_held(pool, holds):
    free = pool.get_num_free_blocks()
    for session in (3, 5):
        holds.keep(session, taken(pool, 2, hashed=1))
    assert sorted(holds.release_all()) == [3, 5]
    assert holds.release_all() == []
    assert pool.get_num_free_blocks() == free
