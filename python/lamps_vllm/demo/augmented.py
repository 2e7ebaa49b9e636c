# SPDX-License-Identifier: Apache-2.0
"""`python -m lamps_vllm.demo.augmented`: a small model calls three real tools inside its requests.

The model is too small to have learnt to call tools: the prompt shows it how, twice per tool.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lamps_vllm.demo.decisions import in_words, read_decisions
from lamps_vllm.demo.model import NAME, prepare_model
from lamps_vllm.demo.three_tools import three_tools

MAX_TOKENS = 64
CALL_TAKES = 1.5  # seconds, of the slow tool


def _sql(city: str) -> str:
    return f'{{"sql": "select people from cities where name = \'{city}\'"}}'


_SHOWN = (
    ("What is 6 * 7?", "calculator", '{"expression": "6 * 7"}', "42", "6 * 7 is 42."),
    (
        "How many people live in Oslo?",
        "query",
        _sql("Oslo"),
        "[[717710]]",
        "717710 people live in Oslo.",
    ),
    (
        "How warm is it in Lisbon?",
        "weather",
        '{"city": "Lisbon"}',
        "21.5 degrees",
        "It is 21.5 degrees in Lisbon.",
    ),
    ("What is 25 * 31?", "calculator", '{"expression": "25 * 31"}', "775", "25 * 31 is 775."),
    (
        "How many people live in Quito?",
        "query",
        _sql("Quito"),
        "[[2011388]]",
        "2011388 people live in Quito.",
    ),
    (
        "How warm is it in Nairobi?",
        "weather",
        '{"city": "Nairobi"}',
        "19.0 degrees",
        "It is 19.0 degrees in Nairobi.",
    ),
)
QUESTIONS = (
    ("What is 12 * 34?", "calculator", "408"),
    ("How many people live in Nairobi?", "query", "4397073"),
    ("How warm is it in Quito?", "weather", "14.0"),
)
"""Question, the tool that answers it, and what its result says."""


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def prompt_for(question: str) -> str:
    """A question after two examples for each tool, in the format of ``HermesFormat``."""
    text = _turn("system", "Call calculator, query or weather, then answer.")
    for asked, name, arguments, result, answer in _SHOWN:
        call = f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'
        text += _turn("user", asked) + _turn("assistant", call)
        text += _turn("user", f"<tool_response>\n{result}\n</tool_response>")
        text += _turn("assistant", answer)
    return text + _turn("user", question) + "<|im_start|>assistant\n"


def demo(console: Console) -> None:
    """Asks all questions at once and shows calls, answers and what LAMPS decided meanwhile."""
    from vllm import AsyncEngineArgs, SamplingParams  # noqa: PLC0415  (seconds of imports)

    from lamps_vllm import BlockingAugmentedLLM  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name, three_tools(Path(name), CALL_TAKES) as tools:
        log = Path(name) / "decisions.jsonl"
        args = AsyncEngineArgs(
            model=str(prepare_model()), scheduler_cls="lamps_vllm.LampsScheduler",
            enforce_eager=True, max_model_len=1024, additional_config={"lamps": {"decision_log": str(log)}},
        )  # fmt: skip
        console.print(f"[bold]Model[/bold]: {NAME}; the engine starts ...")
        with BlockingAugmentedLLM(args, tools) as llm:
            params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
            asked = [prompt_for(question) for question, _, _ in QUESTIONS]
            outputs = llm.generate(asked, params)
        for (question, _, _), output in zip(QUESTIONS, outputs, strict=True):
            console.print(f"\n[bold]{escape(question)}[/bold]")
            for run in output.runs:
                text = f"  {run.call.name}({run.call.arguments}) = {run.result}"
                console.print(escape(text), f"[dim]({run.seconds:.2f} s)[/dim]", soft_wrap=True)
            console.print("  " + escape(output.text.strip()), soft_wrap=True)
        console.print("\nWhat LAMPS decided about the KV of the paused requests:")
        decisions = read_decisions(log)
        for decision in decisions:
            console.print("  " + in_words(decision, decisions[0].get("t", 0.0)), soft_wrap=True)


if __name__ == "__main__":
    demo(Console(highlight=False))
