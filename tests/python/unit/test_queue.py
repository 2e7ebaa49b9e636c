# SPDX-License-Identifier: Apache-2.0
"""The waiting queue that serves a plan: vLLM sees the lane, the counts are of everyone."""

from types import SimpleNamespace

import pytest

from lamps_vllm.queue import LampsQueue

A, B, C = (SimpleNamespace(request_id=name) for name in "abc")


@pytest.fixture
def queue() -> LampsQueue:
    queue = LampsQueue()
    for request in (A, B, C):
        queue.add_request(request)
    return queue


def test_nobody_enters_before_the_lane_is_open(queue):
    assert not queue
    assert len(queue) == 3
    assert list(queue) == [A, B, C]


def test_the_lane_decides_who_enters_and_in_which_order(queue):
    queue.open([C, A])
    assert queue.peek_request() is C
    assert [queue.pop_request(), queue.pop_request()] == [C, A]
    assert not queue
    assert (len(queue), list(queue), queue.popped) == (1, [B], [C, A])
    assert A not in queue and B in queue


def test_iteration_is_lane_first(queue):
    queue.open([B])
    assert list(queue) == [B, A, C]


def test_who_is_put_back_waits_for_the_next_plan(queue):
    queue.open([A, B])
    skipped = queue.pop_request()
    queue.prepend_requests([skipped])
    assert queue.peek_request() is B
    assert skipped in queue and queue.popped == [A]
    queue.open([A])
    assert queue.popped == []
    assert queue.pop_request() is A


def test_a_preempted_request_does_not_enter_in_the_same_step(queue):
    queue.open([A])
    queue.pop_request()
    queue.prepend_request(A)
    assert not queue
    assert len(queue) == 3


def test_removed_requests_leave_the_lane(queue):
    queue.open([A, B, C])
    queue.remove_request(B)
    queue.remove_requests([C, SimpleNamespace(request_id="stranger")])
    assert list(queue) == [A]
    assert [queue.pop_request()] == [A]
    assert not queue


def test_a_plan_may_name_who_has_left(queue):
    queue.remove_request(A)
    queue.open([A, B])
    assert queue.pop_request() is B
