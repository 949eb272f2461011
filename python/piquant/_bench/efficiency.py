"""Section: every kernel against its traffic twin, and stochastic rounding against nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from piquant._bench.cells import Arena, Cell, Timing, matrix, time_cells
from piquant._bench.timing import progress
from piquant._context import Context

if TYPE_CHECKING:
    from piquant._bench.timing import Effort

OPERATIONS: Final = ("quantize", "stochastic", "dequantize", "add", "params")


@dataclass(frozen=True)
class Efficiency:
    """Medians of one cell."""

    isa: str
    threads: int
    elements: int
    operation: str
    real: str
    code: str
    kernel_seconds: float
    twin_seconds: float
    efficiency: float
    gb_per_second: float


@dataclass(frozen=True)
class StochasticRatio:
    """Time of stochastic rounding over that of rounding to nearest, timed in turns."""

    isa: str
    threads: int
    elements: int
    real: str
    code: str
    ratio: float


def measure(effort: Effort, isas: list[str]) -> list[Efficiency]:
    """The whole matrix: large on all threads, and medium on one."""
    cells = sorted(matrix(OPERATIONS), key=lambda cell: cell.source)  # fills the memory once per source
    results = []
    for n, threads in ((effort.large, Context.get().num_threads), (effort.medium, 1)):
        arena = Arena(n)
        context = Context(threads)
        for group in progress(_groups(cells), "efficiency"):
            for isa in isas:
                context.isa = isa
                timings = time_cells(context, group, arena, effort.rounds, repeats_for(n))
                results += [_efficiency(context, c, n, t) for c, t in zip(group, timings, strict=True)]
    return results


def _groups(cells: list[Cell]) -> list[tuple[Cell, ...]]:
    """Cells to time in turns: both roundings of a conversion, whose ratio is asked for, and others alone."""
    groups: dict[object, tuple[Cell, ...]] = {}
    for cell in cells:
        key = ("rounding", cell.real, cell.code) if cell.operation in ("quantize", "stochastic") else cell
        groups[key] = (*groups.get(key, ()), cell)
    return list(groups.values())


def _efficiency(context: Context, cell: Cell, n: int, timing: Timing) -> Efficiency:
    return Efficiency(
        isa=context.isa,
        threads=context.num_threads,
        elements=n,
        operation=cell.operation,
        real=cell.real,
        code=cell.code,
        kernel_seconds=timing.kernel,
        twin_seconds=timing.twin,
        efficiency=timing.efficiency,
        gb_per_second=cell.bytes_per_element * n / timing.kernel / 1e9,
    )


def repeats_for(n: int) -> int:
    """Calls per turn: many short ones, one long one."""
    return max(1, min(100, (1 << 21) // n))


def stochastic_ratios(results: list[Efficiency]) -> list[StochasticRatio]:
    """Pairs up the cells that differ in rounding alone, which were timed in turns and have one twin."""
    nearest = {_place(r): r.efficiency for r in results if r.operation == "quantize"}
    return [
        StochasticRatio(r.isa, r.threads, r.elements, r.real, r.code, nearest[_place(r)] / r.efficiency)
        for r in results
        if r.operation == "stochastic"
    ]


def _place(r: Efficiency) -> tuple[str, int, int, str, str]:
    return r.isa, r.threads, r.elements, r.real, r.code
