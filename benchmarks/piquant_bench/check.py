"""The short check that a change has not lost the vectorization of a kernel.

Limits are far below what any instruction set of ours reaches, and far above what a loop of scalars does: a noisy
machine passes, a kernel that the compiler no longer vectorizes does not.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from piquant_bench._native import Session
from piquant_bench.blocks import CHANNELS, GROUP, BlockCell, cells, over, time_blocks
from piquant_bench.cells import Arena, Cell, time_cell, time_cells
from piquant_bench.efficiency import repeats_for
from piquant_bench.libraries import quiet_torch
from piquant_bench.timing import interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ATTEMPTS: Final = 3
_ROUNDS: Final = 5
_SIZES: Final = (65_536, 1 << 22)

# The least efficiency: about half of what SSE4.2 has.
_FLOORS: Final = {
    Cell("quantize", "float32", "uint8"): 0.20,
    Cell("quantize", "float32", "uint4"): 0.15,
    Cell("quantize", "float32", "uint2"): 0.12,
    Cell("quantize", "bfloat16", "uint8"): 0.07,
    Cell("quantize", "float64", "int16"): 0.15,
    Cell("stochastic", "float32", "uint8"): 0.05,
    Cell("stochastic", "float32", "uint4"): 0.05,
    Cell("dequantize", "float32", "uint8"): 0.35,
    Cell("dequantize", "float32", "uint4"): 0.25,
    Cell("dequantize", "float32", "uint2"): 0.20,
    Cell("dequantize", "bfloat16", "uint8"): 0.08,
    Cell("add", "float32", "uint8"): 0.25,
    Cell("params", "float32", "uint8"): 0.25,
    Cell("params", "bfloat16", "uint8"): 0.25,
}
_MOST_STOCHASTIC: Final = 6.0  # stochastic over nearest
_MOST_TORCH: Final = 3.0  # ours over torch
# Scales for blocks over one scale: about twice what AVX-512 has. Loops of scalars take 8 to 200 times as long.
_MOST_BLOCKS: Final = {
    "quantize": 4.0,
    "dequantize": 4.0,
    "symmetric": 6.0,
    "asymmetric": 7.0,
    "stochastic": 5.0,
    "params": 6.0,
}
_MOST_CHANNELS: Final = 10.0
_MOST_FOR_TABLE: Final = 14.0  # 16-bit floats from 4 bits: with one scale they come from a table


@dataclass(frozen=True)
class Check:
    """A ratio and its limit."""

    name: str
    measure: Callable[[], float]
    least: float | None = None
    most: float | None = None

    def passes(self, value: float) -> bool:
        """Whether a value keeps the limit."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def limit(self) -> str:
        """The limit in words."""
        return f"at least {self.least:.2f}" if self.least is not None else f"at most {self.most:.2f}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check."""

    name: str
    limit: str
    values: tuple[float, ...]  # one per attempt
    passed: bool

    def __str__(self) -> str:
        values = ", ".join(f"{value:.2f}" for value in self.values)
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.name}: {values} ({self.limit})"


def judge(checks: Iterable[Check]) -> Iterable[Verdict]:
    """Measures each check, and one that fails again: noise goes by, a slow kernel stays slow."""
    for check in checks:
        values: list[float] = []
        while len(values) < ATTEMPTS and not (values and check.passes(values[-1])):
            values.append(check.measure())
        yield Verdict(check.name, check.limit, tuple(values), check.passes(values[-1]))


def checks() -> Iterable[Check]:
    """Kernels against their twins, stochastic rounding and blocks against what is simpler, and torch if it is there."""
    for n in _SIZES:
        session = Session(1 if n == _SIZES[0] else 0)
        arena = Arena(n)
        place = f"{n:,} elements, {session.threads} thread{'s' * (session.threads > 1)}"
        for cell, floor in _FLOORS.items():
            yield Check(f"efficiency: {cell}, {place}", _efficiency(session, cell, arena), least=floor)
        for code in ("uint8", "uint4"):
            name = f"stochastic / nearest: float32 -> {code}, {place}"
            yield Check(name, _stochastic(session, code, arena), most=_MOST_STOCHASTIC)
        if n == _SIZES[0]:
            yield from _block_checks(session, arena, place)
    yield from _torch_checks()


def _efficiency(session: Session, cell: Cell, arena: Arena) -> Callable[[], float]:
    return lambda: time_cell(session, cell, arena, _ROUNDS, repeats_for(arena.n)).efficiency


def _stochastic(session: Session, code: str, arena: Arena) -> Callable[[], float]:
    cells = Cell("quantize", "float32", code), Cell("stochastic", "float32", code)

    def ratio() -> float:
        nearest, stochastic = time_cells(session, cells, arena, _ROUNDS, repeats_for(arena.n))
        return stochastic.kernel / nearest.kernel

    return ratio


def _block_checks(session: Session, arena: Arena, place: str) -> Iterable[Check]:
    for cell in cells():
        if cell.cut in (GROUP, CHANNELS):
            name = f"blocks / one scale: {cell.title}, {cell.cut}, {place}"
            yield Check(name, _blocks(session, cell, arena), most=_most(cell))


def _most(cell: BlockCell) -> float:
    if cell.operation == "dequantize" and cell.code == "uint4" and cell.real != "float32":
        return _MOST_FOR_TABLE
    return _MOST_CHANNELS if cell.cut == CHANNELS else _MOST_BLOCKS[cell.operation]


def _blocks(session: Session, cell: BlockCell, arena: Arena) -> Callable[[], float]:
    def ratio() -> float:
        one, blocks = time_blocks(session, (cell,), arena, _ROUNDS)
        return over(blocks, one)

    return ratio


def _torch_checks() -> Iterable[Check]:
    try:
        import torch  # noqa: PLC0415

        import piquant.torch  # noqa: PLC0415
    except ImportError:
        return
    quiet_torch()
    torch.set_num_threads(piquant.get_num_threads())

    def ratio(n: int) -> float:
        x, out = torch.linspace(-3, 3, n), torch.zeros(n, dtype=torch.uint8)
        calls = {
            "ours": partial(piquant.torch.quantize, x, scale=0.05, zero_point=128, dtype=torch.uint8, out=out),
            "torch": partial(torch.quantize_per_tensor, x, 0.05, 128, torch.quint8),
        }
        seconds = interleaved(calls, _ROUNDS, 0.005)
        return statistics.median(seconds["ours"]) / statistics.median(seconds["torch"])

    for n in _SIZES:
        yield Check(f"piquant / torch: float32 -> uint8, {n:,} elements", partial(ratio, n), most=_MOST_TORCH)
