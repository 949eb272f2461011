"""Section: the same tasks done by other libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from piquant._bench.libraries import OURS, TASKS, Data, Setup, open_all
from piquant._bench.timing import interleaved, progress
from piquant._context import Context

if TYPE_CHECKING:
    from piquant._bench.timing import Effort


@dataclass(frozen=True)
class PeerTime:
    """Median of one library at one task."""

    task: str
    elements: int
    library: str
    seconds: float
    gb_per_second: float
    ratio: float  # its time over ours


def measure(effort: Effort, pypiquant: str | None) -> tuple[list[PeerTime], dict[str, str]]:
    """All tasks at all sizes; and the libraries that are absent, with the reason."""
    setup = Setup(Context.get().num_threads, pypiquant, effort.compilers)
    present, absent = open_all(setup)
    results = []
    sizes = (effort.large, effort.medium, effort.small)
    for n in progress(sizes, "peers"):
        data = Data(n)
        prepared = {name: prepare(data) for name, prepare in present.items()}
        for task in TASKS:
            calls = {name: tasks[task] for name, tasks in prepared.items() if task in tasks}
            seconds = interleaved(calls, effort.rounds, effort.pause)
            moved = task.cell.bytes_per_element * n
            results += [
                PeerTime(str(task.cell), n, name, s, moved / s / 1e9, s / seconds[OURS]) for name, s in seconds.items()
            ]
    return results, absent
