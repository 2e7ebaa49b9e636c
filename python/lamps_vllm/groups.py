# SPDX-License-Identifier: Apache-2.0
"""KV cache groups: which blocks a prefix needs in each, for models that mix kinds of attention."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from vllm.v1.core.kv_cache_utils import get_group_id, make_block_hash_with_group_id
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.kv_cache_utils import KVCacheBlock
    from vllm.v1.kv_cache_interface import KVCacheGroupSpec

Key = Hashable
"""How the prefix cache names a block: the hash of all tokens up to its end, and its group."""


class Place(NamedTuple):
    """The block of a group that holds tokens [index, index + 1) x the group's tokens per block."""

    group: int
    index: int


There = Callable[[int, Sequence[int]], int]
"""Of a group's blocks at these indexes: how many are there, up to the first that is not."""


def run(flags: Iterable[object]) -> int:
    """How many are true, up to the first that is not."""
    return sum(1 for _ in itertools.takewhile(bool, flags))


def why_not_prefixes(groups: "Sequence[KVCacheGroupSpec]", drops_block: bool) -> str:
    """What keeps :class:`PrefixGroups` from telling what a prefix needs; "" if nothing does.

    Args:
        groups: of the KV cache.
        drops_block: speculative decoding has vLLM leave out the last block that it finds.
    """
    for number, group in enumerate(groups):
        spec = group.kv_cache_spec
        specs = (
            spec.kv_cache_specs.values() if isinstance(spec, UniformTypeKVCacheSpecs) else [spec]
        )
        for each in specs:
            known = isinstance(each, FullAttentionSpec | SlidingWindowSpec)
            if not known or not each.prefix_cacheable:
                return (
                    f"KV cache group {number} of {len(groups)} is {type(each).__name__}: "
                    "expected full attention or a sliding window that the prefix cache keeps"
                )
        if group.host_resident or not group.enable_kv_transfer:
            return f"KV cache group {number} is a replica: expected KV of the model itself"
    drops_block = drops_block or any(group.is_eagle_group for group in groups)
    alone = len(groups) == 1 and not isinstance(groups[0].kv_cache_spec, SlidingWindowSpec)
    if drops_block and not alone:
        return "speculative decoding with sliding windows or several KV cache groups: expected none"
    return ""


def tokens_per_block(manager: "KVCacheManager", default: int) -> float:
    """Tokens that a block is worth where every token takes a slot in every group.

    For a sliding window that is an upper bound. `default`: for models without KV cache.
    """
    sizes = [each.block_size for each in manager.coordinator.single_type_managers]
    return float(1 / sum(Fraction(1, size) for size in sizes)) if sizes else default


