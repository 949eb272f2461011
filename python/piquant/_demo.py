"""``piquant demo``: a million numbers through every type, measured against the error bound, with nothing but Python."""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from array import array
from operator import mul, sub
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import piquant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUMMARY: Final = "quantize a million numbers to every type and check the error against its bound"
MODES: Final = tuple(piquant.RoundMode)
TARGETS: Final = [t for t in piquant.DataType if t.is_quantized]
SEED: Final = 2024
RUNS: Final = 5


class Source(NamedTuple):
    """The data in one float type: as a buffer, and as numbers."""

    dtype: str
    buffer: Any
    values: Sequence[float]


class Result(NamedTuple):
    """What one type and rounding mode did to the data."""

    source: str
    dtype: str
    bits: int
    ratio: float
    round_mode: piquant.RoundMode
    worst: float
    bound: float
    mean_square: float
    quantize_rate: float  # bytes per second, read and written
    dequantize_rate: float

    @property
    def within_bound(self) -> bool:
        return self.worst <= self.bound


def normal_values(count: int) -> array[float]:
    """Normally distributed float32 numbers, the same on every run."""
    generator = random.Random(SEED)
    return array("f", (generator.gauss(0.0, 1.0) for _ in range(count)))


def sources(values: array[float]) -> Iterator[Source]:
    """The data in every float type. Values change with their type, so each has its own."""
    yield Source("float32", values, values)
    doubles = array("d", values)
    yield Source("float64", doubles, doubles)
    halves = bytearray(struct.pack(f"={len(values)}e", *values))
    yield Source("float16", halves, numbers(halves, "float16"))
    # The upper half of a float32 is a bfloat16.
    upper = array("H", memoryview(values).cast("B").cast("H")[1 if sys.byteorder == "little" else 0 :: 2])
    yield Source("bfloat16", upper, numbers(upper, "bfloat16"))


def numbers(buffer: Any, dtype: str) -> Sequence[float]:
    """The elements of a buffer as a sequence of numbers."""
    memory = memoryview(buffer).cast("B")
    if dtype == "float16":
        return struct.unpack(f"={len(memory) // 2}e", memory)
    if dtype == "bfloat16":
        halves = memory.cast("H")
        wide = array("H", bytes(4 * len(halves)))
        wide[1 if sys.byteorder == "little" else 0 :: 2] = array("H", halves)
        return memoryview(wide).cast("B").cast("f")
    return memory.cast("f" if dtype == "float32" else "d")


def measure(source: Source, dtype: piquant.DataType, round_mode: piquant.RoundMode) -> Result:
    """Takes the data to ``dtype`` and back."""
    count = len(source.values)
    floats = len(memoryview(source.buffer).cast("B"))
    codes = bytearray((count * dtype.bit_size + 7) // 8)
    back = bytearray(floats)
    scale, zero_point = piquant.compute_quant_params(source.buffer, dtype=dtype, source_dtype=source.dtype)

    def quantize() -> None:
        piquant.quantize(
            source.buffer, scale=scale, zero_point=zero_point, dtype=dtype,
            round_mode=round_mode, seed=SEED, source_dtype=source.dtype, out=codes,
        )  # fmt: skip

    def dequantize() -> None:
        piquant.dequantize(
            codes, scale=scale, zero_point=zero_point, dtype=source.dtype,
            source_dtype=dtype, shape=(count,), out=back,
        )  # fmt: skip

    quantize_time, dequantize_time = best_time(quantize), best_time(dequantize)
    errors = list(map(sub, source.values, numbers(back, source.dtype)))
    above, below = max(errors), min(errors)
    return Result(
        source.dtype,
        dtype.value,
        dtype.bit_size,
        floats / len(codes),
        round_mode,
        max(above, -below),
        piquant.error_bound(
            min(source.values), max(source.values), scale=scale, dtype=source.dtype, round_mode=round_mode
        ),
        sum(map(mul, errors, errors)) / count,
        (floats + len(codes)) / quantize_time,
        (floats + len(codes)) / dequantize_time,
    )


def best_time(call: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def copy_rate(values: array[float]) -> float:
    """Bytes per second, read and written, of a plain copy of the data by one thread."""
    source = memoryview(values).cast("B")
    target = memoryview(bytearray(len(source)))

    def copy() -> None:
        target[:] = source

    return 2 * len(source) / best_time(copy)


COLUMNS: Final = (
    f"{'from':8}  {'to':6}  {'bits':>4}  {'ratio':>5}  {'rounding':10}  {'worst error':>11}  {'bound':>9}  "
    f"{'of it':>5}  {'mean square':>11}  {'quantize':>9}  {'dequantize':>10}"
)


def row(result: Result) -> str:
    """A line of the table."""
    share = f"{100 * result.worst / result.bound:.0f}%"
    return (
        f"{result.source:8}  {result.dtype:6}  {result.bits:4}  {result.ratio:4.3g}x  {result.round_mode:10}  "
        f"{result.worst:11.3e}  {result.bound:9.3e}  {share:>5}  {result.mean_square:11.3e}  "
        f"{result.quantize_rate / 1e9:4.1f} GB/s  {result.dequantize_rate / 1e9:5.1f} GB/s"
        + ("" if result.within_bound else "  VIOLATED")
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``piquant demo``."""
    parser.add_argument("--count", type=_positive, default=1_000_000, help="how many numbers (default: %(default)s)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def run(given: argparse.Namespace) -> int:
    """Prints the table; returns 1 when an error exceeds its bound, else 0."""
    count: int = given.count
    values = normal_values(count)
    print(f"piquant {piquant.__version__}: {count:,} numbers, {piquant.isa()}, {piquant.get_num_threads()} threads")
    print()
    print(COLUMNS)
    violations = 0
    for done, result in enumerate(results(values)):
        _progress("")
        print(row(result), flush=sys.stdout.isatty())
        violations += not result.within_bound
        _progress(f"{done + 1} of {TOTAL}")
    _progress("")
    print()
    print("bound: scale / 2 to nearest, scale stochastically, plus the rounding of the compute and output types;")
    print("GB/s: bytes read and written, the fastest of a few runs.")
    print(f"A plain copy of the float32 data by one thread, for comparison: {copy_rate(values) / 1e9:.1f} GB/s.")
    print(f"Bounds violated: {violations} of {TOTAL}.")
    return 1 if violations else 0


# Every type from float32, and one type from the others.
TOTAL: Final = 2 * len(TARGETS) + 2 * 3


def results(values: array[float]) -> Iterator[Result]:
    """All rows of the table, in order."""
    for source in sources(values):
        targets = TARGETS if source.dtype == "float32" else [piquant.DataType.UINT8]
        for dtype in targets:
            for round_mode in MODES:
                yield measure(source, dtype, round_mode)


def _progress(text: str) -> None:
    """Shows ``text`` in place of the last one, where standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
