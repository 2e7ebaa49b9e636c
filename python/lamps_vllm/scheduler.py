# SPDX-License-Identifier: Apache-2.0
"""The shim between vLLM's scheduler and the policy core.

vLLM's ``schedule()`` runs unchanged. Before it, the core plans the step (one call): who may enter and in
which order, whose kept KV goes, who would be preempted first. After it, the shim notes what happened and
tells the core with the next call. Times are seconds of ``clock``.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import SchedulingPolicy, create_request_queue
from vllm.v1.request import Request, RequestStatus

import lamps_ext
from lamps_vllm.calls import TurnCalls
from lamps_vllm.compat import require_hooks
from lamps_vllm.connector import LampsConnector
from lamps_vllm.decisions import DecisionLog
from lamps_vllm.groups import PrefixGroups, tokens_per_block
from lamps_vllm.hints import Hints, parse_hints
from lamps_vllm.holds import HeldBlocks
from lamps_vllm.lengths.remote import serve_lengths
from lamps_vllm.memory import PredictionStore
from lamps_vllm.options import LampsOptions, OptionError
from lamps_vllm.queue import LampsQueue
from lamps_vllm.session import SessionBook
from lamps_vllm.streaming import PausedRequests
from lamps_vllm.swap.sessions import SessionSwaps
from lamps_vllm.turns import TurnTable

logger = init_logger("vllm.lamps")

_ENDED_WELL = (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)


class LampsScheduler(PausedRequests):
    """vLLM's scheduler with LAMPS deciding order, admission, kept KV and victims.

    A fault inside LAMPS is logged once; from then on vLLM's own order applies and no request is lost.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_hooks()
        super().__init__(*args, **kwargs)
        if self.policy == SchedulingPolicy.PRIORITY:
            raise OptionError(
                "--scheduling-policy = 'priority': LAMPS sets the order itself; expected 'fcfs'"
            )
        options = LampsOptions.from_additional_config(self.vllm_config.additional_config)
        manager = self.kv_cache_manager
        # A token costs one slot in every KV cache group (hybrid models have several).
        self._tokens_per_block = tokens_per_block(manager, self.block_size)
        blocks = self.cache_config.num_gpu_blocks - 1  # block 0 is vLLM's null block
        core_options = options.to_core()
        tier = self.connector.tier if isinstance(self.connector, LampsConnector) else None
        if tier is not None:
            core_options.cost.kv_bytes_per_token = int(tier.block_bytes / self._tokens_per_block)
        self._core = lamps_ext.PolicyCore(
            lamps_ext.Engine(
                capacity_tokens=max(int(blocks * self._tokens_per_block), 1),
                block_tokens=max(int(self._tokens_per_block), 1),
                max_context=self.max_model_len,
                step_tokens=self.max_num_scheduled_tokens,
                host_tokens=int(tier.rows * self._tokens_per_block) if tier is not None else 0,
            ),
            core_options,
        )
        if options.policy == "session-fcfs":  # vLLM's own mode, with a number from us
            self.policy = SchedulingPolicy.PRIORITY
            self.kv_holding_waiting = create_request_queue(self.policy)
        self._keeps = self._core.keeps() and manager.enable_caching
        self._book = SessionBook(self.hash_block_size)
        # vLLM loads the tokenizer for structured output; we only borrow it.
        self._calls = TurnCalls(getattr(self.structured_output_manager, "tokenizer", None), logger)
        self._turns = TurnTable()
        pool, groups = manager.block_pool, PrefixGroups.of(manager)
        self._holds = HeldBlocks(pool, self._tokens_per_block, groups)
        self._swaps = SessionSwaps(tier, self._holds) if tier is not None and self._keeps else None
        self._log = DecisionLog(options.log_path)
        self._core.record_decisions(self._log.on)
        rank = self.vllm_config.parallel_config.data_parallel_rank
        self._store = PredictionStore(
            self._core, options.predictions_path(rank), options.predictions_seconds
        )
        self._store.start()
        self._lengths = serve_lengths(
            options, self.vllm_config.model_config.tokenizer, self.clock, logger
        )
        self._events: list[tuple[Any, ...]] = []
        self._in_flight: deque[tuple[float, int, int, int]] = deque()
        self._context_tokens = 0
        self._last_update = 0.0
        self._warned: set[str] = set()
        self._faulted = False
        self.waiting = LampsQueue()
        self._stock_allocate = manager.allocate_slots
        logger.info("LAMPS schedules: %d KV tokens, %s", blocks * self._tokens_per_block, options)

    # --- vLLM's hooks, each a guarded step of ours around its own work ---

    def add_request(self, request: Request) -> None:
        new = request.request_id not in self.requests  # else: more input of a streaming session
        super().add_request(request)
        if new:
            self._guarded(self._on_new, request)

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        if self._faulted:
            self._hand_back()
        self._guarded(self._begin_step)
        output = super().schedule(*args, **kwargs)
        self._guarded(self._end_step, output)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, *args: Any, **kwargs: Any
    ) -> Any:
        self._guarded(self._observe, scheduler_output)
        return super().update_from_output(scheduler_output, *args, **kwargs)

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        self._guarded(self._on_preemption, request)

    def _free_blocks(self, request: Request) -> None:
        self._guarded(self._on_finish, request)
        super()._free_blocks(request)

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        lost = self._swaps.reset() if self._swaps is not None else []
        lost += self._holds.release_all()
        self._events += [(lamps_ext.RELEASED, session) for session in lost]
        return super().reset_prefix_cache(*args, **kwargs)

    def shutdown(self) -> None:
        self._holds.release_all()
        self._store.close()
        self._guarded(self._log_scores)
        self._log.close()
        if self._lengths is not None:
            logger.info("LAMPS output lengths: %s", self._lengths.counts)
            self._lengths.close()
        super().shutdown()

    # --- events ---

    def _on_new(self, request: Request) -> None:
        hints = self._hints_of(request)
        if not self._ask_length(request, hints):
            self._on_arrival(request, hints)

    def _hints_of(self, request: Request) -> Hints:
        params = request.sampling_params
        hints, complaints = parse_hints(params.extra_args if params else None)
        for field, complaint in complaints:
            self._warn_once(f"hint {field}", complaint)
        return hints

    def _ask_length(self, request: Request, hints: Hints) -> bool:
        """Whether the core hears of the request once its length is predicted, or the deadline passed.

        Only where others wait too: alone, a request goes on at once, and nobody needs its length.
        """
        known = hints.expected_output_tokens >= 0  # the client knows better
        if self._lengths is None or known or len(self.waiting) < 2 or not request.prompt_token_ids:
            return False
        return self._lengths.ask(request.request_id, (request, hints), request.prompt_token_ids)

    def _on_arrival(self, request: Request, hints: Hints | None = None) -> None:
        hints = hints or self._hints_of(request)
        tokens = request.prompt_token_ids
        # A streaming request is a session of its own, unless the client names another.
        own = request.request_id if request.resumable else None
        session, is_new, parent = self._book.begin(
            hints.session or request.session_id or own, request.block_hashes, tokens
        )
        prompt_class = self._core.prompt_class(tokens) if is_new and tokens else -1
        if self.policy == SchedulingPolicy.PRIORITY:
            request.priority = self._book.number_of(session)
        turn = self._turns.add(request, session, hints.final_turn)
        here = self._referenced_tokens(request)
        shared = here - self._holds.unique_tokens(session)
        on_host = 0
        if self._swaps is not None:
            shared -= self._swaps.resident_tokens(session)
            on_host = max(self._swaps.found_tokens(request) - here, 0)
        self._events.append(
            (lamps_ext.ARRIVE, self.clock(), turn, session, request.num_prompt_tokens,
             max(shared, 0), hints.for_core(), on_host,
             (prompt_class, self._free_cap(request), parent))
        )  # fmt: skip

    def _on_preemption(self, request: Request) -> None:
        turn = self._turns.of(request)
        if turn is not None:
            self._events.append((lamps_ext.PREEMPTED, self.clock(), turn))

    def _on_finish(self, request: Request, pauses: bool = False) -> None:
        turn = self._turns.of(request)
        well = request.status in _ENDED_WELL
        if self._lengths is not None:
            self._lengths.finished(request.request_id, request.num_output_tokens if well else None)
        if turn is None:
            return
        session, final = self._turns.session(turn), self._turns.is_final(turn)
        returns = well and not final and (pauses or not request.resumable)
        held = 0
        if returns and self._keeps:
            blocks = self.kv_cache_manager.pop_blocks_for_free(request)
            # A step in flight may still write behind the last full block.
            free = None if self._request_blocks_can_be_freed(request) else self._free_later
            held = self._holds.keep(session, blocks, request.block_hashes, free)
        self._book.end(session, request.block_hashes, aborted=not well)
        self._turns.drop(request)
        self._events.append(
            (lamps_ext.FINISHED, self.clock(), turn, request.num_output_tokens,
             request.num_tokens, held, not well, self._calls.of(request) if well else None)
        )  # fmt: skip

    def _free_later(self, blocks: list[Any]) -> None:
        """When the steps in flight are over."""
        self.deferred_frees.append((self.sched_step_seq, blocks))

    def _free_cap(self, request: Request) -> int:
        """max_tokens, where a client chose it; 0 where it is the default, or a length is forced."""
        params = request.sampling_params
        if params is None or params.ignore_eos or params.min_tokens:
            return 0
        cap = params.max_tokens or 0
        return 0 if cap + request.num_prompt_tokens >= self.max_model_len else cap

    # --- a step ---

    def _begin_step(self) -> None:
        for (request, hints), tokens in self._lengths.due() if self._lengths else ():
            self._on_arrival(request, replace(hints, expected_output_tokens=tokens))
        now = self.clock()
        handles = self._turns.handles
        running = [handles.get(request.request_id, -1) for request in self.running]
        context = [request.num_computed_tokens for request in self.running]
        self._context_tokens = sum(context)
        if self._swaps is not None:
            self._events += self._swaps.settle(now)
        events, self._events = self._events, []
        admit, release, forget, run_order, *host = self._core.begin_step(
            now,
            int(self.kv_cache_manager.block_pool.get_num_free_blocks() * self._tokens_per_block),
            self.max_num_scheduled_tokens,
            self._free_slots(),
            running,
            context,
            events,
        )
        if self._swaps is not None:
            self._swaps.carry_out(release, *host)
        else:
            for session in release:
                self._holds.release(session)
        if run_order and self.policy != SchedulingPolicy.PRIORITY:  # which picks victims itself
            self._reorder_running(run_order)
        self.waiting.open(map(self._turns.request, admit))
        self._watch_allocations()
        if self._log.on:
            self._log.write(now, self._core.take_decisions(), self._book.name_of)
        for session in forget:
            self._holds.release(session)
            if self._swaps is not None:
                self._swaps.forget(session)
            self._forget_pauses(session)
            self._book.forget(session)
        for what, name, off in self._core.take_switches():
            verdict = "worse than its class: not used for now" if off else "the better one again"
            logger.info("LAMPS predictions of %s %r: %s", what, name, verdict)

    def _end_step(self, output: SchedulerOutput) -> None:
        now = self.clock()
        for request in self.waiting.popped:
            turn = self._turns.of(request)
            if turn is None:
                continue
            if request in self.waiting:  # vLLM could not start it yet and put it back
                self._events.append((lamps_ext.SKIPPED, turn))
                continue
            scheduled = output.num_scheduled_tokens.get(request.request_id, 0)
            cached = max(request.num_computed_tokens - scheduled, 0)
            self._events.append((lamps_ext.ADMITTED, now, turn, cached))
            self._holds.release(self._turns.session(turn))  # its blocks are the request's own now
            if self._swaps is not None:
                self._swaps.taken_over(self._turns.session(turn))
        for request in self.waiting.put_back:
            turn = self._turns.of(request)  # those popped in this step have been dealt with
            if turn is not None and request not in self.waiting.popped:
                self._events.append((lamps_ext.PREEMPTED, now, turn))  # its load has failed
        total = output.total_num_scheduled_tokens
        if total:
            sequences = len(output.num_scheduled_tokens)
            self._in_flight.append((now, total - sequences, sequences, self._context_tokens))

    def _observe(self, output: SchedulerOutput) -> None:
        if not output.total_num_scheduled_tokens:
            return
        now = self.clock()
        started, prefill, sequences, context = self._in_flight.popleft()
        # With steps in flight, a step starts when the one before it ends.
        seconds = now - max(started, self._last_update)
        self._last_update = now
        self._events.append((lamps_ext.STEP, prefill, sequences, context, seconds))

    def _log_scores(self) -> None:
        self._log.write_scores(self.clock(), self._core.scores(), self._core.return_scores())

    def _reorder_running(self, run_order: list[int]) -> None:
        ordered = [self._turns.request(turn) for turn in run_order]
        if len(ordered) == len(self.running):  # else: somebody we do not know runs too
            self.running = ordered

    def _watch_allocations(self) -> None:
        """Lets kept KV give way before vLLM hears that memory is short.

        Called for every running request of every step, so it stands in the way only while KV is kept.
        """
        manager = self.kv_cache_manager
        if not self._holds:
            manager.__dict__.pop("allocate_slots", None)
        elif "allocate_slots" not in manager.__dict__:
            stock, retry = self._stock_allocate, self._allocate_after_release

            def allocate_slots(request: Request, *args: Any, **kwargs: Any) -> Any:
                blocks = stock(request, *args, **kwargs)
                return retry(request, *args, **kwargs) if blocks is None else blocks

            manager.allocate_slots = allocate_slots

    def _allocate_after_release(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        for session in self._guarded(self._release_order, request) or ():
            if not self._holds.release(session):
                continue
            self._events.append((lamps_ext.PRESSURE, self.clock(), session))
            blocks = self._stock_allocate(request, *args, **kwargs)
            if blocks is not None:
                return blocks
        return None

    def _release_order(self, request: Request) -> list[int]:
        turn = self._turns.of(request)
        own = None if turn is None else self._turns.session(turn)
        everything = self.cache_config.num_gpu_blocks * self.block_size
        order = self._core.release_order(self.clock(), everything)
        return [session for session in order if session != own]

    def _referenced_tokens(self, request: Request) -> int:
        """Tokens of the prompt whose KV somebody references right now."""
        if not self._keeps or self.enable_kv_cache_events:
            return 0
        blocks, _, _ = self.kv_cache_manager.get_computed_blocks(request)
        live = sum(
            block.ref_cnt > 0 and not block.is_null for group in blocks.blocks for block in group
        )
        return int(live * self._tokens_per_block)

    # --- faults ---

    def _guarded(self, step: Callable[..., Any], *args: Any) -> Any:
        if self._faulted:
            return None
        try:
            return step(*args)
        except Exception:
            self._faulted = True
            logger.exception(
                "LAMPS failed in %s; vLLM's own order applies from now on", step.__name__
            )
            return None

    def _hand_back(self) -> None:
        """Leaves scheduling to vLLM: everyone who waits, in order of arrival; nothing kept."""
        if not isinstance(self.waiting, LampsQueue):
            return
        self._holds.release_all()
        if self._swaps is not None:
            self._swaps.abandon()
        self._watch_allocations()
        self.policy = SchedulingPolicy.FCFS
        stock = create_request_queue(self.policy)
        for request in sorted(self.waiting, key=lambda request: request.arrival_time):
            stock.add_request(request)
        self.waiting = stock

    def _warn_once(self, field: str, complaint: str) -> None:
        if field not in self._warned:
            self._warned.add(field)
            logger.warning("LAMPS ignores %s = %s", field, complaint)
