"""The kernels for CUDA devices by Triton's interpreter, on tensors of the CPU: to be run with TRITON_INTERPRET=1.

    python interpreted.py cases first count        as many cases of device_cases.py, from this seed on
    python interpreted.py messages                 those of device_messages.py
    python interpreted.py shapes                   blocks too long for a tile, which is made small; many dimensions;
                                                   parameters that data seldom have
    python interpreted.py digests first step       of the tables that tests/cpp commits, every step-th row
    python interpreted.py some-digests first step  the same of what CI has time for

Prints what differs from the CPU's own kernels, or from the tables. Two things the interpreter does otherwise
than the hardware, and than Triton says: maxima of NaN and a number, and the rounding of float32 to bfloat16.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

import device_cases
import device_messages
import digest_calls
import model
import piquant.torch
from piquant import _native
from piquant.torch import _tensors
from piquant.torch._triton import tiles

_cast = InterpreterBuilder.cast_impl


def cast(builder: Any, source: Any, target: Any) -> Any:
    before, after = source.dtype.scalar, target.scalar
    if before == tl.bfloat16 and after != tl.bfloat16:
        wide = (source.data.astype(np.uint32) << 16).view(np.float32)
        return _cast(builder, TensorHandle(wide, tl.float32), target)
    if after == tl.bfloat16 and before == tl.float32:
        narrow = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16().view(torch.int16).numpy()
        return TensorHandle(narrow.view(np.uint16).reshape(source.data.shape), tl.bfloat16)
    return _cast(builder, source, target)


def repair() -> None:
    InterpreterBuilder.create_maxnumf = lambda self, a, b: self.binary_op(a, b, np.fmax)
    InterpreterBuilder.create_minnumf = lambda self, a, b: self.binary_op(a, b, np.fmin)
    InterpreterBuilder.cast_impl = cast
    InterpreterBuilder.create_fp_to_fp = lambda self, source, target, _: cast(self, source, target)
    InterpreterBuilder.create_fp_ext = cast
    InterpreterBuilder.create_fp_trunc = cast


INTERPRETED = _tensors.make_face(runs_all=True)


def _send_calls_to(face: Any) -> None:
    piquant.torch._FACE = _tensors.FACE = piquant.torch.QuantizedTensor._face = face  # type: ignore[misc]


@contextlib.contextmanager
def kernels() -> Iterator[None]:
    """Calls of piquant.torch go to the kernels for devices."""
    before = _tensors.FACE
    try:
        _send_calls_to(INTERPRETED)
        yield
    finally:
        _send_calls_to(before)


def is_same(function: Callable[..., Any], x: torch.Tensor, told: dict[str, Any]) -> bool:
    """Whether the kernels for devices give what the CPU's give."""
    expected = function(x, **told)
    with kernels():
        return bool(device_cases.same(function(x, **told), expected))


def differing_long_blocks() -> Iterator[str]:
    """Blocks that a program reads twice are long and many; so tiles are made small here, and few are enough."""
    tiles._TILE, tiles._LONGEST, tiles._ENOUGH = 64, 64, 1  # type: ignore[misc]
    for real, code, symmetric in ((torch.float32, "int8", False), (torch.bfloat16, "int4", True)):
        x = (torch.randn(2, 300, generator=torch.Generator().manual_seed(3)) * 9).to(real)
        x[0, 70], x[0, 100], x[1, 150], x[:, 270] = 100, -120, 130, 110  # ends that some tile alone has
        told: dict[str, Any] = {"dtype": code, "block_size": 200, "symmetric": symmetric}
        told |= {"round_mode": "stochastic", "seed": 5, "offset": 65_136}
        if not is_same(piquant.torch.quantize_dynamic, x, told):
            yield f"blocks of 200, {real} to {code}"


