# SPDX-License-Identifier: Apache-2.0
"""The length model under the real scheduler, and in its real process."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lamps_vllm import scheduler as module
from lamps_vllm.cli.app import app
from lamps_vllm.lengths.predictor import LengthPredictor
from lamps_vllm.lengths.remote import RemoteError, RemoteModel
from lamps_vllm.options import OptionError
from lamps_vllm.train import card as cards
from tests.support.driver import Driver
from tests.support.tiny_encoder import write_tiny_encoder


class Instant(LengthPredictor):
    """Answers, or does not, without a thread: what the scheduler sees is the same."""

    ready = True

    def __init__(self, clock, lengths: dict[str, float]) -> None:
        self._lengths = lengths
        super().__init__(lambda: None, deadline=0.05, clock=clock, report=print, prompt_tokens=8)

    def _serve(self) -> None:
        """Nothing runs in the thread."""

    def ask(self, key, request, prompt) -> bool:
        taken = super().ask(key, request, prompt)
        if key in self._lengths:
            self._answers.append((key, self._lengths[key]))
        return taken


@pytest.fixture
def driver(monkeypatch):
    """One slot, an order by predicted length, and predictions for two of the requests."""
    lengths = {"long": 900.0, "short": 10.0}
    monkeypatch.setattr(
        module, "serve_lengths",
        lambda options, tokenizer, clock, logger: Instant(lambda: made[0].engine.now, lengths),
    )  # fmt: skip
    made: list[Driver] = []
    made.append(Driver(blocks=60, max_num_seqs=1, lamps={"policy": "sjf"}))
    return made[0]


def core(driver: Driver) -> dict:
    return driver.scheduler._core.report()


def crowd(driver: Driver) -> None:
    driver.send("first", 40, 60)
    driver.step()
    driver.send("second", 40, 30)  # alone in the queue: nobody asks for its length
    driver.step()


def test_a_prediction_counts_like_a_hint(driver):
    crowd(driver)
    driver.send("long", 40, 40)
    driver.send("short", 40, 40)
    driver.drain()
    assert driver.finished.index("short") < driver.finished.index("long")
    assert driver.scheduler._lengths.counts.answered == 2
    driver.check_drained()


def test_the_clients_hint_wins(driver):
    crowd(driver)
    driver.send("long", 40, 40, hints={"expected_output_tokens": 1})
    driver.send("short", 40, 40)
    driver.drain()
    assert driver.finished.index("long") < driver.finished.index("short")


def test_without_an_answer_a_request_goes_on_at_the_deadline_and_steps_go_on_meanwhile(driver):
    crowd(driver)
    before = core(driver)["waiting"]
    driver.send("unknown", 40, 5)
    driver.step()
    assert core(driver)["waiting"] == before  # the core has not heard of it yet
    driver.wait(0.06)
    driver.step()
    assert core(driver)["waiting"] == before + 1
    assert driver.scheduler._lengths.counts.late == 1
    driver.drain()
    driver.check_drained()


def test_a_request_aborted_while_its_length_is_asked_for_leaves_nothing(driver):
    from vllm.v1.request import RequestStatus

    crowd(driver)
    driver.send("unknown", 40, 5)
    driver.scheduler.finish_requests("unknown", RequestStatus.FINISHED_ABORTED)
    driver.wait(0.06)
    driver.drain()
    assert driver.scheduler._lengths.counts.late == 0
    driver.check_drained()


def test_alone_a_request_is_not_held_up(driver):
    driver.send("unknown", 40, 5)
    assert driver.step().num_scheduled_tokens == {"unknown": 40}
    assert driver.scheduler._lengths.counts.asked == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    base = write_tiny_encoder(folder / "base")
    log = folder / "log.jsonl"
    lines = [
        {"prompt": f"{word} please", "output_tokens": tokens}
        for _ in range(100)
        for word, tokens in (("short", 15), ("long", 300))
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["train", "--data", log, "--base", base, "--out", folder, "--epochs", 30,
                 "--learning-rate", 0.01]  # fmt: skip
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return folder


def test_the_process_answers_until_it_is_closed(model):
    remote = RemoteModel(model, str(model / "base"))
    try:
        short, long = remote.predict([[7, 4], [6]])  # please short, long
        assert short < 60
        assert long > 200
        remote._process.kill()
        remote._process.wait()
        with pytest.raises(RemoteError):
            remote.predict([[4]])
    finally:
        remote.close()


def test_a_process_that_cannot_start_says_why(model, tmp_path):
    with pytest.raises(RemoteError, match="UnknownBase: tokenizer"):
        RemoteModel(model, str(tmp_path / "nowhere"))


def test_the_option_starts_it_and_a_bad_folder_stops_the_start(model, tmp_path):
    for text, folder in (("no length model", tmp_path), ("only models of text", sizes(model))):
        with pytest.raises(OptionError, match=f"length_model = .*{text}"):
            Driver(blocks=20, lamps={"length_model": str(folder)})
    driver = Driver(blocks=20, lamps={"length_model": str(model)})
    driver.send("a", 40, 5)
    driver.drain()  # the process is still loading
    driver.scheduler.shutdown()
    driver.scheduler._lengths._thread.join(60)
    assert not driver.scheduler._lengths._thread.is_alive()


def sizes(model: Path) -> Path:
    """The same model, as if trained on sizes."""
    folder = model / "sizes"
    folder.mkdir(exist_ok=True)
    card = json.loads((model / cards.CARD).read_text()) | {"input": "facts"}
    (folder / cards.CARD).write_text(json.dumps(card))
    (folder / cards.WEIGHTS).write_bytes((model / cards.WEIGHTS).read_bytes())
    return folder
