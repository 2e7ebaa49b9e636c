# SPDX-License-Identifier: Apache-2.0
"""A real tool-calling chat on a real model: unmodified clients, and the calls LAMPS recognises in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lamps_vllm.demo.decisions import logging_arm, read_decisions
from lamps_vllm.demo.model import CHAT_TEMPLATE, NAME, ModelError, prepare_model
from lamps_vllm.demo.tools import TOOLS, Tool
from lamps_vllm.replay.arms import Deployment, command_line
from lamps_vllm.replay.server import free_port, running_server

pytestmark = pytest.mark.engine

QUESTIONS = ("What do you know about the first of them?", "And about another one?")
SYSTEM = "You are a helpful assistant. " + "Answer from what the tools tell you. " * 12
OPTIONS = ("--chat-template", str(CHAT_TEMPLATE), "--enable-auto-tool-choice", "--tool-call-parser",
           "hermes", "--enforce-eager", "--served-model-name", NAME)  # fmt: skip
COMMON = {"model": NAME, "max_tokens": 96}
GREEDY = {"temperature": 0.0}


class Server(NamedTuple):
    url: str
    log: Path

    def decisions(self, session: str | None = None) -> list[dict[str, Any]]:
        """What was decided since the start; of one session, or of all."""
        found = read_decisions(self.log)
        return [d for d in found if session is None or d["session"] == session]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    try:
        model = prepare_model()
    except ModelError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("chat")
    log, port = folder / "decisions.jsonl", free_port()
    deployment = Deployment(
        model=str(model), block_size=32, kv_blocks=128, max_model_len=2048, pace=None, extra=OPTIONS
    )
    with running_server(
        command_line(logging_arm(log), deployment, port), port, folder / "log"
    ) as url:
        yield Server(url, log)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_openai_client(server, tool: Tool):
    """Nothing names the session: it is found by its prompts, the tool by what the model wrote."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]

    def complete(choice: str) -> Any:
        answer = client.chat.completions.create(
            messages=messages, tools=[tool.schema()], tool_choice=choice, parallel_tool_calls=False,
            **COMMON,
        )  # fmt: skip
        return answer.choices[0].message

    before = len(server.decisions())
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        answer = complete("required")
        call = answer.tool_calls[0]
        assert call.function.name == tool.name
        messages.append(answer.model_dump(exclude_none=True))
        result = tool.run(call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        messages.append({"role": "assistant", "content": complete("none").content or "-"})
    check(server.decisions()[before:], tool)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_messages_endpoint_with_the_header_of_an_agent(server, tool: Tool):
    """As Claude Code talks: Anthropic's client, and its session in a header of its own."""
    from anthropic import Anthropic

    session = f"session of {tool.name}"
    client = Anthropic(base_url=server.url, api_key="none", max_retries=0,
                       default_headers={"x-claude-code-session-id": session})  # fmt: skip
    schema = tool.schema()["function"]
    offered = {key: schema[key] for key in ("name", "description", "strict")}
    offered["input_schema"] = schema["parameters"]
    messages: list[Any] = []

    def complete(choice: dict[str, Any]) -> Any:
        return client.messages.create(
            system=SYSTEM, messages=messages, tools=[offered], tool_choice=choice,
            extra_body=GREEDY, **COMMON,
        )  # fmt: skip

    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        answer = complete({"type": "any", "disable_parallel_tool_use": True})
        assert answer.stop_reason == "tool_use"
        (call,) = [block for block in answer.content if block.type == "tool_use"]
        assert call.name == tool.name
        said = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
        messages.append({"role": "assistant", "content": [said]})
        result = tool.function(call.input[tool.argument])
        told = {"type": "tool_result", "tool_use_id": call.id, "content": result}
        messages.append({"role": "user", "content": [told]})
        text = "".join(b.text for b in complete({"type": "none"}).content if b.type == "text")
        messages.append({"role": "assistant", "content": text or "-"})
    check(server.decisions(session), tool)


def check(decisions: list[dict[str, Any]], tool: Tool) -> None:
    """One session; a tool answers what the model called, a person what it said."""
    assert len({decision["session"] for decision in decisions}) == 1
    returns = [decision["tool"] for decision in decisions if decision["event"] == "return"]
    assert returns == [tool.name, "", tool.name]
