# SPDX-License-Identifier: Apache-2.0
"""The real scheduler with the real connector, over KV whose every byte says which tokens it stands for.

A step "computes" the KV of its tokens, and first looks at everything that the model would attend to:
KV of another prefix, of a block that was reused too early, or of a copy that did not happen is seen.
"""

from collections import deque
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import RequestStatus

from lamps_vllm import LampsScheduler
from lamps_vllm.connector import LampsConnector
from lamps_vllm.swap.calibration import Calibration, Rate, Thresholds
from lamps_vllm.swap.layout import bytes_per_block, pages_of
from lamps_vllm.swap.messages import Orders
from tests.support.driver import AheadLockstep, Driver
from tests.support.lockstep import Lockstep

WAIT = 60.0
BYTES_PER_S = 1e9  # what the core is told, so that it decides the same every time
THRESHOLDS = Thresholds(
    direct_min=1, direct_moves=0, store_batch_min=1, load_batch_min=1,
    small_store="direct", small_load="direct",
)  # fmt: skip
CALIBRATION = Calibration(thresholds=THRESHOLDS, rates=[Rate(1, BYTES_PER_S, BYTES_PER_S)])
GARBAGE = -7


class WrongKV(AssertionError):
    """The model would have attended to KV that is not that of its prefix."""


class HeldMover:
    """A mover whose copies begin when the test says so, and can be made to fail."""

    def __init__(self, mover: Any) -> None:
        self._mover = mover
        self.holding = False
        self.outcome: dict[str, str] = {}
        """By direction: how copies end from now on, instead of well; nothing is copied then."""
        self.gathers = False
        """Stores have read their blocks at once, and are not over as long as this is set."""
        self.late_outcome = "done"
        self._late: list[tuple] = []
        self._held: deque[tuple[tuple, dict]] = deque()
        self._failed: list[tuple] = []
        self._stores: set[int] = set()

    def submit(self, order: tuple, **options: Any) -> None:
        if order[1] == "store":
            self._stores.add(order[0])
        self._held.append((order, options))
        if not self.holding:
            self.let_go()

    def let_go(self, count: int | None = None) -> None:
        """Begins the first `count` copies that were held, or all."""
        for _ in range(len(self._held) if count is None else count):
            order, options = self._held.popleft()
            outcome = self.outcome.get(order[1])
            if outcome is None:
                self._mover.submit(order, **options)
            else:
                self._failed.append((order[0], True, outcome, 0, 0.0, 0.0))

    def poll(self) -> list[tuple]:
        assert self._mover.wait_idle(WAIT)  # a copy takes one step: tests repeat themselves
        failed, self._failed = self._failed, []
        done = [
            (*head, size, size / BYTES_PER_S, queued)
            for *head, size, _, queued in self._mover.poll()
        ]
        if self.gathers:
            stores = [each for each in done if each[0] in self._stores]
            self._late += [(job, True, self.late_outcome, *rest) for job, _, _, *rest in stores]
            done = [each for each in done if each not in stores]
            done += [(job, False, *rest) for job, _, *rest in stores]
        else:
            late, self._late = self._late, []
            done += [(job, over, self.late_outcome, *rest) for job, over, _, *rest in late]
        return [*done, *failed]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mover, name)


