# SPDX-License-Identifier: Apache-2.0
"""The length model in a process of its own, reached over pipes: one JSON line each way per batch.

A process, because the model's Python would share the interpreter lock with the scheduler's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from logging import Logger
from pathlib import Path
from typing import Any

from lamps_vllm.lengths.predictor import LengthPredictor
from lamps_vllm.options import LampsOptions, OptionError
from lamps_vllm.train.card import read_card
from lamps_vllm.train.data import Input
from lamps_vllm.train.errors import BadModel


class RemoteError(RuntimeError):
    """The process of the length model ended, or could not start."""


class RemoteModel:
    """Starts `python -m lamps_vllm.lengths.worker` and waits until it is ready, some seconds.

    Args:
        folder: a model made by `lamps train`.
        tokenizer: of the served model; turns its tokens back into text.

    Raises RemoteError.
    """

    def __init__(self, folder: Path, tokenizer: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lamps_vllm.lengths.worker", str(folder), tokenizer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The GPU is the engine's; so are the cores, but for one.
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
        try:
            self._answer()
        except RemoteError:
            self.close()
            raise

    def predict(self, prompts: list[list[int]]) -> list[float]:
        """Expected output tokens. Raises RemoteError when the process is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(prompts) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RemoteError(f"the process of the length model is gone: {error}") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RemoteError("the process of the length model has ended; its output says why")
        said = json.loads(line)
        if isinstance(said, dict):
            raise RemoteError(said["error"])
        return said

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written yet has nowhere to go
                    pipe.close()


def serve_lengths(
    options: LampsOptions, tokenizer: str, clock: Callable[[], float], logger: Logger
) -> LengthPredictor | None:
    """The predictor that the options ask for, or None. Raises OptionError for an unfit model."""
    if options.length_model is None:
        return None
    folder = Path(options.length_model)
    try:
        card = read_card(folder)
        if card.input is not Input.TEXT:
            raise BadModel(
                f"{folder} was trained on sizes of turns; only models of text are served"
            )
    except BadModel as error:
        raise OptionError(f"length_model = {options.length_model!r}: {error}") from error
    return LengthPredictor(
        lambda: RemoteModel(folder, tokenizer),
        deadline=options.length_deadline_seconds,
        clock=clock,
        report=lambda why: logger.warning("LAMPS asks its length model no more: it %s", why),
        prompt_tokens=card.max_tokens,
    )
