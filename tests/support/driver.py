# SPDX-License-Identifier: Apache-2.0
"""A scheduler under test with its virtual engine: send turns, step, drain, check that nothing leaked."""

from collections import deque
from typing import Any

import numpy as np
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from lamps_vllm import LampsScheduler
from lamps_vllm.replay.tiny_model import VOCAB_SIZE
from tests.support.lockstep import Lockstep, Windows, make_config, make_request, make_scheduler


def tokens(seed: int, count: int) -> list[int]:
    """Made-up token ids; different seeds share no block."""
    return np.random.default_rng(seed).integers(3, VOCAB_SIZE, count).tolist()


class AheadLockstep(Lockstep):
    """As asynchronous scheduling drives it: step k + 1 is scheduled before the output of step k is known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pending: deque[tuple[Any, ModelRunnerOutput]] = deque()

    def step(self) -> tuple[Any, list[str]]:
        """Schedules one step and, once one is in flight, takes in the one before it."""
        output = self.scheduler.schedule()
        self.steps += 1
        scheduled = output.num_scheduled_tokens
        transfers = self._transfer(output)
        if scheduled or transfers:
            samples = [self._sample_ahead(self.scheduler.requests[r]) for r in scheduled]
            result = ModelRunnerOutput(
                req_ids=list(scheduled),
                req_id_to_index={r: i for i, r in enumerate(scheduled)},
                sampled_token_ids=samples,
                kv_connector_output=transfers,
            )
            self._pending.append((output, result))
            if scheduled and len(self._pending) < 2:
                return output, []
        if not self._pending:
            self.now += 0.001
            return output, []
        earlier, result = self._pending.popleft()
        self._executed(earlier)
        prefill = earlier.total_num_scheduled_tokens - len(result.req_ids)
        self.now += self.pace.step_seconds(prefill, len(result.req_ids), 0)
        finished = [
            item.request_id
            for outputs in self.scheduler.update_from_output(earlier, result).values()
            for item in outputs.outputs
            if item.finish_reason is not None
        ]
        return output, finished

    def _executed(self, output: Any) -> None:
        """The model has run this step; the scheduler does not know the outcome yet."""

    def _sample_ahead(self, request: Request) -> list[int]:
        return [] if request.is_prefill_chunk else [next(self._tokens) % VOCAB_SIZE]


class Driver:
    """One scheduler, its engine in virtual time, and the requests sent so far."""

    def __init__(
        self, scheduler_cls: type[Scheduler] = LampsScheduler, *, ahead: bool = False,
        windows: Windows | None = None, **config: Any,
    ) -> None:  # fmt: skip
        self.config = make_config(**config)
        self.config.scheduler_config.async_scheduling = ahead
        self.scheduler = make_scheduler(scheduler_cls, self.config, windows)
        self.engine = self._make_engine(ahead)
        self.requests: dict[str, Request] = {}
        self.finished: list[str] = []
        self._seeds = 0

    def _make_engine(self, ahead: bool) -> Lockstep:
        return (AheadLockstep if ahead else Lockstep)(self.scheduler)

    @property
    def free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    @property
    def all_blocks(self) -> int:
        return self.config.cache_config.num_gpu_blocks - 1  # one is vLLM's null block

    def send(self, request_id: str, prompt: int | list[int], output: int, **more: Any) -> Request:
        """A new turn; an int prompt is that many tokens that nobody else has."""
        if isinstance(prompt, int):
            self._seeds += 1
            prompt = tokens(self._seeds, prompt)
        request = make_request(
            request_id, prompt, output, arrival=self.engine.now,
            block_size=self.scheduler.hash_block_size, **more,
        )  # fmt: skip
        self.scheduler.add_request(request)
        self.requests[request_id] = request
        return request

    def follow(
        self, request_id: str, earlier: Request, new: int, output: int, **more: Any
    ) -> Request:
        """The next turn of a session: the earlier turn's context and `new` tokens of a tool."""
        self._seeds += 1
        context = list(earlier.prompt_token_ids) + list(earlier.output_token_ids)
        return self.send(request_id, context + tokens(self._seeds, new), output, **more)

    def step(self, count: int = 1) -> Any:
        output = None
        for _ in range(count):
            output, finished = self.engine.step()
            self.finished += finished
        return output

    def wait(self, seconds: float) -> None:
        """Lets virtual time pass; idle engines do not step."""
        self.engine.now += seconds

    def drain(self, limit: int = 5000) -> None:
        """Steps until no request is left. Fails after `limit` steps."""
        for _ in range(limit):
            if not self.scheduler.has_unfinished_requests():
                break
            self.step()
        assert not self.scheduler.has_unfinished_requests(), f"not drained after {limit} steps"
        self.step(2)  # what was in flight

    def check_drained(self) -> None:
        """Nothing waits, runs or is remembered, and every block is free once kept KV is let go."""
        scheduler = self.scheduler
        assert not scheduler.requests and not scheduler.running and len(scheduler.waiting) == 0
        if isinstance(scheduler, LampsScheduler):
            assert len(scheduler._holds) == 0 or not scheduler._faulted
            if not scheduler._faulted:
                assert len(scheduler._turns) == 0
                report = scheduler._core.report()
                assert (report["waiting"], report["running"]) == (0, 0)
                scheduler._core.check_invariants()
        assert scheduler.reset_prefix_cache() is True
        assert self.free_blocks == self.all_blocks
