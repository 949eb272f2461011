"""Process groups, with what belongs to them here: a group of their own, the thread that runs calls in order, buffers.

Collectives of one group must be issued in the same order on all ranks. So each ``Group`` has a process group that
nobody else uses, and one thread, the *worker*, that runs whole calls one after the other. Callbacks of futures would
not do: those that wait for a second collective deadlock with two calls under way, as Gloo has two threads, and those
that do not wait start their second collectives in an order of their own on each rank.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore

from piquant.distributed._plan import disagreement, segment_bytes_for
from piquant.distributed._work import CopiedBack, Work, cuda_devices, device_of, on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from piquant.distributed._plan import Plan

_RECORD_BYTES: Final = 1024
_PINGS: Final = 3


class DisagreementError(ValueError):
    """Ranks called with different sizes, types or options. Every rank raises it, and nothing was exchanged."""


class Announcement(NamedTuple):
    """A call that this rank is about to make, and what the others say of theirs."""

    plan: Plan
    call: int
    work: Any
    every: torch.Tensor


class Group:
    """A process group of torch's, as calls here use it.

    Making one is collective: all ranks of ``process_group`` do it at the same place.

    Args:
        process_group: by default that of all ranks.

    Attributes:
        rank: of this process in the group.
        world_size: processes in the group.
        own: the process group that collectives go through.
        calls: how many were made, alike on all ranks; random words depend on it.
        memory: buffers by name, kept from call to call. For the worker alone.
    """

    def __init__(self, process_group: dist.ProcessGroup | None = None) -> None:
        parent = _known(process_group)
        self.rank = parent.rank()
        self.world_size = parent.size()
        # Where there is only one rank, nothing goes through it.
        self.own: Any = _own(parent) if self.world_size > 1 else parent
        self.calls = 0
        self.memory: dict[tuple[str, torch.device], torch.Tensor] = {}
        self._segment_bytes: int | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A group that is dropped ends its thread, which therefore knows the queue alone.
        self._end = weakref.finalize(self, self._jobs.put, None)
        self._error: Exception | None = None
        self._is_closed = False
        self._is_abandoned = False

    def submit(self, job: Callable[[], None], tensors: Sequence[torch.Tensor]) -> Work:
        """Has the worker run a job, after those before it.

        Raises:
            RuntimeError: an earlier job failed, the group was closed, or this process is a child of its process.
        """
        self.check_open()
        work = Work(tensors)
        inference = torch.is_inference_mode_enabled()
        current = device_of(tensors)
        ready = [torch.cuda.current_stream(device).record_event() for device in cuda_devices(tensors)]

        def run() -> None:
            try:
                self._check_failed()
                with torch.inference_mode() if inference else torch.no_grad(), on(current):
                    for event in ready:
                        event.wait()
                    job()
                    for device in cuda_devices(tensors):  # whatever stream is the current one of who waits
                        torch.cuda.current_stream(device).synchronize()
            except Exception as error:
                self._note(error)
                work.finish(error)
            else:
                work.finish(None)

        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_work_off, args=(self._jobs,), name="piquant.distributed", daemon=True
                )
                self._thread.start()
            self._jobs.put(run)
        return work

    def check_open(self) -> None:
        """Raises where no call can be made any more."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this process was forked from process {self._pid}, to which the group belongs: "
                "its connections and threads are not here"
            )
        self._check_failed()
        if self._is_closed:
            raise RuntimeError("the group was closed")

    def _check_failed(self) -> None:
        if self._error is not None:
            raise RuntimeError(f"the group is closed since an earlier call failed: {self._error}") from self._error
        if self._is_abandoned:
            raise RuntimeError("the group was abandoned")

    def _note(self, error: Exception) -> None:
        # Of a disagreement all ranks know, and have exchanged nothing.
        if self._error is None and not isinstance(error, DisagreementError):
            self._error = error
            self.memory.clear()

    def close(self) -> None:
        """Ends the worker, after the jobs that it was given. Later calls raise."""
        self._is_closed = True
        self._end()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join()
        self.memory.clear()

    def abandon(self) -> None:
        """The same without waiting, for a group that may hang: jobs that did not begin raise.

        The one under way ends when its collectives do, by themselves or at the process group's timeout.
        """
        self._is_closed = self._is_abandoned = True
        self._end()

    # The rest is for jobs.

    def buffer(self, name: tuple[str, torch.device], n_bytes: int, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """Memory of at least so many bytes, kept under a name for the next call on tensors of the device."""
        found = self.memory.get(name)
        if found is None or found.numel() < n_bytes:
            with torch.inference_mode(False):  # for calls of any mode
                found = self.memory[name] = make(n_bytes)
        return found[:n_bytes]

    def segment_bytes(self) -> int:
        """Bytes of a segment, by the longest round trip time of all ranks: measured once."""
        if self._segment_bytes is None:
            device = self.device()
            ping = torch.zeros(8, dtype=torch.uint8, device=device)
            pong = torch.empty(8 * self.world_size, dtype=torch.uint8, device=device)
            times = []
            for _ in range(1 + _PINGS):
                start = time.perf_counter()
                self.gather(pong, ping).wait()
                pong[0].item()
                times.append(time.perf_counter() - start)
            best = torch.tensor([min(times[1:])], dtype=torch.float64, device=device)
            self.all_reduce(best, dist.ReduceOp.MAX).wait()
            self._segment_bytes = segment_bytes_for(best.item())
        return self._segment_bytes

    def announce(self, plan: Plan) -> Announcement:
        """Numbers a call, and tells the others which plan it has here: a few bytes that ``agree`` waits for."""
        self.calls += 1
        mine = torch.tensor([_signed(plan.digest), self.calls], device=self.device())
        every = mine.new_empty(2 * self.world_size)
        work = self.gather(every, mine)
        return Announcement(plan, self.calls, work, every)

    def agree(self, announced: Announcement) -> None:
        """Waits until all ranks are at the same call. No other collective of the call may begin before.

        Raises:
            DisagreementError: on all ranks, where their plans differ.
        """
        announced.work.wait()
        words = announced.every.view(self.world_size, 2)
        if bool((words == words[0]).all()):
            return
        record = {"calls so far": announced.call, **announced.plan.record}
        mine = torch.frombuffer(bytearray(json.dumps(record).encode().ljust(_RECORD_BYTES)), dtype=torch.uint8)
        mine = mine.to(self.device())
        every = mine.new_empty(_RECORD_BYTES * self.world_size)
        self.gather(every, mine).wait()
        rows = every.view(self.world_size, _RECORD_BYTES).cpu()
        differs = disagreement([json.loads(bytes(row.tolist())) for row in rows])
        raise DisagreementError(f"ranks must call with the same sizes, types and options, got {differs}")

    # Collectives of torch without its functions, which want groups that torch has on its list. They return its works.

    def _result(self, tensor: torch.Tensor, run: Callable[[torch.Tensor], Any]) -> Any:
        """The work of ``run`` on a tensor, or on what the group can send in its place."""
        device = self.device()
        if tensor.device.type == device.type:
            return run(tensor)
        result = tensor.to(device)
        return CopiedBack(run(result), result, tensor)

    def all_reduce(self, tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM) -> Any:
        options = dist.AllreduceOptions()
        options.reduceOp = op
        return self._result(tensor, lambda result: self.own.allreduce([result], options))

    def broadcast(self, tensor: torch.Tensor, source: int) -> Any:
        options = dist.BroadcastOptions()
        options.rootRank = source
        return self.own.broadcast([tensor], options)

    def gather(self, every: torch.Tensor, mine: torch.Tensor) -> Any:
        return self._result(every, lambda result: self.own._allgather_base(result, mine.to(result.device)))

    def gather_directly(self, every: torch.Tensor, mine: torch.Tensor) -> Any:
        """``gather`` from each rank to each. Gloo's is a ring of W - 1 steps that wait for one another."""
        if self.world_size == 2 or mine.device.type != "cpu":
            return self.gather(every, mine)
        return self.own.alltoall_base(every, mine.repeat(self.world_size), [], [])

    def scatter_sums(self, mine: torch.Tensor, every: torch.Tensor) -> Any:
        return self._result(mine, lambda result: self.own._reduce_scatter_base(result, every.to(result.device)))

    def all_to_all(self, received: torch.Tensor, sent: torch.Tensor, to_come: list[int], to_go: list[int]) -> Any:
        return self.own.alltoall_base(received, sent, to_come, to_go)

    def device(self) -> torch.device:
        """Where tensors lie that the group can send: the CPU if it can."""
        devices = [torch.device(device) for device in self.own._device_types]
        return next((device for device in devices if device.type == "cpu"), devices[0])


def _signed(word: int) -> int:
    """The same 64 bits as a number with a sign, which torch's integers have."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _work_off(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # and what it holds, before the next one comes


def _known(process_group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """The process group that an argument means, which is one of this process."""
    found = dist.group.WORLD if process_group is None else process_group
    if found is None:
        raise ValueError("torch.distributed has no process group yet: call init_process_group first")
    if not isinstance(found, dist.ProcessGroup):  # what torch gives to processes that are not of a group
        raise ValueError("group must be one that this process belongs to")
    return found


def _own(parent: dist.ProcessGroup) -> dist.ProcessGroup:
    """A process group of the same ranks, for our collectives alone; groups that torch did not make serve themselves.

    ``new_group`` wants all processes of the job, also those that are not in the group; or it names groups by how many
    the process is in, which ranks need not have alike: they would wait for each other for ever.
    """
    known: Any = dist.distributed_c10d._world.pg_map
    if parent not in known:
        return parent
    config = dist.get_backend_config(parent)
    if "cpu:gloo" not in config:
        made: dist.ProcessGroup = dist.new_group(dist.get_process_group_ranks(parent), backend=config)
        return made
    number = _made[parent] = _made.get(parent, 0) + 1
    store = PrefixStore(f"piquant.distributed/{number}", known[parent][1])
    cpu, rank, size = torch.device("cpu"), parent.rank(), parent.size()
    timeout = parent._get_backend(cpu).options._timeout
    gloo = dist.ProcessGroupGloo(store, rank, size, timeout=timeout)
    # A rank that drops its group at once must not close connections that others still make.
    if store.add("made", 1) == size:
        store.set("all made", "")
    store.wait(["all made"], timeout)
    own = dist.ProcessGroup(store, rank, size)
    own._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
    own._register_backend(cpu, dist.ProcessGroup.BackendType.GLOO, gloo)
    return own


_made: Final[weakref.WeakKeyDictionary[dist.ProcessGroup, int]] = weakref.WeakKeyDictionary()
_groups: Final[weakref.WeakKeyDictionary[dist.ProcessGroup, Group]] = weakref.WeakKeyDictionary()
_groups_lock = threading.Lock()


def _renew_lock() -> None:
    """In a child of ``fork()``: a thread that held the lock, and may have waited for other ranks, is not here."""
    global _groups_lock  # noqa: PLW0603
    _groups_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def group_for(process_group: dist.ProcessGroup | None) -> Group:
    """The ``Group`` of a process group, made at its first call."""
    key = _known(process_group)
    with _groups_lock:
        found = _groups.get(key)
        if found is None:
            found = _groups[key] = Group(key)
        return found


def forget(process_group: dist.ProcessGroup | None) -> Group | None:
    """Takes the ``Group`` of a process group away: its next call makes a new one."""
    if process_group is None and not dist.is_initialized():
        return None
    with _groups_lock:
        return _groups.pop(_known(process_group), None)
