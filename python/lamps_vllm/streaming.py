# SPDX-License-Identifier: Apache-2.0
"""Calls inside a request: streaming-input requests that pause while a tool runs.

vLLM parks such a request when it stops, with its KV and a run slot, until more input comes. Here a stop
ends a turn and more input begins the session's next one, exactly as if they were separate requests: the
policy decides what becomes of the KV meanwhile, and the next turn is ranked and let in like any other.

A parked request owns no blocks: what is kept is held for its session (``HeldBlocks``), and the next turn
finds it, or what is left of it, through the prefix cache. ``num_computed_tokens`` of a parked request
only says where vLLM's next slice begins; it counts from 0 again once the new input is in.
"""

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request, RequestStatus, StreamingUpdate

import lamps_ext


class PausedRequests(AsyncScheduler):
    """The part of ``LampsScheduler`` that deals with parked requests; its events and holds are used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._paused: dict[str, int | None] = {}
        """Parked request -> its session; None once the core has forgotten that."""
        self._displaced: list[Request] = []

    # --- vLLM's hooks ---

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        # A parked request holds nothing of the model runner's, so it takes nobody's run slot.
        paused = len(self._paused)
        self.num_waiting_for_streaming_input -= paused
        try:
            return super().schedule(*args, **kwargs)
        finally:
            self.num_waiting_for_streaming_input += paused

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().update_from_output(*args, **kwargs)
        for request in self._displaced:
            if not request.is_finished():
                self._enqueue_waiting_request(request)
        self._displaced.clear()
        return outputs

    def _handle_stopped_request(self, request: Request) -> bool:
        if request.resumable and not _closes(request):
            self._pause(request)
        return super()._handle_stopped_request(request)

    def _update_request_as_session(self, session: Request, update: StreamingUpdate) -> None:
        parked = session.status == RequestStatus.WAITING_FOR_STREAMING_REQ
        super()._update_request_as_session(session, update)
        if session.request_id not in self._paused:
            return
        del self._paused[session.request_id]
        session.num_computed_tokens = 0
        if parked:  # else vLLM is about to queue it
            self.kv_holding_waiting.remove_request(session)
            self.waiting.add_request(session)
        self._guarded(self._on_arrival, session)

    def _free_blocks(self, request: Request) -> None:
        session = self._paused.pop(request.request_id, None)
        if session is not None:
            self._guarded(self._on_end_of_pause, session)
        super()._free_blocks(request)

    # --- steps of ours ---

    def _pause(self, request: Request) -> None:
        turn = self._turns.of(request)
        self._paused[request.request_id] = None if turn is None else self._turns.session(turn)
        if request.num_computed_tokens == 0:
            # It was preempted while this output was on its way. vLLM would slice all tokens away and,
            # at the end of its update, take the request out of every queue.
            request.num_computed_tokens = request.num_tokens - 1
            self._displaced.append(request)
        self._guarded(self._on_finish, request, True)
        self._free_request_blocks(request)  # unless they are kept
        self.encoder_cache_manager.free(request)
        self._inflight_prefills.discard(request)
        # Frees its slot in the model runner, and tells KV connectors that its blocks are gone.
        self.reset_preempted_req_ids.add(request.request_id)

    def _on_end_of_pause(self, session: int) -> None:
        """The client closed or aborted a parked request: nobody comes back for its KV."""
        if self._holds.release(session):
            self._events.append((lamps_ext.RELEASED, session))
            if self._swaps is not None:
                self._swaps.drop(session)

    def _forget_pauses(self, session: int) -> None:
        """The core knows the session no more, and its handle may be given to another one."""
        for request_id, paused in self._paused.items():
            if paused == session:
                self._paused[request_id] = None

    def _free_slots(self) -> int:
        """Requests that may still start running."""
        parked = self.num_waiting_for_streaming_input - len(self._paused)
        return self.max_num_active_reqs - len(self.running) - parked


def _closes(request: Request) -> bool:
    """Whether the client has closed a request that stops now: then it ends and does not pause."""
    return bool(request.streaming_queue) and request.streaming_queue[0] is None
