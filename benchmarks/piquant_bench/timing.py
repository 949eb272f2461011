"""How much to measure, and how calls are timed against each other."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """Sizes and repetitions of a run."""

    large: int = 27_264_000
    medium: int = 65_536
    small: int = 1_024
    rounds: int = 9
    idle_rounds: int = 25
    curve_top: int = 28  # the largest size is 2 to this power
    curve_rounds: int = 7
    compilers: bool = True  # whether to include peers that compile for tens of seconds
    pause: float = 0.01  # seconds without work that tell that threads are at rest


QUICK = Effort(rounds=3, idle_rounds=9, curve_top=22, curve_rounds=3, compilers=False)


_MOST_APART: Final = 1.15


def is_noise(times: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the ratio of two series, taken in turns, changes by more than 1.15 times between their halves."""
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    half = len(ratios) // 2
    if half == 0:
        return False
    apart = statistics.median(ratios[:half]) / statistics.median(ratios[half:])
    return not 1 / _MOST_APART <= apart <= _MOST_APART


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, pause: float) -> dict[str, list[float]]:
    """Seconds of each call in each round, taking turns.

    Each turn begins when the threads of the one before are at rest, with a call outside the measurement that wakes its
    own.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        repeats = {name: _repeats(call) for name, call in calls.items()}
        samples: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                wait_for_rest(pause)
                call()
                samples[name].append(seconds_of(call, repeats[name]))
    finally:
        if collecting:
            gc.enable()
    return samples


def wait_for_rest(pause: float) -> None:
    """Sleeps until no thread of this process runs: some libraries spin for 50 ms after a call, on everybody's cores."""
    deadline = time.perf_counter() + 1
    resting = False
    while not resting and time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(pause)
        resting = time.process_time() - before < 1e-3


def _repeats(call: Callable[[], object]) -> int:
    """Enough for 2 ms, which the clock resolves well."""
    call()
    return max(1, min(1000, int(2e-3 / max(seconds_of(call, 1), 1e-9))))


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """The mean of some calls in a row."""
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def after_idleness(
    calls: Mapping[str, Callable[[], object]], rounds: int, idle_seconds: float = 0.05
) -> dict[str, list[float]]:
    """Seconds of single calls that follow a time without any."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(idle_seconds)
            samples[name].append(seconds_of(call, 1))
    return samples


def progress(items: Sequence[T], label: str) -> Iterable[T]:
    """The items, with a bar on a terminal."""
    bar: Iterable[T] = tqdm(items, desc=f"{label:<12}", file=sys.stderr, disable=None, leave=False)
    return bar
