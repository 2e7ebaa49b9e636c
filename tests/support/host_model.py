# SPDX-License-Identifier: Apache-2.0
"""The policy model with a host tier: copies that take their time, and a host that is never overfilled."""

from dataclasses import dataclass, field
from typing import Any

import lamps_ext
from tests.support.policy_model import PolicyModel


@dataclass
class HostModel(PolicyModel):
    """Session -> tokens for KV that leaves, is copied while it is kept, is on the host, or is loaded back.

    Copies end on request. What is kept and on the host too is in `held` and in `host`.
    """

    host_capacity: int = 0
    leaving: dict[int, int] = field(default_factory=dict)
    orphans: list[int] = field(default_factory=list)  # copies out that nobody needs any more
    copying: dict[int, int] = field(default_factory=dict)
    host: dict[int, int] = field(default_factory=dict)
    loading: dict[int, int] = field(default_factory=dict)

    def free(self) -> int:
        on_the_move = sum(self.leaving.values()) + sum(self.orphans) + sum(self.loading.values())
        return super().free() - on_the_move

    def on_host(self) -> dict[int, int]:
        """Everybody who has room there."""
        return {**self.host, **self.leaving, **self.copying, **self.loading}

    def copies_end(self) -> None:
        """Every copy under way is done."""
        self.orphans.clear()
        for session, tokens in [*self.leaving.items(), *self.copying.items()]:
            self.host[session] = tokens
            self.events.append((lamps_ext.SWAPPED_OUT, self.now, session))
        self.leaving.clear()
        self.copying.clear()
        for session, tokens in self.loading.items():
            self.held[session] = tokens
            self.events.append((lamps_ext.LOADED, self.now, session))
        self.loading.clear()

    def admit(self, handle: int) -> None:
        session = self.turns[handle].session
        if session in self.loading:  # it waits for its KV
            self.events.append((lamps_ext.SKIPPED, handle))
            return
        if session in self.leaving:  # the blocks are still there
            self.held[session] = self.leaving.pop(session)
        super().admit(handle)

    def let_go(self, session: int, event: tuple[Any, ...]) -> None:
        super().let_go(session, event)
        if event[0] == lamps_ext.RELEASED:  # everywhere
            self.host.pop(session, None)
            self.copying.pop(session, None)

    def lose(self, session: int) -> None:
        """The KV is gone, wherever it was; the core is told."""
        for place in (self.held, self.leaving, self.copying, self.host, self.loading):
            place.pop(session, None)
        self.gone.add(session)
        self.events.append((lamps_ext.RELEASED, session))

    def lose_copy(self, session: int) -> None:
        """The host's copy is gone, or will not be; what is kept stays."""
        for place in (self.leaving, self.copying, self.host, self.loading):
            place.pop(session, None)
        if session not in self.held:
            self.gone.add(session)
        self.events.append((lamps_ext.HOST_LOST, session))

    def begin_step(self, slots: int) -> tuple[list[int], ...]:
        before = dict(self.held)
        free = self.free()
        plan = super().begin_step(slots)
        _, released, forgotten, _, drop_host, swap_out, prefetch, copy_ahead = plan
        for session in drop_host:
            self.host.pop(session, None)
            self.copying.pop(session, None)
            self.loading.pop(session, None)
            if session in self.leaving:
                self.orphans.append(self.leaving.pop(session))
        for session in swap_out:
            assert session in before and session not in released, f"{session} has nothing to swap"
            self.copying.pop(session, None)
            self.leaving[session] = self.held.pop(session)
        for session in copy_ahead:
            assert not self.copying and not self.leaving, "ahead of need while something is copied"
            self.copying[session] = self.held[session]
        for session in prefetch:
            free -= self.host[session]
            self.loading[session] = self.host[session]
        assert not prefetch or free >= 0, "loads into blocks that are not free"
        taken = self.on_host()
        assert not set(forgotten) & set(taken)
        assert sum(taken.values()) <= self.host_capacity
        report = self.core.report()
        assert report["host_tokens"] == sum(taken.values())
        assert report["leaving_tokens"] == sum(self.leaving.values())
        assert report["copying_tokens"] == sum(self.copying.values())
        return plan
