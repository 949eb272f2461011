"""Speed on a CUDA device: bandwidths beside that of a copy from the device to itself, and what a call costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

import piquant.torch as pt
from piquant_bench import expressions

N: Final = 1 << 28
"""Elements: each array is many times what the caches hold."""
ROUNDS: Final = 9
SMALL: Final = 1024
CALLS: Final = 500
_EVENT: Final[Any] = torch.cuda.Event  # torch does not say its types


@dataclass
class Row:
    """One kind of work: bytes it moves in a second, as a part of what a copy does in the same run."""

    name: str
    terabytes: float
    of_copy: float


@dataclass
class CallCost:
    """What a call on little data takes the calling thread."""

    name: str
    seconds: float


def is_there() -> bool:
    """Whether torch sees a device."""
    return torch.cuda.is_available()


def _time(call: Callable[[], object]) -> float:
    """Seconds on the device, the median."""
    call()
    call()
    found = []
    for _ in range(ROUNDS):
        begin, end = (_EVENT(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        found.append(float(begin.elapsed_time(end)) / 1e3)
    return statistics.median(found)


def _works(n: int) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Name, bytes an element, and the call."""
    x = torch.randn(n, device="cuda")
    half = x.bfloat16()
    codes, packed = (torch.empty(n // k, dtype=torch.uint8, device="cuda") for k in (1, 2))
    codes = codes.view(torch.int8)
    floats, halves = torch.zeros_like(x), torch.zeros_like(half)
    given: dict[str, Any] = {"scale": expressions.SCALE, "zero_point": expressions.ZERO_POINT}
    rounding: dict[str, Any] = {"round_mode": "stochastic", "seed": 5}
    for name, source, size in (("float32", x, 4), ("bfloat16", half, 2)):
        target = floats if size == 4 else halves
        for code, out, part in (("int8", codes, 1.0), ("int4", packed, 0.5)):
            told: dict[str, Any] = {"source_dtype": code} if part < 1 else {}
            quantize = partial(pt.quantize, source, dtype=code, out=out, **given)
            dequantize = partial(pt.dequantize, out, dtype=name, out=target, **given, **told)
            yield f"{name} -> {code}", size + part, quantize
            yield f"{name} -> {code}, stochastic", size + part, partial(quantize, **rounding)
            yield f"{code} -> {name}", size + part, dequantize
            yield f"{code} -> {name}, add", 2 * size + part, partial(dequantize, reduce_op="add")
            for block in (32, 128, 4096):
                for symmetric in (True, False):
                    rows = source.view(-1, 4096)
                    dynamic = partial(pt.quantize_dynamic, rows, dtype=code, block_size=block, symmetric=symmetric)
                    refill = partial(dynamic, out=dynamic())
                    kind = "symmetric" if symmetric else "asymmetric"
                    parameters = (4 if symmetric else 5) / block
                    yield f"{name} -> {code}, blocks of {block}, one pass, {kind}", size + part + parameters, refill
                    del refill
    per_tensor = partial(torch.quantize_per_tensor, x, *given.values(), torch.qint8)
    yield "torch: float32 -> int8, quantize_per_tensor", 5, per_tensor

    yield "torch: float32 -> int8, expression", 5, lambda: expressions.to_int8(x)
    arrays = {"float32": x, "bfloat16": half, "int8": codes, "int4": packed}
    for name, target in (("float32", floats), ("bfloat16", halves)):
        for expression in expressions.all_of(name):
            source = arrays[expression.source]
            moved = target.element_size() * (2 if expression.adds else 1) + (1.0 if "int8" in expression.name else 0.5)
            call = partial(torch.compile(expression.function), source, *[target][: expression.adds])
            yield f"torch: {expression.name}, compiled expression", moved, call
    yield "torch: int8 -> float32, copy_ (no scale)", 5, lambda: floats.copy_(codes)
    yield "torch: int8 -> bfloat16, copy_ (no scale)", 3, lambda: halves.copy_(codes)


def _copied(n: int) -> float:
    """Bytes that a copy moves in a second."""
    a, b = torch.randn(n, device="cuda"), torch.empty(n, device="cuda")
    return 8 * n / _time(lambda: b.copy_(a))


def measure(n: int = N) -> tuple[list[Row], list[CallCost]]:
    """Bandwidths of all works, and costs of calls."""
    copy = _copied(n)
    rows = [Row("copy", copy / 1e12, 1.0)]
    for name, size, call in _works(n):
        rate = size * n / _time(call)
        rows.append(Row(name, rate / 1e12, rate / copy))
    return rows, list(_calls())


def _calls() -> Iterator[CallCost]:
    x = torch.randn(SMALL, device="cuda")
    codes, floats = torch.empty(SMALL, dtype=torch.int8, device="cuda"), torch.empty(SMALL, device="cuda")
    works: dict[str, Callable[[], object]] = {
        "torch.quantize_per_tensor": lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        "torch.add": lambda: torch.add(x, 1.0),
        "quantize": lambda: pt.quantize(x, scale=0.1, dtype="int8"),
        "quantize, out=": lambda: pt.quantize(x, scale=0.1, dtype="int8", out=codes),
        "quantize, stochastic": lambda: pt.quantize(x, scale=0.1, dtype="int8", round_mode="stochastic", seed=1),
        "dequantize": lambda: pt.dequantize(codes, scale=0.1, dtype="float32"),
        "dequantize, add": lambda: pt.dequantize(codes, scale=0.1, dtype="float32", out=floats, reduce_op="add"),
        "quantize_dynamic, blocks of 128": lambda: pt.quantize_dynamic(x, dtype="int8", block_size=128, symmetric=True),
        "torch.ops.piquant.quantize": lambda: torch.ops.piquant.quantize.scalar(x, 0.1, 0, "int8"),
    }
    for name, call in works.items():
        best = float("inf")
        for round_ in range(ROUNDS):
            begin = time.perf_counter()
            for _ in range(CALLS):
                call()
            passed = time.perf_counter() - begin
            torch.cuda.synchronize()
            best = min(best, passed / CALLS) if round_ else best
        yield CallCost(name, best)


def text(results: tuple[list[Row], list[CallCost]]) -> str:
    """Both as tables."""
    rows, calls = results
    width = max(len(row.name) for row in rows)
    lines = [f"{torch.cuda.get_device_name()}, {N:,} elements", f"{'':{width}}   TB/s   of a copy"]
    lines += [f"{row.name:{width}}  {row.terabytes:5.2f}        {row.of_copy:5.2f}" for row in rows]
    lines += ["", f"{SMALL:,} elements, out of a loop of calls"]
    lines += [f"{call.name:{width}}  {call.seconds * 1e6:5.1f} us" for call in calls]
    return "\n".join(lines)
