# SPDX-License-Identifier: Apache-2.0
"""Carries out what the policy core decides about KV on the host, and tells it when copies are done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.v1.core.kv_cache_utils import get_group_id

import lamps_ext
from lamps_vllm.groups import Place, run
from lamps_vllm.holds import HeldBlocks
from lamps_vllm.swap.swapped import Swapped, Where
from lamps_vllm.swap.tier import Job, SwapTier

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_utils import KVCacheBlock
    from vllm.v1.request import Request

Event = tuple[Any, ...]


class SessionSwaps:
    """The core's orders (release, drop_host, swap_out, prefetch, copy_ahead), session by session.

    Blocks of a copy are referenced until it is over, or lent to it by those who keep them (see
    :meth:`SwapTier.free`). What is freed because it is on the host is the first that the pool hands
    out again; what came back is kept as if it had never left.
    """

    def __init__(self, tier: SwapTier, holds: HeldBlocks) -> None:
        self._tier, self._holds = tier, holds
        self._sessions: dict[int, Swapped] = {}
        self._awaited: set[int] = set()
        self._events: list[Event] = []
        self._now = 0.0
        tier.driven = True
        tier.index.on_lost = self._on_lost
        holds.free = tier.free

    @property
    def _pool(self):
        return self._tier.pool

    def settle(self, now: float) -> list[Event]:
        """Once per step, before the core plans: ended copies, and loads that wait for room.

        Returns:
            Events for the core, in order.
        """
        self._now = now
        for copy in self._tier.take_copies():
            self._events.append((lamps_ext.COPY, copy.bytes, copy.seconds))
        for job in self._tier.jobs_read():
            self._on_read(job)
        for job in self._tier.take_ended():
            session = self._sessions.get(job.session)
            if session is None or job.number not in session.jobs:
                self._on_unwanted(job)
            elif job.stores:
                self._on_stored(job, session)
            else:
                self._on_loaded(job, session)
        for handle in sorted(self._awaited):
            self._try_load(handle, self._sessions[handle])
        events, self._events = self._events, []
        return events

    def resident_tokens(self, handle: int) -> int:
        """Tokens in blocks that only copies of this session reference."""
        session = self._sessions.get(handle)
        if session is None or session.where not in (Where.STORING, Where.LOADING):
            return 0
        blocks = list(session.present)
        for job in self._tier.jobs_of(session.jobs):
            if job.stores:
                blocks += job.blocks
        return self._holds.worth(sum(block.ref_cnt == 1 for block in blocks))

    def found_tokens(self, request: "Request") -> int:
        """Tokens of the prompt that the host has, of the prefix that can be loaded."""
        if not len(self._tier.index):
            return 0
        tier = self._tier
        needed = tier.keys(request, 0, tier.longest(request))
        return self._holds.worth(sum(key in tier.index for key in needed))

    # --- orders of the core ---

    def carry_out(
        self,
        release: list[int],
        drop_host: list[int],
        swap_out: list[int],
        prefetch: list[int],
        copy_ahead: list[int],
    ) -> None:
        """The part of a step's plan that is about kept KV and the host."""
        for handle in drop_host:  # first: KV that goes from both is not what is handed out first
            self.drop(handle)
        for handle in release:
            self.release(handle)
        for handle in swap_out:
            self.swap_out(handle)
        for handle in prefetch:
            self.prefetch(handle)
        for handle in copy_ahead:
            self.copy_ahead(handle)

    def release(self, handle: int) -> None:
        """Lets go of the KV kept for the session, which may be on the host as well."""
        session = self._sessions.get(handle)
        if session is not None and session.where is Where.ON_HOST:
            self._demote(self._holds.hand_over(handle))
        else:
            self._holds.release(handle)

    def swap_out(self, handle: int) -> None:
        """Copies the KV kept for the session, then frees its blocks."""
        session = self._sessions.setdefault(handle, Swapped())
        blocks = self._holds.hand_over(handle)
        if blocks and session.where is Where.STORING:  # ahead of need, so far
            self._tier.hold(self._tier.jobs_of(session.jobs), blocks)
        else:
            self._store(handle, session, blocks, stays=False)

    def copy_ahead(self, handle: int) -> None:
        """Copies the KV kept for the session, which stays kept."""
        session = self._sessions.setdefault(handle, Swapped())
        self._store(handle, session, self._holds.blocks_of(handle), stays=True)

    def _store(
        self, handle: int, session: Swapped, blocks: "list[KVCacheBlock]", *, stays: bool
    ) -> None:
        tier, index = self._tier, self._tier.index
        session.chain = {tier.groups.place_of(block): block.block_hash for block in blocks}
        session.failed = session.lost = False
        if not blocks:  # let go meanwhile
            self._lose(handle)
            return
        self._count_on_images(session)
        own = [b for b in blocks if b.block_hash not in index and self._goes_out(b)]
        if not own:  # everything is there from last time, or in use by others
            if not stays:
                self._demote(blocks)
            session.where = Where.ON_HOST
            self._events.append((lamps_ext.SWAPPED_OUT, self._now, handle))
            return
        jobs = tier.store(session.image, own, kept=[] if stays else blocks, session=handle)
        if not jobs:
            if not stays:
                self._pool.free_blocks(reversed(blocks))
            self._lose(handle)
            return
        session.where, session.jobs = Where.STORING, {job.number for job in jobs}
        for job in jobs:
            if tier.groups.is_windowed(get_group_id(job.hashes[0])):
                session.windows.add(job.image)
            else:
                session.image = job.image

    def _goes_out(self, block: "KVCacheBlock") -> bool:
        """Blocks that others use stay, and need no copy: unless a prefix is found in all groups only."""
        return block.ref_cnt == 1 or not self._tier.groups.simple

    def _count_on_images(self, session: Swapped) -> None:
        """Those of its images that the chain needs are wanted; windows of the past are spare."""
        index = self._tier.index
        needed = {index.image_of(key) for key in session.chain.values()}
        for image in session.windows - needed:
            index.spare(image)
        session.windows &= needed
        for image in session.images:
            index.claim(image)

    def prefetch(self, handle: int) -> None:
        """Loads the session's KV into free blocks, as soon as there are enough."""
        session = self._sessions.get(handle)
        if session is None or session.where is not Where.ON_HOST:
            return  # lost meanwhile: the core has been told
        session.where = Where.AWAITED
        self._awaited.add(handle)
        self._try_load(handle, session)

    def drop(self, handle: int) -> None:
        """The core does not count on the session's host copy any more."""
        session = self._sessions.get(handle)
        if session is None:
            return
        self._call_off(handle, session)
        for image in session.images:
            self._tier.index.spare(image)

    def taken_over(self, handle: int) -> None:
        """A turn of the session starts: from here on its KV is the turn's own affair."""
        self.drop(handle)
        self._withdraw_events(handle)

    def forget(self, handle: int) -> None:
        """The session is over, and its handle free."""
        self.drop(handle)
        session = self._sessions.pop(handle, None)
        for image in session.images if session is not None else ():
            self._tier.index.drop(image)
        self._withdraw_events(handle)

    def _withdraw_events(self, handle: int) -> None:
        self._events = [e for e in self._events if e[0] == lamps_ext.COPY or e[-1] != handle]

    def reset(self) -> list[int]:
        """All kept KV is about to be let go, and nothing that a copy under way brings is of use.

        Blocks that are read are free at once, blocks that are written when their copies end.

        Returns:
            Sessions that lose KV by that.
        """
        self._tier.free_sources()
        moving = (Where.STORING, Where.LOADING)
        lost = [
            handle
            for handle, each in self._sessions.items()
            if each.where in moving or handle in self._holds
        ]
        for handle in lost:
            self.drop(handle)
        return lost

    def abandon(self) -> None:
        """After a fault of ours: whatever copies still hold goes back to the pool as they end."""
        for session in self._sessions.values():
            self._give_up_load(session)
        self._sessions.clear()
        self._awaited.clear()
        self._tier.undrive()

    # --- ends of copies ---

    def _on_read(self, job: Job) -> None:
        blocks, job.blocks = job.blocks, []
        self._tier.announce(job)
        self._demote(blocks)

    def _on_unwanted(self, job: Job) -> None:
        if job.stores and job.done:
            self._tier.index.spare(job.image)
        self._tier.let_go(job)

    def _on_stored(self, job: Job, session: Swapped) -> None:
        session.jobs.discard(job.number)
        if job.done:
            blocks, job.blocks = job.blocks, []
            self._demote(blocks)
        else:
            session.failed = True
            self._tier.let_go(job)
        if session.jobs:
            return
        if session.failed or session.lost:
            self._lose(job.session)
            return
        session.where = Where.ON_HOST
        self._events.append((lamps_ext.SWAPPED_OUT, self._now, job.session))

    def _on_loaded(self, job: Job, session: Swapped) -> None:
        session.jobs.discard(job.number)
        if job.done:
            session.arrived |= zip(job.hashes, job.blocks, strict=True)
            job.blocks = []
        else:
            session.failed = True
            self._tier.let_go(job)
        if session.jobs:
            return
        if session.failed:
            self._give_up_load(session)
            self._lose(job.session)
            return
        self._keep_loaded(job.session, session)

    def _keep_loaded(self, handle: int, session: Swapped) -> None:
        """What came back can be found again, and is kept."""
        in_pool = {block.block_hash: block for block in session.present}
        blocks = []
        for place, block_hash in session.chain.items():
            block = session.arrived.get(block_hash)
            if block is not None:
                tokens = self._tier.groups.end_of(place)
                self._pool._insert_block_hash(block_hash, block, num_tokens=tokens)
            blocks.append(block or in_pool[block_hash])
        session.present, session.arrived = [], {}
        session.where = Where.ON_HOST
        self._holds.keep(handle, blocks)
        self._events.append((lamps_ext.LOADED, self._now, handle))
        if session.lost:
            self._lose(handle)

    # --- helpers ---

    def _demote(self, blocks: "list[KVCacheBlock]") -> None:
        """Frees blocks; those that nobody else uses are handed out first, and found until then."""
        spare = [block for block in blocks if block.ref_cnt == 1 and self._is_safe(block)]
        self._pool.free_blocks(reversed(blocks))
        queue = self._pool.free_block_queue
        for block in spare:
            queue.remove(block)
        queue.prepend_n(spare[::-1])

    def _is_safe(self, block: "KVCacheBlock") -> bool:
        return block.block_hash in self._tier.index or self._tier.is_arriving(block.block_hash)

    def _try_load(self, handle: int, session: Swapped) -> None:
        tier, pool, groups = self._tier, self._pool, self._tier.groups

        def there(group: int, indexes: Sequence[int]) -> int:
            keys = (session.chain.get(Place(group, index)) for index in indexes)
            return run(key in tier.index or groups.find(key) for key in keys)

        end = groups.longest(0, max(map(groups.end_of, session.chain)), there)
        chain = {place: session.chain[place] for place in groups.needed(0, end)}
        if not chain:
            self._lose(handle)
            return
        in_pool = {key: groups.find(key) for key in chain.values()}
        present = [block for block in in_pool.values() if block is not None]
        missing = [key for key, block in in_pool.items() if block is None]
        needed = len(missing) + sum(block.ref_cnt == 0 for block in present)
        if pool.enable_kv_cache_events:
            return  # prefetched blocks could not be announced: the turn loads them itself
        if needed + tier.manager.watermark_blocks > pool.get_num_free_blocks():
            return
        self._awaited.discard(handle)
        session.chain, session.present, session.failed = chain, present, False
        pool.touch(present)
        blocks = pool.get_new_blocks(len(missing))
        if not missing:
            self._keep_loaded(handle, session)
            return
        loads = []
        for piece in tier.index.pieces(missing):
            mine, blocks = blocks[: piece.count], blocks[piece.count :]
            hashes, missing = missing[: piece.count], missing[piece.count :]
            by_id = {block.block_id: block for block in mine}
            ids = lamps_ext.match_blocks(tier.index.slots(piece), np.array(list(by_id)))
            loads.append((piece, hashes, [by_id[number] for number in ids.tolist()]))
        session.jobs = {job.number for job in tier.load_ahead(loads, handle)}
        session.where = Where.LOADING

    def _call_off(self, handle: int, session: Swapped) -> None:
        for job in self._tier.jobs_of(session.jobs):
            if job.stores:
                self._tier.call_off(job)
        session.jobs = set()
        session.where = Where.ELSEWHERE
        self._awaited.discard(handle)
        self._give_up_load(session)

    def _give_up_load(self, session: Swapped) -> None:
        """Frees what a load has brought so far; copies under way free theirs when they end."""
        self._pool.free_blocks(reversed(session.present))
        self._pool.free_blocks(reversed(session.arrived.values()))
        session.present, session.arrived = [], {}

    def _lose(self, handle: int) -> None:
        """There is no copy on the host, though the core has ordered one."""
        self.drop(handle)
        self._events.append((lamps_ext.HOST_LOST, handle))

    def _on_lost(self, image: int) -> None:
        for handle, session in self._sessions.items():
            if image not in session.images:
                continue
            session.lost = True
            session.windows.discard(image)
            if session.image == image:
                session.image = None
            if session.where in (Where.ON_HOST, Where.AWAITED):
                session.where = Where.ELSEWHERE
                self._awaited.discard(handle)
                self._events.append((lamps_ext.HOST_LOST, handle))