def differing_dimensions() -> Iterator[str]:
    """More dimensions than kernels take, none of which merge, so that a call becomes several."""
    shape, blocks = (3, 2, 3, 2, 5), (2, 1, 2, 1, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 30
    rounding: dict[str, Any] = {"block_size": blocks, "round_mode": "stochastic", "seed": 6, "offset": 65_500}
    for code in ("int8", "uint4"):

        def calls(code: str = code) -> list[Any]:
            scale, zero_point = piquant.torch.compute_quant_params(x, dtype=code, block_size=blocks)
            told = rounding | {"scale": scale, "zero_point": zero_point, "dtype": code}
            q, back = piquant.torch.quantize(x, **told), piquant.torch.quantize_dequantize(x, **told)
            return [scale, zero_point, q, back, piquant.torch.quantize_dynamic(x, dtype=code, **rounding)]

        expected = calls()
        with kernels():
            found = calls()
        if not all(map(device_cases.same, found, expected)):
            yield f"five dimensions to {code}"


def differing_lines() -> Iterator[str]:
    """Lines that end within a tile, and words of a new key period that begin where tiles would without these ends."""
    x = torch.randn(6, 5003, generator=torch.Generator().manual_seed(5)).mul_(30)[:, :5000]
    told: dict[str, Any] = {"scale": 0.7, "dtype": "int8", "round_mode": "stochastic", "seed": 6, "offset": 45_336}
    if not is_same(piquant.torch.quantize, x, told):
        yield "lines of 5,000"


def differing_parameters() -> Iterator[str]:
    """Scales that would be subnormal numbers, zero points in the middle of two integers, columns, uneven ranges."""
    tiny = torch.linspace(-1e-37, 1e-37, 96) * torch.tensor([1e-4, 1.0, 1e-7]).repeat_interleave(32)
    ties = torch.tensor([[-2.5, 252.5], [-3.5, 251.5], [-100.5, 154.5], [-101.5, 153.5]]).repeat_interleave(16, 1)
    columns = ties.reshape(64, 2).repeat(1, 40) * torch.linspace(-1, 1, 80)
    for x, block, code, symmetric, low in (
        (tiny, 32, "int8", False, None),
        (tiny, 32, "int8", True, None),
        (ties, 32, "uint8", False, None),
        (columns, (32, 1), "int8", False, None),
        (columns, 16, "int8", True, -3),
    ):
        told: dict[str, Any] = {"dtype": code, "block_size": block, "symmetric": symmetric, "quant_min": low}
        if not is_same(piquant.torch.quantize_dynamic, x, told):
            yield f"parameters of {x.view(-1)[:2].tolist()} to {code} in {block}, {symmetric=}"


def differing_fractions() -> Iterator[str]:
    """Numbers that their random words just round up, and just do not, by how fractions round to 65,536ths."""
    seed, offset, n = 7, 65_400, 300
    words = torch.from_numpy(model.random_words(seed, offset, n).astype(np.int64))
    missing = 65536 - words  # so many 65,536ths go up
    for real, code in ((torch.float32, "int8"), (torch.float64, "int32")):
        for below, is_up in ((0.25, 1), (0.5, missing % 2 == 0), (0.75, 0), (1.0, 0)):
            x = ((missing - below) / 65536).to(real)
            with kernels():
                q = piquant.torch.quantize(x, scale=1.0, dtype=code, round_mode="stochastic", seed=seed, offset=offset)
            if not bool((q == is_up).all()):
                yield f"fractions of {real}, {below} below"


def differing(what: str, first: int, count: int) -> Iterator[str]:
    cpu = torch.device("cpu")
    if what == "cases":
        side = device_cases.Side(lambda x: x.clone(), kernels)
        for seed in range(first, first + count):
            yield from device_cases.differences(device_cases.Case(seed, 6_000), side)
    elif what == "messages":
        yield from device_messages.differing_messages(cpu, kernels)
    elif what == "shapes":
        yield from differing_dimensions()
        yield from differing_lines()
        yield from differing_parameters()
        yield from differing_fractions()
        yield from differing_long_blocks()
    else:
        rows = digest_calls.rows_of_tables()
        if what == "some-digests":
            rows = [row for row in rows if digest_calls.is_in_ci(row)]
        for row in rows[first::count]:
            yield from digest_calls.differing_digests(row, cpu)


def main() -> None:
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    repair()
    assert isinstance(INTERPRETED, _native.Face)
    for words in differing(sys.argv[1], *map(int, sys.argv[2:] or (0, 1))):
        print(words)


if __name__ == "__main__":
    main()
