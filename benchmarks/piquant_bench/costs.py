"""Section: what a call costs beside moving its bytes, measured on one processor or two, and what follows for many.

The model is explained in docs/performance.md. Times are in seconds, traffic is bytes read plus written.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

import piquant
import piquant.numpy
from piquant_bench.timing import progress, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from piquant_bench.timing import Effort

# What the engine decides by: see src/engine/schedule.hpp and src/cpu/caches.hpp.
_CUTOFF: Final = 256 << 10
_LEAST_SHARE: Final = _CUTOFF // 2
_PER_SLEEPER: Final = 8 * _CUTOFF
_CACHED_PER_THREAD: Final = 32 << 20

PREDICTED: Final = (4, 16, 64, 360)
_BYTES_PER_ELEMENT: Final = 5  # float32 and uint8
_REST: Final = 0.005


@dataclass(frozen=True)
class Constants:
    """What is measured."""

    call: float  # of a call of a few elements
    hand_off: float  # added by a thread that is awake
    wake: float  # what the caller pays to wake one that sleeps
    arrival: float  # from there until that one works
    cached: float  # bytes per second of a thread, where all are at work, from caches
    rested: float  # bytes per second of one thread after a rest, in which neighbours use the caches
    memory: float  # bytes per second of a thread, where all are at work, from memory


@dataclass(frozen=True)
class Prediction:
    """One call by the model; measured where this machine has the threads."""

    elements: int
    threads: int
    state: str
    seconds: float
    measured: float | None


def measure(effort: Effort) -> tuple[Constants, list[Prediction]]:
    """The constants, and calls of several sizes on more and more threads."""
    threads = piquant.get_num_threads()
    constants = _constants(effort, threads)
    results = []
    for n in progress((16 * effort.medium, 64 * effort.medium, effort.large), "costs"):
        traffic = n * _BYTES_PER_ELEMENT
        here = _call(n, piquant.Context(threads))
        for state in ("loop", "rest"):
            measured = _in_a_row(here, effort) if state == "loop" else _rested(here, effort)
            for t in sorted({threads, *PREDICTED}):
                predicted = predict(constants, traffic, t, state)
                results.append(Prediction(n, t, state, predicted, measured if t == threads else None))
    return constants, results


def predict(c: Constants, traffic: int, threads: int, state: str) -> float:
    """Seconds of a call on at most so many threads, which are awake ("loop") or asleep ("rest")."""
    takers = 1 if traffic < _CUTOFF else max(1, min(threads, traffic // _LEAST_SHARE))
    speed = c.cached if traffic < _CACHED_PER_THREAD * takers else c.memory
    if state == "loop":
        return c.call + c.hand_off * (takers - 1) + traffic / (takers * speed)
    speed = min(speed, c.rested)
    sleepers = min(takers - 1, traffic // _PER_SLEEPER)
    # Each round doubles those at work: who came in the last one wakes two more.
    now = c.call + c.wake * min(2, sleepers)
    working, newest, left = 1, 1, float(traffic)
    while sleepers > 0:
        coming = min(2 * newest, sleepers)
        until = c.arrival + (c.wake * min(2, sleepers) if working > 1 else 0.0)
        done = working * speed * until
        if done >= left:
            break
        left -= done
        now += until
        working, newest, sleepers = working + coming, coming, sleepers - coming
    return now + left / (working * speed)


def _constants(effort: Effort, threads: int) -> Constants:
    short, medium = 26_240, 64 * effort.medium  # the first is two chunks, over before a sleeper comes
    one, two = piquant.Context(1), piquant.Context(2)
    two.serial_cutoff = 0
    calls = {(n, c): _call(n, context) for n in (short, medium) for c, context in (("one", one), ("two", two))}
    loops = {key: _in_a_row(call, effort) for key, call in calls.items() if key[0] == short}
    rests = {key: _rested(call, effort) for key, call in calls.items()}
    wake = max(0.0, rests[short, "two"] - rests[short, "one"])
    # Both work from the arrival on: two = wake + arrival + (one - arrival) / 2.
    arrival = max(0.0, 2 * (rests[medium, "two"] - wake) - rests[medium, "one"])
    everyone = piquant.Context(threads)
    cached, memory = (_in_a_row(_call(n, everyone), effort) for n in (medium, effort.large))
    return Constants(
        call=_in_a_row(_call(1, one), effort),
        hand_off=max(0.0, loops[short, "two"] - loops[short, "one"] / 2),
        wake=wake,
        arrival=arrival,
        cached=medium * _BYTES_PER_ELEMENT / cached / threads,
        rested=medium * _BYTES_PER_ELEMENT / rests[medium, "one"],
        memory=effort.large * _BYTES_PER_ELEMENT / memory / threads,
    )


def _call(n: int, context: piquant.Context) -> Callable[[], object]:
    x, codes = np.random.default_rng(0).standard_normal(n, np.float32), np.zeros(n, np.uint8)
    return lambda: piquant.numpy.quantize(x, scale=0.05, zero_point=128, dtype="uint8", out=codes, ctx=context)


def _in_a_row(call: Callable[[], object], effort: Effort) -> float:
    call()
    return statistics.median(seconds_of(call, 1) for _ in range(10 * effort.rounds))


def _rested(call: Callable[[], object], effort: Effort) -> float:
    samples = []
    for _ in range(2 * effort.idle_rounds):
        call()
        time.sleep(_REST)
        samples.append(seconds_of(call, 1))
    return statistics.median(samples)
