"""Section: calls as a torch program makes them, beside torch's own functions.

A benchmark's loop finds threads awake and data in caches. A program calls after other operations, or after a rest. So
the same calls are timed in a row, directly after a torch operation on all of its threads, and some milliseconds after
the last. And beside a process that keeps one of the processors busy, as it happens on machines that are shared.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import piquant
from piquant_bench.libraries import quiet_torch
from piquant_bench.machine import usable_processors
from piquant_bench.timing import is_noise, progress, seconds_of, wait_for_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from piquant_bench.timing import Effort

    Calls = Mapping[str, Callable[[], object]]

OURS: Final = "piquant"
TORCH: Final = "torch"
STATES: Final = ("loop", "after", "rest")
_REST: Final = 0.005
_IN_A_ROW: Final = 7

_BUSY: Final = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print("busy", flush=True)
while os.getppid() == int(sys.argv[2]): pass
"""


@dataclass(frozen=True)
class ProgramTime:
    """Median of one call in one state."""

    task: str
    elements: int
    state: (
        str  # loop: in a row; after: directly after torch.Tensor.fill_ of many elements; rest: 5 ms after the last call
    )
    library: str
    seconds: float
    ratio: float  # its time over torch's
    noisy: bool


@dataclass(frozen=True)
class BusyTime:
    """One call beside a process that is busy on one of the processors."""

    elements: int
    call: str
    seconds: float  # median
    slowest_tenth: float  # nine of ten take no longer
    ratio: float  # over one thread
    noisy: bool


def measure(effort: Effort) -> list[ProgramTime]:
    """All tasks, sizes and states; nothing without torch."""
    if not _has_torch():
        return []
    import torch  # noqa: PLC0415

    work = torch.zeros(effort.large)
    sizes = sorted({effort.medium, 16 * effort.medium, 64 * effort.medium, effort.large})
    results = []
    for n in progress(sizes, "in programs"):
        for task, calls in _tasks(n).items():
            for state in STATES:
                samples = _samples(calls, state, effort, lambda: work.fill_(1.0))
                for library, own in samples.items():
                    seconds, torchs = statistics.median(own), samples[TORCH]
                    ratio = seconds / statistics.median(torchs)
                    results.append(ProgramTime(task, n, state, library, seconds, ratio, is_noise(own, torchs)))
    return results


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _tasks(n: int) -> dict[str, Calls]:
    import torch  # noqa: PLC0415

    import piquant.torch  # noqa: PLC0415

    quiet_torch()
    scale, zero = 0.05, 128
    x, codes, floats = torch.randn(n), torch.zeros(n, dtype=torch.uint8), torch.zeros(n)
    quantized = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
    given: dict[str, Any] = {"scale": scale, "zero_point": zero}

    def torchs() -> object:
        return torch.quantize_per_tensor(x, scale, zero, torch.quint8)

    return {
        "float32 -> uint8": {
            OURS: lambda: piquant.torch.quantize(x, **given, dtype=torch.uint8, out=codes),
            TORCH: torchs,
        },
        "uint8 -> float32": {
            OURS: lambda: piquant.torch.dequantize(codes, **given, dtype=torch.float32, out=floats),
            TORCH: quantized.dequantize,
        },
        "float32 -> quint8, new": {
            OURS: lambda: piquant.torch.quantize(x, **given, dtype=torch.quint8),
            TORCH: torchs,
        },
    }


def _samples(calls: Calls, state: str, effort: Effort, work: Callable[[], object]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(effort.rounds if state == "loop" else effort.idle_rounds):
        for name, call in calls.items():
            if state == "loop":
                wait_for_rest(effort.pause)
                call()
                call()
                samples[name].append(statistics.median(seconds_of(call, 1) for _ in range(_IN_A_ROW)))
                continue
            if state == "after":
                work()
            else:
                call()
                time.sleep(_REST)
            samples[name].append(seconds_of(call, 1))
    return samples


def measure_busy(effort: Effort) -> list[BusyTime]:
    """A large call on one thread and on all, own and torch's, beside torch's function.

    Nothing on one processor, or where none can be kept busy.
    """
    processors = usable_processors()
    if len(processors) < 2 or not hasattr(os, "sched_setaffinity"):
        return []
    calls = _by_executor(effort.large)
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY, str(processors[-1]), str(os.getpid())], stdout=subprocess.PIPE
    ) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            samples: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(2 * effort.idle_rounds):
                for name, call in calls.items():
                    wait_for_rest(effort.pause)  # the threads of torch spin on the processor that the next one needs
                    call()
                    samples[name].append(statistics.median(seconds_of(call, 1) for _ in range(3)))
        finally:
            busy.kill()
    one = next(iter(samples.values()))
    return [
        BusyTime(
            effort.large, name, statistics.median(own), sorted(own)[len(own) * 9 // 10],
            statistics.median(own) / statistics.median(one), is_noise(own, one),
        )
        for name, own in samples.items()
    ]  # fmt: skip


def _by_executor(n: int) -> dict[str, Callable[[], object]]:
    import numpy as np  # noqa: PLC0415

    import piquant.numpy  # noqa: PLC0415

    x, codes = np.random.default_rng(0).standard_normal(n, np.float32), np.zeros(n, np.uint8)
    threads = max(2, piquant.get_num_threads())

    def on(context: piquant.Context) -> Callable[[], object]:
        return lambda: piquant.numpy.quantize(x, scale=0.05, zero_point=128, dtype="uint8", out=codes, ctx=context)

    calls = {"1 thread": on(piquant.Context(1)), f"{threads} own threads": on(piquant.Context(threads))}
    if _has_torch():
        import torch  # noqa: PLC0415

        import piquant.torch  # noqa: PLC0415

        tensor, out = torch.from_numpy(x), torch.from_numpy(codes)
        calls[f"{torch.get_num_threads()} threads of torch"] = lambda: piquant.torch.quantize(
            tensor, scale=0.05, zero_point=128, dtype=torch.uint8, out=out
        )
        quiet_torch()
        calls["torch.quantize_per_tensor"] = lambda: torch.quantize_per_tensor(tensor, 0.05, 128, torch.quint8)
    return calls
