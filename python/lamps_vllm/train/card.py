# SPDX-License-Identifier: Apache-2.0
"""A saved length model: a folder with the weights, the card for programs and the card for people.

Only what was trained is saved; the base is found again by its name and told by its digest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamps_vllm.train.bins import BIN_TOKENS, BINS
from lamps_vllm.train.data import Input
from lamps_vllm.train.errors import BadModel
from lamps_vllm.train.metrics import Scores

if TYPE_CHECKING:
    from lamps_vllm.train.model import LengthModel

CARD, WEIGHTS, README = "card.json", "length_model.safetensors", "README.md"


class Card(BaseModel):
    """What a length model is, what it was trained on and how good it was on unseen sessions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: str
    base_digest: str
    causal: bool
    input: Input
    max_tokens: int = Field(ge=1, le=1_000_000)
    rank: int = Field(ge=0, le=4096)
    bins: Literal[50] = BINS
    bin_tokens: Literal[10] = BIN_TOKENS
    bin_means: tuple[float, ...] = Field(min_length=BINS, max_length=BINS)
    data: tuple[str, ...]
    samples: dict[str, int]
    settings: dict[str, float]
    scores: Scores
    constant: Scores  # always the spread of the training data
    weights_digest: str = ""


def save(folder: Path, card: Card, model: LengthModel) -> None:
    """Writes the folder; the card last, so that an interrupted one is refused."""
    from safetensors.torch import save_file  # noqa: PLC0415  (imports torch)

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    save_file(model.trained(), folder / WEIGHTS)
    card = card.model_copy(update={"weights_digest": _digest(folder / WEIGHTS)})
    (folder / README).write_text(readme(card), encoding="utf-8")
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n")


def read_card(folder: Path) -> Card:
    """The card of a complete, undamaged model. Raises BadModel."""
    try:
        card = Card.model_validate_json((folder / CARD).read_bytes())
        digest = _digest(folder / WEIGHTS)
    except OSError as error:
        raise BadModel(f"{folder}: no length model: {error.filename}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadModel(f"{folder / CARD}: {field}: {first['msg']}") from error
    if digest != card.weights_digest:
        raise BadModel(f"{folder / WEIGHTS} is damaged: its checksum is not the card's")
    return card


def load(folder: Path) -> tuple[Card, LengthModel]:
    """A saved model on its base. Raises BadModel, UnknownBase."""
    from safetensors.torch import load_file  # noqa: PLC0415  (imports torch)

    from lamps_vllm.train.bases import find_base  # noqa: PLC0415
    from lamps_vllm.train.model import LengthModel  # noqa: PLC0415

    card = read_card(folder)
    base = find_base(card.base)
    if base.digest != card.base_digest:
        raise BadModel(f"{folder}: was trained on other weights than {card.base!r} has here")
    tokenizer, encoder = base.load()
    model = LengthModel(
        tokenizer, encoder, causal=card.causal, max_tokens=card.max_tokens, rank=card.rank
    )
    model.restore(load_file(folder / WEIGHTS))
    return card, model.eval()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readme(card: Card) -> str:
    """The model card for people."""
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {value:.4g} | {getattr(card.constant, name):.4g} |"
        for name, value in asdict(card.scores).items()
    )
    what = "sizes of turns" if card.input is Input.FACTS else "the end of the prompt"
    form = f"updates of rank {card.rank} (LoRA)" if card.rank else "frozen base"
    return f"""# Length model

Predicts how many tokens a request will generate, from {what} (at most {card.max_tokens} tokens):
{card.bins} classes of {card.bin_tokens} tokens, the last one open above, on `{card.base}`, {form}.
Made by `lamps train`; used by LAMPS' scheduler to order requests, for nothing else.

| on unseen sessions | this model | constant |
|---|---|---|
{rows}

`exact`, `within one`: share of turns whose most likely class is the true one, or at most its neighbour.
`mae`: tokens, of the distribution's median. `kendall tau`: of the order of expected lengths.
`constant` always answers with the spread of the training data.

Data: {", ".join(card.data)}; turns: {_pairs(card.samples)}. Settings: {_pairs(card.settings)}.

It knows only what the data show: another served model, another sampling temperature or other prompts
make it wrong. LAMPS stops asking it when it does worse than the running mean.
"""


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
