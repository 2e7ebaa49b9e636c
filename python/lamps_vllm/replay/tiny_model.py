# SPDX-License-Identifier: Apache-2.0
"""A two-layer Llama without weights, for measuring schedulers instead of models.

Serve it with `--load-format dummy --skip-tokenizer-init`: the weights are random, so the tokens
mean nothing and output lengths have to be forced. Prompts are token ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamps_vllm.files import cache_dir, replacing

VOCAB_SIZE = 1024
LAYERS = 2
HIDDEN = 128
MAX_CONTEXT = 32768

SERVE_FLAGS = ("--load-format", "dummy", "--skip-tokenizer-init")


def tiny_config() -> dict[str, Any]:
    """The model's `config.json`. Head size 64 because CPU attention kernels want it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": MAX_CONTEXT,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def write_tiny_model(folder: Path | None = None) -> Path:
    """Writes the model directory (idempotent) and returns it."""
    folder = folder or cache_dir() / "tiny-llama"
    config = json.dumps(tiny_config(), indent=2) + "\n"
    path = folder / "config.json"
    if not path.is_file() or path.read_text(encoding="utf-8") != config:
        with replacing(path) as file:  # others may be reading
            file.write(config)
    return folder
