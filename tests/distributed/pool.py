"""Processes that are ranks: they are given names of functions, and give back what these return.

A name is that of a function in ``ranks.py``, or of another module with a dot between, "hook_ranks.train"."""

from __future__ import annotations

import datetime
import importlib
import multiprocessing
import os
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

WORLDS = (1, 2, 3, 4, 5, 7)
PATIENCE = 60.0


class RankError(Exception):
    """What a rank raised, as words."""


class Rank(NamedTuple):
    """What such a function knows of where it runs."""

    rank: int
    world: int
    group: dist.ProcessGroup


class Pool:
    """So many ranks of one process group, and groups of the first few of them.

    Args:
        world: ranks.
        worlds: sizes of groups that functions may run in.
        timeout: of collectives, in seconds.
    """

    def __init__(self, world: int, worlds: Sequence[int] = (), timeout: float = 60) -> None:
        context = multiprocessing.get_context("forkserver")
        # pytest because children import the main module of their parent, FSDP because DDP takes seconds to import it.
        context.set_forkserver_preload(["torch.distributed.fsdp", "piquant.distributed", "pytest", "numpy"])
        self.world = world
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._connections: list[Connection] = []
        self.processes: list[BaseProcess] = []
        for rank in range(world):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, world, tuple(worlds), self._store.port, timeout)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self.processes.append(process)

    def start(self, world: int, name: str, *arguments: Any, only: Sequence[int] | None = None) -> None:
        """Has the first ranks, or some of these, call the function of this name in their group."""
        for rank in range(world) if only is None else only:
            self._connections[rank].send((world, name, arguments))

    def results(self, ranks: Sequence[int], patience: float = PATIENCE) -> list[Any]:
        """What these ranks return; a ``RankError`` for what one raises, an ``EOFError`` for one that is gone."""
        end = time.monotonic() + patience
        found: list[Any] = []
        for rank in ranks:
            connection = self._connections[rank]
            if not connection.poll(max(end - time.monotonic(), 0)):
                raise TimeoutError(f"rank {rank} did not answer within {patience} s")
            try:
                is_right, value = connection.recv()
            except (EOFError, ConnectionError):
                found.append(EOFError())
            else:
                found.append(value if is_right else RankError(value))
        return found

    def run(self, world: int, name: str, *arguments: Any) -> list[Any]:
        """The results of a function on the first ranks."""
        self.start(world, name, *arguments)
        found = self.results(range(world))
        for result in found:
            if isinstance(result, Exception):
                raise result
        return found

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        for connection in self._connections:
            connection.close()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def serve(
    connection: Connection, rank: int, world: int, worlds: tuple[int, ...], port: int, timeout: float
) -> None:  # in a process of its own
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=timeout)
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=limit)
    groups: dict[int, Any] = {size: dist.new_group(range(size), timeout=limit) for size in worlds}
    groups[world] = dist.group.WORLD
    while True:
        try:
            size, name, arguments = connection.recv()
        except EOFError:
            return
        try:
            module, _, function = name.rpartition(".")
            call = getattr(importlib.import_module(module or "ranks"), function)
            answer = True, call(Rank(rank, size, groups[size]), *arguments)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        connection.send(answer)