class Rank:
    """A worker: its connector and its KV, [layer, block, token, words] in every group."""

    def __init__(self, config: Any, kv_config: Any) -> None:
        self.connector = LampsConnector(config, KVConnectorRole.WORKER, kv_config)
        tensor = kv_config.kv_cache_tensors[0]
        self.memory = torch.zeros(tensor.size, dtype=torch.int8)
        self.kv = [
            self.memory.view(torch.int64).numpy().reshape(
                len(group.layer_names), kv_config.num_blocks, group.kv_cache_spec.block_size, -1
            )
            for group in kv_config.kv_cache_groups
        ]  # fmt: skip
        with patch("lamps_vllm.swap.worker.calibrated", return_value=CALIBRATION):
            self.connector.register_kv_caches({name: self.memory for name in tensor.layers})
        self.memory[:] = GARBAGE
        worker = self.connector._worker
        self.mover = worker._mover = HeldMover(worker._mover)

    def transfer(self, orders: Orders, finished: set[str]) -> KVConnectorOutput:
        """As the model runner calls the connector after a forward pass."""
        connector = self.connector
        connector.bind_connector_metadata(orders)
        connector.start_load_kv(None)
        connector.wait_for_save()
        results = connector.get_transfer_results(finished)
        output = KVConnectorOutput(
            finished_sending=results.finished_sending,
            finished_recving=results.finished_recving,
            failed_recving=results.failed_recving,
            invalid_block_ids=connector.get_block_ids_with_load_errors(),
            kv_connector_worker_meta=connector.build_connector_worker_meta(),
        )
        connector.clear_connector_metadata()
        return output


def prefix_values(tokens: list[int]) -> np.ndarray:
    """A number for every position that depends on all tokens up to it."""
    values, value = [], 1
    for token in tokens:
        value = (value * 6364136223846793005 + token + 1) % (1 << 63)
        values.append(value)
    return np.array(values, dtype=np.int64)


