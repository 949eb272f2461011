"""Section: cost per element from one element to the limits of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import piquant
from piquant_bench._native import Session
from piquant_bench.cells import Arena, Cell, Timing, time_cell
from piquant_bench.efficiency import repeats_for
from piquant_bench.machine import available_memory
from piquant_bench.timing import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant_bench.timing import Effort

CELLS: Final = (
    Cell("quantize", "float32", "uint8"),
    Cell("stochastic", "float32", "uint8"),
    Cell("quantize", "float32", "uint4"),
    Cell("dequantize", "float32", "uint8"),
)

# Below, calls and not elements make the cost.
_SMOOTH_FROM: Final = 1 << 12
_CLIFF: Final = 1.25
_ARENA_BYTES: Final = 20  # per element, see Arena


@dataclass(frozen=True)
class Point:
    """Medians at one size."""

    operation: str
    real: str
    code: str
    threads: int
    elements: int
    ns_per_element: float
    twin_ns_per_element: float
    efficiency: float
    noisy: bool
    cliff: bool  # costs much more than both neighbours


def measure(effort: Effort) -> list[Point]:
    """The curves of ``CELLS`` at powers of two, on one thread and on all."""
    top = effort.curve_top
    available = available_memory()
    while top > 0 and available is not None and (_ARENA_BYTES << top) > available // 2:
        top -= 1
    sessions = [Session(threads) for threads in sorted({1, piquant.get_num_threads()})]
    sizes = [1 << power for power in range(top + 1)]
    arena = Arena(1 << top)
    timings: dict[tuple[Cell, int, int], list[Timing]] = {}
    for cell, _ in progress([(c, r) for c in CELLS for r in range(effort.curve_rounds)], "cost curve"):
        arena.n = sizes[-1]
        arena.fill(cell.source)
        for n in sizes:
            arena.n = n
            for session in sessions:
                timing = time_cell(session, cell, arena, 1, repeats_for(n))
                timings.setdefault((cell, session.threads, n), []).append(timing)
    return [
        point
        for cell in CELLS
        for session in sessions
        for point in _curve(cell, session.threads, [(n, _joined(timings[cell, session.threads, n])) for n in sizes])
    ]


def _joined(rounds: list[Timing]) -> Timing:
    return Timing(tuple(k for r in rounds for k in r.kernels), tuple(t for r in rounds for t in r.twins))


def _curve(cell: Cell, threads: int, rows: list[tuple[int, Timing]]) -> list[Point]:
    costs = [timing.kernel * 1e9 / n for n, timing in rows]
    steep = cliffs([n for n, _ in rows], costs)
    return [
        Point(
            cell.operation, cell.real, cell.code, threads, n, cost, timing.twin * 1e9 / n, timing.efficiency,
            timing.noisy, cliff,
        )
        for (n, timing), cost, cliff in zip(rows, costs, steep, strict=True)
    ]  # fmt: skip


def cliffs(sizes: Sequence[int], costs: Sequence[float]) -> list[bool]:
    """Which sizes cost more than 1.25 times the worse of their neighbours, where calls cost little."""
    return [
        0 < i < len(sizes) - 1 and sizes[i] > _SMOOTH_FROM and costs[i] > _CLIFF * max(costs[i - 1], costs[i + 1])
        for i in range(len(sizes))
    ]
