# SPDX-License-Identifier: Apache-2.0
"""Training end to end on a random tiny base, the saved model, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lamps_vllm.cli.app import app
from lamps_vllm.train import card as cards
from lamps_vllm.train.bases import find_base
from lamps_vllm.train.bins import BINS, expected
from lamps_vllm.train.errors import BadModel, UnknownBase
from tests.support.tiny_encoder import write_tiny_encoder

LENGTHS = {"short": 15, "medium": 120, "long": 900}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("base"))


def write_log(path: Path, lines: int = 300) -> Path:
    """Prompts in which one word says how long the answer will be."""
    rng = np.random.default_rng(0)
    with path.open("w") as log:
        for _ in range(lines):
            word = rng.choice(list(LENGTHS))
            noise = rng.choice(["please", "now", "then"], size=4).tolist()
            prompt = " ".join(rng.permutation([word, *noise]).tolist())
            log.write(json.dumps({"prompt": prompt, "output_tokens": LENGTHS[str(word)]}) + "\n")
    return path


def lamps_train(*arguments: object):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    log = write_log(folder / "log.jsonl")
    result = lamps_train("--data", log, "--base", base, "--out", folder, "--epochs", 40,
                         "--learning-rate", 0.01)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "this model" in result.output
    return folder


def copied(folder: Path, to: Path) -> Path:
    for name in (cards.CARD, cards.WEIGHTS):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


def test_it_learns_which_word_says_how_long(trained):
    card, model = cards.load(trained)
    assert card.scores.exact > 0.95
    assert card.constant.exact < 0.6
    assert card.scores.kendall_tau > 0.75  # ties of the truth keep it below 1
    found = model.distributions(["please short now", "then long"])
    assert found.shape == (2, BINS)
    assert found.sum(axis=1) == pytest.approx([1.0, 1.0])
    short, long = expected(found, np.asarray(card.bin_means))
    assert short < 100
    assert long > 500


def test_the_folder_explains_itself(trained):
    card = json.loads((trained / cards.CARD).read_text())
    assert card["samples"] == {"fit": 240, "choose": 30, "score": 30}
    text = (trained / cards.README).read_text()
    assert "| exact |" in text and "log.jsonl" in text


@pytest.mark.parametrize("causal", [False, True])
def test_low_rank_updates_are_trained_and_saved(tmp_path, causal):
    base = write_tiny_encoder(tmp_path / "base", causal=causal)
    result = lamps_train("--data", write_log(tmp_path / "log.jsonl", 200), "--base", base,
                         "--out", tmp_path, "--epochs", 2, "--lora", 2)  # fmt: skip
    assert result.exit_code == 0, result.output
    card, model = cards.load(tmp_path)
    assert (card.rank, card.causal) == (2, causal)
    updates = [value for name, value in model.trained().items() if name.endswith(".up")]
    assert len(updates) == 4  # query and value of two layers
    assert all(bool(update.abs().sum() > 0) for update in updates)


def test_padding_does_not_change_a_prediction(trained):
    _, model = cards.load(trained)
    alone = model.distributions(["short now"])
    beside = model.distributions(["short now", "please then please then please then long"])
    assert beside[0] == pytest.approx(alone[0], abs=1e-5)


def test_a_damaged_or_incomplete_model_is_refused(trained, tmp_path):
    with pytest.raises(BadModel, match=r"no length model: .*card\.json"):
        cards.read_card(tmp_path)
    folder = copied(trained, tmp_path)
    weights = bytearray((folder / cards.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / cards.WEIGHTS).write_bytes(weights)
    with pytest.raises(BadModel, match="is damaged"):
        cards.read_card(folder)
    (folder / cards.CARD).write_text((trained / cards.CARD).read_text()[:-30])
    with pytest.raises(BadModel, match=r"card\.json"):
        cards.read_card(folder)


def test_a_card_of_another_version_is_refused(trained, tmp_path):
    folder = copied(trained, tmp_path)
    card = json.loads((folder / cards.CARD).read_text()) | {"format": 2}
    (folder / cards.CARD).write_text(json.dumps(card))
    with pytest.raises(BadModel, match="format"):
        cards.read_card(folder)


def test_another_base_under_the_same_name_is_refused(trained, tmp_path):
    folder = copied(trained, tmp_path)
    card = json.loads((folder / cards.CARD).read_text()) | {"base_digest": "0" * 64}
    (folder / cards.CARD).write_text(json.dumps(card))
    with pytest.raises(BadModel, match="other weights"):
        cards.load(folder)


def test_an_unknown_base_is_refused(tmp_path):
    with pytest.raises(UnknownBase, match="neither a folder nor an installed package"):
        find_base("no-such-model-package")
    with pytest.raises(UnknownBase, match=r"no config.json"):
        find_base(str(tmp_path))
    with pytest.raises(UnknownBase, match="the package carries no"):
        find_base("numpy")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--data", "LOG", "--base", "no-such-model-package"), "no-such-model-package"),
        (("--data", "SHORT"), "at least 200"),
    ],
)
def test_what_cannot_be_trained_ends_with_a_message(arguments, complaint, base, tmp_path):
    names = {
        "LOG": write_log(tmp_path / "log.jsonl", 200),
        "SHORT": write_log(tmp_path / "s.jsonl", 9),
    }
    given = [names.get(each, each) for each in arguments]
    if "--base" not in given:
        given += ["--base", base]
    result = lamps_train(*given, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
