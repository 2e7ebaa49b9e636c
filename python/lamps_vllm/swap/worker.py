# SPDX-License-Identifier: Apache-2.0
"""The worker's side: carries orders out, never waits for a copy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from vllm.logger import init_logger

import lamps_ext
from lamps_vllm.swap.calibration import calibrated, device_of
from lamps_vllm.swap.layout import LayoutError, bytes_per_block, pages_of
from lamps_vllm.swap.messages import Ended, Order, Orders, Reports
from lamps_vllm.swap.settings import SwapSettings

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = init_logger("vllm.lamps")

_AHEAD, _PREFETCH, _WAITED_FOR = -1, 0, 1  # priorities
_SCRATCH_BYTES = 16 << 20


class SwapWorker:
    """A mover over this rank's KV cache, with host memory of its own.

    Args:
        settings: of the connector.
        config: where this rank's KV cache lies.
        ranks: that share the host memory.
    """

    def __init__(self, settings: SwapSettings, config: "KVCacheConfig", ranks: int) -> None:
        self._settings, self._config, self._ranks = settings, config, ranks
        self._mover: lamps_ext.Mover | None = None
        self._device = torch.device("cpu")
        self._reports = Reports()
        self._request_of: dict[int, str] = {}
        self._loading: dict[str, set[int]] = {}
        self._failed: set[str] = set()

    def register(self, kv_caches: Mapping[str, torch.Tensor]) -> None:
        """Takes over the addresses of the cache, and host memory.

        Raises:
            LayoutError: the cache cannot be copied block by block.
            SwapError: the host memory does not take a single block.
            lamps_ext.OutOfHostMemory: the system does not give it.
            lamps_ext.DeviceError: the device cannot be used, or its copies are not what was copied.
        """
        runs = pages_of(self._config)
        name = self._config.kv_cache_tensors[0].layers[0]
        if name not in kv_caches:
            raise LayoutError(f"KV cache without layer {name}: expected all of the configuration")
        storage = kv_caches[name].untyped_storage()
        self._device = kv_caches[name].device
        blocks = self._config.num_blocks
        end = max(run.offset + blocks * run.page for run in runs)
        if end > storage.nbytes():
            raise LayoutError(
                f"KV cache of {name} has {storage.nbytes()} bytes: expected at least {end}"
            )
        regions = [(storage.data_ptr() + run.offset, run.page, run.page) for run in runs]
        rows = self._settings.rows(self._ranks, bytes_per_block(runs))
        calibration = calibrated(
            device_of(self._copiers(), self._ranks), self._measure, self._settings.keep_calibration
        )
        self._mover = lamps_ext.Mover(
            np.array(regions, dtype=np.int64), blocks, rows, checksums=self._settings.checksums,
            calibration=calibration.thresholds.model_dump(), **self._copiers(),
        )  # fmt: skip
        self._reports.bytes_per_s = calibration.bytes_per_s([run.page for run in runs])
        logger.info("LAMPS swaps KV: %.1f GB/s", self._reports.bytes_per_s / 1e9)

    def _copiers(self) -> dict[str, int]:
        """What a mover copies with."""
        if self._device.type == "cuda":
            return {"cuda_device": self._device.index or 0}
        return {"threads": self._settings.threads}

    def _measure(self) -> tuple[dict, list]:
        if self._device.type != "cuda":
            return lamps_ext.calibrate(**self._copiers())
        scratch = torch.empty(_SCRATCH_BYTES, dtype=torch.uint8, device=self._device)
        return lamps_ext.calibrate(
            scratch=scratch.data_ptr(), scratch_bytes=scratch.nbytes, **self._copiers()
        )

    # --- a step ---

    def start_loads(self, orders: Orders) -> None:
        for order, request_id in orders.loads:
            if request_id is not None:
                self._request_of[order[0]] = request_id
                self._loading.setdefault(request_id, set()).add(order[0])
            self._submit(order, _PREFETCH if request_id is None else _WAITED_FOR)

    def start_stores(self, orders: Orders) -> None:
        for order in orders.stores:
            self._submit(order, _PREFETCH)
        for order in orders.ahead:
            self._submit(order, _AHEAD)

    def _submit(self, order: Order, priority: int) -> None:
        after = None  # all work so far: the model's writes, and the zeroing of new blocks
        if self._device.type == "cuda":
            after = torch.cuda.current_stream(self._device).cuda_stream
        assert self._mover is not None
        try:
            self._mover.submit(order, priority=priority, after_stream=after)
        except lamps_ext.LampsError:
            logger.exception("LAMPS could not start a copy")
            self._note_end(order[0], Ended(1, "copy-failed", 0, 0.0))

    def poll(self) -> tuple[set[str], set[str]]:
        """Takes in what has ended: requests whose loads are over, and those of them that failed."""
        if self._mover is not None:
            for job, finished, outcome, size, seconds, _ in self._mover.poll():
                if finished:
                    self._note_end(job, Ended(1, outcome, size, seconds))
                else:
                    self._reports.read[job] = 1
        over = {request for request, jobs in self._loading.items() if not jobs}
        failed = over & self._failed
        self._failed -= over
        for request in over:
            del self._loading[request]
        return over, failed

    def _note_end(self, job: int, ended: Ended) -> None:
        self._reports.ended[job] = ended
        request = self._request_of.pop(job, None)
        if request is None:
            return
        self._loading[request].discard(job)
        if ended.outcome != "done":
            self._failed.add(request)

    def take_reports(self) -> Reports | None:
        """For the scheduler, once per step; None: nothing new."""
        reports, self._reports = self._reports, Reports()
        return reports if reports else None

    def shutdown(self) -> None:
        """Calls off all copies and waits for what is in flight: the cache may go afterwards."""
        if self._mover is not None:
            self._mover.stop()
