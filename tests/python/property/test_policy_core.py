# SPDX-License-Identifier: Apache-2.0
"""The policy core under random valid histories: its sums, its promises and its waiting bound."""

from hypothesis import settings

from tests.support.policy_machine import PolicyMachine

TestPolicyCore = PolicyMachine.TestCase
TestPolicyCore.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
