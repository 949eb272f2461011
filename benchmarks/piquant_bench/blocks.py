"""Section: scales for each block, against the traffic twin and against one scale for all.

From memory the time is compared with that of the twin, which moves the elements and no parameters. From the
second-level cache and in small calls, with that of the same conversion with one scale. What is compared takes turns.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

import piquant
from piquant import DataType
from piquant_bench._native import Blocks, Call, Session
from piquant_bench.cells import FLOATS, Arena, Cell, Timing, time_calls
from piquant_bench.efficiency import repeats_for
from piquant_bench.timing import is_noise, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from piquant_bench.timing import Effort

ALL: Final = 0  # in place of a number of elements: the whole dimension
IN_MEMORY: Final = "memory"
IN_CACHE: Final = "cache"
SMALL_CALL: Final = "small call"
PLACES: Final = (IN_MEMORY, IN_CACHE, SMALL_CALL)

# Of what one scale for all reaches, if that is below the bar.
_OF_TENSOR: Final = 0.95
_COLUMNS: Final = 4096
_RESOLVED: Final = 1 << 14  # elements of the fewest calls that the clock resolves


@dataclass(frozen=True)
class Cut:
    """Blocks of a matrix, by the elements of a block along each dimension."""

    rows: int
    columns: int
    of: int = _COLUMNS  # columns of the matrix

    def __str__(self) -> str:
        if self.columns == ALL:
            return f"row of {self.of}"
        if self.rows == ALL:
            return f"{self.of} channels"
        return str(self.columns) if self.rows == 1 else f"{self.rows} x {self.columns}"

    def matrix(self, n: int) -> tuple[int, int]:
        """The shape of at most n elements; all if they are fewer than a row has."""
        columns = min(self.of, n)
        return n // columns, columns

    def block_size(self, n: int) -> tuple[int, int]:
        """That of a block in the matrix of n elements."""
        rows, columns = self.matrix(n)
        return self.rows or rows, self.columns or columns

    def count(self, n: int) -> int:
        """The number of blocks in the matrix of n elements."""
        sizes = zip(self.matrix(n), self.block_size(n), strict=True)
        return int(np.prod([-(-length // size) for length, size in sizes]))


@dataclass(frozen=True)
class Bar:
    """How fast is fast enough: the least efficiency from memory; the most time elsewhere, over that of one scale."""

    avx2: float
    avx512: float
    cache_avx2: float | None = None
    cache_avx512: float | None = None
    small: float | None = None

    def at(self, place: str, isa: str) -> float | None:
        """The one that applies; the other instruction sets have none."""
        if place == SMALL_CALL:
            return self.small
        bars = {"avx2": (self.avx2, self.cache_avx2), "avx512": (self.avx512, self.cache_avx512)}
        return bars.get(isa, (None, None))[place == IN_CACHE]


@dataclass(frozen=True)
class BlockCell:
    """One operation with blocks."""

    operation: str  # as of a Cell, or parameters and codes at once: "symmetric", "asymmetric"
    real: str
    code: str
    cut: Cut
    bar: Bar

    @property
    def dynamic(self) -> bool:
        """Whether the operation finds its parameters."""
        return self.operation in ("symmetric", "asymmetric")

    @property
    def tensor(self) -> Cell:
        """What it is compared with, with one scale for all."""
        return Cell("quantize" if self.dynamic else self.operation, self.real, self.code)

    @property
    def title(self) -> str:
        """All but the blocks."""
        return f"{self.tensor}, dynamic {self.operation}" if self.dynamic else str(self.tensor)


GROUP: Final = Cut(1, 128)
CHANNELS: Final = Cut(ALL, 1)
_GROUPS: Final = (Cut(1, 64), GROUP, Cut(1, 256))
_LEAST_GROUP: Final = Cut(1, 32)
_ROWS: Final = (Cut(1, ALL, 384), Cut(1, ALL))
_CHANNELS: Final = (Cut(ALL, 1, 384), CHANNELS)
_SQUARE: Final = Cut(128, 128)
_SINGLE: Final = ("float32",)
_HALF: Final = ("float16", "bfloat16")
CODES: Final = ("uint8", "uint4")
CUTS: Final = (_LEAST_GROUP, *_GROUPS, *_ROWS, *_CHANNELS, _SQUARE)
OPERATIONS: Final = ("quantize", "dequantize", "symmetric", "asymmetric", "stochastic", "params")

# Operations, float types, codes, cuts, bar.
_TABLE: Final = (
    (("quantize",), _SINGLE, CODES, (*_GROUPS, *_ROWS), Bar(0.93, 0.93, 1.2, 1.2, small=1.6)),
    (("quantize",), _SINGLE, CODES, (_LEAST_GROUP,), Bar(0.90, 0.90, 1.4, 1.4)),
    (("quantize",), _SINGLE, CODES, _CHANNELS, Bar(0.80, 0.85, 2.7, 2.7)),
    (("quantize",), _SINGLE, CODES, (_SQUARE,), Bar(0.85, 0.85)),
    (("dequantize",), _SINGLE, ("uint8",), (_LEAST_GROUP, *_GROUPS, *_ROWS), Bar(0.93, 0.93, 1.3, 1.3, small=1.6)),
    (("dequantize",), _SINGLE, ("uint4",), (_LEAST_GROUP, *_GROUPS, *_ROWS), Bar(0.93, 0.93, 1.8, 1.8, small=1.6)),
    (("quantize", "dequantize"), _HALF, CODES, (_LEAST_GROUP, *_GROUPS), Bar(0.85, 0.85, 1.4, 1.4)),
    (("symmetric",), _SINGLE, CODES, _GROUPS, Bar(0.90, 0.90, 2.0, 3.0)),
    (("asymmetric",), _SINGLE, CODES, _GROUPS, Bar(0.90, 0.90, 2.5, 3.5)),
    (("symmetric",), _SINGLE, CODES, (_LEAST_GROUP,), Bar(0.80, 0.80, 2.5, 4.5)),
    (("asymmetric",), _SINGLE, CODES, (_LEAST_GROUP,), Bar(0.80, 0.80, 3.5, 5.5)),
    (("symmetric", "asymmetric"), _HALF, CODES, _GROUPS, Bar(0.75, 0.80, 2.5, 2.5)),
    (("symmetric", "asymmetric"), _HALF, CODES, (_LEAST_GROUP,), Bar(0.65, 0.70, 2.5, 2.5)),
    (("symmetric", "asymmetric"), _SINGLE, CODES, (_SQUARE,), Bar(0.55, 0.55)),
    (("stochastic",), _SINGLE, CODES, _GROUPS[:2], Bar(0.65, 0.80)),
    (("params",), _SINGLE, ("uint8",), (_LEAST_GROUP, *_GROUPS), Bar(0.85, 0.85)),
)  # fmt: skip


def cells() -> list[BlockCell]:
    """Every operation, with its bar, by operation, types and blocks."""
    found = [
        BlockCell(operation, real, code, cut, bar)
        for operations, reals, codes, cuts, bar in _TABLE
        for operation in operations
        for real in reals
        for code in codes
        for cut in cuts
    ]
    return sorted(
        found,
        key=lambda c: (OPERATIONS.index(c.operation), FLOATS.index(c.real), CODES.index(c.code), CUTS.index(c.cut)),
    )


class Parameters:
    """Scales and zero points that suit the data of an arena, for a number of blocks."""

    def __init__(self, count: int, code: str) -> None:
        random = np.random.default_rng(2)
        codes = 1 << DataType(code).bit_size
        self.scale: NDArray[np.float32] = random.uniform(0.5, 1.5, count).astype(np.float32) * np.float32(6 / codes)
        self.zero_point: NDArray[np.uint8] = random.integers(codes // 4, 3 * codes // 4, count, np.uint8)

    def blocks(self, cut: Cut, n: int, *, symmetric: bool = False) -> Blocks:
        """The blocks of n elements, with these parameters. They must outlive what is returned."""
        zero_point = 0 if symmetric else self.zero_point.ctypes.data
        return Blocks(cut.matrix(n), cut.block_size(n), self.scale.ctypes.data, zero_point)


@dataclass(frozen=True)
class BlockTime:
    """One operation with blocks, at one place."""

    isa: str
    threads: int
    elements: int
    place: str  # IN_MEMORY; IN_CACHE: the second level; SMALL_CALL
    operation: str
    real: str
    code: str
    title: str  # of the three
    blocks: str
    efficiency: float
    tensor_efficiency: float  # of one scale for all, in the same turns
    over_tensor: float  # time over that with one scale
    bar: float | None  # IN_MEMORY: the least efficiency; else the most of over_tensor
    met: bool | None  # None without a bar
    noisy: bool


def measure(effort: Effort, isas: list[str]) -> list[BlockTime]:
    """All cells from memory, on all threads; on one thread, most from the second-level cache, some in small calls."""
    order = cells()
    results: list[BlockTime] = []
    for place, n, threads in (
        (IN_MEMORY, effort.large, piquant.get_num_threads()),
        (IN_CACHE, effort.medium, 1),
        (SMALL_CALL, effort.small, 1),
    ):
        arena = Arena(n)
        sessions = [Session(threads, isa) for isa in isas]
        times: dict[tuple[int, int], BlockTime] = {}
        for group in progress(_groups(place), place):
            for i, session in enumerate(sessions):
                first, *others = time_blocks(session, group, arena, effort.rounds)
                times |= {
                    (i, order.index(cell)): _block_time(session, place, cell, n, timing, first)
                    for cell, timing in zip(group, others, strict=True)
                }
        results += [times[key] for key in sorted(times)]
    return results


def _groups(place: str) -> list[tuple[BlockCell, ...]]:
    """Cells to time in turns, of one operation and matrix. They are sorted to fill the memory once per source."""
    groups: dict[object, tuple[BlockCell, ...]] = {}
    for cell in sorted(cells(), key=lambda cell: cell.tensor.source):
        if _is_at(cell, place):
            key = (cell.operation, cell.real, cell.code, cell.cut.of)
            groups[key] = (*groups.get(key, ()), cell)
    return list(groups.values())


def _is_at(cell: BlockCell, place: str) -> bool:
    if place == IN_CACHE:
        return cell.cut != _SQUARE  # which is higher than what a cache holds
    return place == IN_MEMORY or (cell.real in _SINGLE and cell.cut == GROUP)


def time_blocks(session: Session, group: Sequence[BlockCell], arena: Arena, rounds: int) -> list[Timing]:
    """Times in turns: the conversion with one scale first, then those with blocks, of one operation and matrix."""
    first = group[0]
    arena.fill(first.tensor.source)
    rows, columns = first.cut.matrix(arena.n)
    n = rows * columns
    into = 0 if first.operation == "params" else arena.address(1)
    arrays = arena.address(0), first.tensor.source, into, first.tensor.target, n
    calls = [Call(first.tensor.operation, *arrays, 0.02, 1 << (DataType(first.code).bit_size - 1))]
    parameters = [Parameters(cell.cut.count(n), cell.code) for cell in group]
    for cell, own in zip(group, parameters, strict=True):
        blocks = own.blocks(cell.cut, n, symmetric=cell.operation == "symmetric")
        calls.append(Call("dynamic" if cell.dynamic else cell.operation, *arrays, blocks=blocks))
    return time_calls(session, calls, rounds, repeats_for(n), max(1, _RESOLVED // n))


def over(timing: Timing, other: Timing) -> float:
    """The ratio of two times that were taken in the same turns."""
    return statistics.median(a / b for a, b in zip(timing.kernels, other.kernels, strict=True))


def _block_time(session: Session, place: str, cell: BlockCell, n: int, timing: Timing, tensor: Timing) -> BlockTime:
    bar = cell.bar.at(place, session.isa)
    over_tensor = over(timing, tensor)
    return BlockTime(
        isa=session.isa,
        threads=session.threads,
        elements=n,
        place=place,
        operation=cell.operation,
        real=cell.real,
        code=cell.code,
        title=cell.title,
        blocks=str(cell.cut),
        efficiency=timing.efficiency,
        tensor_efficiency=tensor.efficiency,
        over_tensor=over_tensor,
        bar=bar,
        met=None if bar is None else meets(place, bar, timing.efficiency, tensor.efficiency, over_tensor),
        noisy=timing.noisy if place == IN_MEMORY else is_noise(timing.kernels, tensor.kernels),
    )


def meets(place: str, bar: float, efficiency: float, tensor_efficiency: float, over_tensor: float) -> bool:
    """Whether a bar is met: from memory, or 0.95 of what one scale for all reaches, if that is less."""
    if place == IN_MEMORY:
        return efficiency >= min(bar, _OF_TENSOR * tensor_efficiency)
    return over_tensor <= bar
