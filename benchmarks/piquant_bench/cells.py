"""Times of single operations, each against its traffic twin."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from piquant import DataType
from piquant_bench._native import Call
from piquant_bench.timing import is_noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from piquant_bench._native import Session

FLOATS: Final = ("float32", "float16", "bfloat16", "float64")
TARGETS: Final = ("uint2", "int2", "uint4", "int4", "uint8", "int8", "uint16", "int16")


@dataclass(frozen=True)
class Cell:
    """One operation: what a kernel does, apart from size, threads and instruction set."""

    operation: str  # "quantize", "stochastic", "dequantize", "add", "params"
    real: str
    code: str

    @property
    def bytes_per_element(self) -> float:
        """Read and written, the output's read of "add" included."""
        real, code = DataType(self.real).bit_size / 8, DataType(self.code).bit_size / 8
        return {"params": real, "add": 2 * real + code}.get(self.operation, real + code)

    @property
    def reads_real(self) -> bool:
        """Whether the input is floats; else it is codes."""
        return self.operation in ("quantize", "stochastic", "params")

    @property
    def source(self) -> str:
        """The dtype of the input."""
        return self.real if self.reads_real else self.code

    @property
    def target(self) -> str:
        """The dtype of the output; of parameters, the one that they are for."""
        return self.code if self.reads_real else self.real

    def __str__(self) -> str:
        if self.operation == "params":
            return f"{self.real} parameters"
        arrow = f"{self.real} -> {self.code}" if self.reads_real else f"{self.code} -> {self.real}"
        suffix = {"stochastic": " stochastic", "add": " add"}.get(self.operation, "")
        return arrow + suffix


def matrix(operations: tuple[str, ...]) -> Iterator[Cell]:
    """Every cell of these operations; parameters do not depend on the quantized type."""
    for operation in operations:
        for real in FLOATS:
            for code in ("uint8",) if operation == "params" else TARGETS:
                yield Cell(operation, real, code)


class Arena:
    """Memory that all cells of one size share: touched, aligned to lines, and filled with plausible values."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._blocks = [np.zeros(8 * n + 4096, np.uint8) for _ in range(2)]
        normal = np.random.default_rng(0).standard_normal(min(n, 1 << 16)).astype(np.float32)
        self._sample = np.resize(normal, n)
        self._holds: str | None = None

    def address(self, block: int) -> int:
        """Of the first line of a block: 0 to read from, 1 to write to."""
        start = self._blocks[block].__array_interface__["data"][0]
        return int(start + -start % 4096)

    def fill(self, dtype: str) -> None:
        """Puts floats of a dtype, or arbitrary codes, into the block to read from."""
        if self._holds == dtype:
            return
        offset = self.address(0) - self._blocks[0].__array_interface__["data"][0]
        if dtype not in FLOATS:
            codes = np.random.default_rng(1).integers(0, 256, 1 << 16, dtype=np.uint8)
            nbytes = self.n * DataType(dtype).bit_size // 8
            self._blocks[0][offset : offset + nbytes] = np.resize(codes, nbytes)
        elif dtype == "bfloat16":
            self._view(offset, np.uint16)[:] = self._sample.view(np.uint32) >> 16
        else:
            self._view(offset, np.dtype(dtype))[:] = self._sample
        self._holds = dtype

    def _view(
        self, offset: int, dtype: np.dtype[np.generic] | type[np.generic]
    ) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        return self._blocks[0][offset : offset + self.n * np.dtype(dtype).itemsize].view(dtype)


@dataclass(frozen=True)
class Timing:
    """Seconds of a kernel and of its twin, turn by turn."""

    kernels: tuple[float, ...]
    twins: tuple[float, ...]

    @property
    def kernel(self) -> float:
        """The median."""
        return statistics.median(self.kernels)

    @property
    def twin(self) -> float:
        """The median."""
        return statistics.median(self.twins)

    @property
    def efficiency(self) -> float:
        """1 is the speed of memory.

        The median over the turns, not the ratio of two medians, which memory that changes its speed between turns may
        have met at different speeds.
        """
        return statistics.median(twin / kernel for kernel, twin in zip(self.kernels, self.twins, strict=True))

    @property
    def noisy(self) -> bool:
        """Whether the efficiency depends on when in the run it was measured."""
        return is_noise(self.twins, self.kernels)


def time_cell(session: Session, cell: Cell, arena: Arena, rounds: int, repeats: int) -> Timing:
    """Alternates ``rounds`` times between ``repeats`` calls of the kernel and of its twin; the first round warms up."""
    return time_cells(session, (cell,), arena, rounds, repeats)[0]


def time_cells(session: Session, cells: tuple[Cell, ...], arena: Arena, rounds: int, repeats: int) -> list[Timing]:
    """As ``time_cell``, of cells of the same types and direction, which have one twin: all in turns with it."""
    first = cells[0]
    arena.fill(first.source)
    into = 0 if first.operation == "params" else arena.address(1)
    zero_point = 0 if first.code.startswith("int") else 1 << (DataType(first.code).bit_size - 1)
    calls = [
        Call(cell.operation, arena.address(0), cell.source, into, cell.target, arena.n, 0.02, zero_point)
        for cell in cells
    ]
    return time_calls(session, calls, rounds, repeats)


def time_calls(session: Session, calls: Sequence[Call], rounds: int, repeats: int, in_a_row: int = 1) -> list[Timing]:
    """Alternates between the calls and the twin of the first, which must be that of all."""
    kernels: list[list[float]] = [[] for _ in calls]
    twin: list[float] = []
    for r in range(rounds + 1):
        of_calls = [statistics.median(session.measure(call, repeats, in_a_row)) for call in calls]
        of_twin = statistics.median(session.measure_traffic(calls[0], repeats, in_a_row))
        if r > 0:
            for kernel, s in zip(kernels, of_calls, strict=True):
                kernel.append(s)
            twin.append(of_twin)
    return [Timing(tuple(kernel), tuple(twin)) for kernel in kernels]


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return statistics.geometric_mean(values)
