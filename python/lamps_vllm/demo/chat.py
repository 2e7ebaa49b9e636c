# SPDX-License-Identifier: Apache-2.0
"""Part (a): a tool-calling chat through the OpenAI client, and what LAMPS decided meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lamps_vllm.demo.tools import TOOLS, Tool

SESSION = "demo-chat"
MAX_TOKENS = 64
# A question and the tool that answers it. The tool is forced: a model this small would not
# choose reliably. What it chooses is the argument.
QUESTIONS = (
    ("How many lines of Python code does the replay part have?", TOOLS[0]),
    ("How long does it take to import matplotlib?", TOOLS[1]),
)


class Chat:
    """One session: questions, forced tool calls that really run, answers."""

    def __init__(self, base_url: str, console: Console) -> None:
        self._client = OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0)
        self._model = self._client.models.list().data[0].id
        self._console = console
        self._messages: list[Any] = [{"role": "system", "content": "You are a helpful assistant."}]

    def ask(self, question: str, tool: Tool) -> str:
        """Asks, runs the tool the model calls, returns its answer from the tool's result."""
        self._say("user", question)
        self._messages.append({"role": "user", "content": question})
        forced = {"type": "function", "function": {"name": tool.name}}
        message = self._complete(forced)
        call = message.tool_calls[0]
        self._say("model calls", f"{call.function.name}({call.function.arguments.strip()})")
        started = time.monotonic()
        result = tool.run(call.function.arguments)
        self._say("tool", f"{result}  [dim](ran {time.monotonic() - started:.1f} s)[/dim]")
        self._messages.append(message.model_dump(exclude_none=True))
        self._messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        answer = self._complete("none").content or ""
        self._messages.append({"role": "assistant", "content": answer})
        self._say("model", answer.strip())
        return answer

    def _complete(self, tool_choice: Any) -> Any:
        completion = self._client.chat.completions.create(
            model=self._model,
            messages=self._messages,
            tools=[tool.schema() for tool in TOOLS],
            tool_choice=tool_choice,
            temperature=0.0,
            max_tokens=MAX_TOKENS,
            extra_body={"session_id": SESSION},
        )
        return completion.choices[0].message

    def _say(self, who: str, what: str) -> None:
        self._console.print(f"  [bold]{who:>11}[/bold]  {what}", highlight=False)


def run_chat(base_url: str, console: Console) -> None:
    """Holds the whole conversation. Raises openai.OpenAIError if the server fails a request."""
    chat = Chat(base_url, console)
    for question, tool in QUESTIONS:
        chat.ask(question, tool)


def read_decisions(log: Path) -> list[dict[str, Any]]:
    """The scheduler's decision log, one object per line; no file or a torn line is no error."""
    decisions = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            decisions.append(json.loads(line))
        except ValueError:
            continue  # The last line while the server is still writing it.
    return decisions


def decision_table(decisions: list[dict[str, Any]], title: str) -> Table:
    """What happened to the sessions' KV, one row per decision, with the figures behind it."""
    table = Table(title=title, title_justify="left")
    for heading in ("at", "event", "KV", "context", "call expected", "waste", "why"):
        table.add_column(heading, overflow="fold")
    begin = decisions[0].get("t", 0.0) if decisions else 0.0
    for decision in decisions:
        table.add_row(
            f"{decision.get('t', begin) - begin:.1f} s",
            str(decision.get("event", "?")),
            str(decision.get("handling", "-")),
            _figure(decision.get("context_tokens"), "tok"),
            _figure(decision.get("expected_call_s"), "s"),
            _waste(decision.get("waste") or {}),
            escape(str(decision.get("why", "-"))),
        )
    return table


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}" if unit == "s" else f"{value:.0f} {unit}"


def _waste(waste: dict[str, float | None]) -> str:
    """`preserve 120, discard 3400` in token-seconds; what is not on offer is left out."""
    return ", ".join(f"{name} {value:.0f}" for name, value in waste.items() if value is not None)
