"""A small language model, character by character, and text to train it on: the documentation of this repository.

``ddp_int8.py`` and ``diloco.py`` train it. Weights at the start depend on the seed, batches on seed, rank and step.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

CONTEXT = 64
BATCH = 8  # of each rank


def read_text() -> torch.Tensor:
    """All pages as one text, a number for each character."""
    pages = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
    return torch.tensor(list("\n".join(page.read_text() for page in pages).encode("ascii", "replace")))


class Layer(nn.Module):
    """Attention to the characters before, and two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_linear = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.queries_keys_values(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        seen = functional.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)), is_causal=True)
        x = x + self.joined(seen.transpose(1, 2).flatten(-2))
        return x + self.linear(self.before_linear(x))


class Characters(nn.Module):
    """Guesses each next character of ASCII text; ``forward`` is the loss, in nats a character."""

    def __init__(self, width: int = 64, layers: int = 5, heads: int = 4) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(128, width), nn.Embedding(CONTEXT, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.last, self.guess = nn.LayerNorm(width), nn.Linear(width, 128)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.characters(text[:, :-1]) + self.places.weight
        return functional.cross_entropy(self.guess(self.last(self.layers(x))).flatten(0, 1), text[:, 1:].flatten())


def new_model(seed: int) -> Characters:
    torch.manual_seed(seed)
    return Characters()


def batch(text: torch.Tensor, seed: int, rank: int, step: int) -> torch.Tensor:
    """Pieces from anywhere in the text."""
    generator = torch.Generator().manual_seed((seed << 40) + (rank << 32) + step)
    starts = torch.randint(len(text) - CONTEXT, (BATCH, 1), generator=generator)
    return text[starts + torch.arange(CONTEXT + 1)]
