"""Trains a network on scikit-learn's digits with weights of 4 and of 2 bits, beside one that is quantized afterwards.

    python examples/train_digits.py
    python examples/train_digits.py --seeds 1 --plot losses.svg

Needs torch and scikit-learn, and matplotlib for --plot.

Weights have a scale for each group of 16. Training with quantization keeps them as floats, computes with what
quantization would make of them (``quantize_dequantize``), and passes gradients straight through to the floats. At the
end ``quantize_module`` replaces the layers by quantized ones, whose answers are those of training, bit for bit.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.utils import parametrize

import piquant.torch

GROUP = 16
DTYPES = ("int4", "int2")


class Quantized(nn.Module):
    """What quantization makes of a weight, with the scales that it has now."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale, zero_point = piquant.torch.compute_quant_params(weight.detach(), dtype=self.dtype, block_size=GROUP)
        return piquant.torch.quantize_dequantize(
            weight, scale=scale, zero_point=zero_point, dtype=self.dtype, block_size=GROUP
        )


def network(dtype: str | None) -> nn.Sequential:
    """Three layers; with a dtype, of weights that training sees quantized."""
    made = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    for layer in made:
        if dtype is not None and isinstance(layer, nn.Linear):
            parametrize.register_parametrization(layer, "weight", Quantized(dtype))
    return made


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and labels, to train with and to test with: the same parts for all networks."""
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)
    return torch.tensor(train_x).float(), torch.tensor(train_y), torch.tensor(test_x).float(), torch.tensor(test_y)


def train(
    x: torch.Tensor, y: torch.Tensor, dtype: str | None, seed: int, epochs: int
) -> tuple[nn.Sequential, list[float]]:
    """A trained network, and its mean loss in each epoch. Weights at the start and batches depend on the seed alone."""
    torch.manual_seed(seed)
    net = network(dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(x))
    return net, losses


def quantized(net: nn.Sequential, dtype: str) -> nn.Module:
    """The network with quantized layers; what training added to them is taken off."""
    for layer in net:
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    return piquant.torch.quantize_module(net, dtype, GROUP)


def plot(losses: dict[str, list[float]], after: dict[str, float], path: Path) -> None:
    """Mean losses of training, by epoch, and as dots at its end those of the float network quantized."""
    from matplotlib import pyplot, rcParams  # noqa: PLC0415  only needed to draw

    rcParams["svg.hashsalt"], rcParams["svg.fonttype"] = "piquant", "none"
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for i, (name, values) in enumerate(losses.items()):
        axes.plot(range(1, len(values) + 1), values, color=f"C{i}", label=f"trained with {name} weights")
        if name in after:
            axes.plot(len(values), after[name], "o", color=f"C{i}", label=f"float, quantized to {name} after training")
    axes.set(yscale="log", xlabel="epoch", ylabel="mean loss on the training set")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network on digits with quantized weights.")
    parser.add_argument("--epochs", type=int, default=40, help="times that all images are seen (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each kind (default: %(default)s)")
    parser.add_argument("--plot", type=Path, help="picture of the losses to write")
    given = parser.parse_args()
    torch.set_num_threads(1)  # more do not help so small a network
    train_x, train_y, test_x, test_y = digits()

    @torch.no_grad()
    def correct(net: nn.Module) -> float:
        return (net(test_x).argmax(1) == test_y).double().mean().item()

    accuracy: dict[str, list[float]] = {}
    losses: dict[str, list[list[float]]] = {}
    after: dict[str, list[float]] = {}
    same = True
    for seed in range(given.seeds):
        net, curve = train(train_x, train_y, None, seed, given.epochs)
        losses.setdefault("float", []).append(curve)
        accuracy.setdefault("float", []).append(correct(net))
        for dtype in DTYPES:
            rounded = quantized(copy.deepcopy(net), dtype)
            with torch.no_grad():
                loss = nn.functional.cross_entropy(rounded(train_x), train_y).item()
            after.setdefault(dtype, []).append(loss)
            accuracy.setdefault(f"{dtype}, quantized after training", []).append(correct(rounded))
            aware, curve = train(train_x, train_y, dtype, seed, given.epochs)
            losses.setdefault(dtype, []).append(curve)
            answers = aware(test_x)
            final = quantized(aware, dtype)
            same &= torch.equal(final(test_x), answers)
            accuracy.setdefault(f"{dtype}, trained with it", []).append(correct(final))

    print(f"{len(train_x)} images to train with, {len(test_x)} to test with, {given.seeds} networks of each kind")
    print()
    print("| weights | right, % | worst |")
    print("|---|---|---|")
    for name, values in accuracy.items():
        print(f"| {name} | {100 * math.fsum(values) / len(values):.1f} | {100 * min(values):.1f} |")
    print()
    print(f"quantized layers answer what training saw, bit for bit: {same}")
    if given.plot:
        means = {name: torch.tensor(runs).mean(0).tolist() for name, runs in losses.items()}
        plot(means, {name: math.fsum(values) / len(values) for name, values in after.items()}, given.plot)


if __name__ == "__main__":
    main()
