"""What ranks do when something goes wrong, by name; see pool.py."""

from __future__ import annotations

import datetime
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

import piquant
import piquant.distributed
from piquant.distributed import _codec, _exchange, _group
from piquant.distributed._group import Group, group_for
from piquant.distributed._plan import Options, mix

if TYPE_CHECKING:
    from pool import Rank


def disagree(me: Rank) -> None:
    """Each kind of difference, after calls that were alike, too: all ranks say which, and go on."""
    odd = me.rank == me.world - 1
    all_reduce = piquant.distributed.all_reduce
    whole = {"n": 5000, "real": torch.float32, "op": dist.ReduceOp.SUM}
    told: dict[str, Any] = {"dtype": "int8", "block_size": 256, "round_mode": "nearest", "segment_bytes": None}
    differences: list[tuple[str, Any, str]] = [
        ("n", 5001, "elements: 5000 on ranks 0, 1, 5001 on rank 2"),
        ("n", 100, "elements: 5000 on ranks 0, 1, 100 on rank 2; dtype: int8 on ranks 0, 1, None on rank 2"),
        ("n", 0, "elements: 5000 on ranks 0, 1, 0 on rank 2"),
        ("real", torch.bfloat16, "element type: float32 on ranks 0, 1, bfloat16 on rank 2"),
        ("real", torch.int32, "element type"),
        ("op", dist.ReduceOp.AVG, "op: sum on ranks 0, 1, avg on rank 2"),
        ("dtype", "int4", "dtype: int8 on ranks 0, 1, int4 on rank 2"),
        ("dtype", None, "dtype: int8 on ranks 0, 1, None on rank 2"),
        ("block_size", 64, "block_size: 256 on ranks 0, 1, 64 on rank 2"),
        ("round_mode", "stochastic", "round_mode: nearest on ranks 0, 1, stochastic on rank 2"),
        ("segment_bytes", 1000, "segment_bytes: 262144 on ranks 0, 1, 1000 on rank 2"),
    ]
    for name, value, words in differences:
        mine, options = dict(whole), dict(told)
        if odd:
            (mine if name in mine else options)[name] = value
        x = torch.ones(mine["n"], dtype=mine["real"])
        try:
            all_reduce(x, mine["op"], me.group, **options)
        except piquant.distributed.DisagreementError as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"{name} {value} was taken")
        assert bool((x == 1).all())
        alike = torch.ones(5000)
        all_reduce(alike, group=me.group, **told)
        assert bool((alike - me.world).abs().max() < 0.01)
    x = torch.ones(6000)
    try:
        if odd:
            piquant.distributed.all_gather_into_tensor(torch.empty(6000), x[:2000], me.group)
        else:
            all_reduce(x, group=me.group)
    except piquant.distributed.DisagreementError as error:
        assert "collective: all_reduce on ranks 0, 1, all_gather on rank 2" in str(error), error
    else:
        raise AssertionError("another collective was taken")


def warm_up(me: Rank) -> None:
    piquant.distributed.all_reduce(torch.ones(5000), group=me.group)


def vanish(me: Rank, signal_number: int, last: int) -> tuple[str, bool, str, float]:
    """The last rank goes away: what the others say, whether tensor and debt are as before, what they say later."""
    group = group_for(me.group)
    if me.rank == last:
        os.kill(os.getpid(), signal_number)
    x, debt = torch.full((9000,), 3.0), torch.full((9000,), 0.5)
    options = Options(segment_bytes=1000)
    start = time.monotonic()
    work = group.submit(lambda: _exchange.all_reduce(group, [x], "sum", options, debt=debt), [x])
    try:
        work.wait()
    except RuntimeError as error:
        first = f"{type(error).__name__}: {error}"
    took = time.monotonic() - start
    is_untouched = bool((x == 3).all()) and bool((debt == 0.5).all())
    try:
        piquant.distributed.all_reduce(x, group=me.group)
    except RuntimeError as error:
        later = f"{type(error).__name__}: {error}"
    return first, is_untouched, later, took


