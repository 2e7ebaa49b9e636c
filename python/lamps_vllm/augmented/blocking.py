# SPDX-License-Identifier: Apache-2.0
"""The same without ``async``: the engine runs in an event loop on a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from lamps_vllm.augmented.llm import AugmentedLLM, AugmentedOutput
from lamps_vllm.augmented.tools import Tool

_Result = TypeVar("_Result")


class BlockingAugmentedLLM:
    """``AugmentedLLM`` for synchronous code; a context manager, usable from several threads.

    Args:
        engine_args: of the engine that is started, and shut down by :meth:`close`.
        tools, options: as for ``AugmentedLLM``; ``async`` tools run in the engine's event loop.
    """

    def __init__(
        self,
        engine_args: AsyncEngineArgs,
        tools: Iterable[Callable[..., Any] | Tool],
        **options: Any,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="lamps-augmented", daemon=True
        )
        self._thread.start()
        self._engine: AsyncLLM | None = None
        try:
            self._llm = self._wait(self._start(engine_args, tools, options))
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[str | list[int]], params: SamplingParams | None = None
    ) -> list[AugmentedOutput]:
        """Generates for all prompts at once.

        Raises: the first error of ``AugmentedLLM.stream``, when all have ended.
        """

        async def all_of_them() -> list[AugmentedOutput | BaseException]:
            work = [self._llm.generate(prompt, params) for prompt in prompts]
            return await asyncio.gather(*work, return_exceptions=True)

        outputs = []
        for output in self._wait(all_of_them()):
            if isinstance(output, BaseException):
                raise output
            outputs.append(output)
        return outputs

    def close(self) -> None:
        """Shuts the engine down. What is still being generated ends with an error."""
        if self._loop.is_closed():
            return
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "BlockingAugmentedLLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _start(self, engine_args: AsyncEngineArgs, tools: Any, options: Any) -> AugmentedLLM:
        self._engine = AsyncLLM.from_engine_args(engine_args)
        return AugmentedLLM(self._engine, tools, **options)

    async def _stop(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the engine has been closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
