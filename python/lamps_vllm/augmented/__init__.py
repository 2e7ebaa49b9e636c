# SPDX-License-Identifier: Apache-2.0
"""Generation with Python tools inside one request; ``docs/calls.md`` has the why and the limits."""

from lamps_vllm.augmented.blocking import BlockingAugmentedLLM
from lamps_vllm.augmented.errors import AugmentedError, BadTool, ContextFull, TooManyCalls
from lamps_vllm.augmented.formats import Call, CallFormat, HermesFormat
from lamps_vllm.augmented.llm import AugmentedLLM, AugmentedOutput
from lamps_vllm.augmented.segment import Segment
from lamps_vllm.augmented.tools import Tool, ToolRun

__all__ = [
    "AugmentedError",
    "AugmentedLLM",
    "AugmentedOutput",
    "BadTool",
    "BlockingAugmentedLLM",
    "Call",
    "CallFormat",
    "ContextFull",
    "HermesFormat",
    "Segment",
    "TooManyCalls",
    "Tool",
    "ToolRun",
]
