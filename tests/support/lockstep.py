# SPDX-License-Identifier: Apache-2.0
"""The real vLLM scheduler and KV manager in virtual time.

No model runs: a step takes the time a pace profile models, and samples made-up tokens. Everything a
scheduler does is real, so a policy can be tried over minutes of load in a second, deterministically.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    KVTransferConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import (
    get_request_block_hasher,
    init_none_hash,
    resolve_kv_cache_block_sizes,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
    SlidingWindowSpec,
)
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from lamps_vllm.pace import PaceProfile
from lamps_vllm.replay.records import Identity, ReplayResult, SessionRecord, TurnRecord
from lamps_vllm.replay.tiny_model import VOCAB_SIZE, write_tiny_model
from lamps_vllm.replay.workload import Segment, Session, Workload

_HASH = get_hash_fn_by_name("sha256")
init_none_hash(_HASH)


def make_config(
    *, blocks: int, block_size: int = 32, max_model_len: int = 2048, max_num_seqs: int = 256,
    step_tokens: int = 2048, prefix_caching: bool = True, policy: str = "fcfs",
    lamps: dict[str, Any] | None = None, model: Path | None = None, connector: dict[str, Any] | None = None,
    ranks: int = 1,
) -> VllmConfig:  # fmt: skip
    """A vLLM configuration for the tiny model; `lamps` are the scheduler's own options.

    `connector`: extra configuration of a LampsConnector; None: no connector. `ranks`: its workers.
    """
    folder = str(model or write_tiny_model())
    model_config = ModelConfig(
        model=folder, tokenizer=folder, skip_tokenizer_init=True, dtype="bfloat16", seed=0,
        max_model_len=max_model_len,
    )  # fmt: skip
    cache = CacheConfig(block_size=block_size, enable_prefix_caching=prefix_caching)
    cache.num_gpu_blocks = blocks
    parallel = ParallelConfig()
    parallel.world_size = ranks  # as with tensor parallelism, which would ask for as many devices
    return VllmConfig(
        model_config=model_config,
        cache_config=cache,
        device_config=DeviceConfig(device="cpu"),
        parallel_config=parallel,
        scheduler_config=SchedulerConfig(
            max_num_seqs=max_num_seqs, max_num_batched_tokens=step_tokens, max_model_len=max_model_len,
            enable_chunked_prefill=True, policy=policy, is_encoder_decoder=False,
        ),
        additional_config={"lamps": lamps or {}},
        kv_transfer_config=None if connector is None else KVTransferConfig(
            kv_connector="LampsConnector", kv_connector_module_path="lamps_vllm.connector",
            kv_role="kv_both", kv_connector_extra_config=connector,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """KV cache groups of sliding windows beside that of full attention, with pages of the same size."""

    tokens: int
    block_size: int = 32
    groups: int = 1


def make_cache(config: VllmConfig, windows: Windows | None = None) -> KVCacheConfig:
    """A cache of groups of two layers each, layer by layer; groups lie over each other."""
    import torch

    blocks, block_size = config.cache_config.num_gpu_blocks, config.cache_config.block_size
    shape = {"block_size": block_size, "num_kv_heads": 2, "head_size": 64, "dtype": torch.bfloat16}
    specs: list[AttentionSpec] = [FullAttentionSpec(**shape)]
    if windows is not None:
        shape |= {
            "block_size": windows.block_size,
            "num_kv_heads": 2 * block_size // windows.block_size,
        }
        specs += windows.groups * [SlidingWindowSpec(**shape, sliding_window=windows.tokens)]
    page = specs[0].page_size_bytes
    assert all(spec.page_size_bytes == page for spec in specs)
    groups = [
        KVCacheGroupSpec([f"layer.{2 * number}", f"layer.{2 * number + 1}"], spec)
        for number, spec in enumerate(specs)
    ]
    tensors = [
        KVCacheTensor(
            size=2 * blocks * page,
            layers=group.layer_names,
            layer_stride=blocks * page,
            block_stride=page,
        )
        for group in groups
    ]
    return KVCacheConfig(num_blocks=blocks, kv_cache_tensors=tensors, kv_cache_groups=groups)


def make_scheduler(
    scheduler_cls: type[Scheduler], config: VllmConfig, windows: Windows | None = None
) -> Scheduler:
    """The scheduler as EngineCore builds it."""
    cache = make_cache(config, windows)
    block_size, hash_block_size = resolve_kv_cache_block_sizes(cache, config)
    return scheduler_cls(
        vllm_config=config,
        kv_cache_config=cache,
        structured_output_manager=StructuredOutputManager(config),
        block_size=block_size,
        hash_block_size=hash_block_size,
    )


def make_request(
    request_id: str, prompt: list[int], output_tokens: int, *, arrival: float = 0.0, block_size: int = 32,
    session_id: str | None = None, priority: int = 0, hints: str | dict | None = None,
    resumable: bool = False,
) -> Request:  # fmt: skip
    """A request of forced length, as the API server would hand it to the engine core."""
    params = SamplingParams(
        max_tokens=output_tokens, min_tokens=output_tokens, ignore_eos=True,
        extra_args={"lamps": hints} if hints is not None else None,
    )  # fmt: skip
    return Request(
        request_id=request_id, prompt_token_ids=prompt, sampling_params=params, pooling_params=None,
        arrival_time=arrival, priority=priority, session_id=session_id, resumable=resumable,
        block_hasher=get_request_block_hasher(block_size, _HASH),
    )  # fmt: skip


@dataclass
class Lockstep:
    """Steps a scheduler; `now` is virtual seconds."""

    scheduler: Scheduler
    pace: PaceProfile = field(default_factory=PaceProfile)
    now: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        self._tokens = itertools.count(7)
        if hasattr(type(self.scheduler), "clock"):
            self.scheduler.clock = lambda: self.now

    def step(self) -> tuple[Any, list[str]]:
        """One engine step. Returns vLLM's SchedulerOutput and the ids that finished."""
        output = self.scheduler.schedule()
        scheduled = output.num_scheduled_tokens
        self.steps += 1
        if scheduled:
            prefill = output.total_num_scheduled_tokens - len(scheduled)
            self.now += self.pace.step_seconds(prefill, len(scheduled), 0)
        else:
            self.now += 0.001
        ids = list(scheduled)
        samples = self._run_model(output)
        result = ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={r: i for i, r in enumerate(ids)},
            sampled_token_ids=samples,
            kv_connector_output=self._transfer(output),
        )
        finished = []
        for outputs in self.scheduler.update_from_output(output, result).values():
            finished += [
                item.request_id for item in outputs.outputs if item.finish_reason is not None
            ]
        return output, finished

    def _transfer(self, output: Any) -> KVConnectorOutput | None:
        """What the workers' connectors do in this step, and say."""
        return None

    def _run_model(self, output: SchedulerOutput) -> list[list[int]]:
        """The tokens that each scheduled request samples."""
        return [self._sample(self.scheduler.requests[name]) for name in output.num_scheduled_tokens]

    def _sample(self, request: Request) -> list[int]:
        if request.num_computed_tokens < request.num_tokens:
            return []  # a prefill chunk that is not the last
        return [next(self._tokens) % VOCAB_SIZE]

    def abort(self, request_id: str) -> None:
        self.scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)


