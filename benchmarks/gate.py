"""Two versions of the library in one process, call by call in turns: the measuring half of scripts/speed-gate.

python benchmarks/gate.py --isa-of SHIM LIBRARY
python benchmarks/gate.py HEAD-SHIM HEAD-LIBRARY REFERENCE-SHIM REFERENCE-LIBRARY
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from typing import NamedTuple

LIMIT = 1.08  # of the median ratio
ATTEMPTS = 3
OPERATIONS = ("quantize", "stochastic", "dequantize", "add", "quantize_dequantize", "params")
SMALL, MEDIUM, LARGE = 1 << 10, 1 << 16, 1 << 22


class Cell(NamedTuple):
    """What is called, on how much, by how many threads."""

    operation: str
    real: str
    code: str
    n: int
    threads: int = 1

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.operation} {self.real} {self.code}, {self.n:,} elements, {threads}"


CELLS = (
    Cell("quantize", "float32", "uint8", SMALL),
    Cell("stochastic", "float32", "int8", SMALL),
    Cell("dequantize", "float32", "uint8", SMALL),
    Cell("add", "float32", "int8", SMALL),
    Cell("params", "float32", "uint8", SMALL),
    Cell("quantize", "float32", "uint8", MEDIUM),
    Cell("quantize", "float32", "uint4", MEDIUM),
    Cell("quantize", "bfloat16", "int8", MEDIUM),
    Cell("quantize", "float16", "uint2", MEDIUM),
    Cell("quantize", "float64", "int16", MEDIUM),
    Cell("stochastic", "float32", "uint4", MEDIUM),
    Cell("stochastic", "bfloat16", "int8", MEDIUM),
    Cell("dequantize", "float32", "int8", MEDIUM),
    Cell("dequantize", "bfloat16", "uint4", MEDIUM),
    Cell("dequantize", "float32", "uint2", MEDIUM),
    Cell("add", "float32", "uint8", MEDIUM),
    Cell("add", "bfloat16", "uint4", MEDIUM),
    Cell("quantize_dequantize", "float32", "int4", MEDIUM),
    Cell("params", "bfloat16", "int8", MEDIUM),
    Cell("quantize", "float32", "uint8", LARGE),
    Cell("quantize", "float32", "uint8", LARGE, 2),
    Cell("stochastic", "float32", "uint8", LARGE, 2),
    Cell("dequantize", "float32", "uint4", LARGE, 2),
    Cell("add", "float32", "int8", LARGE, 2),
    Cell("params", "float32", "uint8", LARGE, 2),
)


class Library:
    """One version of the library."""

    def __init__(self, shim: str, library: str) -> None:
        self._shim = ctypes.CDLL(os.path.realpath(shim))
        self._shim.gate_open.restype = ctypes.c_char_p
        self._shim.gate_memory.restype = ctypes.c_void_p
        self._shim.gate_memory.argtypes = [ctypes.c_size_t]
        text, memory, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
        self._shim.gate_fill.argtypes = [text, memory, memory, size]
        self._shim.gate_time.restype = ctypes.c_double
        self._shim.gate_time.argtypes = [ctypes.c_int, text, text, memory, memory, memory, size, size, ctypes.c_int]
        ok = ctypes.c_int()
        answer = self._shim.gate_open(os.path.realpath(library).encode(), ctypes.byref(ok)).decode()
        if not ok.value:
            raise SystemExit(f"{library}: {answer}")
        self.isa = answer

    def memory(self, size: int) -> int:
        """Memory that lives as long as the process."""
        return self._shim.gate_memory(size)

    def fill(self, real: str, floats: int, codes: int, n: int) -> None:
        """Values of this type."""
        if self._shim.gate_fill(real.encode(), floats, codes, n) != 0:
            raise SystemExit(f"cannot make values of {real}")

    def seconds(self, cell: Cell, places: tuple[int, int, int], calls: int) -> float:
        """Of one of this many calls."""
        operation = OPERATIONS.index(cell.operation)
        types = cell.real.encode(), cell.code.encode()
        taken = self._shim.gate_time(operation, *types, *places, cell.n, cell.threads, calls)
        if taken < 0:
            raise SystemExit(f"{cell}: status {-1 - taken:g}")
        return taken


def compare(cell: Cell, head: Library, reference: Library, places: tuple[int, int, int]) -> tuple[float, float]:
    """Time of the head as a multiple of the reference's, and seconds of the latter: medians of many short rounds."""
    floats, codes, _ = places
    reference.fill(cell.real, floats, codes, cell.n)
    once = max(min(library.seconds(cell, places, 1) for _ in range(5)) for library in (head, reference))
    calls = max(1, min(5000, int(200e-6 / once)))
    rounds = max(41, min(301, int(0.4 / (2 * once * (calls + 1)))))
    ratios, seconds = [], []
    for i in range(rounds):
        order = (head, reference) if i % 2 else (reference, head)
        taken = {}
        for library in order:
            if cell.threads > 1:
                time.sleep(100e-6)  # by then the other's threads sleep, and do not take a core from this one
            taken[library] = library.seconds(cell, places, calls)
        ratios.append(taken[head] / taken[reference])
        seconds.append(taken[reference])
    return statistics.median(ratios), statistics.median(seconds)


def main() -> int:
    if sys.argv[1] == "--isa-of":
        print(Library(*sys.argv[2:]).isa)
        return 0
    head, reference = Library(*sys.argv[1:3]), Library(*sys.argv[3:5])
    if head.isa != reference.isa:
        raise SystemExit(f"the head runs on {head.isa}, the reference on {reference.isa}")
    wanted = sys.argv[5:]
    # Floats of 8 bytes, codes of as many, outputs; not at the same place of a page.
    places = tuple(head.memory(8 * LARGE + 4096) + 448 * i for i in range(3))
    slow = []
    print(f"{head.isa}; time of this tree as a multiple of the reference's, at most {LIMIT}; time of the latter")
    for cell in CELLS:
        if not all(word in str(cell) for word in wanted):
            continue
        # Noise goes by, a slow kernel stays slow.
        values: list[float] = []
        while len(values) < ATTEMPTS and not (values and values[-1] <= LIMIT):
            value, seconds = compare(cell, head, reference, places)
            values.append(value)
        passed = values[-1] <= LIMIT
        print(
            f"{'ok  ' if passed else 'SLOW'}  {', '.join(f'{v:.3f}' for v in values)}  {1e6 * seconds:9.3f} us  {cell}",
            flush=True,
        )
        slow += [] if passed else [cell]
    print(f"{len(slow)} slower than the reference" if slow else "none slower than the reference")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
