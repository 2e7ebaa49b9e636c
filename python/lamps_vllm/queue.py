# SPDX-License-Identifier: Apache-2.0
"""vLLM's waiting queue, as LAMPS fills it.

The core plans a whole step at once; this queue serves that plan. vLLM's loop sees only the lane: the
requests that may enter in this step, in order. ``len`` and iteration count everyone who waits.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request


class LampsQueue(RequestQueue):
    """A queue whose truth value says whether somebody may enter *now*."""

    def __init__(self) -> None:
        self._waiting: dict[str, Request] = {}
        self._lane: deque[Request] = deque()
        self.popped: list[Request] = []
        """Taken out since :meth:`open`: admitted, or skipped and put back."""
        self.put_back: list[Request] = []
        """Put back by vLLM since :meth:`open`, whether they came from here or not."""

    def open(self, lane: Iterable[Request]) -> None:
        """Lets these waiting requests enter in the coming step, in this order."""
        self._lane = deque(request for request in lane if request.request_id in self._waiting)
        self.popped = []
        self.put_back = []

    def add_request(self, request: Request) -> None:
        self._waiting[request.request_id] = request

    def pop_request(self) -> Request:
        request = self._lane.popleft()
        del self._waiting[request.request_id]
        self.popped.append(request)
        return request

    def peek_request(self) -> Request:
        return self._lane[0]

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)
            self.put_back.append(request)

    def remove_request(self, request: Request) -> None:
        self.remove_requests((request,))

    def remove_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if self._waiting.pop(request.request_id, None) is not None and request in self._lane:
                self._lane.remove(request)

    def __contains__(self, request: Request) -> bool:
        return request.request_id in self._waiting

    def __bool__(self) -> bool:
        return bool(self._lane)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Request]:
        lane = {request.request_id for request in self._lane}
        yield from self._lane
        for request_id, request in self._waiting.items():
            if request_id not in lane:
                yield request
