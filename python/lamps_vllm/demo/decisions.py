# SPDX-License-Identifier: Apache-2.0
"""The scheduler's decision log in words: what became of the sessions' KV, and why."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lamps_vllm.replay.arms import ADDITIONAL_CONFIG, BUILT_IN, Arm

HANDLED = {"preserve": "KV kept", "discard": "KV let go", "swap": "KV moved to host memory"}


def logging_arm(log: Path) -> Arm:
    """The arm `lamps`, writing its decisions to `log`; an older log is removed."""
    log.unlink(missing_ok=True)
    base = BUILT_IN["lamps"]
    config = json.dumps({"lamps": {"decision_log": str(log.resolve())}})
    return Arm(base.name, (*base.command, ADDITIONAL_CONFIG, config), base.identity)


def read_decisions(log: Path) -> list[dict[str, Any]]:
    """One object per decision of the log; no file, or a line cut short, is no error."""
    decisions = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            decisions.append(json.loads(line))
        except ValueError:
            continue  # The server was stopped while it wrote this one.
    return [decision for decision in decisions if decision.get("event") != "predictions"]


def in_words(decision: dict[str, Any], begin: float) -> str:
    """One decision as a line; `begin` is the scheduler's time of the first, seconds.

    Fields that are missing are left out.
    """
    event = decision.get("event", "decision")
    handled = HANDLED.get(decision.get("handling", ""), "KV: " + str(decision.get("handling")))
    words = [f"{decision.get('t', begin) - begin:5.1f} s  {event:<7} {handled}"]
    if tokens := decision.get("context_tokens"):
        words.append(f" ({tokens:.0f} tokens)")
    if why := decision.get("why"):
        words.append(f": {why}")
    if event == "pause":
        words.append(_pause_figures(decision))
    return "".join(words)


def _pause_figures(decision: dict[str, Any]) -> str:
    waste = decision.get("waste") or {}
    figures = [f"{name} {value:.0f}" for name, value in waste.items() if value is not None]
    text = f"; wasted token-seconds: {', '.join(figures)}" if figures else ""
    if tool := decision.get("tool"):
        text += f"; calls {tool}"
    if (seconds := decision.get("expected_call_s")) is not None:
        text += f"; call expected to take {seconds:.2g} s"
    return text


def summary(decisions: list[dict[str, Any]]) -> list[str]:
    """How often each thing was decided and why, most frequent first."""
    kinds = Counter((d.get("event", "?"), d.get("why", "?")) for d in decisions)
    return [f"{count:4d} x {event}: {why}" for (event, why), count in kinds.most_common()]