class PrefixGroups:
    """What the prefix of a request needs in every KV cache group, as vLLM's managers see it.

    Full attention needs every block; a sliding window those that hold the last window. A prefix can
    be found again only where every group has what it needs, and only at multiples of `alignment`
    tokens. Use it where :func:`why_not_prefixes` has no objection.
    """

    def __init__(self, manager: "KVCacheManager") -> None:
        coordinator = manager.coordinator
        self._pool = manager.block_pool
        self._managers = coordinator.single_type_managers
        self._sizes = [each.block_size for each in self._managers]
        self.alignment = coordinator.scheduler_block_size
        self._windowed = {
            number
            for number, each in enumerate(self._managers)
            if isinstance(each.kv_cache_spec, SlidingWindowSpec)
        }
        self.simple = len(self._managers) == 1 and not self._windowed
        """One group of full attention: a prefix is its blocks, one after the other."""

    @classmethod
    def of(cls, manager: "KVCacheManager") -> "PrefixGroups | None":
        """None where nobody can tell what a prefix needs."""
        why_not = why_not_prefixes(manager.kv_cache_config.kv_cache_groups, manager.use_eagle)
        return None if why_not else cls(manager)

    def is_windowed(self, group: int) -> bool:
        """Whether the group's blocks are of no use once the window has moved on."""
        return group in self._windowed

    def end_of(self, place: Place) -> int:
        """Tokens of a prefix that ends with this block."""
        return (place.index + 1) * self._sizes[place.group]

    def key(self, block_hashes: "Sequence[bytes]", place: Place) -> Key:
        """How the cache names the block at this place of a request with these hashes."""
        return next(self.keys(block_hashes, place.group, [place.index]))

    def keys(
        self, block_hashes: "Sequence[bytes]", group: int, indexes: Iterable[int]
    ) -> Iterator[Key]:
        """The same for blocks of a group."""
        each = self._sizes[group] // self._pool.hash_block_size
        return (
            make_block_hash_with_group_id(block_hashes[(index + 1) * each - 1], group)
            for index in indexes
        )

    def place_of(self, block: "KVCacheBlock") -> Place | None:
        """Where a block that can be found belongs; None for one that is not full yet."""
        group = get_group_id(block.block_hash)
        index, rest = divmod(block.block_hash_num_tokens, self._sizes[group])
        return None if rest else Place(group, index - 1)

    def aligned(self, tokens: int) -> int:
        """The longest prefix of so many tokens that can be found."""
        return tokens - tokens % self.alignment

    def needed(self, start: int, end: int) -> Iterator[Place]:
        """What a prefix of `end` tokens needs behind one of `start` tokens, group by group."""
        for group in range(len(self._sizes)):
            for index in self._needed_of(group, start, end):
                yield Place(group, index)

    def needed_keys(self, block_hashes: "Sequence[bytes]", start: int, end: int) -> list[Key]:
        """How the cache names that, in the same order."""
        groups = range(len(self._sizes))
        needed = [
            self.keys(block_hashes, each, self._needed_of(each, start, end)) for each in groups
        ]
        return list(itertools.chain.from_iterable(needed))

    def longest(self, start: int, end: int, there: There) -> int:
        """The longest prefix of [start, end] tokens that has what it needs behind `start`."""
        end = max(self.aligned(end), start)
        shorter = True
        while shorter:
            before = end
            for group in range(len(self._sizes)):
                fit = self._fit_window if group in self._windowed else self._fit_all
                end = fit(group, start, end, there)
            shorter = start < end < before
        return end

    def remains(
        self, block_hashes: "Sequence[bytes]", blocks: "Iterable[KVCacheBlock]"
    ) -> "list[KVCacheBlock]":
        """The blocks that a continuation of this prefix finds, in order of groups and tokens.

        Of `blocks`, which a request leaves, or else of the prefix cache: the window of the last
        aligned prefix can begin before that of the last token.
        """
        if self.simple:
            return [block for block in blocks if block.block_hash is not None]
        own = {}
        for block in blocks:
            place = None if block.block_hash is None else self.place_of(block)
            if place is not None:
                own[place] = block

        def at(group: int, index: int) -> "KVCacheBlock | None":
            place = Place(group, index)
            return own.get(place) or self.find(self.key(block_hashes, place))

        tokens = len(block_hashes) * self._pool.hash_block_size
        end = self.longest(
            0, tokens, lambda group, indexes: run(at(group, index) for index in indexes)
        )
        return [at(*place) for place in self.needed(0, end)]

    def find(self, key: Key) -> "KVCacheBlock | None":
        """The block of that name in the prefix cache."""
        return self._pool.cached_block_hash_to_block.get_one_block(key)

    def _needed_of(self, group: int, start: int, end: int) -> range:
        skipped = self._managers[group].get_num_skipped_tokens(end)
        size = self._sizes[group]
        return range(max(start, skipped) // size, end // size)

    def _fit_all(self, group: int, start: int, end: int, there: There) -> int:
        """The same in a group that needs every block: as far as they are there."""
        needed = self._needed_of(group, start, end)
        found = there(group, needed)
        return end if found == len(needed) else self.aligned(needed[found] * self._sizes[group])

    def _fit_window(self, group: int, start: int, end: int, there: There) -> int:
        """The same in a group with a window: the last end whose window is there."""
        while end > start:
            window = self._needed_of(group, start, end)[::-1]
            found = there(group, window)
            if found == len(window):
                return end
            # Every end behind the missing block whose window begins before it needs it, too.
            end = max(self.aligned(window[found] * self._sizes[group]), start)
        return end
