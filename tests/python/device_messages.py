"""Messages of piquant.distributed by the codec of CUDA devices, and by that of the CPU, bit for bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from piquant.distributed._codec import CpuCodec, CudaCodec
from piquant.distributed._plan import BITS, HEADER_BYTES, Options, layout_of_message

CASES = [
    ("int8", 256, True, torch.float32, 1000, True),
    ("int8", 256, True, torch.float32, 999, False),
    ("int8", 48, False, torch.float32, 300, True),
    ("int8", 1, False, torch.bfloat16, 77, True),
    ("int8", 9000, True, torch.bfloat16, 20_000, True),
    ("int4", 64, True, torch.float16, 333, True),
    ("int4", 32, False, torch.bfloat16, 333, True),
    ("int4", 256, False, torch.float64, 1, False),
    ("int4", 64, True, torch.float64, 500, True),
    ("int2", 33, True, torch.float32, 257, True),
    ("int8", 16, False, torch.float32, 0, False),
]
"""Type of the codes, block size, stochastic or not, type of the floats, elements, and whether some are not finite."""

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
MANTISSA_BITS = {torch.float64: 52, torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}
HEADER = (1 << 63, 5)
SEED, OFFSET = 11, 77


def patterns(x: torch.Tensor) -> torch.Tensor:
    return x.view(INTEGERS[x.itemsize])


def default_nan(dtype: torch.dtype) -> int:
    """The pattern of the negative NaN without payload."""
    return -(1 << MANTISSA_BITS[dtype] - 1)


def put_odd_nans(x: torch.Tensor, where: torch.Tensor) -> None:
    """NaNs of either sign, with payloads, some of them signalling, and that of NVIDIA's arithmetic."""
    default, quiet = default_nan(x.dtype), 1 << MANTISSA_BITS[x.dtype] - 1
    kinds = [default | 5, default ^ quiet | 1, default | quiet - 1, default]
    kinds += [kind + (1 << 8 * x.itemsize - 1) for kind in kinds]
    count = int(where.sum())
    odd = torch.tensor([kinds[i % len(kinds)] for i in range(count)], dtype=INTEGERS[x.itemsize])
    patterns(x)[where] = odd


def data_of(n: int, dtype: torch.dtype, has_nan: bool) -> torch.Tensor:
    """Where some are not finite: NaNs, infinities, zeros, and of float64 what no float32 scale can cover."""
    x = torch.randn(n, generator=torch.Generator().manual_seed(n)).mul_(3).to(dtype)
    if has_nan:
        put_odd_nans(x, torch.arange(n) == 5)
        x[-1], x[70:75] = -math.inf, 0.0
        if dtype is torch.float64:
            x[130] = 1e300
    return x


def sums_before(n: int, dtype: torch.dtype) -> torch.Tensor:
    """What a message is added to: numbers, infinities, NaNs."""
    x = torch.linspace(-1, 1, n).to(dtype)
    x[3::7] = math.inf
    put_odd_nans(x, torch.arange(n) % 5 == 1)
    return x


def block_is_nan(message: torch.Tensor, n: int, block_size: int, bits: int) -> torch.Tensor:
    """Of each element, whether the scale of its block is NaN. Such scales get other patterns of NaN."""
    end = layout_of_message(n, block_size, bits).scales_end
    scales = message[HEADER_BYTES:end].view(torch.float32)
    put_odd_nans(scales, scales.isnan())
    return scales.isnan().repeat_interleave(block_size)[:n]


def expected_of_nan_blocks(before: torch.Tensor, add: bool) -> torch.Tensor:
    """Patterns of what blocks of NaN are dequantized to."""
    default, was = default_nan(before.dtype), patterns(before)
    keeps = before.isnan() if add else torch.zeros_like(before, dtype=torch.bool)
    return torch.where(keeps, was | -default, default)


def differing_messages(device: torch.device, kernels: Callable[[], AbstractContextManager[Any]]) -> Iterator[str]:
    """What the codec of a device makes otherwise than the CPU's; ``kernels`` sends calls to the device's."""
    for case in CASES:
        dtype, block_size, stochastic, float_type, n, has_nan = case
        options = Options(dtype, block_size, stochastic)
        cpu, cuda = CpuCodec(options, None), CudaCodec(options, device, by_host=True)
        x = data_of(n, float_type, has_nan)
        size = layout_of_message(n, block_size, BITS[dtype]).end
        messages = [torch.full((size,), 0xEE, dtype=torch.uint8) for _ in range(2)]
        cpu.encode(x, messages[0], HEADER, SEED, OFFSET)
        with kernels():
            cuda.encode(x.to(device), messages[1], HEADER, SEED, OFFSET)
        if not torch.equal(*messages):
            yield f"{case}: messages"
        if [*cpu.headers(messages)] != [*cuda.headers(messages)] or struct.pack("<QQ", *HEADER) != bytes(
            messages[1][:HEADER_BYTES].tolist()
        ):
            yield f"{case}: headers"
        is_nan = block_is_nan(messages[0], n, block_size, BITS[dtype])
        if bool(is_nan.any()) != has_nan:
            yield f"{case}: blocks of NaN"
        for add in (False, True):
            before = sums_before(n, float_type)
            sums = [before.clone(), before.to(device, copy=True)]
            cpu.decode(messages[0], sums[0], add)
            with kernels():
                cuda.decode(messages[0], sums[1], add)
            found = [patterns(x.cpu()) for x in sums]
            expected = torch.where(is_nan, expected_of_nan_blocks(before, add), found[0])
            for name, patterns_found in zip(("CPU", "device"), found, strict=True):
                if not torch.equal(patterns_found, expected):
                    yield f"{case}: {'sums' if add else 'values'} of the {name}"
