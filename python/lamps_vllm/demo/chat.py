# SPDX-License-Identifier: Apache-2.0
"""Part (a): a tool-calling chat through the OpenAI client; the tools really run."""

from __future__ import annotations

import time
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.markup import escape

from lamps_vllm.demo.tools import TOOLS, Tool

SESSION = "demo-chat"
MAX_TOKENS = 64
# A question and the tool that answers it. The tool is forced: a model this small would not
# choose reliably. What it chooses is the argument.
QUESTIONS = (
    ("How many lines of Python code does the replay part have?", TOOLS[0]),
    ("How long does it take to import openai?", TOOLS[1]),
)


class ChatError(RuntimeError):
    """The server answered without the tool call it was forced to make."""


class Chat:
    """One session: questions, forced tool calls that really run, answers."""

    def __init__(self, base_url: str, console: Console) -> None:
        self._client = OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0)
        self._model = self._client.models.list().data[0].id
        self._console = console
        self._messages: list[Any] = [{"role": "system", "content": "You are a helpful assistant."}]

    def ask(self, question: str, tool: Tool) -> str:
        """Asks, runs the tool the model calls, returns its answer from the tool's result.

        Raises ChatError or openai.OpenAIError.
        """
        self._say("user", question)
        self._messages.append({"role": "user", "content": question})
        forced = {"type": "function", "function": {"name": tool.name}}
        message = self._complete(forced)
        if not message.tool_calls:
            raise ChatError(f"no call of {tool.name} in the answer: {message.content!r}")
        call = message.tool_calls[0]
        self._say("model calls", f"{call.function.name}({call.function.arguments.strip()})")
        started = time.monotonic()
        result = tool.run(call.function.arguments)
        self._say("tool", result, f"(ran {time.monotonic() - started:.1f} s)")
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

    def _say(self, who: str, what: str, note: str = "") -> None:
        aside = f"  [dim]{note}[/dim]" if note else ""
        self._console.print(f"  [bold]{who:>11}[/bold]  {escape(what)}{aside}", soft_wrap=True)


def run_chat(base_url: str, console: Console) -> None:
    """Holds the whole conversation. Raises ChatError or openai.OpenAIError."""
    chat = Chat(base_url, console)
    for question, tool in QUESTIONS:
        chat.ask(question, tool)
