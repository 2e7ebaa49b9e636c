# SPDX-License-Identifier: Apache-2.0
"""The table of requests the core knows."""

from types import SimpleNamespace

import pytest

from lamps_vllm.turns import TurnTable


def request(name: str) -> SimpleNamespace:
    return SimpleNamespace(request_id=name)


def test_handles_are_dense_and_lead_back():
    table, a, b = TurnTable(), request("a"), request("b")
    assert [table.add(a, 7, False), table.add(b, 8, True)] == [0, 1]
    assert table.request(1) is b
    assert (table.of(a), table.of(request("c"))) == (0, None)
    assert [table.session(0), table.session(1)] == [7, 8]
    assert [table.is_final(0), table.is_final(1)] == [False, True]
    assert table.handles == {"a": 0, "b": 1}


def test_a_dropped_handle_is_used_again_and_remembers_nothing():
    table, a = TurnTable(), request("a")
    table.add(a, 7, True)
    table.drop(a)
    assert (len(table), table.of(a)) == (0, None)
    with pytest.raises(KeyError, match="turn 0 has ended"):
        table.request(0)
    assert table.add(request("b"), 9, False) == 0
    assert (table.session(0), table.is_final(0)) == (9, False)


def test_dropping_a_stranger_is_an_error():
    with pytest.raises(KeyError, match="'x'"):
        TurnTable().drop(request("x"))
