# SPDX-License-Identifier: Apache-2.0
"""Which session a request belongs to.

The first that applies: the client's hint, the API's ``session_id``, otherwise the prefix-block chain:
a prompt whose block hashes continue those of a finished turn belongs to that turn's session. LoRA,
cache salt and multimodal content are part of the hashes. Identity only influences scheduling, never
which data a request sees.
"""

from collections.abc import Hashable, Sequence


class SessionBook:
    """Names sessions by dense handles, reused after :meth:`forget`."""

    def __init__(self) -> None:
        self._by_name: dict[Hashable, int] = {}
        self._by_tail: dict[Hashable, int] = {}
        self._names: list[Hashable | None] = []
        self._numbers: list[int] = []
        self._seen = 0
        self._tails: list[tuple[Hashable, ...]] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._names) - len(self._free)

    def resolve(self, name: Hashable | None, block_hashes: Sequence[Hashable]) -> int:
        """The handle of the session that a new request belongs to; new sessions get a new one.

        Args:
            name: what the client calls its session, or None.
            block_hashes: of the prompt's full blocks, in order.
        """
        if name is not None:
            handle = self._by_name.get(name)
            if handle is None:
                handle = self._new(name)
                self._by_name[name] = handle
            return handle
        if self._by_tail:
            # From the end: a turn adds little to what went before, so the match is near the end.
            for block_hash in reversed(block_hashes):
                handle = self._by_tail.get(block_hash)
                if handle is not None:
                    self._drop_tails(handle)  # the next request like it is a fork: a new session
                    return handle
        return self._new(None)

    def remember(self, handle: int, block_hashes: Sequence[Hashable], prompt_blocks: int) -> None:
        """Notes where a finished turn ended, so that its continuation is recognised.

        Args:
            block_hashes: of the full blocks of prompt and output.
            prompt_blocks: how many of them the prompt filled. Clients may re-tokenise the output,
                so a continuation of the prompt alone counts too.
        """
        if self._names[handle] is not None:
            return
        self._drop_tails(handle)
        ends = {len(block_hashes), min(prompt_blocks, len(block_hashes))} - {0}
        tails = tuple(block_hashes[end - 1] for end in ends)
        for tail in tails:
            self._by_tail[tail] = handle
        self._tails[handle] = tails

    def forget(self, handle: int) -> None:
        """Frees the handle; a later request of that session starts a new one."""
        name = self._names[handle]
        if name is not None:
            self._by_name.pop(name, None)
            self._names[handle] = None
        self._drop_tails(handle)
        self._free.append(handle)

    def name_of(self, handle: int) -> str:
        """What people call the session: the client's name, or ``#handle``."""
        name = self._names[handle]
        return f"#{handle}" if name is None else str(name)

    def number_of(self, handle: int) -> int:
        """How many sessions had begun before this one."""
        return self._numbers[handle]

    def _new(self, name: Hashable | None) -> int:
        number, self._seen = self._seen, self._seen + 1
        if self._free:
            handle = self._free.pop()
            self._names[handle], self._numbers[handle] = name, number
            return handle
        self._names.append(name)
        self._numbers.append(number)
        self._tails.append(())
        return len(self._names) - 1

    def _drop_tails(self, handle: int) -> None:
        for tail in self._tails[handle]:
            if self._by_tail.get(tail) == handle:
                del self._by_tail[tail]
        self._tails[handle] = ()
