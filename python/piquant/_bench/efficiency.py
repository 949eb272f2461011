"""Section: every kernel against its traffic twin, and stochastic rounding against nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from piquant._bench.cells import Arena, Cell, matrix, time_cell
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
    """Time of stochastic rounding over that of rounding to nearest, each counted in the time of its twin."""

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
        for cell in progress(cells, "efficiency"):
            for isa in isas:
                context.isa = isa
                results.append(_efficiency(context, cell, arena, effort.rounds))
    return results


def _efficiency(context: Context, cell: Cell, arena: Arena, rounds: int) -> Efficiency:
    n = arena.n
    timing = time_cell(context, cell, arena, rounds, repeats_for(n))
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
    """Pairs up the cells that differ in rounding alone. Their twins are the same, which cancels the machine's mood."""
    nearest = {_place(r): r.efficiency for r in results if r.operation == "quantize"}
    return [
        StochasticRatio(r.isa, r.threads, r.elements, r.real, r.code, nearest[_place(r)] / r.efficiency)
        for r in results
        if r.operation == "stochastic"
    ]


def _place(r: Efficiency) -> tuple[str, int, int, str, str]:
    return r.isa, r.threads, r.elements, r.real, r.code
