# SPDX-License-Identifier: Apache-2.0
"""The scheduler's side: which copies are made, and what is in host memory.

On its own this is a plain cache behind vLLM's: what a finished request leaves is copied to the host,
and a prompt that finds its blocks there loads them. With a driver (LAMPS) nothing is stored unasked.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm.logger import init_logger
from vllm.v1.core.kv_cache_utils import get_group_id

from lamps_vllm.groups import Key, PrefixGroups, run
from lamps_vllm.swap.index import HostIndex, Piece
from lamps_vllm.swap.messages import Ended, LoadOrder, Order, Orders, Reports

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.kv_cache_utils import KVCacheBlock
    from vllm.v1.request import Request

logger = init_logger("vllm.lamps")

COUNTERS = {
    "stored_blocks": "KV blocks copied to host memory.",
    "loaded_blocks": "KV blocks copied back for a request that waited for them.",
    "prefetched_blocks": "KV blocks copied back ahead of a request.",
    "failed_copies": "Copies that failed or were found damaged; what they were for is recomputed.",
    "no_room": "Times that host memory had no room for KV that was to be copied there.",
}


@dataclass
class Job:
    """A copy under way. Its blocks are referenced until it is over, or has read them."""

    number: int
    image: int
    order: Order
    hashes: Sequence[Hashable]
    blocks: "list[KVCacheBlock]" = field(default_factory=list)
    """Referenced for this job: those that are copied, and those kept together with them."""
    session: int | None = None
    """Of the driver."""
    request_id: str | None = None
    lent: frozenset[int] = frozenset()
    """Blocks that it has still to read, and holds no reference to."""
    void: bool = False
    """One of these was handed out to others: nobody shall look at the copy."""
    announced: bool = False
    """Requests wait for what it brings."""
    ranks_read: int = 0
    end: Ended | None = None

    @property
    def stores(self) -> bool:
        return self.order[1] == "store"

    @property
    def done(self) -> bool:
        return self.end is not None and self.end.outcome == "done"


class SwapTier:
    """What the host has, and what is on its way.

    Args:
        rows: blocks that fit into host memory.
        ranks: workers that copy, each its own part of every block.
        block_bytes: bytes of a block on one rank.
    """

    def __init__(self, rows: int, ranks: int, block_bytes: int) -> None:
        self.rows, self.ranks, self.block_bytes = rows, ranks, block_bytes
        self.index = HostIndex(rows)
        self.manager: KVCacheManager
        self.groups: PrefixGroups
        self.driven = False
        """Somebody decides what is stored, and takes what has ended by :meth:`take_ended`."""
        self._totals: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._orders = Orders()
        self._jobs: dict[int, Job] = {}
        self._ended: list[Job] = []
        self._copies: list[Ended] = []
        self._arriving: Counter[Hashable] = Counter()
        self._storing: set[Hashable] = set()
        self._hits: dict[str, int] = {}

    def bind(self, manager: "KVCacheManager") -> None:
        """The scheduler has made its KV cache manager."""
        self.manager, self.groups = manager, PrefixGroups(manager)

    @property
    def pool(self):
        return self.manager.block_pool

    @property
    def busy(self) -> bool:
        """Copies are under way, or their ends have not been taken."""
        return bool(self._jobs or self._ended)

    # --- requests ---

    def keys(self, request: "Request", start: int = 0, end: int | None = None) -> list[Key]:
        """How the cache names what the request's first `end` tokens need behind `start`; None: all."""
        end = self.groups.aligned(request.num_tokens) if end is None else end
        return self.groups.needed_keys(request.block_hashes, start, end)

    def longest(self, request: "Request", start: int = 0) -> int:
        """The longest prefix of the request that has what it needs behind `start` tokens.

        That is on the host, or on its way to the device.
        """
        hashes, keys, index, arriving = (
            request.block_hashes, self.groups.keys, self.index, self._arriving
        )  # fmt: skip

        def there(group: int, indexes: Sequence[int]) -> int:
            return run(key in index or key in arriving for key in keys(hashes, group, indexes))

        # The last token is always computed.
        return self.groups.longest(start, request.num_tokens - 1, there)

    def found_tokens(self, request: "Request", computed_tokens: int) -> int | None:
        """Tokens that can be loaded behind those computed; None: soon, they are on their way."""
        if not (len(self.index) or self._arriving):
            return 0
        end = self.longest(request, computed_tokens)
        if self._arriving:
            needed = self.keys(request, computed_tokens, end)
            if not self._arriving.keys().isdisjoint(needed):
                return None
        self._hits[request.request_id] = computed_tokens
        return end - computed_tokens

    def load(self, request: "Request", block_ids: Sequence[Sequence[int]], tokens: int) -> None:
        """The request waits for `tokens` behind those it found, in the blocks allocated for them.

        Args:
            request: that waits.
            block_ids: of the request, by group.
            tokens: as found.
        """
        start = self._hits.pop(request.request_id)
        end = start + tokens
        ids = [block_ids[place.group][place.index] for place in self.groups.needed(start, end)]
        for piece in self.index.pieces(self.keys(request, start, end)):
            order = self.index.load(piece, ids[: piece.count])
            del ids[: piece.count]
            job = Job(order[0], piece.image, order, (), request_id=request.request_id)
            self._jobs[job.number] = job
            self._orders.loads.append(LoadOrder(order, request.request_id))

    def request_finished(self, request: "Request", block_ids: Sequence[Sequence[int]]) -> None:
        """Without a driver: what the request leaves is copied, where it is not here yet."""
        self._hits.pop(request.request_id, None)
        if self.driven:
            return
        left = [self.pool.blocks[number] for ids in block_ids for number in ids]
        blocks, last = [], None
        for block in self.groups.remains(request.block_hashes, left):
            if block.block_hash in self.index:
                if not self.is_windowed(block):
                    last = self.index.image_of(block.block_hash)
            elif block.block_hash not in self._storing:
                blocks.append(block)
        if blocks and self.store(last, blocks, kept=blocks):
            self.pool.touch(blocks)

    def is_windowed(self, block: "KVCacheBlock") -> bool:
        """Whether the block is of no use once its window has moved on."""
        return self.groups.is_windowed(get_group_id(block.block_hash))

    # --- copies ---

    def store(
        self,
        image: int | None,
        blocks: "Sequence[KVCacheBlock]",
        *,
        kept: "Sequence[KVCacheBlock]",
        session: int | None = None,
    ) -> list[Job]:
        """Copies full blocks behind what `image` has, or into a new one; []: no room.

        Blocks of windows get an image of their own: the next window takes their place.

        The references to `kept` are the jobs' from here on. With none kept, the blocks stay somebody
        else's, who may let them go by :meth:`free`, and the copies give way to all others.
        """
        windows = [block for block in blocks if self.is_windowed(block)]
        others = [block for block in blocks if not self.is_windowed(block)]
        jobs: list[Job] = []
        for behind, part in ((image, others), (None, windows)):
            if not part:
                continue
            hashes, ids = [block.block_hash for block in part], [block.block_id for block in part]
            stored = self.index.store(behind, hashes, ids)
            if stored is None:
                for job in jobs:
                    self.index.stored(job.order, job.image, "cancelled")
                self._count("no_room")
                return []
            rows, order = stored
            jobs.append(Job(order[0], rows, order, hashes, session=session, lent=frozenset(ids)))
        for job in jobs:
            self._jobs[job.number] = job
            self._storing.update(job.hashes)
            (self._orders.stores if kept else self._orders.ahead).append(job.order)
        if kept:
            self.hold(jobs, kept)
        return jobs

    def hold(self, jobs: Sequence[Job], blocks: "Sequence[KVCacheBlock]") -> None:
        """Hands stores the references to blocks: each what it reads, the first all others, too."""
        first, *more = jobs
        rest = list(blocks)
        for job in more:
            reads = set(job.order[2].tolist())
            job.blocks = [block for block in rest if block.block_id in reads]
            rest = [block for block in rest if block.block_id not in reads]
        first.blocks = rest
        for job in jobs:
            job.lent = frozenset()

    def free(self, blocks: "Iterable[KVCacheBlock]") -> None:
        """Returns blocks to the pool, of which copies may still read some.

        They are free at once. Whoever is given one of them makes those copies void.
        """
        if any(job.lent for job in self._jobs.values()):
            self.pool.unpin_blocks(blocks, self._on_reuse)
        else:
            self.pool.free_blocks(blocks)

    def call_off(self, job: Job) -> None:
        """Nobody counts on this store: it goes on, but its blocks are free."""
        blocks, job.blocks = job.blocks, []
        if job.ranks_read < self.ranks:
            job.lent = frozenset(job.order[2].tolist())
        self.free(reversed(blocks))

    def _on_reuse(self, block: "KVCacheBlock") -> None:
        for job in self._jobs.values():
            if block.block_id in job.lent:
                job.lent, job.void = frozenset(), True

    def load_ahead(
        self,
        pieces: Sequence[tuple[Piece, Sequence[Hashable], "Sequence[KVCacheBlock]"]],
        session: int,
    ) -> list[Job]:
        """Copies pieces into blocks that nobody else has, for a session of the driver."""
        jobs = []
        for piece, hashes, blocks in pieces:
            order = self.index.load(piece, [block.block_id for block in blocks])
            job = Job(order[0], piece.image, order, hashes, list(blocks), session)
            jobs.append(job)
            self._jobs[job.number] = job
            self._orders.loads.append(LoadOrder(order, None))
            self.announce(job)
        return jobs

    def announce(self, job: Job) -> None:
        """Requests that need these blocks had better wait: they will be here soon, and nowhere else."""
        job.announced = True
        self._arriving.update(job.hashes)

    def is_arriving(self, block_hash: Hashable) -> bool:
        return block_hash in self._arriving

    def jobs_of(self, numbers: Iterable[int]) -> list[Job]:
        """Those of these jobs that are under way."""
        return [self._jobs[number] for number in numbers if number in self._jobs]

    def take_orders(self) -> Orders:
        """For the workers, once per step."""
        orders, self._orders = self._orders, Orders()
        return orders

    def take_reports(self, reports: Reports) -> None:
        """From the workers, once per step."""
        if reports.bytes_per_s and self.driven:  # as if a copy had taken a second
            self._copies.append(Ended(self.ranks, "done", round(reports.bytes_per_s), 1.0))
        for number, ranks in reports.read.items():
            job = self._jobs[number]
            job.ranks_read += ranks
            if job.ranks_read == self.ranks:
                job.lent = frozenset()
        for number, ended in reports.ended.items():
            job = self._jobs[number]
            job.end = ended if job.end is None else job.end.and_also(ended)
            if job.end.ranks == self.ranks:
                self._finish(self._jobs.pop(number))

    def _finish(self, job: Job) -> None:
        assert job.end is not None
        if job.void:
            job.end = job.end._replace(outcome="cancelled")
        if job.stores:
            self.index.stored(job.order, job.image, job.end.outcome)
        else:
            self.index.loaded(job.number, job.image, job.end.outcome)
        if job.done:
            if self.driven:
                self._copies.append(job.end)
            self._count(self._counter_of(job), len(job.order[2]))
        elif job.end.outcome != "cancelled":
            self._count("failed_copies")
            logger.warning("LAMPS: %s of KV: %s; recomputed", job.order[1], job.end.outcome)
        if job.announced:
            self._arriving -= Counter(job.hashes)  # drops what reaches zero
        if job.stores:
            self._storing.difference_update(job.hashes)
        if self.driven and job.session is not None:
            self._ended.append(job)
        else:
            self.let_go(job)

    # --- figures ---

    @property
    def totals(self) -> dict[str, int]:
        """Counts since the start, by the names of ``COUNTERS``."""
        return {name: self._totals[name] for name in COUNTERS}

    def take_counters(self) -> dict[str, int]:
        """Counts since the last call."""
        counts, self._counters = self._counters, Counter()
        return dict(counts)

    def _count(self, name: str, by: int = 1) -> None:
        self._counters[name] += by
        self._totals[name] += by

    @staticmethod
    def _counter_of(job: Job) -> str:
        if job.stores:
            return "stored_blocks"
        return "loaded_blocks" if job.request_id else "prefetched_blocks"

    def let_go(self, job: Job) -> None:
        """Returns the job's blocks to the pool as they are, tail first."""
        blocks, job.blocks = job.blocks, []
        self.pool.free_blocks(reversed(blocks))

    # --- the driver ---

    def jobs_read(self) -> Iterable[Job]:
        """Stores under way that have read their blocks on every rank."""
        return [job for job in self._jobs.values() if job.blocks and job.ranks_read == self.ranks]

    def take_ended(self) -> list[Job]:
        """The driver's jobs that are over since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    def take_copies(self) -> list[Ended]:
        """Copies that went well since the last call, after one for what was measured at start."""
        copies, self._copies = self._copies, []
        return copies

    def undrive(self) -> None:
        """The driver gives up: what it had under way ends as if nobody had asked for it."""
        self.driven = False
        self.index.on_lost = lambda image: None
        for job in self.take_ended():
            self.let_go(job)

    def reset(self) -> bool:
        """Forgets everything. False: loads are under way, so blocks of the device are not clean."""
        self.index.drop_all()
        self.free_sources()
        return not any(not job.stores for job in self._jobs.values())

    def free_sources(self) -> None:
        """Stores under way are of no use any more: their blocks are free at once.

        The copies go on and may read what is written there next; nobody will look at the result.
        """
        for job in self._jobs.values():
            if job.stores:
                self.index.drop(job.image)
                self.let_go(job)
