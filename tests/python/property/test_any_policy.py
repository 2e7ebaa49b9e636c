# SPDX-License-Identifier: Apache-2.0
"""Every policy by name, with and without a host tier, under random valid histories."""

from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

import lamps_ext
from tests.support.host_model import HostModel
from tests.support.policy_machine import PolicyMachine

FORCED_RESUME = 1800.0  # seconds after which `thunder` lets a turn in whatever it needs
COST = lamps_ext.CostParameters()
COST.per_prefill, COST.swap_bytes_per_s, COST.kv_bytes_per_token = 1e-2, 1e6, 1000


class AnyPolicyMachine(PolicyMachine):
    ending = False

    @initialize(
        policy=st.sampled_from(lamps_ext.policy_names()),
        host=st.sampled_from([0, 200, 100_000]),
        recording=st.booleans(),
    )
    def start(self, policy, host, recording):
        self.policy = policy
        self.begin(
            partial(HostModel, host_capacity=host), preserve=True, weight=20.0, recording=recording,
            policy=policy, host=host, cost=COST,
        )  # fmt: skip

    @rule()
    def copies_end(self):
        self.m.copies_end()

    @rule(data=st.data())
    @precondition(lambda self: self.m.on_host())
    def lose(self, data):
        self.m.lose(data.draw(st.sampled_from(sorted(self.m.on_host()))))

    @rule(data=st.data())
    @precondition(lambda self: self.m.on_host())
    def lose_copy(self, data):
        self.m.lose_copy(data.draw(st.sampled_from(sorted(self.m.on_host()))))

    def end(self, handle, *, keep, aborted=False):
        super().end(handle, keep=keep and self.m.core.keeps(), aborted=aborted)

    def check_order(self, admit, order):
        if self.policy == "lamps":
            super().check_order(admit, order)

    def checked_step(self, slots: int):
        if self.ending:
            self.m.copies_end()
        self.lets_in = self.policy != "thunder"  # which may close its gate to everybody
        if self.policy != "lamps":  # whoever was skipped is offered once more, beside the others
            self.spare = sum(event[0] == lamps_ext.SKIPPED for event in self.m.events)
        return super().checked_step(slots)

    def teardown(self):
        if not hasattr(self, "m"):
            return
        self.ending = True
        if self.policy == "thunder":
            self.m.now += FORCED_RESUME
        super().teardown()
        assert not self.m.on_host()


TestAnyPolicy = AnyPolicyMachine.TestCase
TestAnyPolicy.settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