def wrong_messages(me: Rank, field: int, phase: int) -> tuple[str, bool]:
    """All ranks send messages with a wrong head, in one of the phases, and notice those of the others."""
    group = group_for(me.group)
    encode = _codec.CpuCodec.encode

    def spoiled(
        self: _codec.CpuCodec, x: torch.Tensor, message: torch.Tensor, header: _codec.Header, seed: int, offset: int
    ) -> None:
        encode(self, x, message, header, seed, offset)
        if seed == mix(7, header[1], me.rank, phase):
            message[8 * field + 3] ^= 16

    _codec.CpuCodec.encode = spoiled
    x, debt = torch.full((9000,), 3.0), torch.full((9000,), 0.5)
    try:
        group.submit(lambda: _exchange.all_reduce(group, [x], "sum", Options(), seed=7, debt=debt), [x]).wait()
    except RuntimeError as error:
        return str(error), bool((x == 3).all()) and bool((debt == 0.5).all())
    finally:
        _codec.CpuCodec.encode = encode
        piquant.distributed.close(me.group)
    raise AssertionError("a wrong message was taken")


def begin_anew(me: Rank) -> None:
    """After close the next call works, beside a group that hangs, too; calls on what was closed or abandoned do not."""
    kept = group_for(me.group)
    warm_up(me)
    thread = kept._thread
    assert thread is not None
    piquant.distributed.close(me.group)
    assert not thread.is_alive()
    try:
        kept.submit(lambda: None, [])
    except RuntimeError as error:
        assert str(error) == "the group was closed"
    else:
        raise AssertionError("a closed group took a job")
    warm_up(me)
    group = group_for(me.group)
    assert group is not kept
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait()

    first = group.submit(hold, [])
    second = group.submit(lambda: None, [])
    held.wait()
    try:
        second.wait(datetime.timedelta(seconds=0.01))
    except TimeoutError as error:
        assert "timeout=0:00:00.01" in str(error)
    assert not second.is_completed()
    group.abandon()
    anew = Group(me.group)
    anew.submit(lambda: _exchange.all_reduce(anew, [torch.ones(5000)], "sum", Options()), []).wait()
    free.set()
    first.wait()
    try:
        second.wait()
    except RuntimeError as error:
        assert str(error) == "the group was abandoned"
        assert second.exception() is error
        assert not second.is_success()
    else:
        raise AssertionError("a job of an abandoned group was run")
    anew.close()
    piquant.distributed.close(me.group)
    warm_up(me)
    piquant.distributed.close(me.group)
    piquant.distributed.close(me.group)


def drop_groups(me: Rank, count: int) -> None:
    """Groups that are dropped as soon as they are there, and by some ranks before others have all their connections."""
    for _ in range(count):
        Group(me.group).close()


def fork(me: Rank) -> str:
    """What a child of a rank is told, even if a thread was about to make a group; the rank itself goes on."""
    warm_up(me)
    reading, writing = os.pipe()
    with _group._groups_lock:
        child = os.fork()
        if child == 0:
            signal.alarm(300)  # a frozen machine is not a hang
            try:
                warm_up(me)
            except RuntimeError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as words:
        said = words.read()
    warm_up(me)
    assert str(os.getpid()) in said
    return said.replace(str(os.getpid()), "PID")


def fail_in_a_job(me: Rank) -> str:
    """An error of a job goes into its work and its future; then the group is closed."""
    group = group_for(me.group)

    def job() -> None:
        raise KeyError("of a job")

    work = group.submit(job, [])
    for wait in (work.wait, work.get_future().wait, work.result):
        try:
            wait()
        except KeyError as error:
            assert error is work.exception()
        else:
            raise AssertionError("no error")
    try:
        warm_up(me)
    except RuntimeError as error:
        assert isinstance(error.__cause__, KeyError)
        words = str(error)
    piquant.distributed.close(me.group)
    warm_up(me)
    return words


def parts_that_do_not_fit(me: Rank) -> None:
    """Outputs and inputs that are no parts of each other are refused before the others know."""
    x = torch.ones(6000)
    for call, error, words in (
        (lambda: piquant.distributed.reduce_scatter_tensor(x[:2999], x, group=me.group), ValueError,
         "input must have 2 times as many elements as output, one part for each rank, got input of 6000 and output"),
        (lambda: piquant.distributed.all_gather_into_tensor(x, x, me.group), ValueError,
         "output must have 2 times as many elements as input"),
        (lambda: piquant.distributed.all_gather_into_tensor(x, x[:3000].double(), me.group), TypeError,
         "output and input must be of one dtype, got output of torch.float32, input of torch.float64"),
    ):  # fmt: skip
        try:
            call()
        except error as raised:
            assert words in str(raised), raised
        else:
            raise AssertionError(words)
    warm_up(me)
