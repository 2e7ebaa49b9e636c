# SPDX-License-Identifier: Apache-2.0
"""A log of what was decided about each session's KV, and why."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

_EVENT = {"returned": "return", "keeping wastes least": "pause", "about to return": "prefetch"}


class DecisionLog:
    """JSON lines: t (s), session, event (pause, release, prefetch, return), handling, why, figures.

    The last line has the event ``predictions``: what was predicted against what happened.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    @property
    def on(self) -> bool:
        return self._file is not None

    def write(
        self, now: float, decisions: Iterable[dict[str, Any]], name_of: Callable[[int], str]
    ) -> None:
        """Appends decisions as the core reports them; ``waste`` is in token-seconds."""
        if self._file is None:
            return
        wrote = False
        for decision in decisions:
            why = decision.pop("reason")
            line = {
                "t": decision.pop("at"),
                "session": name_of(decision.pop("session")),
                "event": _EVENT.get(why, "release"),
                "why": why,
                **{key: _short(value) for key, value in decision.items()},
            }
            self._file.write(json.dumps(line) + "\n")
            wrote = True
        if wrote:
            self._file.flush()

    def write_scores(
        self, now: float, scores: list[dict[str, Any]], returns: list[tuple[int, int]]
    ) -> None:
        """Appends how good the predictions were, as the core reports it."""
        if self._file is None:
            return
        scored = [{key: _short(value) for key, value in score.items()} for score in scores]
        line = {"t": now, "event": "predictions", "scores": scored, "returns": returns}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if value not in (float("inf"), float("-inf")) else None
    return value
