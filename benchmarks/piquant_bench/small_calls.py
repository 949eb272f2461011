"""Section: what surrounds a kernel: the call itself, threads that sleep, memory that is new."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import piquant
import piquant.numpy
from piquant_bench.libraries import quiet_torch
from piquant_bench.timing import after_idleness, interleaved, is_noise, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from piquant_bench.timing import Effort

    Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class CallTime:
    """Median of one call; the first of a group is what the others are compared with."""

    group: str
    elements: int
    call: str
    seconds: float
    ratio: float
    noisy: bool


def measure(effort: Effort) -> list[CallTime]:
    """All groups."""
    results = []
    medium_to_large = (effort.medium, 16 * effort.medium, effort.large)
    jobs = [
        *(("call with out=", n, _calls) for n in (effort.small, effort.medium)),
        *(("after 50 ms of idleness", n, _by_threads) for n in medium_to_large),
        *(("out= against a fresh output", n, _by_output) for n in medium_to_large),
    ]
    for group, n, make in progress(jobs, "small calls"):
        for title, calls in make(n).items():
            if make is _by_threads:
                samples = after_idleness(calls, effort.idle_rounds)
            else:
                samples = interleaved(calls, effort.rounds, effort.pause)
            first = next(iter(samples.values()))
            results += [_call_time(f"{group}, {title}", n, name, s, first) for name, s in samples.items()]
    return results


def _call_time(group: str, n: int, name: str, samples: list[float], first: list[float]) -> CallTime:
    seconds = statistics.median(samples)
    return CallTime(group, n, name, seconds, seconds / statistics.median(first), is_noise(samples, first))


def _floats(n: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(n, np.float32)


def _calls(n: int) -> dict[str, Calls]:
    x, copy, codes = _floats(n), np.zeros(n, np.float32), np.zeros(n, np.uint8)
    calls: dict[str, Callable[[], object]] = {
        "piquant.numpy.quantize": lambda: piquant.numpy.quantize(
            x, scale=0.05, zero_point=128, dtype="uint8", out=codes
        ),
        "numpy.copyto": lambda: np.copyto(copy, x),
    }
    return {"float32 -> uint8": calls | _torch_calls(n)}


def _torch_calls(n: int) -> dict[str, Callable[[], object]]:
    try:
        import torch  # noqa: PLC0415

        import piquant.torch  # noqa: PLC0415
    except ImportError:
        return {}
    quiet_torch()
    x, codes = torch.from_numpy(_floats(n)), torch.zeros(n, dtype=torch.uint8)
    quantized = torch.quantize_per_tensor(x, 0.05, 128, torch.quint8)
    return {
        "piquant.torch.quantize, uint8": lambda: piquant.torch.quantize(
            x, scale=0.05, zero_point=128, dtype=torch.uint8, out=codes
        ),
        "piquant.torch.quantize, quint8": lambda: piquant.torch.quantize(
            x, scale=0.05, zero_point=128, dtype=torch.quint8, out=quantized
        ),
        "torch.quantize_per_tensor": lambda: torch.quantize_per_tensor(x, 0.05, 128, torch.quint8),
    }


def _by_threads(n: int) -> dict[str, Calls]:
    x, codes = _floats(n), np.zeros(n, np.uint8)

    def quantize(context: piquant.Context) -> Callable[[], object]:
        return lambda: piquant.numpy.quantize(x, scale=0.05, zero_point=128, dtype="uint8", out=codes, ctx=context)

    threads = sorted({1, 2, piquant.get_num_threads()})
    return {"float32 -> uint8": {f"{t} thread{'s' * (t > 1)}": quantize(piquant.Context(t)) for t in threads}}


def _by_output(n: int) -> dict[str, Calls]:
    x, codes = _floats(n), np.full(n, 128, np.uint8)

    def quantize(out: np.ndarray[tuple[int], np.dtype[np.uint8]] | None) -> Callable[[], object]:
        return lambda: piquant.numpy.quantize(x, scale=0.05, zero_point=128, dtype="uint8", out=out)

    def dequantize(out: np.ndarray[tuple[int], np.dtype[np.float32]] | None) -> Callable[[], object]:
        return lambda: piquant.numpy.dequantize(codes, scale=0.05, zero_point=128, dtype=np.float32, out=out)

    return {
        "float32 -> uint8": {"out=": quantize(np.zeros(n, np.uint8)), "fresh": quantize(None)},
        "uint8 -> float32": {"out=": dequantize(np.zeros(n, np.float32)), "fresh": dequantize(None)},
    }
