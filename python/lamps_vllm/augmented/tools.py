# SPDX-License-Identifier: Apache-2.0
"""Python functions that a model may call."""

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lamps_vllm.augmented.errors import BadTool
from lamps_vllm.augmented.formats import Call


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, synchronous or ``async``; it gets the call's arguments by name.

    What it returns goes to the model: text as it is, anything else as JSON. What it raises goes there too.
    """

    function: Callable[..., Any]
    name: str = ""
    """As the model writes it; empty: the function's own."""
    seconds: float | None = None
    """It may take so long; None: as long as the others."""


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A call that was run, and what the model was told."""

    call: Call
    result: str
    seconds: float
    failed: bool


class _Refused(Exception):
    """The call cannot be run; the model is told why."""


class Toolbox:
    """Runs calls. Raises BadTool for tools that cannot be used.

    Args:
        seconds: a call may take; the model is told when one takes longer.
    """

    def __init__(self, tools: Iterable[Callable[..., Any] | Tool], seconds: float) -> None:
        if not seconds > 0:
            raise BadTool(f"call_seconds = {seconds!r}: expected a number above 0")
        self._seconds = seconds
        self._tools: dict[str, Tool] = {}
        for given in tools:
            tool = given if isinstance(given, Tool) else Tool(given)
            name = tool.name or getattr(tool.function, "__name__", "")
            if not callable(tool.function) or not name:
                raise BadTool(f"{given!r}: expected a function, or a Tool with a name")
            if name in self._tools:
                raise BadTool(f"{name}: two tools have this name")
            if tool.seconds is not None and not tool.seconds > 0:
                raise BadTool(f"{name}: seconds = {tool.seconds!r}: expected a number above 0")
            self._tools[name] = tool

    async def run(self, call: Call) -> ToolRun:
        """Runs a call to its end or its time limit; never raises what a tool raises."""
        tool = self._tools.get(call.name)
        limit = (tool and tool.seconds) or self._seconds
        started, failed = time.monotonic(), True
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                result = _as_text(await self._start(call, tool))
            failed = False
        except _Refused as refused:
            result = f"Error: {refused}"
        except Exception as error:
            late = clock.expired()
            what = f"{type(error).__name__}: {error}"
            result = f"Error: {f'no result within {limit:g} s' if late else what}"
        return ToolRun(call, result, time.monotonic() - started, failed)

    async def _start(self, call: Call, tool: Tool | None) -> Any:
        if call.problem:
            raise _Refused(call.problem)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            raise _Refused(f"there is no tool {call.name!r}; known are {known}")
        try:
            inspect.signature(tool.function).bind(**call.arguments)
        except TypeError as error:
            raise _Refused(f"{call.name}: {error}") from None
        if inspect.iscoroutinefunction(tool.function):
            return await tool.function(**call.arguments)
        return await _in_thread(tool.function, call.arguments)


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Runs a blocking function in a thread of its own.

    No pool: a function that hangs cannot be stopped, and must neither delay others nor the exit.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: Any) -> None:
        if not done.done():  # else: timed out or cancelled meanwhile
            setter(value)

    def work() -> None:
        try:
            outcome = (done.set_result, function(**arguments))
        except Exception as error:
            outcome = (done.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=work, name="lamps-tool", daemon=True).start()
    return await done


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
