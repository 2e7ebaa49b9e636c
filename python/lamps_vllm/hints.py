# SPDX-License-Identifier: Apache-2.0
"""Hints that a client may send with a request, all optional.

``vllm_xargs`` carries flat values only, so the hint object travels as a JSON string::

    {"vllm_xargs": {"lamps": "{\\"session\\": \\"a1\\", \\"tool\\": \\"search\\"}"}}

A field that is unknown, ill-typed or out of range is ignored, with one warning per field and server
run that names the field, its value and the range; the other fields still count. A bad hint never
fails a request: it can only make scheduling less informed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HINT_KEY = "lamps"
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Hints:
    """What a client said about one turn."""

    session: str | None = None
    """Name of the session; wins over the API's ``session_id``."""
    expected_output_tokens: float = -1.0
    """Tokens this turn will generate; negative: not given."""
    tool: str = ""
    """Tool that is called after this turn; empty: not given."""
    expected_call_seconds: float = -1.0
    """Seconds until the session's next turn arrives; negative: not given."""
    final_turn: bool = False
    """No further turn follows: the KV need not be kept."""

    def for_core(self) -> tuple[float, float, str, bool]:
        return (
            self.expected_output_tokens,
            self.expected_call_seconds,
            self.tool,
            self.final_turn,
        )


NO_HINTS = Hints()


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


_NAME_RANGE = f"a string of 1 to {_LONGEST_NAME} characters"
_FIELDS = {
    "session": (_is_name, _NAME_RANGE),
    "expected_output_tokens": (lambda v: _is_number(v, 1, 1e7), "a number in [1, 1e7]"),
    "tool": (_is_name, _NAME_RANGE),
    "expected_call_seconds": (lambda v: _is_number(v, 0, 1e7), "a number in [0, 1e7] (seconds)"),
    "final_turn": (lambda v: isinstance(v, bool), "true or false"),
}


def parse_hints(extra_args: Mapping[str, Any] | None) -> tuple[Hints, list[tuple[str, str]]]:
    """Reads the hints of a request.

    Returns:
        The hints, and one ``(field, complaint)`` per field that was ignored.
    """
    raw = extra_args.get(HINT_KEY) if extra_args else None
    if raw is None:
        return NO_HINTS, []
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            return NO_HINTS, [(HINT_KEY, f"{raw!r} is not JSON: expected an object")]
    if not isinstance(raw, Mapping):
        return NO_HINTS, [(HINT_KEY, f"{raw!r}: expected an object")]
    good: dict[str, Any] = {}
    complaints = []
    for name, value in raw.items():
        if name not in _FIELDS:
            complaints.append((str(name), f"unknown; known are {', '.join(_FIELDS)}"))
            continue
        accepts, expected = _FIELDS[name]
        if accepts(value):
            good[name] = value
        else:
            complaints.append((name, f"{value!r}: expected {expected}"))
    return Hints(**good), complaints
