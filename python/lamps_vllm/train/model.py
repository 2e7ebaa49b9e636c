# SPDX-License-Identifier: Apache-2.0
"""The length model: a pretrained transformer, kept or with low-rank updates, and a linear head.

The paper's form: one class per bin of output length, trained with cross-entropy. What a text amounts
to is its last token in a decoder, the mean of all tokens in an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lamps_vllm.train.bins import BINS, Floats
from lamps_vllm.train.errors import BadModel

UPDATED = frozenset({"query", "value", "q_proj", "v_proj"})  # as LoRA's authors chose


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of low rank (LoRA); at first the update is 0."""

    def __init__(self, inner: nn.Linear, rank: int) -> None:
        super().__init__()
        self.inner = inner
        self.down = nn.Parameter(torch.randn(rank, inner.in_features) / inner.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(inner.out_features, rank))
        self.scale = 2.0  # alpha = 2 rank, the paper's ratio

    def forward(self, x: Tensor) -> Tensor:
        update = functional.linear(functional.linear(x, self.down), self.up)
        return self.inner(x) + self.scale * update


class LengthModel(nn.Module):
    """Texts in, log-odds of the bins out.

    Args:
        tokenizer, encoder: of the base; `encoder` is frozen and changed in place.
        causal: the base is a decoder.
        max_tokens: of a text, from its end.
        rank: of the updates of attention's query and value; 0: none.
    """

    def __init__(
        self, tokenizer: Any, encoder: nn.Module, *, causal: bool, max_tokens: int, rank: int
    ) -> None:
        super().__init__()
        encoder.requires_grad_(False)
        if rank:
            _update(encoder, rank)
        limit = getattr(encoder.config, "max_position_embeddings", max_tokens)
        self.tokenizer, self.encoder, self.causal = tokenizer, encoder, causal
        self.max_tokens, self.rank = min(max_tokens, limit), rank
        self.head = nn.Linear(encoder.config.hidden_size, BINS)

    def encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask, shape (texts, longest)."""
        return self.tokenizer(
            list(texts), truncation=True, max_length=self.max_tokens, padding=True,
            return_tensors="pt", return_token_type_ids=False,
        )  # fmt: skip

    def features(self, batch: dict[str, Tensor]) -> Tensor:
        """What the texts amount to, shape (texts, hidden), each of mean 0 and variance 1."""
        mask = batch["attention_mask"]
        states = self.encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        if self.causal:
            pooled = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        else:
            weights = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return functional.layer_norm(pooled, pooled.shape[-1:])

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(self.features(batch))

    @torch.inference_mode()
    def distributions(self, texts: Sequence[str]) -> Floats:
        """Probabilities of the bins, shape (texts, BINS)."""
        return self(self.encode(texts)).softmax(dim=-1).double().numpy()

    def trained(self) -> dict[str, Tensor]:
        """What training changes: the head and the updates."""
        return {
            name: value.detach().clone().contiguous()
            for name, value in self.named_parameters()
            if value.requires_grad
        }

    def restore(self, trained: dict[str, Tensor]) -> None:
        """Takes over what `trained` gave. Raises BadModel where names or shapes differ."""
        own = {name: value for name, value in self.named_parameters() if value.requires_grad}
        if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in trained.items()}:
            raise BadModel("the weights do not fit the base and the rank that the card names")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(trained[name])


def _update(encoder: nn.Module, rank: int) -> None:
    found = [
        (module, name)
        for module in encoder.modules()
        for name, child in module.named_children()
        if name in UPDATED and isinstance(child, nn.Linear)
    ]
    if not found:
        raise BadModel(f"the base has no linear layer named {', '.join(sorted(UPDATED))}")
    for module, name in found:
        setattr(module, name, LowRank(getattr(module, name), rank))
