# SPDX-License-Identifier: Apache-2.0
"""Hints of a request: bad ones are ignored one by one and named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamps_vllm.hints import HINT_KEY, NO_HINTS, Hints, parse_hints

GOOD = {
    "session": "a1",
    "expected_output_tokens": 50,
    "tool": "search",
    "expected_call_seconds": 0.5,
    "final_turn": True,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}, {HINT_KEY: None}])
def test_no_hints(extra):
    assert parse_hints(extra) == (NO_HINTS, [])


@pytest.mark.parametrize("encode", [json.dumps, dict], ids=["string", "object"])
def test_all_fields(encode):
    hints, complaints = parse_hints({HINT_KEY: encode(GOOD)})
    assert hints == Hints(**GOOD)
    assert complaints == []
    assert hints.for_core() == (50, 0.5, "search", True)


def test_not_given_is_negative_or_empty_for_the_core():
    assert NO_HINTS.for_core() == (-1.0, -1.0, "", False)


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("session", ["", "x" * 257, 7, None], "a string of 1 to 256 characters"),
        ("tool", ["", "x" * 257, 7, ["a"]], "a string of 1 to 256 characters"),
        ("expected_output_tokens", [0, -1, 1e8, "9", True, float("nan")], "a number in [1, 1e7]"),
        ("expected_call_seconds", [-0.1, 1e8, "9", False], "a number in [0, 1e7] (seconds)"),
        ("final_turn", [1, 0, "true", None], "true or false"),
    ],
)
def test_a_bad_field_is_named_with_value_and_range_and_the_others_count(field, values, expected):
    for value in values:
        hints, complaints = parse_hints({HINT_KEY: {**GOOD, field: value}})
        assert complaints == [(field, f"{value!r}: expected {expected}")]
        others = {name: good for name, good in GOOD.items() if name != field}
        assert hints == Hints(**others)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("session", ["s", "x" * 256]),
        ("expected_output_tokens", [1, 1e7]),
        ("expected_call_seconds", [0, 1e7]),
        ("final_turn", [True, False]),
    ],
)
def test_the_ends_of_a_range_are_accepted(field, values):
    for value in values:
        hints, complaints = parse_hints({HINT_KEY: {field: value}})
        assert (getattr(hints, field), complaints) == (value, [])


def test_an_unknown_field_lists_the_known():
    hints, complaints = parse_hints({HINT_KEY: {"seconds": 3, "tool": "t"}})
    assert hints == Hints(tool="t")
    assert complaints == [("seconds", f"unknown; known are {', '.join(GOOD)}")]


@pytest.mark.parametrize("raw", ["{", "no", "[1]", "3", [1], 3, True])
def test_anything_but_an_object_is_one_complaint(raw):
    hints, [(field, complaint)] = parse_hints({HINT_KEY: raw})
    assert hints == NO_HINTS
    assert field == HINT_KEY
    assert "expected an object" in complaint


@given(raw=JSON | st.text() | st.builds(json.dumps, JSON))
def test_no_input_raises_or_gets_past_the_ranges(raw):
    hints, _ = parse_hints({HINT_KEY: raw})
    assert hints.expected_output_tokens == -1 or 1 <= hints.expected_output_tokens <= 1e7
    assert hints.expected_call_seconds == -1 or 0 <= hints.expected_call_seconds <= 1e7
    assert isinstance(hints.final_turn, bool)
    assert hints.session is None or 0 < len(hints.session) <= 256
