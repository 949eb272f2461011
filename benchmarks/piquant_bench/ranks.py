"""Ranks of the benchmark of links: processes that each have a network of their own, and carry out orders together."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from piquant_bench.network import INTERFACE, LinkError, Network

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND: Final = ("unshare", "--net", sys.executable, "-m", "piquant_bench.all_reduces")
_START: Final = 120.0  # seconds in which processes begin, join and end


class Ranks:
    """So many processes, which have no network at first but a loopback that is down."""

    def __init__(self, count: int) -> None:
        one_thread = {"OMP_NUM_THREADS": "1", "PIQUANT_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": INTERFACE}
        self._processes = [
            subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread
            )
            for _ in range(count)
        ]
        self._answers(_START)

    @property
    def process_numbers(self) -> list[int]:
        """Those of the hosts of a network."""
        return [process.pid for process in self._processes]

    def join(self, store: Path, timeout: float) -> None:
        """Makes them a process group, which finds its members by a file."""
        for number, process in enumerate(self._processes):
            self._tell(process, rank=number, ranks=len(self._processes), store=str(store), timeout=timeout)
        self._answers(_START)

    def all(self, timeout: float, **order: Any) -> list[Any]:
        """Tells all of them, and waits for their answers."""
        for process in self._processes:
            self._tell(process, **order)
        return self._answers(timeout)

    def end(self) -> None:
        """Waits until they have left their group and ended."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(_START)

    def kill(self) -> None:
        """Ends those that are still there at once."""
        for process in self._processes:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _tell(self, process: subprocess.Popen[str], **order: Any) -> None:
        assert process.stdin is not None
        try:
            print(json.dumps(order), file=process.stdin, flush=True)
        except BrokenPipeError:
            raise LinkError("a rank has ended") from None

    def _answers(self, timeout: float) -> list[Any]:
        """A line of each, in the order of ranks."""
        deadline = time.monotonic() + timeout
        lines: dict[int, str] = {}
        with selectors.DefaultSelector() as waiting:
            for number, process in enumerate(self._processes):
                assert process.stdout is not None
                waiting.register(process.stdout, selectors.EVENT_READ, (number, process.stdout))
            while len(lines) < len(self._processes):
                ready = waiting.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise LinkError(f"ranks did not answer within {timeout:.0f} s")
                for key, _ in ready:
                    number, answers = key.data
                    lines[number] = answers.readline()
                    waiting.unregister(answers)
                    if not lines[number]:
                        raise LinkError(f"rank {number} has ended")
        return [json.loads(lines[number]) for number in range(len(self._processes))]


@contextlib.contextmanager
def joined(count: int, delay: float, timeout: float) -> Iterator[tuple[Ranks, Network]]:
    """Ranks and their network, which both end with the block."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        ranks = Ranks(count)
        try:
            network = Network(ranks.process_numbers, delay)
            ranks.join(Path(directory) / "store", timeout)
            yield ranks, network
            network.close()
            ranks.end()
        finally:
            ranks.kill()
