# SPDX-License-Identifier: Apache-2.0
"""The requests the core knows, by dense handle."""

from vllm.v1.request import Request


class TurnTable:
    """Maps vLLM's requests to the core's request handles and back."""

    def __init__(self) -> None:
        self.handles: dict[str, int] = {}
        """Request id -> handle; read in the hot path."""
        self._requests: list[Request | None] = []
        self._sessions: list[int] = []
        self._final: list[bool] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.handles)

    def add(self, request: Request, session: int, final: bool) -> int:
        """A handle for a new request of `session`."""
        if self._free:
            handle = self._free.pop()
            self._requests[handle] = request
            self._sessions[handle] = session
            self._final[handle] = final
        else:
            handle = len(self._requests)
            self._requests.append(request)
            self._sessions.append(session)
            self._final.append(final)
        self.handles[request.request_id] = handle
        return handle

    def drop(self, request: Request) -> None:
        """Frees the request's handle."""
        handle = self.handles.pop(request.request_id)
        self._requests[handle] = None
        self._free.append(handle)

    def of(self, request: Request) -> int | None:
        return self.handles.get(request.request_id)

    def request(self, handle: int) -> Request:
        request = self._requests[handle]
        if request is None:
            raise KeyError(f"turn {handle} has ended")
        return request

    def session(self, handle: int) -> int:
        return self._sessions[handle]

    def is_final(self, handle: int) -> bool:
        return self._final[handle]
