# SPDX-License-Identifier: Apache-2.0
"""Tool calls in the tokens of a finished turn, and the names of the tools.

Models announce a call with a marker, usually one special token of their own. It is looked for among the
token ids; only the few tokens after it are turned into text, to read the name. Where no marker is
known the turn's first tokens are read: some models answer with a bare JSON object. Nothing is done per
generated token, and a turn costs well under 200 us (benchmarks/python/bench_shim.py).
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from logging import Logger
from typing import TYPE_CHECKING, Any, Protocol

from vllm.v1.request import RequestStatus

if TYPE_CHECKING:
    from vllm.v1.request import Request

_NAME = r"[A-Za-z_][\w.\-/:]*"
_JSON_NAME = re.compile(rf'"(?:name|tool|tool_name|function)"\s*:\s*"(?P<name>{_NAME})"')
_BARE_NAME = re.compile(rf"\s*(?P<name>{_NAME})")
_SHORT, _LONG = 24, 96  # tokens read after a marker; the longer if the name is not in the shorter
_BEFORE = 8  # tokens in which a marker of several tokens begins, counted back from the telling one
_MOST_CALLS = 4  # of one turn; more are not told apart
_SEARCHED = 8192  # last tokens of a turn that are searched
_WHOLE = 192  # a turn this short without a marker is read as a whole


class Tokenizer(Protocol):
    """What is needed of vLLM's tokenizers."""

    def encode(self, text: str, **kwargs: Any) -> list[int]: ...
    def decode(self, ids: Any, **kwargs: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class _Format:
    """How a family of models opens a call; `names` are tried in order on the text from `marker` on."""

    marker: str
    names: tuple[re.Pattern[str], ...]
    before: int = 0
    """Tokens before the marker that belong to the call."""
    plain: bool = False
    """Also written by models for which the marker is no token of its own."""


def _after(marker: str, pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(marker) + pattern)


_DEEPSEEK_BEGIN = "<\uff5ctool\u2581call\u2581begin\uff5c>"  # fullwidth bars, low blocks
_FORMATS = (
    # Hermes, Qwen 2.5 and 3: JSON in <tool_call>; Qwen3-Coder: <function=NAME> in it.
    _Format(
        "<tool_call>",
        (
            _after("<tool_call>", rf"\s*<function=(?P<name>{_NAME})"),
            re.compile(rf'<tool_call>[^<]*?"name"\s*:\s*"(?P<name>{_NAME})"'),
            _after("<tool_call>", rf"\s*(?P<name>{_NAME})"),
        ),
        plain=True,
    ),
    # Llama 3: <|python_tag|> before JSON or before tool.call(...); <function=NAME> in the 3.1 form.
    _Format(
        "<|python_tag|>",
        (
            re.compile(rf'<\|python_tag\|>\s*[\[{{][^}}]*?"name"\s*:\s*"(?P<name>{_NAME})"'),
            _after("<|python_tag|>", rf"\s*(?P<name>{_NAME}?)(?:\.call)?\("),
        ),
    ),
    _Format("<function=", (_after("<function=", rf"(?P<name>{_NAME})>"),), plain=True),
    # Mistral: a JSON array, or from v11 on the name followed by [ARGS] or the arguments themselves.
    _Format(
        "[TOOL_CALLS]",
        (
            re.compile(rf'\[TOOL_CALLS\]\s*\[.*?"name"\s*:\s*"(?P<name>{_NAME})"', re.DOTALL),
            _after("[TOOL_CALLS]", rf"\s*(?P<name>{_NAME})\s*(?:\[|\{{)"),
        ),
    ),
    # DeepSeek: V3 and R1 write "function" and a separator before the name, V3.1 the name at once.
    _Format(
        _DEEPSEEK_BEGIN,
        (
            _after(_DEEPSEEK_BEGIN, rf"\s*function<\uff5ctool\u2581sep\uff5c>(?P<name>{_NAME})"),
            _after(_DEEPSEEK_BEGIN, rf"\s*(?P<name>{_NAME})"),
        ),
    ),
    # OpenAI harmony: the recipient stands in the message's header, before or after its channel.
    _Format(
        "<|channel|>",
        (
            re.compile(rf"<\|channel\|>[^<]*?\bto=(?:functions\.)?(?P<name>{_NAME})"),
            re.compile(rf"\bto=(?:functions\.)?(?P<name>{_NAME})[^<]*<\|channel\|>"),
        ),
        before=16,
    ),
)  # fmt: skip
_END_OF_THOUGHT = "</think>"


class CallReader:
    """Reads tool calls with a tokenizer; knows which of the markers are tokens of this model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._formats: list[tuple[_Format, int]] = []
        self._spelled: list[_Format] = []
        """Whose markers this model writes in several tokens."""
        for form in _FORMATS:
            anchor = self._single(form.marker)
            if anchor is None and form.plain:
                anchor = self._telling_piece(form.marker)
                self._spelled.append(form)
            if anchor is not None:
                self._formats.append((form, anchor))
        self._thought = self._single(_END_OF_THOUGHT)

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """The tools called at the end of a turn, in order; several if they are called in parallel."""
        ids = list(token_ids[-_SEARCHED:])
        if self._thought is not None and self._thought in ids:  # what a model thinks is no call
            ids = ids[len(ids) - ids[::-1].index(self._thought) :]
        for form, anchor in self._formats:
            names = self._names_of(form, anchor, ids)
            if names:
                return names
        return self._spelt_out(ids) or self._bare(ids)

    def _names_of(self, form: _Format, anchor: int, ids: list[int]) -> list[str]:
        names: list[str] = []
        at = -1
        while len(names) < _MOST_CALLS:
            try:
                at = ids.index(anchor, at + 1)
            except ValueError:
                break
            name = self._name_at(form, ids, at)
            if name:
                names.append(name)
        return names

    def _name_at(self, form: _Format, ids: list[int], at: int) -> str:
        start = max(at - (form.before or _BEFORE * form.plain), 0)
        # What matches has to begin with this marker, not with one further on.
        latest = len(self._text(ids[start : at + 1])) if start < at else 1
        for length in (_SHORT, _LONG):
            text = self._text(ids[start : at + length])
            whole = at + length >= len(ids)
            for pattern in form.names:
                match = pattern.search(text)
                if match and match.start() < latest and (whole or match.end("name") < len(text)):
                    return match["name"]
            if whole:
                break
        return ""

    def _spelt_out(self, ids: list[int]) -> list[str]:
        """Calls whose marker was not written in its usual tokens, as grammars make models do.

        Of a long turn only the beginning and the end are read.
        """
        if not self._spelled:
            return []
        parts = [ids] if len(ids) <= _WHOLE else [ids[:_LONG], ids[-_WHOLE:]]
        patterns = [pattern for form in self._spelled for pattern in form.names]
        for text, pattern in itertools.product(map(self._text, parts), patterns):
            names = [match["name"] for match in pattern.finditer(text)]
            if names:
                return names[:_MOST_CALLS]
        return []

    def _bare(self, ids: list[int]) -> list[str]:
        """Calls without any marker: the whole turn is JSON (perhaps fenced) or [name(...), ...]."""
        head = self._text(ids[:_SHORT]).lstrip()
        if head.startswith("```"):
            head = head[3:].removeprefix("json").lstrip()
        if not head.startswith(("{", "[")):
            return []
        if len(ids) <= _WHOLE:
            return _calls_in_json(self._text(ids))
        match = _JSON_NAME.search(head)
        return [match["name"]] if match and re.match(r'[\[{\s]*"', head) else []

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def _single(self, marker: str) -> int | None:
        """The id of a marker that is one token."""
        found = self._tokenizer.encode(marker, add_special_tokens=False)
        return found[0] if len(found) == 1 else None

    def _telling_piece(self, marker: str) -> int | None:
        """Of a marker of several tokens the longest: it is there however its neighbours are joined."""
        pieces = self._tokenizer.encode(marker, add_special_tokens=False)
        return max(pieces, key=lambda piece: len(self._text([piece])), default=None)


class TurnCalls:
    """The tools that finished turns call. No turn fails over it: without a tokenizer nothing is known.

    Args:
        tokenizer: of the model; None: there is none.
        logger: hears once why no calls are read.
    """

    def __init__(self, tokenizer: Tokenizer | None, logger: Logger) -> None:
        self._logger = logger
        self._reader: CallReader | None = None
        try:
            self._reader = CallReader(tokenizer) if tokenizer is not None else None
        except Exception as error:  # a tokenizer of another kind
            logger.warning("LAMPS does not read tool calls: %r", error)

    def of(self, request: "Request") -> list[str] | None:
        """Names in order, none if the turn answers a person; None: not known."""
        if self._reader is None:
            return None
        try:
            names = self._reader.names(request.output_token_ids)
        except Exception as error:  # tokens a tokenizer cannot turn into text
            self._reader = None
            self._logger.warning("LAMPS reads no more tool calls: %r", error)
            return None
        # Cut off before a call, or forced into a schema: the arguments of a call whose name the client
        # chose look like any other answer.
        cut_off = request.status == RequestStatus.FINISHED_LENGTH_CAPPED
        return names or (None if cut_off or request.use_structured_output else [])


def _calls_in_json(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    end = max(text.rfind("}"), text.rfind("]")) + 1
    try:
        value = json.loads(text[:end])
    except ValueError:
        if re.match(r"\[\s*[A-Za-z_][\w.]*\(", text) and text[:end].endswith(")]"):
            return re.findall(r"(?:^\[|\)\s*,)\s*([A-Za-z_][\w.]*)\(", text)[:_MOST_CALLS]
        return []
    calls = value if isinstance(value, list) else [value]
    names = []
    for call in calls[:_MOST_CALLS]:
        if not isinstance(call, dict) or not {"arguments", "parameters", "args"} & call.keys():
            return []
        name = next(
            (call[key] for key in ("name", "tool", "tool_name", "function") if key in call), ""
        )
        if not isinstance(name, str) or not _BARE_NAME.fullmatch(name):
            return []
        names.append(name)
    return names
