"""The calls of digest_test.cpp and block_digest_test.cpp, as plans for a device, and what these make of them."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

import digest_data
from digest_data import CODES, FLOATS, IDS, Call, Digest, Row, Words, bytes_for, range_of
from piquant.torch import _triton
from piquant.torch._triton import Plan, dynamic, tiles

# n, scale, its exponent, and whether the range is narrower.
_CASES = [
    (61, 1.0, 0, False), (256, 0.1, -4, False), (1027, 2.0**-20, -20, False), (1500, 3e-5, -16, True),
    (3333, 700.0, 9, True), (130, 1.2e-38, -126, False), (130, 1e38, 126, False), (4099, 0.75, -1, False),
]  # fmt: skip


def _offset(words: Words) -> int:
    first = 65536 * words.below(1000)
    return first + 65000 + words.below(600)


def _bits(dtype: str) -> int:
    return FLOATS[dtype][0] if dtype in FLOATS else CODES[dtype][0]


def _size(dtype: str) -> int:
    return max(_bits(dtype) // 8, 1)


def of_kernel(operation: str, real: str, code: str, mode: int) -> Iterator[Call]:
    """Modes are those of digest_test.cpp."""
    words = Words(1000 + IDS[real] * 100 + IDS[code])
    bits = CODES[code][0]
    low, high = range_of(code)
    span = high - low
    source, target = (code, real) if operation == "dequantize" else (real, code if operation == "quantize" else real)
    for n, scale, exponent, is_ranged in _CASES:
        zeros = [low, high, low + span // 2, low + words.next() % span]
        zero = zeros[words.below(4)]
        seed, offset = words.next(), _offset(words)
        words.skip(1)  # whether stores are non-temporal
        limits = (low + 1, high - (0 if bits == 2 else 1 + words.below(3))) if is_ranged else (low, high)

        def made(dtype: str, n: int = n, center: int = exponent + bits // 2) -> bytes:
            if dtype in FLOATS:
                return digest_data.patterns(dtype, n, center, bits + 3, words)
            return digest_data.codes(bytes_for(n, bits), words)

        data = made(source)
        out = bytes(bytes_for(n, bits)) if target == code else made(target)
        yield Call(
            operation, real, code, n, data, out, (0, 0), ((n, _size(source), _size(target), n, 0),),
            stochastic=operation != "dequantize" and mode // (2 if target == source else 1) == 1,
            add=operation != "quantize" and mode % 2 == 1, scale=scale, zero=zero, limits=limits,
            seed=seed, offset=offset,
        )  # fmt: skip


# Shapes; and of both sides, the order in which dimensions lie in memory, the innermost first, how many elements apart,
# and whether backwards.
_Layout = tuple[tuple[int, int, int], int, bool]
_LAYOUTS: list[tuple[tuple[int, int, int], _Layout, _Layout]] = [
    ((1, 57, 383), ((1, 2, 0), 1, False), ((2, 1, 0), 1, False)),
    ((1, 70, 65), ((2, 1, 0), 1, False), ((1, 2, 0), 1, True)),
    ((3, 41, 29), ((2, 1, 0), 2, True), ((0, 2, 1), 1, False)),
    ((2, 3, 4099), ((2, 1, 0), 1, False), ((2, 1, 0), 1, True)),
    ((5, 7, 9), ((0, 1, 2), 3, False), ((1, 0, 2), 2, False)),
]


def _placed(dtype: str, shape: tuple[int, int, int], layout: _Layout) -> tuple[list[int], int, int]:
    """Strides, where the first element lies, and bytes."""
    order, step, is_backwards = layout
    is_packed = _bits(dtype) < 8
    strides, first = [0, 0, 0], 0
    n_bytes = bytes_for(shape[2], _bits(dtype)) if is_packed else _size(dtype)
    stride = n_bytes * (1 if is_packed else step)
    for d in order:
        if is_packed and d == 2:
            continue
        reach = stride * (shape[d] - 1)
        strides[d] = -stride if is_backwards else stride
        first += reach if is_backwards else 0
        n_bytes += reach
        stride *= shape[d]
    return strides, first, n_bytes


def of_layouts(real: str, code: str) -> Iterator[tuple[int, Call]]:
    """Calls, each with the mode whose digest it is part of."""
    words = Words(2000 + IDS[real] * 100 + IDS[code])
    bits = CODES[code][0]
    for mode, (shape, of_in, of_out) in itertools.product(range(4), _LAYOUTS):
        source, target = (code, real) if mode == 1 else (real, code if mode == 0 else real)
        ins, first_in, in_bytes = _placed(source, shape, of_in)
        outs, first_out, out_bytes = _placed(target, shape, of_in if mode == 3 else of_out)

        def made(dtype: str, n_bytes: int) -> bytes:
            if dtype in FLOATS:
                return digest_data.patterns(dtype, n_bytes // _size(dtype), bits // 2, bits + 3, words)
            return digest_data.codes(n_bytes, words)

        data = made(source, in_bytes)
        out = data if mode == 3 else made(target, out_bytes)
        yield mode, Call(
            ("quantize", "dequantize", "quantize_dequantize")[min(mode, 2)], real, code, math.prod(shape), data, out,
            (first_in, first_out), tuple((n, a, b, n, 0) for n, a, b in zip(shape, ins, outs, strict=True)),
            stochastic=True, add=mode != 3, scale=0.75, zero=1, limits=range_of(code), seed=words.next(),
            offset=_offset(words), in_place=mode == 3,
        )  # fmt: skip


# Shape, blocks, type of the scales, and whether the last two dimensions of the input have changed places in memory.
_BLOCKS: list[tuple[tuple[int, int, int], tuple[int, int, int], str, bool]] = [
    ((1, 3, 416), (1, 1, 32), "float32", False), ((1, 5, 261), (1, 1, 64), "float16", False),
    ((1, 4, 99), (1, 1, 7), "bfloat16", False), ((2, 9, 48), (1, 1, 16), "float64", False),
    ((1, 7, 130), (1, 1, 130), "float32", False), ((1, 1, 2500), (1, 1, 2100), "float16", False),
    ((1, 20, 67), (1, 20, 1), "float32", False), ((3, 5, 64), (3, 1, 64), "bfloat16", False),
    ((1, 35, 97), (1, 16, 48), "float64", False), ((1, 31, 64), (1, 1, 32), "float32", True),
    ((2, 23, 27), (1, 10, 20), "float16", True), ((1, 6, 90), (1, 1, 1), "float32", False),
    ((2, 20, 20), (2, 20, 20), "bfloat16", False),
]  # fmt: skip


def _zero_points(dtype: str, code: str, n: int, words: Words) -> bytes:
    low, high = range_of(code)
    zeros = [low + words.next() % (high - low + 1) for _ in range(n)]
    return b"".join((zero % (1 << 64)).to_bytes(8, "little")[: _size(dtype)] for zero in zeros)


def _of_blocks(
    operation: str, real: str, code: str, mode: int, words: Words,
    shape: tuple[int, int, int], block: tuple[int, int, int], scale_dtype: str, is_transposed: bool,
) -> Call:  # fmt: skip
    bits, is_signed = CODES[code]
    low, high = range_of(code)
    finds = operation in ("compute_quant_params", "quantize_dynamic")
    kind = words.below(3)
    zero_dtype = (f"{'' if is_signed else 'u'}int{max(bits, 8)}") if kind == 0 else "int64" if is_signed else "uint64"
    seed, offset = words.next(), _offset(words)
    limits = low + (words.below(4) == 0), high
    grid = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    n, blocks = math.prod(shape), math.prod(grid)
    row = bytes_for(shape[2], bits)
    reads_codes, has_codes = operation == "dequantize", operation in ("quantize", "quantize_dynamic")

    def made(is_code: bool) -> bytes:
        if is_code:
            return digest_data.codes(row * shape[0] * shape[1], words)
        return digest_data.numbers(real, n, 8, words)

    data, out = made(reads_codes), made(has_codes)
    scales = bytearray(digest_data.numbers(scale_dtype, blocks, 4, words))
    for last in range(_size(scale_dtype) - 1, len(scales), _size(scale_dtype)):
        scales[last] &= 0x7F
    zeros = _zero_points(zero_dtype, code, blocks, words)
    if not reads_codes and not finds:
        data = digest_data.patterns(real, n, 0, min(bits + 3, 12), words)

    def strides(is_code: bool) -> list[int]:
        size = _size(code if is_code else real)
        last = row if is_code else shape[2] * size
        return [shape[1] * last, last, size]

    ins, outs = strides(reads_codes), strides(has_codes)
    if is_transposed and (not reads_codes or bits >= 8):
        ins = [ins[0], ins[2], shape[1] * ins[2]]
    entries = [grid[1] * grid[2], grid[2], 1]
    symmetric = finds and mode % 2 == 1
    has_zeros = kind != 2 or (finds and not symmetric)
    middle = 0 if is_signed else 1 << bits - 1
    return Call(
        operation, real, code, n, data, out, (0, 0), tuple(zip(shape, ins, outs, block, entries, strict=True)),
        stochastic=mode // 2 == 1, add=mode % 2 == 1, symmetric=symmetric, zero=middle if symmetric else 1,
        limits=limits, seed=seed, offset=offset, blocks=blocks, scales=bytes(scales), zeros=zeros, has_zeros=has_zeros,
        scale_dtype=scale_dtype, zero_dtype=zero_dtype,
    )  # fmt: skip


_FUNCTIONS = ("quantize", "dequantize", "quantize_dequantize", "compute_quant_params", "quantize_dynamic")


def of_blocks(real: str, code: str) -> Iterator[tuple[int, Call]]:
    """Calls, each with the mode whose digest it is part of."""
    words = Words(3000 + IDS[real] * 100 + IDS[code])
    for function, operation in enumerate(_FUNCTIONS):
        for mode in range(4):
            rounds, reduces = operation not in ("dequantize", "compute_quant_params"), operation != "quantize"
            if (mode >= 2 and not rounds) or (mode % 2 == 1 and not reduces):
                continue
            for case in _BLOCKS:
                yield min(function, 3), _of_blocks(operation, real, code, mode, words, *case)


# ---------------------------------------------------------------------------------------------------------------------


def _on(device: torch.device, memory: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(memory or b"\0"), dtype=torch.uint8).to(device)


def _number_of(device: torch.device) -> int:
    return -1 if device.type == "cpu" else device.index or 0


def _run(call: Call, device: torch.device) -> list[bytes]:
    """Carries out a call. Returns what is in the output, the scales and the zero points afterwards."""
    data, out, scales, zeros = (_on(device, x) for x in (call.in_, call.out, call.scales, call.zeros))
    data = out if call.in_place else data
    addresses = data.data_ptr(), out.data_ptr(), scales.data_ptr(), zeros.data_ptr() * call.has_zeros
    _triton.run(_number_of(device), digest_data.arguments(call, addresses))
    return [bytes(x.cpu().numpy()) for x in (out, scales, zeros)]


def _extent(real: str, memory: bytes, n: int, device: torch.device) -> tuple[bool, float, float]:
    """Whether there is a NaN, and both ends, as the kernel finds them that blocks of many programs need."""
    x = _on(device, memory)
    wide = "float64" if real == "float64" else "float32"
    found = torch.zeros(2, dtype=torch.int64 if wide == "float64" else torch.int32, device=device)
    size = _size(real)
    call = Call("compute_quant_params", real, "int8", n, b"", b"", (0, 0), ((n, size, 1, n, 1),), blocks=1)
    launch = tiles.finding_across(Plan(*digest_data.arguments(call, (x.data_ptr(), 0, 0, 0))).form())
    places = x.data_ptr(), found.data_ptr(), found[1:].data_ptr()
    dynamic.find_extents.launch(_number_of(device), launch, (*places, *launch.arguments))
    upper, lower = found.cpu().view(getattr(torch, wide)).tolist()
    return math.isnan(upper) or math.isnan(lower), -lower, upper


def _extents_digest(real: str, device: torch.device) -> int:
    bits, mantissa = FLOATS[real]
    digest, words = Digest(), Words(500 + IDS[real])
    n = 1
    while n < 700:
        data = np.frombuffer(digest_data.patterns(real, n, 0, 8, words), f"<u{bits // 8}")
        if n % 3 != 0:  # without NaN and infinity
            data = data & ~data.dtype.type(1 << mantissa)
        has_nan, low, high = _extent(real, data.tobytes(), n, device)
        digest.add(struct.pack("<?2d", has_nan, *((0.0, 0.0) if has_nan else (low + 0.0, high + 0.0))))
        n += 1 if n < 80 else 13
    return digest.value


def _digests(row: Row, device: torch.device) -> list[int]:
    """Those of a row of a table, by its modes."""
    operation, source, target = row
    if operation == "minmax":
        return [_extents_digest(source, device)]
    if operation not in ("layouts", "blocks"):
        real, code = (target, source) if operation == "dequantize" else (source, target)
        found = [Digest() for _ in range(4 if operation == "quantize_dequantize" else 2)]
        for mode, digest in enumerate(found):
            for call in of_kernel(operation, real, code, mode):
                digest.add(_run(call, device)[0])
        return [digest.value for digest in found]
    found = [Digest() for _ in range(4)]
    for mode, call in (of_layouts if operation == "layouts" else of_blocks)(source, target):
        out, *params = _run(call, device)
        found[mode].add(out)
        if call.operation in ("compute_quant_params", "quantize_dynamic"):
            found[mode].add(b"".join(params))
    return [digest.value for digest in found]


def rows_of_tables() -> list[Row]:
    """All but those of types that no tensor has."""
    rows = [*digest_data.committed("digests.inc"), *digest_data.committed("block_digests.inc")]
    return [row for row in rows if not row[2].endswith("_unpacked")]


_OF_LAYOUTS_IN_CI: Final = (("float16", "uint4"), ("float32", "int8"))
_OF_BLOCKS_IN_CI: Final = (("bfloat16", "int4"), ("float32", "uint8"))


def is_in_ci(row: Row) -> bool:
    """Every type of codes in every operation, with one type of floats; and some of what takes longest."""
    operation, source, target = row
    if operation in ("layouts", "blocks"):
        return (source, target) in (_OF_LAYOUTS_IN_CI if operation == "layouts" else _OF_BLOCKS_IN_CI)
    if operation == "minmax":
        return True
    # Of the fused one, which computes what the other two do, half of the types.
    return (IDS[source] - IDS[target]) % len(FLOATS) == 0 and (
        operation != "quantize_dequantize" or CODES[target][0] in (4, 8, 64)
    )


def differing_digests(row: Row, device: torch.device) -> Iterator[str]:
    table = digest_data.committed("block_digests.inc" if row[0] == "blocks" else "digests.inc")
    for mode, (found, expected) in enumerate(zip(_digests(row, device), table[row], strict=True)):
        if found != expected:
            yield f"{' '.join(row)}, mode {mode}: {found:#x}, not {expected:#x}"
