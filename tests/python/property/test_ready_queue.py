# SPDX-License-Identifier: Apache-2.0
"""The indexed heap against a sorted list."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import lamps_ext

HANDLES = st.integers(0, 30)
# Few distinct values, so that ties are common.
KEYS = st.tuples(
    st.integers(0, 2),
    st.one_of(
        st.sampled_from([0.0, 1.0, 1.0 + 1e-15, math.inf, -math.inf]), st.floats(allow_nan=False)
    ),
    st.integers(0, 3),
)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = lamps_ext.ReadyQueue()
        self.model: dict[int, tuple[int, float, int]] = {}

    def order(self) -> list[int]:
        return sorted(self.model, key=lambda handle: (self.model[handle], handle))

    @rule(handle=HANDLES, key=KEYS)
    def push(self, handle, key):
        if handle in self.model:
            with pytest.raises(lamps_ext.UnknownHandle, match=str(handle)):
                self.queue.push(handle, key)
        else:
            self.queue.push(handle, key)
            self.model[handle] = key

    @rule(handle=HANDLES, key=KEYS)
    def rekey(self, handle, key):
        if handle in self.model:
            self.queue.rekey(handle, key)
            self.model[handle] = key
        else:
            with pytest.raises(lamps_ext.UnknownHandle, match=str(handle)):
                self.queue.rekey(handle, key)

    @rule(handle=HANDLES)
    def remove(self, handle):
        if handle in self.model:
            self.queue.remove(handle)
            del self.model[handle]
        else:
            with pytest.raises(lamps_ext.UnknownHandle, match=str(handle)):
                self.queue.remove(handle)

    @rule()
    def pop(self):
        expected = self.order()[0] if self.model else -1
        assert self.queue.top() == expected
        assert self.queue.pop() == expected
        self.model.pop(expected, None)

    @rule(handle=HANDLES)
    @precondition(lambda self: self.model)
    def refuse_nan(self, handle):
        act = self.queue.rekey if handle in self.model else self.queue.push
        with pytest.raises(lamps_ext.InvalidOption):
            act(handle, (0, math.nan, 0))

    @rule(limit=st.integers(0, 40))
    def first(self, limit):
        assert self.queue.first(limit) == self.order()[:limit]

    @invariant()
    def agrees(self):
        self.queue.check_invariants()
        assert len(self.queue) == len(self.model)
        assert self.queue.first(100) == self.order()
        assert all(handle in self.queue for handle in self.model)


TestReadyQueue = QueueMachine.TestCase
TestReadyQueue.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_negative_handles_are_refused():
    with pytest.raises(lamps_ext.UnknownHandle, match="-1"):
        lamps_ext.ReadyQueue().push(-1, (0, 0.0, 0))
