"""Section: every kernel against its traffic twin, and stochastic rounding against nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import piquant
from piquant_bench._native import Session
from piquant_bench.cells import Arena, Cell, Timing, matrix, time_cells
from piquant_bench.timing import progress

if TYPE_CHECKING:
    from piquant_bench.timing import Effort

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
    noisy: bool
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
    noisy: bool


def measure(effort: Effort, isas: list[str]) -> list[Efficiency]:
    """The whole matrix: large on all threads, and medium on one."""
    cells = sorted(matrix(OPERATIONS), key=lambda cell: cell.source)  # fills the memory once per source
    results = []
    for n, threads in ((effort.large, piquant.get_num_threads()), (effort.medium, 1)):
        arena = Arena(n)
        sessions = [Session(threads, isa) for isa in isas]
        for group in progress(_groups(cells), "efficiency"):
            for session in sessions:
                timings = time_cells(session, group, arena, effort.rounds, repeats_for(n))
                results += [_efficiency(session, c, n, t) for c, t in zip(group, timings, strict=True)]
    return results


def _groups(cells: list[Cell]) -> list[tuple[Cell, ...]]:
    """Cells to time in turns: both roundings of a conversion, whose ratio is asked for, and others alone."""
    groups: dict[object, tuple[Cell, ...]] = {}
    for cell in cells:
        key = ("rounding", cell.real, cell.code) if cell.operation in ("quantize", "stochastic") else cell
        groups[key] = (*groups.get(key, ()), cell)
    return list(groups.values())


def _efficiency(session: Session, cell: Cell, n: int, timing: Timing) -> Efficiency:
    return Efficiency(
        isa=session.isa,
        threads=session.threads,
        elements=n,
        operation=cell.operation,
        real=cell.real,
        code=cell.code,
        kernel_seconds=timing.kernel,
        twin_seconds=timing.twin,
        efficiency=timing.efficiency,
        noisy=timing.noisy,
        gb_per_second=cell.bytes_per_element * n / timing.kernel / 1e9,
    )


def repeats_for(n: int) -> int:
    """Calls per turn: many short ones, one long one."""
    return max(1, min(100, (1 << 21) // n))


def stochastic_ratios(results: list[Efficiency]) -> list[StochasticRatio]:
    """Pairs up the cells that differ in rounding alone, which were timed in turns and have one twin."""
    nearest = {_place(r): r for r in results if r.operation == "quantize"}
    pairs = [(r, nearest[_place(r)]) for r in results if r.operation == "stochastic"]
    return [
        StochasticRatio(*_place(r), ratio=other.efficiency / r.efficiency, noisy=r.noisy or other.noisy)
        for r, other in pairs
    ]


def _place(r: Efficiency) -> tuple[str, int, int, str, str]:
    return r.isa, r.threads, r.elements, r.real, r.code
