# SPDX-License-Identifier: Apache-2.0
"""vLLM's KV connector that swaps: host memory behind the KV cache.

With LAMPS (``lamps serve MODEL --swap-space 16``) the scheduler says which session's KV goes there and
when it comes back. With the stock scheduler it is a plain cache of what finished requests leave::

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "LampsConnector",
        "kv_connector_module_path": "lamps_vllm.connector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"swap_space_gib": 16}}'
"""

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorRole,
    KVConnectorTransferResults,
    SupportsHMA,
)
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from lamps_vllm.groups import why_not_prefixes
from lamps_vllm.swap.layout import bytes_per_block, pages_of
from lamps_vllm.swap.messages import Orders, Reports
from lamps_vllm.swap.settings import SwapError, SwapSettings
from lamps_vllm.swap.stats import SwapMetrics, SwapStats
from lamps_vllm.swap.tier import SwapTier
from lamps_vllm.swap.worker import SwapWorker

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = init_logger("vllm.lamps")


class LampsConnector(KVConnectorBase_V1, SupportsHMA):
    """Moves KV blocks between device and host; one instance in the scheduler, one in every worker.

    Raises:
        SwapError: an option is bad, or the model's KV cache is of a kind that cannot be swapped.
    """

    _cache_hit_source = CacheHitSource.HOST

    def __init__(
        self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig"
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        settings = SwapSettings.parse(self._kv_transfer_config.kv_connector_extra_config)
        parallel = vllm_config.parallel_config
        if parallel.pipeline_parallel_size != 1:
            size = parallel.pipeline_parallel_size
            raise SwapError(f"--pipeline-parallel-size = {size}: expected 1 with LampsConnector")
        self.tier: SwapTier | None = None
        """Scheduler side; None also where there is no prefix cache to find anything by."""
        self._worker: SwapWorker | None = None
        if not vllm_config.cache_config.enable_prefix_caching:
            logger.warning("LAMPS does not swap: it needs prefix caching, which is off")
            return
        speculative = vllm_config.speculative_config
        why_not = why_not_prefixes(
            kv_cache_config.kv_cache_groups,
            speculative is not None and speculative.use_eagle_block_drop(),
        )
        if why_not:
            raise SwapError(why_not)
        if role is KVConnectorRole.WORKER:
            self._worker = SwapWorker(settings, kv_cache_config, parallel.world_size)
            return
        # Losing a cached copy is no reason to fail a request, which is vLLM's default.
        self._kv_transfer_config.kv_load_failure_policy = "recompute"
        block_bytes = bytes_per_block(pages_of(kv_cache_config))
        rows = settings.rows(parallel.world_size, block_bytes)
        self.tier = SwapTier(rows, parallel.world_size, block_bytes)

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # a cache: what is not stored is recomputed

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config: "VllmConfig") -> str | None:
        """A block's pages of all layers together, so that a block is one copy; a wish only."""
        return None if current_platform.is_cpu() else "BLNHC"

    # --- scheduler ---

    def bind_kv_cache_manager(self, kv_cache_manager: "KVCacheManager") -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        if self.tier is not None:
            self.tier.bind(kv_cache_manager)

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        if self.tier is None:
            return 0, False
        tokens = self.tier.found_tokens(request, num_computed_tokens)
        return tokens, bool(tokens)

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        if self.tier is not None and num_external_tokens:
            self.tier.load(request, blocks.get_block_ids(), num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> Orders:
        return Orders() if self.tier is None else self.tier.take_orders()

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        reports = connector_output.kv_connector_worker_meta
        if self.tier is not None and isinstance(reports, Reports):
            self.tier.take_reports(reports)

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        if self.tier is not None:
            self.tier.request_finished(request, block_ids)
        return False, None

    def has_pending_push_work(self) -> bool:
        return self.tier is not None and self.tier.busy

    def reset_cache(self) -> bool | None:
        return None if self.tier is None else self.tier.reset()

    # --- worker ---

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        if self._worker is not None:
            self._worker.register(kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        if self._worker is not None and isinstance(self._connector_metadata, Orders):
            self._worker.start_loads(self._connector_metadata)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: no request runs before its load is over."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: "torch.Tensor", attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing: blocks are copied after the step."""

    def wait_for_save(self) -> None:
        if self._worker is not None and isinstance(self._connector_metadata, Orders):
            self._worker.start_stores(self._connector_metadata)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        if self._worker is None:
            return KVConnectorTransferResults()
        over, failed = self._worker.poll()
        return KVConnectorTransferResults(finished_recving=over, failed_recving=failed)

    def build_connector_worker_meta(self) -> Reports | None:
        return None if self._worker is None else self._worker.take_reports()

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.shutdown()
        if self.tier is not None:
            counts = ", ".join(f"{name} {count}" for name, count in self.tier.totals.items())
            logger.info("LAMPS swapped: %s", counts)

    # --- figures ---

    def get_kv_connector_stats(self) -> SwapStats | None:
        return None if self.tier is None else SwapStats(self.tier.take_counters())

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> SwapStats:
        return SwapStats(data or {})

    @classmethod
    def build_prom_metrics(cls, *args: Any) -> SwapMetrics:
        return SwapMetrics(*args)
