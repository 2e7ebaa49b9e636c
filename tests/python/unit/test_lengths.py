# SPDX-License-Identifier: Apache-2.0
"""Serving a length model: in time, late, never, wrong, gone; the scheduler waits for none of it."""

import threading
import time

import pytest

from lamps_vllm.lengths.predictor import JUDGED_AFTER, MOST_QUEUED, LengthPredictor

DEADLINE = 0.05


class FakeModel:
    """Answers with the prompt's length, times `factor`, whenever the gate is open."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[list[list[int]]] = []
        self.closed = threading.Event()

    def predict(self, prompts):
        self.asked.append(prompts)
        self.gate.wait(10)
        return [self.factor * len(prompt) for prompt in prompts]

    def close(self):
        self.closed.set()


class Setting:
    """A predictor, its model, and a clock that stands still until it is told to move."""

    def __init__(self, open_model=None, **model) -> None:
        self.model = FakeModel(**model)
        self.now = 100.0
        self.reports: list[str] = []
        self.predictor = LengthPredictor(
            open_model or (lambda: self.model), deadline=DEADLINE, clock=lambda: self.now,
            report=self.reports.append, prompt_tokens=8,
        )  # fmt: skip

    def ask(self, key: str, length: int = 3) -> bool:
        return self.predictor.ask(key, key.upper(), list(range(length)))

    def due(self, count: int = 1) -> list[tuple[str, float]]:
        """What comes out, waiting for the thread (not for the clock) until it is `count`."""
        found: list[tuple[str, float]] = []
        until(lambda: found.extend(self.predictor.due()) or len(found) >= count)
        return found


def until(reached) -> None:
    limit = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < limit, "the thread did not get there"
        time.sleep(0.001)


@pytest.fixture
def setting():
    made: list[Setting] = []

    def make(*arguments, **model) -> Setting:
        made.append(Setting(*arguments, **model))
        if not arguments:
            until(lambda: made[-1].predictor.ready)
        return made[-1]

    yield make
    for each in made:
        each.model.gate.set()
        each.predictor.close()


def test_an_answer_in_time_comes_out_once(setting):
    it = setting()
    assert it.ask("a", 3)
    assert it.due() == [("A", 3.0)]
    it.now += 1.0
    assert list(it.predictor.due()) == []
    assert (it.predictor.counts.asked, it.predictor.counts.answered) == (1, 1)


def test_only_the_end_of_a_prompt_goes_to_the_model(setting):
    it = setting()
    it.ask("a", 20)
    assert it.due() == [("A", 8.0)]
    assert it.model.asked == [[list(range(12, 20))]]


def test_a_late_answer_is_given_up_at_the_deadline_and_ignored_afterwards(setting):
    it = setting()
    it.model.gate.clear()
    it.ask("a")
    it.now += 0.9 * DEADLINE
    assert list(it.predictor.due()) == []
    it.now += 0.2 * DEADLINE
    assert list(it.predictor.due()) == [("A", -1.0)]
    it.model.gate.set()
    it.ask("b", 5)
    assert it.due() == [("B", 5.0)]
    assert (it.predictor.counts.late, it.predictor.counts.answered) == (1, 1)


def test_asking_and_collecting_never_wait_for_the_model(setting):
    it = setting()
    it.model.gate.clear()
    started = time.perf_counter()
    for index in range(3 * MOST_QUEUED):
        it.ask(f"r{index}")
        list(it.predictor.due())
    it.now += 2 * DEADLINE
    given_up = list(it.predictor.due())
    assert time.perf_counter() - started < 1.0
    counts = it.predictor.counts
    assert counts.refused >= MOST_QUEUED  # the queue is bounded
    assert len(given_up) == counts.late == counts.asked
    assert all(tokens < 0 for _, tokens in given_up)


def test_questions_past_their_deadline_are_not_worked_off(setting):
    it = setting()
    it.model.gate.clear()
    it.ask("first")
    until(lambda: it.model.asked)
    for index in range(10):
        it.ask(f"stale{index}", 7)
    it.now += 2 * DEADLINE
    assert len(it.due(11)) == 11
    it.model.gate.set()
    it.ask("fresh", 5)
    assert it.due() == [("FRESH", 5.0)]
    assert [len(prompt) for batch in it.model.asked for prompt in batch] == [3, 5]


def test_a_model_that_fails_is_reported_once_and_asked_no_more(setting):
    it = setting()
    it.model.predict = lambda prompts: 1 / 0
    it.ask("a")
    assert it.due() == [("A", -1.0)]  # at once: nobody will answer
    assert not it.ask("b")
    assert it.reports == ["failed: ZeroDivisionError: division by zero"]
    assert it.model.closed.wait(5)


def test_a_model_that_cannot_be_opened_is_reported(setting):
    it = setting(lambda: 1 / 0)
    until(lambda: it.reports)
    assert not it.ask("a")
    assert it.predictor.counts.refused == 1


def test_until_the_model_is_there_nobody_waits_for_it(setting):
    opened = threading.Event()
    it = setting(lambda: opened.wait(10) and FakeModel())
    assert not it.ask("a")
    opened.set()
    until(lambda: it.predictor.ready)
    assert it.ask("b")


def test_an_aborted_request_is_forgotten(setting):
    it = setting()
    it.model.gate.clear()
    it.ask("a")
    it.predictor.finished("a", None)
    it.now += 2 * DEADLINE
    assert list(it.predictor.due()) == []


@pytest.mark.parametrize(("factor", "stopped"), [(1.0, False), (40.0, True)])
def test_a_model_worse_than_the_running_mean_is_switched_off(setting, factor, stopped):
    it = setting(factor=factor)
    for index in range(JUDGED_AFTER + 1):
        length = 2 + index % 6
        if it.ask(f"r{index}", length):
            it.due()
        it.predictor.finished(f"r{index}", length)
    assert bool(it.reports) is stopped
    assert it.predictor.ready is not stopped
    if stopped:
        assert it.reports == ["predicts worse than the running mean"]


def test_close_ends_the_thread_and_the_model(setting):
    it = setting()
    it.predictor.close()
    assert it.model.closed.wait(5)
    assert not it.ask("a")
    assert it.reports == []
