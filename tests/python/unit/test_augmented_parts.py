# SPDX-License-Identifier: Apache-2.0
"""Reading calls and running tools, without an engine."""

import asyncio
import threading
import time

import pytest

from lamps_vllm.augmented.errors import BadTool
from lamps_vllm.augmented.formats import Call, HermesFormat
from lamps_vllm.augmented.segment import Segment
from lamps_vllm.augmented.tools import Tool, Toolbox
from lamps_vllm.demo import three_tools


def calls(text: str) -> list[Call]:
    return HermesFormat().calls(Segment((1,), text, "stop"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 42.", []),
        ("7", []),
        ("[1, 2]", []),
        ('{"answer": 42}', []),
        ('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>', [Call("f", {"x": 1})]),
        ('Well: <tool_call>{"name": "f", "arguments": {}}', [Call("f")]),
        ('{"name": "f", "parameters": {"x": 1}}', [Call("f", {"x": 1})]),
        (
            '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
            [Call("f", {"x": 1})],
        ),
        (
            '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
            '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
            [Call("f"), Call("g")],
        ),
        ('<think><tool_call>{"name": "f", "arguments": {}}</tool_call></think>No.', []),
    ],
)
def test_calls_are_read(text, expected):
    assert calls(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<tool_call>f(1)</tool_call>", "not JSON"),
        ("<tool_call>[1]</tool_call>", 'an object with "name"'),
        ('<tool_call>{"arguments": {}}</tool_call>', 'an object with "name"'),
        ('<tool_call>{"name": "f"}</tool_call>', '"arguments" an object'),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', '"name" is a string'),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(text, problem):
    [call] = calls(text)
    assert problem in call.problem


def test_a_segment_that_was_cut_off_calls_nothing():
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert HermesFormat().calls(Segment((1,), text, "length")) == []


def test_results_are_one_turn():
    text = HermesFormat().results([(Call("f"), "1"), (Call("g"), "2")])
    assert text == (
        "\n<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def run(tools, call: Call, seconds: float = 5.0):
    return asyncio.run(Toolbox(tools, seconds).run(call))


def double(x: int) -> dict:
    return {"double": 2 * x}


async def triple(x: int) -> str:
    return str(3 * x)


def test_tools_run():
    done = run([double, triple], Call("double", {"x": 4}))
    assert (done.result, done.failed) == ('{"double": 8}', False)
    assert run([double, triple], Call("triple", {"x": 4})).result == "12"
    assert run([Tool(double, "zwei")], Call("zwei", {"x": 1})).result == '{"double": 2}'


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (Call("halve", {"x": 1}), "Error: there is no tool 'halve'; known are double, triple"),
        (Call("double", {"y": 1}), "Error: double: missing a required argument: 'x'"),
        (Call("double", {"x": None}), "Error: TypeError: unsupported operand"),
        (Call("", problem="the call is not JSON"), "Error: the call is not JSON"),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(call, told):
    done = run([double, triple], call)
    assert done.failed
    assert done.result.startswith(told)


def test_a_tool_that_hangs_delays_nobody():
    release = threading.Event()

    async def both():
        box = Toolbox([Tool(release.wait, "hang", seconds=0.1), double], 5.0)
        return await asyncio.gather(box.run(Call("hang")), box.run(Call("double", {"x": 1})))

    started = time.monotonic()
    hung, quick = asyncio.run(both())
    release.set()
    assert time.monotonic() - started < 4.0
    assert (hung.failed, hung.result) == (True, "Error: no result within 0.1 s")
    assert not quick.failed


def test_a_time_limit_of_the_tool_itself_is_its_own():
    def slow():
        raise TimeoutError("the server sleeps")

    assert run([slow], Call("slow")).result == "Error: TimeoutError: the server sleeps"


@pytest.mark.parametrize(
    ("tools", "seconds", "message"),
    [
        ([double, double], 1.0, "double: two tools"),
        ([3], 1.0, "3: expected a function"),
        ([Tool(double, seconds=-1)], 1.0, "seconds = -1"),
        ([double], 0.0, "call_seconds = 0.0"),
    ],
)
def test_bad_tools_are_refused(tools, seconds, message):
    with pytest.raises(BadTool, match=message):
        Toolbox(tools, seconds)


def test_the_three_tools(tmp_path):
    with three_tools.three_tools(tmp_path, 0.05) as tools:
        box = Toolbox(tools, 5.0)

        async def all_of_them():
            return [
                await box.run(Call("calculator", {"expression": "(2 + 3) * -4 / 8"})),
                await box.run(
                    Call("query", {"sql": "select people from cities where country = 'Kenya'"})
                ),
                await box.run(Call("weather", {"city": "Oslo"})),
                await box.run(Call("weather", {"city": "Atlantis"})),
                await box.run(Call("calculator", {"expression": "9 ** 9"})),
                await box.run(Call("calculator", {"expression": "__import__('os')"})),
                await box.run(Call("query", {"sql": "drop table cities"})),
            ]

        runs = asyncio.run(all_of_them())
    assert [each.result for each in runs[:3]] == ["-2.5", "[[4397073]]", "4.0 degrees"]
    assert [each.failed for each in runs] == [False] * 3 + [True] * 4
    assert runs[2].seconds >= 0.05
    assert "readonly" in runs[6].result
