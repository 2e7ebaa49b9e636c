# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of KV blocks are, from vLLM's description of the cache."""

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from lamps_vllm.swap.settings import SwapError

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheTensor


class LayoutError(SwapError):
    """The KV cache is laid out in a way that the connector cannot copy block by block."""


class Pages(NamedTuple):
    """One page of every block: block b has `page` bytes at `offset + b * page` of the allocation."""

    offset: int
    page: int


def pages_of(config: "KVCacheConfig") -> list[Pages]:
    """Every byte of the cache once, as runs of pages.

    A layer-outermost layout has a run per layer (or per layer and head group), a block-outermost one
    a single run of whole blocks. Padding is part of a page; data types and heads do not matter.
    Groups lie over each other: a block has the same pages whichever group has it.

    Raises:
        LayoutError: a tensor is not made of whole runs of pages, or groups have different pages.
    """
    blocks = config.num_blocks
    runs = sorted({r for each in config.kv_cache_tensors for r in _pages_of_tensor(each, blocks)})
    if not runs:
        raise LayoutError("KV cache without tensors: expected one or more")
    for run, after in itertools.pairwise(runs):
        if after.offset < run.offset + blocks * run.page:
            raise LayoutError(
                f"KV cache has {blocks} pages of {run.page} bytes at {run.offset}, and {after.page} "
                f"bytes at {after.offset}: expected the same pages in every group"
            )
    return runs


def _pages_of_tensor(tensor: "KVCacheTensor", blocks: int) -> Iterable[Pages]:
    name = tensor.layers[0]
    if tensor.host_resident:
        raise LayoutError(f"KV cache of {name} is in host memory: expected it on the device")
    page = tensor.block_stride
    span = blocks * page
    if tensor.layer_stride < span:  # blocks are outermost: a page is a whole block
        return [Pages(0, page)]
    per_layer, rest = divmod(tensor.layer_stride, span)
    if rest:
        raise LayoutError(
            f"KV cache of {name}: layers are {tensor.layer_stride} bytes apart: expected a multiple "
            f"of {span}, the pages of {blocks} blocks"
        )
    return [
        Pages(tensor.offset + index * span, page) for index in range(len(tensor.layers) * per_layer)
    ]


def bytes_per_block(runs: Iterable[Pages]) -> int:
    """Bytes that one block has in all runs together."""
    return sum(run.page for run in runs)
