"""Collectives of ``torch.distributed`` that send 8, 4 or 2 bits an element, and leave the same bits on every rank.

They are called as torch's are, on the same groups, with the same first arguments; ``dtype`` says what is sent. Each
rank quantizes what others sum, each sum is quantized once more, whatever the number of ranks, and every rank decodes
the same codes. Blocks of ``block_size`` elements share a float32 scale.

What holds of all of them:

- The result has the same bits on every rank. It depends on the data, the seed, the number of calls so far, the number
  of ranks and the options; not on threads, instruction sets, segments or the order of arrival.
- ``error_bound`` bounds the error. With stochastic rounding, the default of sums, it is 0 on average.
- A block with NaN or infinity on one rank is NaN on all.
- Outputs are written once everything has arrived: after an error they are what they were.
- Ranks that call with different sizes, types or options all get a ``DisagreementError`` that says which.
- After another error the group is closed: later calls raise it at once. ``close`` lets the next call begin anew.

Tensors are in CPU memory or on CUDA devices; of the latter messages stay on the card where the group can send them from
there, as NCCL can, and go through pinned memory where it cannot. They are complete when a call, or ``wait``, returns.

Sums are exact, by torch, of less than 4,096 elements, of integers, and with ``dtype=None``. A group of one rank has
nothing to exchange. Each group gets a process group of its own, made by its first call, which all ranks must make at
the same place among those that make groups, and a thread that makes calls in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import torch
    import torch.distributed as dist
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "piquant.distributed needs torch: pip install 'pypiquant[torch]'", name="torch"
    ) from error

from piquant.distributed import _exchange
from piquant.distributed._arguments import (
    check_context,
    check_operator,
    check_parts,
    read_operator,
    read_options,
    read_seed,
    read_tensor,
)
from piquant.distributed._diloco import DiLoCo
from piquant.distributed._error_bound import error_bound
from piquant.distributed._group import DisagreementError, forget, group_for
from piquant.distributed._hook import QuantizeState, quantize_hook
from piquant.distributed._work import Work, finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from piquant._context import Context
    from piquant._dtypes import Integer, RoundModeLike
    from piquant.distributed._fsdp import AllGather, ReduceScatter, apply_fsdp
    from piquant.distributed._group import Group
    from piquant.distributed._plan import Options

__all__ = [
    "AllGather",
    "DiLoCo",
    "DisagreementError",
    "QuantizeState",
    "ReduceScatter",
    "Work",
    "all_gather_into_tensor",
    "all_reduce",
    "all_reduce_coalesced",
    "apply_fsdp",
    "close",
    "error_bound",
    "quantize_hook",
    "reduce_scatter_tensor",
]


def __getattr__(name: str) -> Any:
    """What takes seconds to import, when it is first asked for: torch's FSDP."""
    if name not in ("AllGather", "ReduceScatter", "apply_fsdp"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from piquant.distributed import _fsdp  # noqa: PLC0415

    return getattr(_fsdp, name)


def all_reduce(
    tensor: torch.Tensor,
    op: Any = dist.ReduceOp.SUM,
    group: dist.ProcessGroup | None = None,
    async_op: bool = False,
    *,
    dtype: torch.dtype | str | None = "int8",
    block_size: Integer = 256,
    round_mode: RoundModeLike = "stochastic",
    seed: Integer | None = None,
    segment_bytes: Integer | None = None,
    ctx: Context | None = None,
) -> Work | None:
    """Sums a tensor over the ranks, in place, as ``torch.distributed.all_reduce`` does.

    Each rank sends ``2 (W - 1) / W * (b / 8 + 4 / block_size)`` bytes an element, for W ranks and b bits.

    Args:
        tensor: of float16, bfloat16, float32 or float64, any shape and strides, on the CPU or a CUDA device; or of
            integers, which are summed exactly. Less than 4,096 elements are summed exactly, too.
        op: ``ReduceOp.SUM`` or ``ReduceOp.AVG``, the latter for floats.
        group: process group of the ranks; by default of all.
        async_op: returns at once what to wait for. Until then the tensor belongs to the call.
        dtype: of the codes that are sent: "int8", "int4" or "int2". ``None`` has torch send the tensor as it is.
        block_size: elements that share a scale, at least 1.
        round_mode: "stochastic" rounds without bias, "nearest" with half of the largest error.
        seed: 0..2**64-1, of stochastic rounding. Ranks may have the same or different ones: no two ranks use the same
            random words, and no two calls. ``None`` draws one from torch's default generator.
        segment_bytes: bytes of codes that a message should have, at least 1: of less, computing and sending overlap
            more, of more, fewer round trips are waited for. By default 40 MB for each second of round trip time, from
            256 KiB to 8 MiB, and at most half of what a rank owns.
        ctx: context; by default calls run on torch's threads, or on those of ``Context.get()``.

    Returns:
        ``None``, or with ``async_op`` the ``Work``.

    Raises:
        DisagreementError: ranks called with different sizes, types or options; on all of them.
        RuntimeError: a rank is gone, or was not heard of for the group's timeout; the group is closed since.
        ValueError: another ``op``, dtype name, mode or number; no process group, or one of other processes.
        TypeError: not a tensor of a dtype above.
        NotImplementedError: floats on a device for which there is no codec.
    """
    options = read_options(dtype, block_size, round_mode, segment_bytes)
    return _all_reduce([read_tensor(tensor, "tensor", options)], op, group, async_op, options, seed, ctx)


def all_reduce_coalesced(
    tensors: Sequence[torch.Tensor],
    op: Any = dist.ReduceOp.SUM,
    group: dist.ProcessGroup | None = None,
    async_op: bool = False,
    *,
    dtype: torch.dtype | str | None = "int8",
    block_size: Integer = 256,
    round_mode: RoundModeLike = "stochastic",
    seed: Integer | None = None,
    segment_bytes: Integer | None = None,
    ctx: Context | None = None,
) -> Work | None:
    """``all_reduce`` of several tensors, in place: all floats in one exchange, in the widest of their types.

    Blocks go on from one tensor to the next. Less than 4,096 floats in all are summed exactly.

    Args:
        tensors: as the one of ``all_reduce``, of any types and shapes, on one device; the same on each rank.
        op, group, async_op, dtype, block_size, round_mode, seed, segment_bytes, ctx: as in ``all_reduce``.

    Returns:
        ``None``, or with ``async_op`` the ``Work``.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as ``all_reduce``; tensors on several devices.
    """
    options = read_options(dtype, block_size, round_mode, segment_bytes)
    if isinstance(tensors, torch.Tensor):
        raise TypeError("tensors must be a sequence of tensors, got one; all_reduce takes that")
    found = [read_tensor(tensor, f"tensors[{i}]", options) for i, tensor in enumerate(tensors)]
    return _all_reduce(found, op, group, async_op, options, seed, ctx)


def _all_reduce(
    tensors: list[torch.Tensor], op: Any, group: dist.ProcessGroup | None, async_op: bool, options: Options,
    seed: Integer | None, ctx: Context | None,
) -> Work | None:  # fmt: skip
    operator = read_operator(op)
    check_operator(operator, tensors)
    check_context(ctx)
    number = read_seed(seed, options)

    def job(of: Group) -> None:
        _exchange.all_reduce(of, tensors, operator, options, seed=number, ctx=ctx)

    return _run(group, job, tensors, async_op)


def reduce_scatter_tensor(
    output: torch.Tensor,
    input: torch.Tensor,  # noqa: A002
    op: Any = dist.ReduceOp.SUM,
    group: dist.ProcessGroup | None = None,
    async_op: bool = False,
    *,
    dtype: torch.dtype | str | None = "int8",
    block_size: Integer = 256,
    round_mode: RoundModeLike = "stochastic",
    seed: Integer | None = None,
    segment_bytes: Integer | None = None,
    ctx: Context | None = None,
) -> Work | None:
    """Sums a tensor over the ranks and leaves each rank its part, as ``torch.distributed.reduce_scatter_tensor`` does.

    The sum is not quantized again: what is lost is what the other ranks' parts lose, once. Each rank sends ``(W - 1) /
    W * (b / 8 + 4 / block_size)`` bytes an element.

    Args:
        output: the sum of part r on rank r; any shape.
        input: ``world_size`` parts one after the other, in row-major order; any shape. Its blocks begin anew with each
            part. ``output`` may be a view of it.
        op, group, async_op, dtype, block_size, round_mode, seed, segment_bytes, ctx: as in ``all_reduce``.

    Returns:
        ``None``, or with ``async_op`` the ``Work``.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as ``all_reduce``; an input of another size, dtype or
            device than the output's.
    """
    options = read_options(dtype, block_size, round_mode, segment_bytes)
    whole, part = read_tensor(input, "input", options), read_tensor(output, "output", options)
    operator = read_operator(op)
    check_operator(operator, [whole])
    check_context(ctx)
    number = read_seed(seed, options)

    def check(world_size: int) -> None:
        check_parts(whole, "input", part, "output", world_size)

    def job(of: Group) -> None:
        _exchange.reduce_scatter(of, part, whole, operator, options, seed=number, ctx=ctx)

    def alone() -> None:
        part.copy_(whole.view(part.shape))

    return _run(group, job, [part], async_op, check, alone)


def all_gather_into_tensor(
    output: torch.Tensor,
    input: torch.Tensor,  # noqa: A002
    group: dist.ProcessGroup | None = None,
    async_op: bool = False,
    *,
    dtype: torch.dtype | str | None = "int8",
    block_size: Integer = 256,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    segment_bytes: Integer | None = None,
    ctx: Context | None = None,
) -> Work | None:
    """Gathers a tensor of every rank, as ``torch.distributed.all_gather_into_tensor`` does: for weights, say.

    The own tensor is quantized, too, so that all ranks have the same. Each rank sends ``(W - 1) * (b / 8 + 4 /
    block_size)`` bytes for each element of ``input``.

    Args:
        output: the tensors of the ranks, one after the other, in row-major order; any shape.
        input: what this rank gives; any shape. It may be a view of ``output``.
        group, async_op, dtype, block_size, seed, segment_bytes, ctx: as in ``all_reduce``.
        round_mode: "nearest" or "stochastic".

    Returns:
        ``None``, or with ``async_op`` the ``Work``.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as ``all_reduce``; an output of another size, dtype or
            device than the input's.
    """
    options = read_options(dtype, block_size, round_mode, segment_bytes)
    part, whole = read_tensor(input, "input", options), read_tensor(output, "output", options)
    check_context(ctx)
    number = read_seed(seed, options)

    def check(world_size: int) -> None:
        check_parts(whole, "output", part, "input", world_size)

    def job(of: Group) -> None:
        _exchange.all_gather(of, whole, part, options, seed=number, ctx=ctx)

    def alone() -> None:
        whole.copy_(part.view(whole.shape))

    return _run(group, job, [whole], async_op, check, alone)


def _run(
    process_group: dist.ProcessGroup | None, job: Callable[[Group], None], results: list[torch.Tensor],
    async_op: bool, check: Callable[[int], None] | None = None, alone: Callable[[], None] | None = None,
) -> Work | None:  # fmt: skip
    """Has the group's worker do a job; a rank that is alone does what it has to do by itself."""
    group = group_for(process_group)
    if check is not None:
        check(group.world_size)
    if group.world_size == 1:
        if alone is not None:
            alone()
        return finished(results) if async_op else None
    work = group.submit(lambda: job(group), results)
    if async_op:
        return work
    work.wait()
    return None


def close(group: dist.ProcessGroup | None = None) -> None:
    """Ends the thread and frees the memory that calls on a group have here; the next call begins anew.

    Calls under way are waited for. After an error that closed the group, what ranks have of it may differ: then all of
    them close it, or make new process groups.

    Args:
        group: process group; by default that of all ranks. One that no call used is no error.
    """
    found = forget(group)
    if found is not None:
        found.close()