class KVMixin:
    """Gives a lockstep engine workers with KV."""

    ranks: list[Rank]
    checked_tokens = 0
    late = False
    """A token is scheduled before it is known, so its KV is written a step later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._written: dict[str, int] = {}

    def _transfer(self, output: Any) -> KVConnectorOutput:
        for request_id, count in output.num_scheduled_tokens.items():
            self._compute(self.scheduler.requests[request_id], count)
        orders, finished = output.kv_connector_metadata, output.finished_req_ids
        results = [
            ModelRunnerOutput(req_ids=[], req_id_to_index={}, kv_connector_output=each)
            for each in (rank.transfer(orders, finished) for rank in self.ranks)
        ]
        if len(results) == 1:
            return results[0].kv_connector_output
        return self._aggregator.aggregate(results).kv_connector_output

    def _compute(self, request: Any, count: int) -> None:
        end = request.num_computed_tokens
        values = prefix_values(list(request.all_token_ids)[:end])
        end = len(values)  # one step ahead, the last token is not known yet
        start = request.num_computed_tokens - count
        if self.late:
            start = min(start, self._written.get(request.request_id, start))
            self._written[request.request_id] = end
        for group, manager in enumerate(
            self.scheduler.kv_cache_manager.coordinator.single_type_managers
        ):
            window = getattr(manager.kv_cache_spec, "sliding_window", None)
            first = 0 if window is None else max(start - window + 1, 0)
            block, slot = self._places(request, group, first, start)
            expected = values[first:start] + 1_000_003 * group
            for number, rank in enumerate(self.ranks):
                seen = rank.kv[group][:, block, slot]
                if not (seen == (expected + number)[None, :, None]).all():
                    raise WrongKV(f"{request.request_id} attends to KV that is not its own")
        self._write(request, values, start)
        self.checked_tokens += start

    def _write(self, request: Any, values: np.ndarray, start: int) -> None:
        """The KV of tokens from `start` on, in every group."""
        for group in range(len(self.ranks[0].kv)):
            block, slot = self._places(request, group, start, len(values))
            for number, rank in enumerate(self.ranks):
                written = values[start:] + 1_000_003 * group + number
                rank.kv[group][:, block, slot] = written[None, :, None]

    def _places(
        self, request: Any, group: int, start: int, end: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blocks and slots of the request's tokens [start, end) in a group."""
        manager = self.scheduler.kv_cache_manager.coordinator.single_type_managers[group]
        ids = [block.block_id for block in manager.req_to_blocks[request.request_id]]
        at = np.arange(start, end)
        blocks = np.array(ids, dtype=np.int64)[at // manager.block_size]
        if not blocks.all():
            raise WrongKV(f"{request.request_id} lacks blocks that it attends to")
        return blocks, at % manager.block_size

    def _executed(self, output: Any) -> None:
        """Tokens that were not known when the step was scheduled have their KV now."""
        for request_id in output.num_scheduled_tokens:
            request = self.scheduler.requests.get(request_id)
            start = self._written.get(request_id)
            if request is None or start is None or request.status != RequestStatus.RUNNING:
                continue
            end = min(request.num_tokens, request.num_computed_tokens)
            if request.num_stale_output_tokens or end <= start:
                continue
            self._write(request, prefix_values(list(request.all_token_ids)[:end]), start)
            self._written[request_id] = end


class SwapLockstep(KVMixin, Lockstep):
    """In lockstep, with KV."""


class SwapAheadLockstep(KVMixin, AheadLockstep):
    """One step ahead, with KV."""

    late = True


class SwapDriver(Driver):
    """A driver whose engine has `host_blocks` of host memory, and `ranks` workers."""

    def __init__(
        self, scheduler_cls: type[Scheduler] = LampsScheduler, *, host_blocks: int = 64, ranks: int = 1,
        checksums: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        self._ranks = ranks
        self.ended: dict[str, float] = {}
        """When requests ended, seconds of the engine's clock."""
        row = 2 * 16384  # two layers of 32 tokens, 2 heads of 64, K and V, two bytes
        connector = {"swap_space_gib": host_blocks * ranks * row / 2**30, "checksums": checksums}
        super().__init__(scheduler_cls, connector=connector, ranks=ranks, **more)
        assert self.tier.rows == host_blocks

    def _make_engine(self, ahead: bool) -> Lockstep:
        engine = (SwapAheadLockstep if ahead else SwapLockstep)(self.scheduler)
        kv_config = self.scheduler.kv_cache_config
        engine.ranks = [Rank(self.config, kv_config) for _ in range(self._ranks)]
        engine._aggregator = KVOutputAggregator(self._ranks)
        assert bytes_per_block(pages_of(kv_config)) == self.tier.block_bytes
        return engine

    @property
    def tier(self):
        return self.scheduler.connector.tier

    @property
    def swaps(self):
        return self.scheduler._swaps

    @property
    def movers(self) -> list[HeldMover]:
        return [rank.mover for rank in self.engine.ranks]

    @property
    def totals(self) -> dict[str, int]:
        return self.tier.totals

    def handle_of(self, session: str) -> int:
        return self.scheduler._book._by_name[session]

    def step(self, count: int = 1) -> Any:
        output = None
        for _ in range(count):
            before = len(self.finished)
            output = super().step()
            self.ended |= dict.fromkeys(self.finished[before:], self.engine.now)
        return output

    def hold(self, holding: bool = True) -> None:
        """Copies wait, on every rank, or go on."""
        for mover in self.movers:
            mover.holding = holding
            if not holding:
                mover.gathers = False
                mover.let_go()

    def poison_free_blocks(self) -> None:
        """Whatever is in blocks that nobody can find or references is gone."""
        free = [b.block_id for b in self.scheduler.kv_cache_manager.block_pool.blocks
                if b.ref_cnt == 0 and b.block_hash is None]  # fmt: skip
        for rank in self.engine.ranks:
            rank.kv[0][:, free] = GARBAGE

    def settle(self, limit: int = 50) -> None:
        """Steps until no copy is under way and the core has been told."""
        for _ in range(limit):
            if not self.tier.busy:
                break
            self.step()
        assert not self.tier.busy, f"copies not over after {limit} steps"
        self.step()

    def check_drained(self) -> None:
        self.settle()
        super().check_drained()
        self.tier.index.check_invariants()
        assert not self.tier._arriving and not self.tier._storing and not self.tier._jobs
