"""all-MiniLM-L6-v2 in plain torch: embeddings of sentences, from weights by name. quantize_model.py asks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from model_package import model_file
from tokenizers import Tokenizer
from torch.nn import functional

LAYERS, HEADS, LONGEST = 6, 12, 256


def read_sentences() -> list[str]:
    return Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines()


def tokenize(sentences: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, padded to the longest sentence, and which of them are no padding."""
    tokenizer = Tokenizer.from_file(str(model_file("tokenizer.json")))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)


def embed(weights: Mapping[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """An embedding of length 1 for each row of tokens: the mean of what the last layer says of them."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-12)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    words = weights["embeddings.word_embeddings.weight"][ids]
    places = weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(words + places + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        q, k, v = (heads(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        seen = linear(seen.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
        x = norm(x + seen, f"{layer}.attention.output.LayerNorm")
        thought = linear(functional.gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = norm(x + thought, f"{layer}.output.LayerNorm")
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return functional.normalize(mean, dim=-1)
