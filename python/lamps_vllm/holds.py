# SPDX-License-Identifier: Apache-2.0
"""KV blocks kept for sessions whose call runs."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lamps_vllm.groups import PrefixGroups

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import KVCacheBlock


class HeldBlocks:
    """Keeps references to the blocks of finished turns, so that the pool does not reuse them.

    Only full, hashed blocks are kept: they are what the session's next turn finds through the prefix
    cache. Letting go returns them to the pool as ordinary cached blocks.

    Args:
        pool: whose blocks these are.
        tokens_per_block: tokens that a block is worth.
        groups: tell what the next turn needs; None: nobody can, keep all.
    """

    def __init__(
        self, pool: "BlockPool", tokens_per_block: float, groups: PrefixGroups | None = None
    ) -> None:
        self._pool = pool
        self._tokens_per_block = tokens_per_block
        self._groups = groups
        self._blocks: dict[int, list[KVCacheBlock]] = {}
        self.free: Callable[[Iterable[KVCacheBlock]], None] = pool.free_blocks
        """How what is let go returns to the pool, the block to be reused first in front."""

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, session: int) -> bool:
        return session in self._blocks

    def keep(
        self,
        session: int,
        blocks: "Iterable[KVCacheBlock]",
        block_hashes: Sequence[bytes] | None = None,
        free: "Callable[[list[KVCacheBlock]], None] | None" = None,
    ) -> int:
        """Takes over the references to ``blocks`` (allocation order).

        Args:
            session: that they are kept for.
            blocks: of a turn that has ended, or others that can be found.
            block_hashes: of the turn; None: all that can be found is needed.
            free: takes what is not kept (allocation order); None: it is free at once.

        Returns:
            Tokens that only this session holds: blocks that others reference too cost nothing.
        """
        self.release(session)
        owned = [block for block in blocks if not block.is_null]
        self._blocks[session] = (
            owned  # ours from here on: release_all() frees them, whatever happens
        )
        if block_hashes is None or self._groups is None:
            kept = [block for block in owned if block.block_hash is not None]
        else:
            kept = self._groups.remains(block_hashes, owned)
        ids, kept_ids = ({block.block_id for block in each} for each in (owned, kept))
        self._pool.touch([block for block in kept if block.block_id not in ids])
        self._blocks[session] = kept
        rest = [block for block in owned if block.block_id not in kept_ids]
        if free is None:
            self._pool.free_blocks(reversed(rest))
        else:
            free(rest)
        if not kept:
            del self._blocks[session]
        return self.unique_tokens(session)

    def unique_tokens(self, session: int) -> int:
        """Tokens that would become free if the session let go now; 0 if it holds nothing."""
        kept = self._blocks.get(session, ())
        return self.worth(sum(block.ref_cnt == 1 for block in kept))

    def worth(self, blocks: int) -> int:
        """Tokens that so many blocks take the place of."""
        return int(blocks * self._tokens_per_block)

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