Hinting = Callable[[Segment], dict[str, Any] | None]
"""What a client says about a turn it sends."""


class _Client:
    """One session of the workload: what it sends next and what came back."""

    def __init__(
        self, number: int, session: Session, seed: int, identity: Identity, hints: Hinting
    ) -> None:
        self.number, self.session, self.identity, self.hints = number, session, identity, hints
        self.rng = np.random.default_rng((seed, number))
        self.context: list[int] = []
        self.record = SessionRecord(
            id=session.id, arrival=session.arrival, tool_seconds=session.tool_seconds,
            planned_turns=len(session.segments),
        )  # fmt: skip

    def request(self, now: float, block_size: int) -> Request:
        index = len(self.record.turns)
        segment = self.session.segments[index]
        if segment.kept_tokens is not None:
            del self.context[segment.kept_tokens :]
        self.context += self.rng.integers(3, VOCAB_SIZE, segment.prompt_tokens).tolist()
        self.record.turns.append(
            TurnRecord(index=index, planned=now, sent=now, prompt_tokens=len(self.context))
        )
        return make_request(
            f"{self.session.id}.{index}", list(self.context), segment.output_tokens, arrival=now,
            block_size=block_size,
            session_id=self.session.id if self.identity is Identity.SESSION_ID else None,
            priority=self.number if self.identity is Identity.PRIORITY else 0,
            hints=self.hints(segment),
        )  # fmt: skip


def replay(
    workload: Workload, scheduler: Scheduler, *, identity: Identity = Identity.SESSION_ID, seed: int = 0,
    pace: PaceProfile | None = None, hints: Hinting = lambda segment: None,
) -> ReplayResult:  # fmt: skip
    """Serves the workload to the end in virtual time. Deterministic."""
    engine = Lockstep(scheduler, pace or PaceProfile())
    block_size = scheduler.block_size
    clients = [_Client(i, s, seed, identity, hints) for i, s in enumerate(workload.sessions)]
    due = [(client.session.arrival, client.number) for client in clients]
    heapq.heapify(due)
    live: dict[str, tuple[_Client, Request]] = {}
    fresh: set[str] = set()
    while due or live:
        if not live and due[0][0] > engine.now:
            engine.now = due[0][0]
        while due and due[0][0] <= engine.now:
            at, number = heapq.heappop(due)
            request = clients[number].request(at, block_size)
            scheduler.add_request(request)
            live[request.request_id] = (clients[number], request)
            fresh.add(request.request_id)
        output, finished = engine.step()
        for request_id in list(output.num_scheduled_tokens):
            client, request = live[request_id]
            turn = client.record.turns[-1]
            if request_id in fresh and request.num_output_tokens:
                fresh.discard(request_id)
                turn.first_token = engine.now
            if turn.cached_tokens is None:
                turn.cached_tokens = (
                    request.num_computed_tokens - output.num_scheduled_tokens[request_id]
                )
        for request_id in finished:
            client, request = live.pop(request_id)
            turn = client.record.turns[-1]
            turn.end, turn.output_tokens = engine.now, request.num_output_tokens
            client.context += list(request.output_token_ids)
            call = client.session.segments[turn.index].call_seconds
            if call is not None:
                heapq.heappush(due, (engine.now + call, client.number))
    return ReplayResult(
        base_url="lockstep", model="none", identity=identity, seed=seed, forced_lengths=True,
        sessions=[client.record for client in clients],
    )  # fmt: skip
