"""Section: the same tasks done by other libraries."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import piquant
from piquant_bench.libraries import LIBRARIES, OURS, TASKS, Data, Setup, open_all
from piquant_bench.timing import interleaved, is_noise, progress

if TYPE_CHECKING:
    from piquant_bench.libraries import Task
    from piquant_bench.timing import Effort


@dataclass(frozen=True)
class PeerTime:
    """Median of one library at one task."""

    task: str
    elements: int
    library: str
    seconds: float
    gb_per_second: float
    ratio: float  # its time over ours
    noisy: bool


def measure(effort: Effort, pypiquant: str | None) -> tuple[list[PeerTime], dict[str, str]]:
    """All tasks at all sizes; and the libraries that are absent, with the reason."""
    setup = Setup(piquant.get_num_threads(), pypiquant, effort.compilers)
    present, absent = open_all(setup, LIBRARIES)
    results = []
    sizes = (effort.large, effort.medium, effort.small)
    for n in progress(sizes, "peers"):
        data = Data(n)
        prepared = {name: prepare(data) for name, prepare in present.items()}
        for task in TASKS:
            calls = {name: tasks[task] for name, tasks in prepared.items() if task in tasks}
            samples = interleaved(calls, effort.rounds, effort.pause)
            results += [_peer_time(task, n, name, s, samples[OURS]) for name, s in samples.items()]
    return results, absent


def _peer_time(task: Task, n: int, name: str, samples: list[float], ours: list[float]) -> PeerTime:
    seconds = statistics.median(samples)
    return PeerTime(
        task=str(task.cell),
        elements=n,
        library=name,
        seconds=seconds,
        gb_per_second=task.cell.bytes_per_element * n / seconds / 1e9,
        ratio=seconds / statistics.median(ours),
        noisy=is_noise(samples, ours),
    )
