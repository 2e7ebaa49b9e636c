# SPDX-License-Identifier: Apache-2.0
"""How a model writes calls, and how it is told their results."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamps_vllm.augmented.segment import Segment


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the model wrote it."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot be run; the model is told."""


class CallFormat(Protocol):
    """The seam for other models: what ``AugmentedLLM`` has to know of a model's way to call."""

    @property
    def stops(self) -> Sequence[str]:
        """What ends a segment beside the model's own end token; one token each."""

    def calls(self, segment: Segment) -> list[Call]:
        """The calls at the end of a segment, in order; none: the segment is the answer."""

    def results(self, results: Sequence[tuple[Call, str]]) -> str:
        """The text between the token that ended the segment and where the model goes on."""


_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_END_OF_THOUGHT = "</think>"


@dataclass(frozen=True, slots=True)
class HermesFormat:
    """JSON in ``<tool_call>`` tags, or a segment that is one JSON object: Hermes, Qwen and many others.

    A segment that was cut off calls nothing.
    ``before`` and ``after`` surround the results; by default they are a turn of ChatML.
    """

    before: str = "\n<|im_start|>user\n"
    after: str = "<|im_end|>\n<|im_start|>assistant\n"
    stops: tuple[str, ...] = ()

    def calls(self, segment: Segment) -> list[Call]:
        if segment.finish_reason != "stop":
            return []
        text = segment.text.rpartition(_END_OF_THOUGHT)[2]  # what a model thinks is no call
        blocks = _BLOCK.findall(text)
        if not blocks:
            bare = _call_of(text)
            return [] if bare.problem else [bare]
        return [_call_of(block) for block in blocks]

    def results(self, results: Sequence[tuple[Call, str]]) -> str:
        blocks = [f"<tool_response>\n{text}\n</tool_response>" for _, text in results]
        return self.before + "\n".join(blocks) + self.after


def _call_of(text: str) -> Call:
    try:
        written = json.loads(text)
        arguments = written.get("arguments", written.get("parameters"))
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        name = written["name"]
    except (ValueError, RecursionError) as error:
        return Call("", problem=f"the call is not JSON: {error}")
    except (AttributeError, KeyError):
        return Call("", problem='a call is an object with "name" and "arguments"')
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return Call(str(name), problem='"name" is a string and "arguments" an object')
    return Call(name, arguments)
