# SPDX-License-Identifier: Apache-2.0
"""Expected output lengths from a model that answers late, never, or wrongly, at no cost to a step.

The scheduler asks when a request arrives and collects at the next step; the model is called in a
thread. What has no answer at its deadline goes on without one, and the core's own histograms serve.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

MOST_QUEUED = 64  # questions; further ones are not asked
LARGEST_BATCH = 8
JUDGED_AFTER = 200  # answers
FORGETTING = 0.99  # of the running errors: about 100 answers are remembered


class Model(Protocol):
    """A length model, called from one thread."""

    def predict(self, prompts: list[list[int]]) -> list[float]:
        """Expected output tokens for the ends of prompts, token ids of the served model."""

    def close(self) -> None: ...


class Due(NamedTuple):
    """A request that waits for its length no longer."""

    request: Any  # as it was given to `ask`
    tokens: float  # expected output; negative: no answer in time


@dataclass
class Counts:
    asked: int = 0
    answered: int = 0  # in time
    late: int = 0
    refused: int = 0  # not asked: the queue was full, or the model is not there


class _Question(NamedTuple):
    key: str
    prompt: list[int]
    asked_at: float


class LengthPredictor:
    """Asks a model in a thread of its own.

    Args:
        open_model: makes the model; called in the thread, may take its time.
        deadline: seconds after which a request goes on without an answer.
        clock: seconds; also read in the thread.
        report: told once why the model is not asked any more.
        prompt_tokens: of a prompt's end that the model is given.
    """

    def __init__(
        self,
        open_model: Callable[[], Model],
        *,
        deadline: float,
        clock: Callable[[], float],
        report: Callable[[str], None],
        prompt_tokens: int,
    ) -> None:
        self.counts = Counts()
        self._open_model, self._deadline, self._clock = open_model, deadline, clock
        self._report, self._prompt_tokens = report, prompt_tokens
        self._questions: queue.Queue[_Question | None] = queue.Queue(MOST_QUEUED)
        self._answers: deque[tuple[str, float]] = deque()
        self._pending: dict[str, tuple[Any, float]] = {}  # oldest first
        self._told: dict[str, float] = {}  # predictions that await the truth
        self._judge = _Judge()
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="lamps-lengths", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether questions are taken."""
        return self._ready.is_set()

    def ask(self, key: str, request: Any, prompt: Sequence[int]) -> bool:
        """Whether the request's length is on its way: then it comes out of `due`, once."""
        if not self.ready:
            self.counts.refused += 1
            return False
        now = self._clock()
        try:
            self._questions.put_nowait(_Question(key, list(prompt[-self._prompt_tokens :]), now))
        except queue.Full:
            self.counts.refused += 1
            return False
        self.counts.asked += 1
        self._pending[key] = (request, now)
        return True

    def due(self) -> Iterator[Due]:
        """Requests with an answer, and those whose deadline has passed."""
        while self._answers:
            key, tokens = self._answers.popleft()
            if key in self._pending:
                self.counts.answered += 1
                self._told[key] = tokens
                yield Due(self._pending.pop(key)[0], tokens)
        oldest = self._clock() - self._deadline
        while self._pending:
            key, (request, asked_at) = next(iter(self._pending.items()))
            if asked_at > oldest and self.ready:
                return
            self.counts.late += 1
            del self._pending[key]
            yield Due(request, -1.0)

    def finished(self, key: str, tokens: int | None) -> None:
        """What a request generated in the end; None where that says nothing (it was aborted)."""
        self._pending.pop(key, None)
        predicted = self._told.pop(key, None)
        if tokens is None or not self.ready:
            return
        self._judge.observe(predicted, tokens)
        if self._judge.worse_than_the_mean:
            self._stop("predicts worse than the running mean")

    def close(self) -> None:
        """Ends the thread and the model; waits for neither."""
        self._ready.clear()
        self._closed.set()
        with contextlib.suppress(queue.Full):  # then the thread sees `_closed` after its batch
            self._questions.put_nowait(None)

    def _stop(self, why: str) -> None:
        if not self._closed.is_set():
            self._report(why)
        self.close()

    # --- in the thread ---

    def _serve(self) -> None:
        model = None
        try:
            model = self._open_model()
            if not self._closed.is_set():
                self._ready.set()
            while not self._closed.is_set():
                batch = self._next_batch()
                if batch:
                    lengths = model.predict([question.prompt for question in batch])
                    answers = zip(batch, lengths, strict=True)
                    self._answers.extend((question.key, float(x)) for question, x in answers)
        except Exception as error:  # whatever it is, serving goes on
            self._stop(f"failed: {type(error).__name__}: {error}")
        finally:
            if model is not None:
                model.close()

    def _next_batch(self) -> list[_Question]:
        """Questions that can still be answered in time; waits for the first."""
        taken = [self._questions.get()]
        while len(taken) < LARGEST_BATCH:
            try:
                taken.append(self._questions.get_nowait())
            except queue.Empty:
                break
        oldest = self._clock() - self._deadline
        return [question for question in taken if question and question.asked_at > oldest]


class _Judge:
    """Running errors, in log tokens, of the model and of the mean of all that was seen."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._seen = 0
        self._answers = 0
        self._model_error = self._mean_error = 0.0

    def observe(self, predicted: float | None, tokens: int) -> None:
        tokens = max(tokens, 1)
        if predicted is not None and self._seen:
            self._answers += 1
            rate = max(1.0 - FORGETTING, 1.0 / self._answers)
            error = abs(math.log(max(predicted, 1.0) / tokens))
            self._model_error += rate * (error - self._model_error)
            self._mean_error += rate * (abs(math.log(self._mean / tokens)) - self._mean_error)
        self._seen += 1
        self._mean += (tokens - self._mean) * max(1.0 - FORGETTING, 1.0 / self._seen)

    @property
    def worse_than_the_mean(self) -> bool:
        return self._answers >= JUDGED_AFTER and self._model_error > self._mean_error
