# SPDX-License-Identifier: Apache-2.0
"""Predictions that outlive the server."""

import logging

import pytest

import lamps_ext
from lamps_vllm.memory import PredictionStore, restore, save


def core() -> lamps_ext.PolicyCore:
    engine = lamps_ext.Engine(
        capacity_tokens=10_000, block_tokens=16, max_context=4096, step_tokens=2048
    )
    return lamps_ext.PolicyCore(engine, lamps_ext.Options())


def serve(policy: lamps_ext.PolicyCore, turns: int = 30, tool: str = "search") -> None:
    """One session that calls `tool` for two seconds after each turn."""
    for turn in range(turns):
        now = 3.0 * turn
        events = [
            (lamps_ext.ARRIVE, now, 0, 0, 100, 0, None),
            (lamps_ext.ADMITTED, now, 0, 0),
            (lamps_ext.FINISHED, now + 1.0, 0, 20, 120, 0, False, [tool]),
        ]
        policy.begin_step(now + 1.0, 10_000, 2048, 8, [], [], events)


@pytest.fixture
def log(caplog):
    logger = logging.getLogger("vllm.lamps")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_what_was_learned_is_there_after_a_restart(tmp_path):
    before, path = core(), tmp_path / "sub" / "predictions"
    serve(before)
    save(before, path)
    after = core()
    assert restore(after, path)
    assert [p.name for p in path.parent.iterdir()] == ["predictions"], "no temporary file is left"
    assert "\ntool search " in path.read_text()
    save(after, tmp_path / "again")
    assert "\ntool search " in (tmp_path / "again").read_text()


def test_tools_are_scored_by_name():
    policy = core()
    serve(policy)
    scores = {(score["what"], score["name"]): score for score in policy.scores()}
    assert scores["tool", "search"]["scored"] == 29
    assert scores["call", "tool"]["scored"] == 29
    assert scores["output", "all"]["scored"] == 30
    assert sum(returned for returned, _ in policy.return_scores()) == 29


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: text.replace("search", "surch"), "checksum"),
        (lambda text: "", "expected 'lamps-predictions 1'"),
        (lambda text: text.replace("predictions 1", "predictions 9"), "version '9'"),
    ],
)
def test_a_damaged_file_is_refused_and_serving_goes_on(tmp_path, log, damage, says):
    path = tmp_path / "predictions"
    policy = core()
    serve(policy)
    save(policy, path)
    path.write_text(damage(path.read_text()))
    fresh = core()
    assert not restore(fresh, path)
    assert says in log.text
    assert str(path) in log.text
    serve(fresh)  # from priors
    with pytest.raises(lamps_ext.BadSnapshot, match=says):
        fresh.restore_predictions(path.read_text())


def test_bytes_that_are_no_text_are_refused(tmp_path, log):
    path = tmp_path / "predictions"
    path.write_bytes(b"\xff\xfe\x00")
    assert not restore(core(), path)
    assert str(path) in log.text


def test_no_file_yet_is_no_fault(tmp_path, log):
    assert not restore(core(), tmp_path / "none")
    assert not [record for record in log.records if record.levelno >= logging.WARNING]


def test_the_store_saves_while_serving_and_at_the_end(tmp_path):
    path = tmp_path / "predictions"
    policy = core()
    store = PredictionStore(policy, path, interval=0.01)
    store.start()
    for i in range(50):
        serve(policy, 3, tool=f"tool{i}")
    store.close()
    store.close()
    text = path.read_text()
    assert "\ntool tool49 " in text
    assert restore(core(), path)


def test_without_a_path_nothing_happens(tmp_path):
    store = PredictionStore(core(), None, interval=0.01)
    store.start()
    store.close()


def test_a_place_that_cannot_be_written_is_reported(tmp_path, log):
    (tmp_path / "file").write_text("")
    store = PredictionStore(core(), tmp_path / "file" / "predictions", interval=3600)
    store.start()
    store.close()
    assert "could not save" in log.text
