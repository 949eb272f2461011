"""What tests have ranks do. Each function is given its ``Rank``, and arguments that are alike on all ranks."""

from __future__ import annotations

import ctypes
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

import exchange_model
import piquant
import piquant.distributed
from piquant.distributed import _exchange
from piquant.distributed._group import group_for
from piquant.distributed._plan import Options

if TYPE_CHECKING:
    from exchange_model import Case
    from pool import Rank

OPS = {"sum": dist.ReduceOp.SUM, "avg": dist.ReduceOp.AVG}


def tensor(x: np.ndarray) -> torch.Tensor:
    """The same numbers; torch takes no bfloat16 from numpy."""
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def bits(x: torch.Tensor) -> bytes:
    dense = x.contiguous()
    return ctypes.string_at(dense.data_ptr(), dense.nbytes)


def exchange(me: Rank, case: Case, *, everything: bool = False) -> tuple[int, int, bytes, bytes]:
    """One case, however small it is: number of the call, checksum, and of rank 0 the result; and the debt."""
    x = tensor(exchange_model.data(case, me.rank))
    group = group_for(me.group)
    options = Options(f"int{case.bits}", case.block, case.mode == "stochastic", case.segment_bytes)
    wide = getattr(torch, case.wide)
    debt = tensor(exchange_model.data(case, me.rank, salt=1)).to(wide) if case.has_debt else None
    told: dict[str, Any] = {"seed": case.seed, "exact_below": 0}
    if case.kind == "all_reduce":
        result = x

        def job() -> None:
            _exchange.all_reduce(group, [x], case.op, options, debt=debt, **told)
    elif case.kind == "reduce_scatter":
        result = torch.empty(case.n // me.world, dtype=x.dtype)

        def job() -> None:
            _exchange.reduce_scatter(group, result, x, case.op, options, debt=debt, **told)
    else:
        result = torch.empty(case.n * me.world, dtype=x.dtype)

        def job() -> None:
            _exchange.all_gather(group, result, x, options, **told)

    group.submit(job, [result]).wait()
    made = bits(result)
    is_shown = everything or me.rank == 0 or case.kind == "reduce_scatter"
    return group.calls, zlib.crc32(made), made if is_shown else b"", b"" if debt is None else bits(debt)


def exchanges(me: Rank, cases: list[Case]) -> list[tuple[int, int, bytes, bytes]]:
    return [exchange(me, case) for case in cases]


# Guarantees.


def settings(me: Rank, case: Case) -> set[bytes]:
    """The results of a call of the same number, with all threads, instruction sets and segments."""
    group = group_for(me.group)
    found = set()
    for isa in piquant.available_isas():
        for threads, segment_bytes in ((1, None), (3, 1000), (2, 17)):
            ctx = piquant.Context(threads)
            ctx.isa, ctx.serial_cutoff = isa, 0
            x = tensor(exchange_model.data(case, me.rank))
            group.calls = 1000
            piquant.distributed.all_reduce(
                x, group=me.group, dtype=f"int{case.bits}", seed=case.seed, segment_bytes=segment_bytes, ctx=ctx
            )
            found.add(bits(x))
    return found


def errors_of_seeds(me: Rank, kind: str, n: int, seeds: int, share: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the errors of each element over seeds, and of their squares, of the same data on all ranks.

    With ``share`` ranks have the same random words.
    """
    group = group_for(me.group)
    data = np.random.default_rng(5).standard_normal(n).astype(np.float32)
    exact = data.astype(np.float64) * me.world
    own = n // me.world
    part = slice(own * me.rank, own * (me.rank + 1)) if kind == "reduce_scatter" else slice(None)
    sums, squares = np.zeros(exact[part].size), np.zeros(exact[part].size)
    options = Options("int4", 50)
    own_mix = _exchange.mix
    if share:
        _exchange.mix = lambda seed, call, rank, phase: own_mix(seed, call, 0 * rank, phase)
    try:
        for seed in range(seeds):
            x = torch.from_numpy(data.copy())
            result = torch.empty(own) if kind == "reduce_scatter" else x

            def job(x: torch.Tensor = x, result: torch.Tensor = result, seed: int = seed) -> None:
                if kind == "reduce_scatter":
                    _exchange.reduce_scatter(group, result, x, "sum", options, seed=seed, exact_below=0)
                else:
                    _exchange.all_reduce(group, [x], "sum", options, seed=seed, exact_below=0)

            group.submit(job, [result]).wait()
            error = result.numpy() - exact[part]
            sums += error
            squares += error**2
    finally:
        _exchange.mix = own_mix
    return sums, squares


def not_finite(me: Rank) -> tuple[bytes, list[int]]:
    """Blocks of 100 with something that is not finite on one rank each: which are NaN afterwards."""
    x = torch.ones(5000, dtype=torch.bfloat16)
    x[100 * me.rank + 17] = [float("nan"), float("inf"), float("-inf")][me.rank % 3]
    piquant.distributed.all_reduce(x, group=me.group, block_size=100, dtype="int4")
    blocks = x.view(50, 100)
    nans = blocks.isnan()
    assert bool((nans.all(1) == nans.any(1)).all())
    assert bool((blocks[~nans.any(1)] == me.world).all())
    return bits(x), nans.any(1).nonzero().flatten().tolist()


# Calls of all kinds.


def sums_of_layouts(me: Rank) -> None:
    """Views, gaps, no dimensions, no elements, gradients, modes: in place, and nothing else changes."""
    world = me.world
    all_reduce = piquant.distributed.all_reduce

    def expect_sum(x: torch.Tensor, **told: Any) -> None:
        x.detach().fill_(me.rank + 1.0)
        assert all_reduce(x, group=me.group, **told) is None
        total = world * (world + 1) / 2
        assert bool((x.double() - total).abs().max() <= 0.02 * total), (x.shape, x.dtype)

    whole = torch.full((100, 120), -7.0)
    expect_sum(whole[:, 10:110])
    assert bool((whole[:, :10] == -7).all())
    assert bool((whole[:, 110:] == -7).all())
    expect_sum(torch.empty(90, 70).t())
    expect_sum(torch.empty(3, 50, 60)[::2].flip(2), dtype="int2", round_mode="nearest")
    expect_sum(torch.empty(2, 5, 30, 40).to(memory_format=torch.channels_last), op=dist.ReduceOp.SUM)
    expect_sum(torch.empty(()))
    expect_sum(torch.empty(70, dtype=torch.float16))
    expect_sum(torch.empty(5000, dtype=torch.bfloat16), dtype=None)
    expect_sum(torch.empty(5000, requires_grad=True))
    written = torch.ones(5000)
    version = written._version
    all_reduce(written, group=me.group)
    assert written._version > version
    with torch.inference_mode():
        expect_sum(torch.empty(5000))
    expect_sum(torch.empty(6000))  # with the buffers of that
    assert all_reduce(torch.empty(0, 3), group=me.group) is None
    mean = torch.full((5000,), float(me.rank))
    all_reduce(mean, dist.ReduceOp.AVG, me.group)
    assert bool(((mean - (world - 1) / 2).abs() < 0.05).all())
    small = torch.full((50,), float(me.rank))
    all_reduce(small, dist.ReduceOp.AVG, me.group)
    assert bool((small == torch.full((50,), world * (world - 1) / 2) / world).all())
    counts = torch.arange(10_000)
    all_reduce(counts, group=me.group)
    assert torch.equal(counts, torch.arange(10_000) * world)


def coalesced(me: Rank, case: Case) -> int:
    """Tensors of several types and shapes are one exchange, in the widest type; integers are exact."""
    n = case.n // 4 * 4
    flat = tensor(exchange_model.data(case, me.rank))[:n]
    half, single = flat[: n // 2].to(torch.bfloat16).view(2, -1), flat[n // 2 :].clone().view(-1, 2)[:, ::2]
    together = torch.cat([half.reshape(-1).float(), single.reshape(-1)])
    integers = torch.tensor([me.rank, 5])
    group = group_for(me.group)
    call = group.calls
    work = piquant.distributed.all_reduce_coalesced(
        [half, integers, single, torch.empty(0)], dist.ReduceOp.SUM, me.group, True, seed=3
    )
    assert work is not None
    assert work.wait()
    group.calls = call
    piquant.distributed.all_reduce(together, group=me.group, seed=3)
    assert torch.equal(half.reshape(-1), together[: n // 2].bfloat16())
    assert torch.equal(single.reshape(-1), together[n // 2 :])
    assert integers.tolist() == [me.world * (me.world - 1) // 2, 5 * me.world]
    few = [torch.ones(3, dtype=torch.float16), torch.full((2, 2), 2.0)]
    piquant.distributed.all_reduce_coalesced(few, group=me.group)
    assert few[0].tolist() == [me.world] * 3
    assert few[1].tolist() == [[2 * me.world] * 2] * 2
    piquant.distributed.all_reduce_coalesced([], group=me.group)
    return call


def parts(me: Rank) -> None:
    """Reduce-scatter and all-gather: shapes, gaps, what is exact, tensors that lie in one another."""
    world, rank = me.world, me.rank
    whole = torch.arange(world * 2000, dtype=torch.float32).view(world, 40, 50) % 97
    for told in ({}, {"dtype": None}, {"dtype": "int4", "round_mode": "nearest"}):
        out = torch.empty(50, 80)[:, ::2]
        piquant.distributed.reduce_scatter_tensor(out, whole.clone(), group=me.group, **told)
        exact = whole[rank].reshape(50, 40) * world
        least = 0 if told.get("dtype", "") is None else world * 97 / (7 if "dtype" in told else 127)
        assert bool(((out - exact).abs() <= least).all())
    inside = whole.clone()
    work = piquant.distributed.reduce_scatter_tensor(inside[rank], inside, dist.ReduceOp.AVG, me.group, True)
    assert work is not None
    assert work.result()[0].data_ptr() == inside[rank].data_ptr()
    assert bool(((inside[rank] - whole[rank]).abs() <= 1).all())
    gathered = torch.full((world, 40, 50), -1.0)
    gathered[rank] = whole[rank]
    piquant.distributed.all_gather_into_tensor(gathered, gathered[rank], me.group)
    assert bool(((gathered - whole).abs() <= 0.51 * 96 / 127).all())
    for told in ({}, {"dtype": None}):
        few = torch.empty(3, 2 * world)[:, ::2]
        piquant.distributed.all_gather_into_tensor(few, torch.full((3,), rank + 0.25), me.group, **told)
        assert few.reshape(world, 3).tolist() == [[r + 0.25] * 3 for r in range(world)]
        total = torch.empty(2)
        piquant.distributed.reduce_scatter_tensor(total, torch.ones(2 * world), dist.ReduceOp.AVG, me.group, **told)
        assert total.tolist() == [1, 1]
    counts = torch.empty(5000, dtype=torch.int32)
    piquant.distributed.reduce_scatter_tensor(counts, torch.arange(5000 * world, dtype=torch.int32), group=me.group)
    assert torch.equal(counts, torch.arange(5000 * rank, 5000 * (rank + 1), dtype=torch.int32) * world)
    piquant.distributed.all_gather_into_tensor(torch.empty(0), torch.empty(0), me.group)
    piquant.distributed.reduce_scatter_tensor(torch.empty(0), torch.empty(0), group=me.group)


def alone(me: Rank) -> None:
    """One rank has nothing to exchange: tensors are untouched, or copied."""
    assert me.world == 1
    x = torch.randn(5000)
    before = x.clone()
    assert piquant.distributed.all_reduce(x, dist.ReduceOp.AVG, me.group) is None
    work = piquant.distributed.all_reduce_coalesced([x], group=me.group, async_op=True)
    assert work is not None
    assert work.wait()
    out = torch.empty(2, 2500)
    piquant.distributed.reduce_scatter_tensor(out, x, group=me.group)
    assert torch.equal(out.view(-1), before)
    piquant.distributed.all_gather_into_tensor(out.zero_(), x, me.group)
    assert torch.equal(out.view(-1), before)
    assert torch.equal(x, before)


def many_in_flight(me: Rank, calls: int) -> list[int]:
    """Calls that begin at times of each rank's own, among collectives of the user's, waited for in another order."""
    rng = np.random.default_rng(me.rank)
    tensors = [tensor(exchange_model.data(exchange_model.Case(n=5000 + 100 * i), me.rank)) for i in range(calls)]
    exact = [x.clone() for x in tensors]
    works = []
    for i, x in enumerate(tensors):
        time.sleep(rng.uniform(0, 0.01))
        works.append(piquant.distributed.all_reduce(x, group=me.group, async_op=True, seed=1))
        if i % 3 == 0:
            dist.all_reduce(exact[i], group=me.group)
    for i in rng.permutation(calls):
        work = works[i]
        assert work is not None
        assert work.get_future().wait()[0].data_ptr() == tensors[i].data_ptr()
        assert work.is_completed()
        assert work.is_success()
        assert work.exception() is None
    for i, x in enumerate(exact):
        if i % 3 != 0:
            dist.all_reduce(x, group=me.group)
        assert bool(((tensors[i] - x).abs() < 0.3).all())
    return [zlib.crc32(bits(x)) for x in tensors]


# Failures.
