"""Inputs of the digests that tests/cpp commits, and the digests: what portable_data.hpp and digests.hpp make, again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CPP = Path(__file__).parents[1] / "cpp"
FLOATS = {"float16": (16, 10), "bfloat16": (16, 7), "float32": (32, 23), "float64": (64, 52)}
"""Bits, and those of the mantissa."""
CODES = {f"{sign}int{bits}": (bits, not sign) for bits in (2, 4, 8, 16, 32, 64) for sign in ("", "u")}
"""Bits, and whether there is a sign. Dtype ids go by these, after the floats."""
IDS = {name: i for i, name in enumerate((*FLOATS, *CODES))}
MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
Row = tuple[str, str, str]


def committed(name: str) -> dict[Row, list[int]]:
    """Digests of a table by operation and types, in the order of its modes."""
    found = {}
    for line in (CPP / name).read_text().splitlines():
        *row, digests = re.fullmatch(r'\{"(\w+)", "(\w+)", "(\w+)", \{([^}]*)\}\},', line).groups()  # type: ignore[union-attr]
        found[tuple(row)] = [int(digest, 16) for digest in digests.split(", ")]
    return found  # type: ignore[return-value]


@dataclass
class Digest:
    """FNV-1a."""

    value: int = 0xCBF29CE484222325

    def add(self, memory: bytes) -> None:
        value = self.value
        for byte in memory:
            value = (value ^ byte) * 0x100000001B3 & MASK
        self.value = value


class Words:
    """SplitMix64, whose words are a function of their number: also many at once."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def peek(self, n: int) -> np.ndarray:
        z = np.uint64(self._state) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def take(self, n: int) -> np.ndarray:
        words = self.peek(n)
        self.skip(n)
        return words

    def skip(self, n: int) -> None:
        self._state = (self._state + n * _GAMMA) & MASK

    def next(self) -> int:
        return int(self.take(1)[0])

    def below(self, n: int) -> int:
        return self.next() % n


def as_bytes(patterns: np.ndarray, bits: int) -> bytes:
    return patterns.astype(f"<u{bits // 8}").tobytes()


def patterns(real: str, n: int, center: int, reach: int, words: Words) -> bytes:
    """Floats around a power of two, ties among them, ends of the format, and any patterns at all."""
    bits, mantissa = FLOATS[real]
    exponents = (1 << bits - 1 - mantissa) - 1
    bias, infinity = exponents >> 1, exponents << mantissa
    quiet, one = infinity | 1 << mantissa - 1, bias << mantissa
    ends = [0, 1, 2, (1 << mantissa) - 1, 1 << mantissa, infinity, quiet, one, infinity | 1, quiet | 5]
    ends += [one + 1, infinity - 1]
    w = words.peek(6 * n + 6)
    # An element takes three words, or as its second word says one to three more.
    kinds = w % np.uint64(16)
    steps = np.where(kinds == 0, 3, np.where(kinds == 1, 6, np.where(kinds < 8, 5, 4))).tolist()
    at, places = 0, np.empty(n, np.int64)
    for i in range(n):
        places[i] = at
        at += steps[at + 1]
    words.skip(at)
    word, kind, any_pattern = w[places], kinds[places + 1], w[places + 2]
    exponent = np.int64(center + bias - reach) + (w[places + 3] % np.uint64(2 * reach)).astype(np.int64)
    exponent = np.clip(exponent, 0, exponents - 1).astype(np.uint64)
    kept = np.where(kind < 8, (w[places + 4] % np.uint64(10)).astype(np.int64), mantissa)
    dropped = np.maximum(mantissa - kept, 0).astype(np.uint64)
    made = (word & np.uint64((1 << mantissa) - 1)) >> dropped << dropped | exponent << np.uint64(mantissa)
    made = np.where(kind == 1, np.array(ends, np.uint64)[(w[places + 5] % np.uint64(len(ends))).astype(int)], made)
    made |= (word >> np.uint64(63)) << np.uint64(bits - 1)
    return as_bytes(np.where(kind == 0, any_pattern, made), bits)


def codes(n_bytes: int, words: Words) -> bytes:
    return (words.take(n_bytes) >> np.uint64(56)).astype(np.uint8).tobytes()


def numbers(real: str, n: int, reach: int, words: Words) -> bytes:
    """Finite floats of exponents within ``reach`` of 0."""
    bits, mantissa = FLOATS[real]
    bias = (1 << bits - 2 - mantissa) - 1
    w = words.take(2 * n)
    exponent = np.uint64(bias - reach) + w[1::2] % np.uint64(2 * reach)
    made = w[::2] >> np.uint64(63) << np.uint64(bits - 1) | exponent << np.uint64(mantissa)
    return as_bytes(made | w[::2] & np.uint64((1 << mantissa) - 1), bits)


def bytes_for(n: int, bits: int) -> int:
    return -(-n * bits // 8)


def range_of(code: str) -> tuple[int, int]:
    bits, is_signed = CODES[code]
    low = -(1 << bits - 1) if is_signed else 0
    return low, low + (1 << bits) - 1


def signed(word: int) -> int:
    """The same 64 bits as a signed number."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


class Call(NamedTuple):
    """A plan with what its arrays hold before; those that it writes go into the digest."""

    operation: str
    real: str
    code: str
    n: int
    in_: bytes
    out: bytes
    first: tuple[int, int]  # where element 0 lies on both sides
    dims: tuple[tuple[int, ...], ...]
    stochastic: bool = False
    add: bool = False
    symmetric: bool = False
    scale: float = 1.0
    zero: int = 0
    limits: tuple[int, int] = (0, 0)
    seed: int = 0
    offset: int = 0
    blocks: int = 0
    scales: bytes = b""
    zeros: bytes = b""
    has_zeros: bool = False
    scale_dtype: str = "float32"
    zero_dtype: str = "int8"
    in_place: bool = False


def arguments(call: Call, addresses: tuple[int, int, int, int]) -> tuple[Any, ...]:
    """What the native module hands to a device. ``addresses`` are those of input, output, scales and zero points."""
    operations = ("quantize", "dequantize", "quantize_dequantize", "compute_quant_params", "quantize_dynamic")
    wide = np.float64 if call.real == "float64" else np.float32
    with np.errstate(all="ignore"):
        numbers_ = [wide(call.scale), wide(1.0 / call.scale)]
    scale, inverse = (int(x.view(f"i{x.itemsize}")) for x in numbers_)
    return (
        operations.index(call.operation), IDS[call.real], IDS[call.code],
        addresses[0] + call.first[0], addresses[1] + call.first[1], call.n, call.blocks, scale, inverse,
        signed(call.zero), addresses[2], addresses[3], IDS[call.scale_dtype], IDS[call.zero_dtype],
        int(call.stochastic), int(call.add), int(call.symmetric), *map(signed, call.limits), call.seed, call.offset, 0,
        call.dims,
    )  # fmt: skip
