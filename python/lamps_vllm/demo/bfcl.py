# SPDX-License-Identifier: Apache-2.0
"""Agent sessions made of the Berkeley Function Calling Leaderboard's multi-turn entries.

System prompts carry the real descriptions of the functions an entry uses, user turns are the real
questions, and each tool result is what the leaderboard's own simulated back end (a file system, a
ticket desk, a car, ...) really returns to the entry's reference call. Only the times are ours: when
a session arrives and how long each call takes. What the model writes goes back into its context as
it is, right or wrong; the next tool result is the reference call's all the same.
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lamps_vllm.files import package_folder
from lamps_vllm.replay.workload import Segment, Session, Workload

PACKAGE = "bfcl_eval"
CATEGORY = "BFCL_v4_multi_turn_base.json"
BACKENDS = "eval_checker.multi_turn_eval.func_source_code"
# Class of the back end -> the module that holds it, which also names its file of descriptions.
MODULES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}
SYSTEM = (
    "You are an agent that works for a user by calling functions. To call one, answer with "
    "name(argument=value) and nothing else; its result follows. The functions are:\n"
)
# Agents' tools are mostly quick (a file, a shell command), sometimes slow (a build, a service).
# Calls of minutes, which recorded sessions have too, would make the demo long.
QUICK_SHARE = 0.7
QUICK_MEDIAN_S, SLOW_MEDIAN_S, CALL_SIGMA, CALL_MAX_S = 0.2, 3.0, 0.6, 10.0


class BfclError(RuntimeError):
    """The leaderboard's package is missing or not as expected."""


def data_folder() -> Path:
    """Where the installed package keeps its data files. Raises BfclError."""
    folder = package_folder(PACKAGE)
    if folder is None:
        raise BfclError("package bfcl-eval is not installed: pip install --no-deps bfcl-eval")
    return folder / "data"


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise BfclError(f"{path}: {error.strerror}; bfcl-eval 2026.3.23 has it") from error


class Backend:
    """The simulated tools of one entry; calls change their state, as in the leaderboard."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self._methods: dict[str, Any] = {}
        for name in entry["involved_classes"]:
            module = importlib.import_module(f"{PACKAGE}.{BACKENDS}.{MODULES[name]}")
            instance = getattr(module, name)()
            if hasattr(instance, "_load_scenario"):
                instance._load_scenario(copy.deepcopy(entry["initial_config"].get(name, {})))
            for method in dir(instance):
                if not method.startswith("_"):
                    self._methods.setdefault(method, getattr(instance, method))

    def call(self, text: str) -> str:
        """The result of a reference call such as `cd(folder='document')`, as the model sees it."""
        node = ast.parse(text, mode="eval").body
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            raise BfclError(f"not a function call: {text}")
        positional = [ast.literal_eval(argument) for argument in node.args]
        named = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
        try:
            result = self._methods[node.func.id](*positional, **named)
        except Exception as error:  # A tool that fails answers with its error, like any tool.
            result = {"error": str(error)}
        return result if isinstance(result, str) else json.dumps(result, default=str)


def _function_name(call: str) -> str:
    return call.partition("(")[0]


def _system_prompt(entry: dict[str, Any], calls: list[str], folder: Path) -> str:
    """The descriptions of the functions that the entry lists or its reference calls use."""
    wanted = {name.rpartition(".")[2] for name in entry["path"]}
    wanted |= {_function_name(call) for call in calls}
    described = [
        json.dumps(function)
        for name in entry["involved_classes"]
        for function in _lines(folder / "multi_turn_func_doc" / f"{MODULES[name]}.json")
        if function["name"] in wanted
    ]
    return SYSTEM + "\n".join(described)


def _messages(
    entry: dict[str, Any], turns: list[list[str]], segments: int, folder: Path
) -> list[tuple[list[dict[str, str]], str | None]]:
    """Per segment: what is new in the chat, and the function called at its end (None: the last).

    A user's next question follows the last result of the turn before it at once.
    """
    calls = [call for turn in turns for call in turn]
    pending = [{"role": "system", "content": _system_prompt(entry, calls, folder)}]
    backend = Backend(entry)
    built: list[tuple[list[dict[str, str]], str | None]] = []
    for question, reference in zip(entry["question"], turns, strict=True):
        pending += question
        for call in reference:
            if len(built) == segments - 1:
                return [*built, (pending, None)]
            built.append((pending, _function_name(call)))
            pending = [{"role": "tool", "content": backend.call(call)}]
    return [*built, (pending, None)]


def _call_seconds(rng: np.random.Generator) -> float:
    median = QUICK_MEDIAN_S if rng.random() < QUICK_SHARE else SLOW_MEDIAN_S
    return float(min(median * np.exp(rng.normal(0.0, CALL_SIGMA)), CALL_MAX_S))


def bfcl_workload(
    sessions: int,
    arrivals_per_s: float,
    *,
    segments: int = 5,
    output_tokens: int = 24,
    seed: int = 0,
) -> Workload:
    """`sessions` distinct entries arriving at random (Poisson) times, `arrivals_per_s` on average.

    A session has up to `segments` segments of at most `output_tokens` tokens. Raises BfclError.
    """
    folder = data_folder()
    entries = _lines(folder / CATEGORY)
    answers = {
        row["id"]: row["ground_truth"] for row in _lines(folder / "possible_answer" / CATEGORY)
    }
    if sessions > len(entries):
        raise BfclError(f"{sessions} sessions asked for; the category has {len(entries)} entries")
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / arrivals_per_s, size=sessions))
    chosen = rng.permutation(len(entries))[:sessions]
    return Workload.of(
        Session(
            id=entry["id"],
            arrival=round(float(arrival), 3),
            segments=tuple(
                Segment(
                    text=tuple(messages),
                    output_tokens=output_tokens,
                    tool=tool,
                    call_seconds=round(_call_seconds(rng), 3) if tool else None,
                )
                for messages, tool in _messages(entry, answers[entry["id"]], segments, folder)
            ),
        )
        for arrival, entry in zip(arrivals, (entries[index] for index in chosen), strict=True)
    )
