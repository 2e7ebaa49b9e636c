# SPDX-License-Identifier: Apache-2.0
"""KV blocks kept for sessions whose call runs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import KVCacheBlock


class HeldBlocks:
    """Keeps references to the blocks of finished turns, so that the pool does not reuse them.

    Only full, hashed blocks are kept: they are what the session's next turn finds through the prefix
    cache. Letting go returns them to the pool as ordinary cached blocks.
    """

    def __init__(self, pool: "BlockPool", tokens_per_block: float) -> None:
        self._pool = pool
        self._tokens_per_block = tokens_per_block
        self._blocks: dict[int, list[KVCacheBlock]] = {}
        self.free: Callable[[Iterable[KVCacheBlock]], None] = pool.free_blocks
        """How what is let go returns to the pool, the block to be reused first in front."""

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, session: int) -> bool:
        return session in self._blocks

    def keep(self, session: int, blocks: "Iterable[KVCacheBlock]") -> int:
        """Takes over the references to ``blocks`` (allocation order).

        Returns:
            Tokens that only this session holds: blocks that others reference too cost nothing.
        """
        self.release(session)
        owned = list(blocks)
        self._blocks[session] = (
            owned  # ours from here on: release_all() frees them, whatever happens
        )
        kept = [block for block in owned if block.block_hash is not None and not block.is_null]
        rest = [block for block in owned if block.block_hash is None or block.is_null]
        self._blocks[session] = kept
        self._pool.free_blocks(reversed(rest))
        if not kept:
            del self._blocks[session]
        return self.unique_tokens(session)

    def unique_tokens(self, session: int) -> int:
        """Tokens that would become free if the session let go now; 0 if it holds nothing."""
        kept = self._blocks.get(session, ())
        return int(sum(block.ref_cnt == 1 for block in kept) * self._tokens_per_block)

    def release(self, session: int) -> bool:
        """Returns the session's blocks to the pool, tail first; False if it held none."""
        kept = self._blocks.pop(session, None)
        if kept is None:
            return False
        self.free(reversed(kept))
        return True

    def blocks_of(self, session: int) -> "list[KVCacheBlock]":
        """The session's blocks in allocation order; they stay kept."""
        return list(self._blocks.get(session, ()))

    def hand_over(self, session: int) -> "list[KVCacheBlock]":
        """Gives up the session's blocks with their references, in allocation order."""
        return self._blocks.pop(session, [])

    def release_all(self) -> list[int]:
        """Returns everything to the pool; the sessions that held something."""
        sessions = list(self._blocks)
        for session in sessions:
            self.release(session)
        return sessions
