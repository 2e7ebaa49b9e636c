# SPDX-License-Identifier: Apache-2.0
"""The functions the demo's chat calls. They really run: one quick, one that takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamps_vllm

PACKAGE_FOLDER = Path(lamps_vllm.__file__).parent
PARTS = ("all", "cli", "demo", "replay")
MODULES = ("asyncio", "numpy", "openai", "matplotlib")


def count_lines(part: str) -> str:
    """Counts the lines of Python in a part of the installed package."""
    folder = PACKAGE_FOLDER if part == "all" else PACKAGE_FOLDER / part
    files = sorted(folder.rglob("*.py"))
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    where = "whole package" if part == "all" else f"{part} part"
    return f"The {where} has {lines} lines of Python code."


def measure_import(module: str) -> str:
    """Times the import of a module in three fresh interpreters and tells the median."""
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        seconds.append(time.monotonic() - started)
    return f"It takes {sorted(seconds)[1]:.2f} seconds to import {module}."


@dataclass(frozen=True)
class Tool:
    """A function of one enumerated argument, as the model is told about it."""

    function: Callable[[str], str]
    description: str
    argument: str
    choices: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.function.__name__

    def schema(self) -> dict[str, Any]:
        """The entry of the request's `tools`."""
        argument = {"type": "string", "enum": list(self.choices)}
        parameters = {
            "type": "object",
            "properties": {self.argument: argument},
            "required": [self.argument],
            "additionalProperties": False,
        }
        function = {"name": self.name, "description": self.description, "strict": True}
        function["parameters"] = parameters
        return {"type": "function", "function": function}

    def run(self, arguments: str) -> str:
        """Runs the call that the model wrote; `arguments` is its JSON."""
        return self.function(json.loads(arguments)[self.argument])


TOOLS = (
    Tool(count_lines, "Count the lines of Python code in a part of lamps_vllm.", "part", PARTS),
    Tool(
        measure_import,
        "Measure how many seconds Python needs to import a module.",
        "module",
        MODULES,
    ),
)
