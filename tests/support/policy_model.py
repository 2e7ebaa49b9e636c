# SPDX-License-Identifier: Apache-2.0
"""A small model of who waits, runs, is paused and holds KV, and an engine that obeys the core's plans."""

from dataclasses import dataclass, field
from typing import Any

import lamps_ext


@dataclass
class Turn:
    """A request; `since` and `step` say when it began to wait."""

    session: int
    prompt: int
    since: float
    step: int
    sequence: int
    newcomer: bool  # its session has not begun
    context: int = -1  # KV computed; -1 while waiting
    overdue: bool = False


@dataclass
class PolicyModel:
    """Mirrors what PolicyCore must know. Events reach the core with the next step, as in the shim."""

    core: lamps_ext.PolicyCore
    capacity: int
    block: int
    patience: int  # steps before which no waiting turn is overdue
    now: float = 0.0
    steps: int = 0
    turns: dict[int, Turn] = field(default_factory=dict)
    sessions: dict[int, float] = field(default_factory=dict)  # -> first arrival
    held: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)  # sessions that the core will forget
    gone: set[int] = field(default_factory=set)  # let go since the last step, before the core knows
    events: list[tuple[Any, ...]] = field(default_factory=list)
    sequence: int = 0

    def waiting(self) -> list[int]:
        return [handle for handle, turn in self.turns.items() if turn.context < 0]

    def running(self) -> list[int]:
        return [handle for handle, turn in self.turns.items() if turn.context >= 0]

    def blocks(self, count: int) -> int:
        return -(-count // self.block) * self.block

    def free(self) -> int:
        used = sum(self.blocks(self.turns[handle].context) for handle in self.running())
        return self.capacity - used - sum(self.held.values())

    def arrive(self, session: int, prompt: int, hints: tuple | None) -> None:
        handle = next(h for h in range(10_000) if h not in self.turns)
        newcomer = session in self.ended or session not in self.sessions
        if newcomer:
            self.ended.discard(session)
            self.sessions[session] = self.now
        self.turns[handle] = Turn(session, prompt, self.now, self.steps, self.sequence, newcomer)
        self.sequence += 1
        self.events.append((lamps_ext.ARRIVE, self.now, handle, session, prompt, 0, hints))

    def admit(self, handle: int) -> None:
        """As vLLM does: kept KV of others gives way, else the request stays where it is."""
        turn = self.turns[handle]
        need = self.blocks(turn.prompt + 1) - self.held.get(turn.session, 0)
        if self.free() < need:
            self.make_room(need, turn.session)
        if self.free() < need:
            return
        cached = min(self.held.pop(turn.session, 0), turn.prompt - 1)
        turn.context, turn.overdue = turn.prompt, False
        self.events.append((lamps_ext.ADMITTED, self.now, handle, cached))

    def make_room(self, need: int, own: int | None) -> None:
        for session in self.core.release_order(self.now, self.capacity):
            if self.free() >= need:
                return
            if session != own and session in self.held:
                self.let_go(session, (lamps_ext.PRESSURE, self.now, session))

    def let_go(self, session: int, event: tuple[Any, ...]) -> None:
        del self.held[session]
        self.gone.add(session)
        self.events.append(event)

    def preempt(self, handle: int) -> None:
        turn = self.turns[handle]
        turn.prompt = max(turn.prompt, turn.context)
        turn.context, turn.since, turn.step = -1, self.now, self.steps
        turn.newcomer = False
        self.events.append((lamps_ext.PREEMPTED, self.now, handle))

    def finish(
        self, handle: int, *, keep: bool, aborted: bool = False, final: bool = False
    ) -> None:
        turn = self.turns.pop(handle)
        kept = self.blocks(turn.context) if keep and not aborted and turn.context > 0 else 0
        if not aborted:
            self.held.pop(turn.session, None)
            if kept:
                self.held[turn.session] = kept
        if (aborted or final) and not any(t.session == turn.session for t in self.turns.values()):
            self.ended.add(turn.session)
        output = max(turn.context - turn.prompt, 0)
        self.events.append(
            (lamps_ext.FINISHED, self.now, handle, output, max(turn.context, 0), kept, aborted)
        )

    def begin_step(self, slots: int) -> tuple[list[int], list[int], list[int], list[int]]:
        """One step of the core; the caller admits. What the core lets go or forgets is gone here too."""
        running = self.running()
        context = [self.turns[handle].context for handle in running]
        events, self.events = self.events, []
        plan = self.core.begin_step(self.now, self.free(), 2048, slots, running, context, events)
        self.steps += 1
        bound = self.core.report()["waiting_bound_s"]  # follows the usual wait
        for handle in self.waiting():
            turn = self.turns[handle]
            waited = (
                self.steps - turn.step >= self.patience,
                self.now - turn.since >= bound,
            )
            turn.overdue |= all(waited)
        for session in plan[1]:
            assert session in self.held or session in self.gone, f"session {session} keeps nothing"
            self.held.pop(session, None)
        for session in plan[2]:
            assert all(turn.session != session for turn in self.turns.values()), (
                "a live session forgotten"
            )
            assert session not in self.held, "forgotten with its KV still kept"
            del self.sessions[session]
            self.ended.discard(session)
        self.gone.clear()
        return plan
