# SPDX-License-Identifier: Apache-2.0
"""Streaming-input requests in virtual time, on a model whose tokens depend on every KV slot it reads."""

from collections import defaultdict
from itertools import chain
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from lamps_vllm import LampsScheduler
from lamps_vllm.replay.tiny_model import VOCAB_SIZE
from tests.support.driver import Driver
from tests.support.lockstep import Lockstep, make_request


def next_token(context: list[int]) -> int:
    """The model, and greedy decoding: a function of the whole context."""
    return 3 + hash(tuple(context)) % (VOCAB_SIZE - 3)


def expected_segments(pieces: list[list[int]], lengths: list[int]) -> list[list[int]]:
    """What a streaming request generates after each piece of input.

    vLLM drops the last token of a segment when more input comes.
    """
    context: list[int] = []
    segments = []
    for piece, length in zip(pieces, lengths, strict=True):
        context = context[:-1] + piece if segments else list(piece)
        start = len(context)
        for _ in range(length):
            context.append(next_token(context))
        segments.append(context[start:])
    return segments


class KvLockstep(Lockstep):
    """Writes tokens into the slots of the KV blocks and samples from what it reads there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._slots: dict[tuple[int, int], int] = {}
        self.sampled: dict[str, list[int]] = defaultdict(list)

    def _run_model(self, output: SchedulerOutput) -> list[list[int]]:
        for name, count in output.num_scheduled_tokens.items():
            request, places = self._places(name)
            for position in range(request.num_computed_tokens - count, request.num_computed_tokens):
                self._slots[places[position]] = request.all_token_ids[position]
        return [self._sample_from_kv(name) for name in output.num_scheduled_tokens]

    def _sample_from_kv(self, name: str) -> list[int]:
        request, places = self._places(name)
        if request.num_computed_tokens < request.num_tokens:
            return []
        token = next_token([self._slots[places[i]] for i in range(request.num_computed_tokens)])
        self.sampled[name].append(token)
        return [token]

    def _places(self, name: str) -> tuple[Request, list[tuple[int, int]]]:
        (blocks,) = self.scheduler.kv_cache_manager.get_block_ids(name)
        size = self.scheduler.block_size
        return self.scheduler.requests[name], [(b, i) for b in blocks for i in range(size)]


class Streams(Driver):
    """A driver of streaming requests: begin, feed, close; `finished` has a request once per segment."""

    def __init__(
        self, scheduler_cls: type[Scheduler] = LampsScheduler, *, ahead: bool = False, **config: Any
    ) -> None:
        super().__init__(scheduler_cls, ahead=ahead, **config)
        if not ahead:
            self.engine = KvLockstep(self.scheduler)
        self.pieces: dict[str, list[list[int]]] = defaultdict(list)
        self.lengths: dict[str, list[int]] = defaultdict(list)

    def begin(self, name: str, prompt: int | list[int], output: int, **more: Any) -> Request:
        """A new request, whose input may go on."""
        request = self.send(name, prompt, output, resumable=True, **more)
        self.pieces[name].append(list(request.prompt_token_ids))
        self.lengths[name].append(output)
        return request

    def feed(self, name: str, tokens: list[int], output: int, **more: Any) -> None:
        """More input of a request that has begun."""
        self.pieces[name].append(list(tokens))
        self.lengths[name].append(output)
        self._add(name, tokens, output, resumable=True, **more)

    def close(self, name: str) -> None:
        """No more input comes: what AsyncLLM sends when its input generator ends."""
        self._add(name, [0], 1)

    def paused(self, name: str) -> bool:
        request = self.scheduler.requests.get(name)
        return request is not None and request.status == RequestStatus.WAITING_FOR_STREAMING_REQ

    def until_paused(self, *names: str, limit: int = 3000) -> None:
        for _ in range(limit):
            if all(map(self.paused, names)):
                return
            self.step()
        raise AssertionError(f"{names} not paused after {limit} steps")

    def check_tokens(self, *names: str) -> None:
        """What was generated is what the contexts say, whatever happened to their KV."""
        for name in names:
            segments = expected_segments(self.pieces[name], self.lengths[name])
            assert self.engine.sampled[name] == list(chain(*segments)), name

    def _add(self, name: str, tokens: list[int], output: int, **more: Any) -> None:
        block_size = self.config.cache_config.block_size
        self.scheduler.add_request(
            make_request(
                name, list(tokens), output, arrival=self.engine.now, block_size=block_size, **more
            )
        )
