# SPDX-License-Identifier: Apache-2.0
"""A base with random weights and a tokenizer of whole words, made in a moment."""

from pathlib import Path

WORDS = ("[PAD]", "[UNK]", "user", "assistant", "short", "medium", "long", "please", "now", "then")


def write_tiny_encoder(folder: Path, *, causal: bool = False) -> Path:
    """A two-layer BERT (or Llama) of width 32 in `folder`, in the layout of transformers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    torch.set_num_threads(1)  # threads only wait for each other in so small a model
    torch.manual_seed(1)
    sizes = {
        "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 64,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**sizes)) if causal else BertModel(BertConfig(**sizes))
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return folder
