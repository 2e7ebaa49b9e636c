# SPDX-License-Identifier: Apache-2.0
"""Generation with tools in one streaming-input request of vLLM."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from vllm.engine.protocol import StreamingInput
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from lamps_vllm.augmented.errors import AugmentedError, BadTool, ContextFull, TooManyCalls
from lamps_vllm.augmented.formats import CallFormat, HermesFormat
from lamps_vllm.augmented.segment import Segment
from lamps_vllm.augmented.tools import Tool, Toolbox, ToolRun


@dataclass(frozen=True, slots=True)
class AugmentedOutput:
    """A whole generation: segments with calls between them."""

    prompt_token_ids: list[int]
    segments: list[Segment]
    runs: list[ToolRun]

    @property
    def text(self) -> str:
        """The answer: what was generated after the last call."""
        return self.segments[-1].text

    @property
    def finish_reason(self) -> str:
        return self.segments[-1].finish_reason


class AugmentedLLM:
    """Generates with tools over an ``AsyncLLM``, each generation in one request of the engine.

    Where the model calls, the request pauses while the tools run, and goes on with their results. With
    ``LampsScheduler`` the pause is handled like that of any session; stock vLLM keeps KV and run slot.

    Args:
        engine: of the caller's event loop, with a tokenizer.
        tools: what the model may call.
        call_format: how the model writes calls; by default Hermes and JSON in ChatML.
        call_seconds: a tool may take so long, if it does not say otherwise.
        most_calls: of one generation; more raise TooManyCalls.
    """

    def __init__(
        self, engine: AsyncLLM, tools: Iterable[Callable[..., Any] | Tool], *,
        call_format: CallFormat | None = None, call_seconds: float = 60.0, most_calls: int = 32,
    ) -> None:  # fmt: skip
        if most_calls < 1:
            raise BadTool(f"most_calls = {most_calls!r}: expected a number above 0")
        self.engine = engine
        self._tools = Toolbox(tools, call_seconds)
        self._format: CallFormat = call_format or HermesFormat()
        self._most_calls = most_calls
        self._tokenizer = engine.get_tokenizer()
        self._longest = engine.model_config.max_model_len
        self._stops = [self._token_of(stop) for stop in self._format.stops]

    async def generate(
        self, prompt: str | list[int], params: SamplingParams | None = None, **options: Any
    ) -> AugmentedOutput:
        """The whole generation; arguments and errors as for :meth:`stream`."""
        prompt = self._tokens_of(prompt)
        output = AugmentedOutput(prompt, [], [])
        async with aclosing(self.stream(prompt, params, **options)) as events:
            async for event in events:
                whole = output.segments if isinstance(event, Segment) else output.runs
                whole.append(event)
        return output

    async def stream(
        self, prompt: str | list[int], params: SamplingParams | None = None, *,
        request_id: str | None = None, session_id: str | None = None,
    ) -> AsyncGenerator[Segment | ToolRun, None]:  # fmt: skip
        """Segments and tool runs as they happen. Closing or cancelling it aborts the request.

        Args:
            params: of every segment: ``max_tokens`` counts anew after each call.
            session_id: which session LAMPS counts the request to; None: to one of its own.

        Raises:
            TooManyCalls, ContextFull: see there.
            AugmentedError: the engine gave the request up.
            vllm.exceptions.VLLMValidationError: vLLM does not take the prompt or the parameters.
        """
        prompt = self._tokens_of(prompt)
        params = self._params_of(params)
        inputs: asyncio.Queue[list[int] | None] = asyncio.Queue()
        inputs.put_nowait(prompt)
        length, calls = len(prompt), 0
        outputs = self.engine.generate(
            _streamed(inputs), params, request_id or f"augmented-{uuid.uuid4().hex}",
            session_id=session_id,
        )  # fmt: skip
        async with aclosing(outputs):
            async for segment in self._segments(outputs):
                yield segment
                wanted = self._format.calls(segment)
                if not wanted:
                    inputs.put_nowait(None)
                    continue
                calls += len(wanted)
                if calls > self._most_calls:
                    raise TooManyCalls(f"the model wants a call after {self._most_calls}, the most")
                runs = await asyncio.gather(*map(self._tools.run, wanted))
                for run in runs:
                    yield run
                told = self._format.results([(run.call, run.result) for run in runs])
                # vLLM drops the last token of a segment when more input comes.
                piece = [segment.token_ids[-1], *self._encode(told)]
                length += len(segment.token_ids) - 1 + len(piece)
                if length >= self._longest:
                    raise ContextFull(
                        f"{length} tokens with the result of {wanted[-1].name!r}: the model's "
                        f"context has {self._longest}"
                    )
                inputs.put_nowait(piece)

    async def _segments(self, outputs: AsyncIterator[Any]) -> AsyncIterator[Segment]:
        tokens: list[int] = []
        async for output in outputs:
            part = output.outputs[0]
            tokens.extend(part.token_ids)
            if part.finish_reason is None:
                continue
            if part.finish_reason not in ("stop", "length"):
                raise AugmentedError(f"the engine ended the request: {part.finish_reason}")
            ended = tokens[:-1] if part.finish_reason == "stop" else tokens
            text = self._tokenizer.decode(ended, skip_special_tokens=False)
            yield Segment(tuple(tokens), text, part.finish_reason)
            tokens = []

    def _params_of(self, params: SamplingParams | None) -> SamplingParams:
        params = params.clone() if params else SamplingParams()
        params.output_kind = RequestOutputKind.DELTA
        params.detokenize = False  # done here, once per segment
        params.stop_token_ids = [*(params.stop_token_ids or []), *self._stops]
        return params

    def _tokens_of(self, prompt: str | list[int]) -> list[int]:
        return list(self._tokenizer.encode(prompt)) if isinstance(prompt, str) else list(prompt)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _token_of(self, stop: str) -> int:
        ids = self._encode(stop)
        if len(ids) != 1:
            raise BadTool(f"stop {stop!r} is {len(ids)} tokens of this model: expected one")
        return ids[0]


async def _streamed(
    inputs: "asyncio.Queue[list[int] | None]",
) -> AsyncGenerator[StreamingInput, None]:
    while (tokens := await inputs.get()) is not None:
        yield StreamingInput(prompt=tokens_input(tokens))
