# SPDX-License-Identifier: Apache-2.0
"""Which session a request belongs to.

The first that applies: the client's hint, the API's ``session_id`` (field or header, see ``agents.py``),
otherwise the prefix-block chain, see csrc/lamps/session_index.h: a prompt that continues what a session
held belongs to that session, one that branches off it starts a child of it. LoRA, cache salt and
multimodal content are part of the hashes. Identity only influences scheduling, never which data a
request sees.
"""

from collections.abc import Hashable
from typing import NamedTuple

import lamps_ext


class Resolved(NamedTuple):
    """The session of a request."""

    session: int
    is_new: bool
    parent: int = -1
    """Of a new session that branched off a known one; else -1."""


class SessionBook:
    """Names sessions by dense handles, reused after :meth:`forget`.

    Args:
        block_tokens: tokens per hashed block.
    """

    def __init__(self, block_tokens: int) -> None:
        self._index = lamps_ext.SessionIndex(block_tokens)
        self._by_name: dict[Hashable, int] = {}
        self._names: list[Hashable | None] = []
        self._numbers: list[int] = []
        self._seen = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._names) - len(self._free)

    def begin(
        self, name: Hashable | None, block_hashes: list[bytes], tokens: list[int] | None
    ) -> Resolved:
        """The session that a new request belongs to, whose turn begins with it.

        Args:
            name: what the client calls its session, or None.
            block_hashes: of the prompt's full blocks, in order.
            tokens: of the prompt, or None where it has none (embeddings).
        """
        if name is not None:
            handle = self._by_name.get(name)
            if handle is not None:
                return Resolved(handle, is_new=False)
            handle = self._by_name[name] = self._new(name)
            return Resolved(handle, is_new=True)
        relation, session, _ = self._index.find(block_hashes, tokens)
        if relation in (lamps_ext.SessionIndex.CONTINUES, lamps_ext.SessionIndex.EDITS):
            resolved = Resolved(session, is_new=False)
        else:
            resolved = Resolved(self._new(None), is_new=True, parent=session)
        self._index.begin(resolved.session, block_hashes, tokens)
        return resolved

    def end(self, handle: int, block_hashes: list[bytes], *, aborted: bool) -> None:
        """A turn has ended; the hashes are of the full blocks of prompt and output."""
        if self._names[handle] is None:
            self._index.finish(handle, block_hashes, aborted)

    def forget(self, handle: int) -> None:
        """Frees the handle; a later request of that session starts a new one."""
        name = self._names[handle]
        if name is not None:
            self._by_name.pop(name, None)
            self._names[handle] = None
        self._index.forget(handle)
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
        return len(self._names) - 1
