"""The program of a quantized collective: which messages go when, and what becomes of them.

A rank quantizes the parts of the others and sends them (phase 0). The owner of a part adds what arrives to its own,
exact part, in the order of ranks, quantizes the sum once and sends it to all (phase 1); every rank, the owner too,
dequantizes those codes. A reduce-scatter ends with the sum, an all-gather begins with phase 1. Tensors and debts are
written when all messages have arrived. The order of collectives is that of the program, and never that of arrivals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.autograd.graph import increment_version

from piquant.distributed._codec import FLOAT_IDS, codec_for, unify_nans
from piquant.distributed._plan import BITS, layout_of, make_plan, mix, shorter_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from piquant._context import Context
    from piquant.distributed._codec import Codec
    from piquant.distributed._group import Announcement, Group
    from piquant.distributed._plan import Kind, Operator, Options, Part

EXACT_BELOW: Final = 4096
"""Of fewer elements torch's collective is exact and as fast."""
_IN_FLIGHT: Final = 2
_PHASE_SCATTER: Final = 0
_PHASE_GATHER: Final = 1


def all_reduce(
    group: Group, tensors: Sequence[torch.Tensor], operator: Operator, options: Options, *,
    seed: int = 0, debt: torch.Tensor | None = None, ctx: Context | None = None, exact_below: int = EXACT_BELOW,
) -> None:  # fmt: skip
    """Sums tensors over the ranks, in place. A job for the worker of ``group``.

    Args:
        group: of at least two ranks.
        tensors: floats go in one exchange, in the widest of their types; integers by torch.
        operator: "sum" or "avg".
        options: how floats are quantized.
        seed: of stochastic rounding.
        debt: what this rank owes of the sum, one element for each of the floats, flat, float32 (float64 where that is
            the widest type). It is paid and made anew.
        ctx: context.
        exact_below: so many floats go exactly, by torch.
    """
    floats = [tensor for tensor in tensors if tensor.dtype in FLOAT_IDS]
    integers = [tensor for tensor in tensors if tensor.dtype not in FLOAT_IDS]
    flat = _flattened(floats)
    of = flat if floats else _flattened(integers)  # what a plan speaks of
    announced = _announce(group, "all_reduce", of, of.numel(), operator, options, tensors, exact_below)
    is_exact = announced.plan.options.dtype is None
    if is_exact or integers or flat.numel() == 0:
        group.agree(announced)
    sums = [_torch_sum(group, tensor, "sum") for tensor in integers]
    if flat.numel() == 0:
        pass
    elif is_exact:
        _write_back(_torch_sum(group, flat, operator), floats)
    else:
        exchange(group, announced, codec_for(flat.device, group.device(), options, ctx), flat, flat, seed, debt)
        if flat.data_ptr() != floats[0].data_ptr():
            _write_back(flat, floats)
            for tensor in floats:
                if tensor.dtype != flat.dtype:
                    unify_nans(tensor)
    for tensor, total in zip(integers, sums, strict=True):
        tensor.copy_(total.view(tensor.shape))


def reduce_scatter(
    group: Group, output: torch.Tensor, input: torch.Tensor, operator: Operator, options: Options, *,  # noqa: A002
    seed: int = 0, debt: torch.Tensor | None = None, ctx: Context | None = None, exact_below: int = EXACT_BELOW,
) -> None:  # fmt: skip
    """Sums ``input`` over the ranks and leaves each its part, as it is before any rounding but that to its type.

    A job for the worker of ``group``; for arguments see ``all_reduce``. The debts of the own part are 0.
    """
    flat = input.reshape(-1)
    announced = _announce(group, "reduce_scatter", flat, flat.numel(), operator, options, [input], exact_below)
    part = _contiguous(output)
    if announced.plan.options.dtype is None or flat.numel() == 0:
        group.agree(announced)
        made = torch.empty_like(part)
        group.scatter_sums(made, flat).wait()
        part.copy_(made.div_(group.world_size) if operator == "avg" else made)
    else:
        exchange(group, announced, codec_for(flat.device, group.device(), options, ctx), flat, part, seed, debt)
    _finish_output(part, output)


def all_gather(
    group: Group, output: torch.Tensor, input: torch.Tensor, options: Options, *,  # noqa: A002
    seed: int = 0, ctx: Context | None = None, exact_below: int = EXACT_BELOW,
) -> None:  # fmt: skip
    """Gathers ``input`` of all ranks. A job for the worker of ``group``; for arguments see ``all_reduce``."""
    flat = input.reshape(-1)
    every = _contiguous(output)
    announced = _announce(group, "all_gather", flat, every.numel(), "sum", options, [input], exact_below)
    if announced.plan.options.dtype is None or flat.numel() == 0:
        group.agree(announced)
        made = torch.empty_like(every)
        group.gather(made, flat).wait()
        every.copy_(made)
    else:
        exchange(group, announced, codec_for(flat.device, group.device(), options, ctx), flat, every, seed, None)
    _finish_output(every, output)


def _announce(
    group: Group, kind: Kind, flat: torch.Tensor, n: int, operator: Operator, options: Options,
    tensors: Sequence[torch.Tensor], exact_below: int,
) -> Announcement:  # fmt: skip
    """Begins a call. Its plan leaves to torch what is exact."""
    if flat.dtype not in FLOAT_IDS or 0 < flat.numel() < exact_below:
        options = replace(options, dtype=None)
    layout = (1, 0)
    if len(tensors) > 1:
        layout = layout_of([(_name(tensor.dtype), tuple(tensor.shape)) for tensor in tensors])
    return announce(group, kind, n, flat.dtype, operator, options, layout)


def announce(
    group: Group, kind: Kind, n: int, dtype: torch.dtype, operator: Operator, options: Options, layout: tuple[int, int],
) -> Announcement:  # fmt: skip
    """Begins a call; for arguments see ``Plan``."""
    measured = group.segment_bytes()  # collective, the first time: whatever ranks ask for
    default = shorter_segments(measured, n * BITS[options.dtype or "int8"] // 8 // group.world_size)
    settled = replace(options, segment_bytes=options.segment_bytes or default)
    return group.announce(make_plan(kind, n, group.world_size, _name(dtype), operator, settled, layout))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _flattened(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All elements side by side: a view where there is one."""
    if not tensors:
        return torch.empty(0)
    if len(tensors) == 1:
        return tensors[0].reshape(-1)
    wide = tensors[0].dtype
    for tensor in tensors[1:]:
        wide = torch.promote_types(wide, tensor.dtype)
    return torch.cat([tensor.reshape(-1).to(wide) for tensor in tensors])


def _write_back(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    begin = 0
    for tensor in tensors:
        end = begin + tensor.numel()
        tensor.copy_(flat[begin:end].view(tensor.shape))
        begin = end


def _contiguous(output: torch.Tensor) -> torch.Tensor:
    return (
        output.view(-1)
        if output.is_contiguous()
        else torch.empty(output.numel(), dtype=output.dtype, device=output.device)
    )


def _finish_output(flat: torch.Tensor, output: torch.Tensor) -> None:
    if not output.is_contiguous():
        output.copy_(flat.view(output.shape))


def _torch_sum(group: Group, tensor: torch.Tensor, operator: Operator) -> torch.Tensor:
    """A flat copy of a tensor, summed by torch."""
    total = tensor.reshape(-1).clone()
    group.all_reduce(total).wait()
    return total.div_(group.world_size) if operator == "avg" else total


def exchange(
    group: Group, announced: Announcement, codec: Codec, source: torch.Tensor, target: torch.Tensor, seed: int,
    debt: torch.Tensor | None, before_writing: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Runs the program of a plan.

    Args:
        group: whose worker this thread is.
        announced: the call, on which ranks need not have agreed yet.
        codec: of the device of the tensors.
        source: flat: all parts, or the own one to gather.
        target: flat: all parts, or the own one to scatter to. It may be ``source``, or share memory with it.
        seed: of stochastic rounding.
        debt: see ``all_reduce``.
        before_writing: called when everything has arrived; if it raises, nothing is written.
    """
    _Exchange(group, announced, codec, source, target, seed, debt).run(before_writing)


class _Exchange:
    """One call of ``exchange``, with the memory that it uses."""

    def __init__(
        self, group: Group, announced: Announcement, codec: Codec, source: torch.Tensor, target: torch.Tensor,
        seed: int, debt: torch.Tensor | None,
    ) -> None:  # fmt: skip
        plan = announced.plan
        self._group, self._plan, self._codec = group, plan, codec
        self._announced: Announcement | None = announced
        self._source, self._target, self._debt = source, target, debt
        self._rank = group.rank
        self._others = [rank for rank in range(group.world_size) if rank != group.rank]
        self._scatters, self._gathers = plan.kind != "all_gather", plan.kind != "reduce_scatter"
        self._header = (plan.digest, announced.call)
        self._seeds = [mix(seed, announced.call, group.rank, phase) for phase in (_PHASE_SCATTER, _PHASE_GATHER)]
        self._wide = torch.float64 if source.dtype == torch.float64 else torch.float32
        # Debts are made of what was sent and of the sums, so these are kept to the end; so is a sum that is the result.
        self._kept = plan.segments if debt is not None else _IN_FLIGHT
        self._keeps_sums = debt is not None or not self._gathers
        self._longest = [plan.longest(k) for k in range(plan.segments)]

    def run(self, before_writing: Callable[[], object]) -> None:
        segments = self._plan.segments
        arriving: dict[int, Any] = {}
        gathering: dict[int, Any] = {}
        for k in range(segments + 1):
            if k < segments and self._scatters:
                arriving[k] = self._send(k)
            if k > 0:
                self._sum(k - 1, arriving)
                if self._gathers:
                    gathering[k - 1] = self._publish(k - 1)
            if k > 1 and self._gathers:
                self._collect(k - 2, gathering)
        if self._gathers:
            self._collect(segments - 1, gathering)
        before_writing()
        if self._debt is not None:
            self._settle(self._debt)
        self._write()

    # Where messages lie.

    def _bytes(self, rank: int, k: int) -> int:
        return self._plan.message_bytes(self._plan.segment(rank, k).length)

    def _room(self, name: str, slots: int, slot: int, n_bytes: int, most: int) -> torch.Tensor:
        """Memory in a buffer of ``slots`` that take at most ``most`` bytes each."""
        stride = -(-most // 64) * 64
        whole = self._group.buffer((name, self._source.device), slots * stride, self._codec.empty)
        return whole[slot * stride : slot * stride + n_bytes]

    def _numbers(self, name: str, n: int) -> torch.Tensor:
        """Memory for numbers of the type of the sums."""
        size = self._wide.itemsize
        device = self._source.device
        made = self._group.buffer(
            (name, device), n * size, lambda n_bytes: torch.empty(n_bytes, dtype=torch.uint8, device=device)
        )
        return made.view(self._wide)

    def _sent(self, k: int) -> tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]:
        """Memory of segment k's messages to the others, and each of them, with the rank that it is for."""
        sizes = [self._bytes(rank, k) for rank in self._others]
        most = len(self._others) * self._plan.message_bytes(self._longest[0])
        whole = self._room("sent", self._kept, k % self._kept, sum(sizes), most)
        return whole, list(zip(self._others, torch.split(whole, sizes), strict=True))

    def _received(self, k: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same of those from the others."""
        size = self._bytes(self._rank, k)
        most = len(self._others) * self._plan.message_bytes(self._longest[0])
        whole = self._room("received", _IN_FLIGHT, k % _IN_FLIGHT, len(self._others) * size, most)
        return whole, list(torch.split(whole, size))

    def _gathered(self, k: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same of results, of which those of short parts have room to spare."""
        size = self._plan.message_bytes(self._longest[k])
        most = self._group.world_size * self._plan.message_bytes(self._longest[0])
        whole = self._room("gathered", self._plan.segments, k, self._group.world_size * size, most)
        return whole, list(torch.split(whole, size))

    def _total(self, k: int) -> torch.Tensor:
        """The sum of segment k of the own part."""
        own, part = self._plan.segment(self._rank, k), self._plan.part(self._rank)
        if not self._keeps_sums:
            return self._numbers("sum", own.length)
        return self._numbers("sum", part.length)[own.begin - part.begin : own.end - part.begin]

    # Steps.

    def _owed(self, segment: Part) -> torch.Tensor:
        """Elements of the source, and what is owed of them."""
        x = self._source[segment.begin : segment.end]
        if self._debt is None:
            return x
        staged = self._numbers("staged", segment.length)
        return torch.add(x, self._debt[segment.begin : segment.end], out=staged)

    def _agree(self) -> None:
        """Before each collective: the first one waits for the others' plans, which came while we quantized."""
        if self._announced is not None:
            self._group.agree(self._announced)
            self._announced = None

    def _send(self, k: int) -> Any:
        sent, messages = self._sent(k)
        for rank, message in messages:
            segment = self._plan.segment(rank, k)
            self._codec.encode(self._owed(segment), message, self._header, self._seeds[_PHASE_SCATTER], segment.begin)
        received, _ = self._received(k)
        sizes = [0 if rank == self._rank else self._bytes(rank, k) for rank in range(self._group.world_size)]
        own = [0 if rank == self._rank else self._bytes(self._rank, k) for rank in range(self._group.world_size)]
        self._agree()
        return self._group.all_to_all(received, sent, own, sizes)

    def _sum(self, k: int, arriving: dict[int, Any]) -> None:
        if not self._scatters:
            return
        total = self._total(k)
        total.copy_(self._owed(self._plan.segment(self._rank, k)))
        arriving.pop(k).wait()
        _, messages = self._received(k)
        self._check(messages, self._others)
        for message in messages:
            self._codec.decode(message, total, True)

    def _publish(self, k: int) -> Any:
        own = self._plan.segment(self._rank, k)
        message = self._room(
            "published", _IN_FLIGHT, k % _IN_FLIGHT, *[self._plan.message_bytes(self._longest[j]) for j in (k, 0)]
        )
        self._codec.encode(self._result(k, own), message, self._header, self._seeds[_PHASE_GATHER], own.begin)
        gathered, _ = self._gathered(k)
        self._agree()
        return self._group.gather_directly(gathered, message)

    def _result(self, k: int, own: Part) -> torch.Tensor:
        """What the owner tells the others."""
        if not self._scatters:
            begin = self._plan.part(self._rank).begin
            return self._source[own.begin - begin : own.end - begin]
        total = self._total(k)
        if self._plan.operator == "sum":
            return total
        mean = self._numbers("staged", own.length) if self._keeps_sums else total
        return torch.div(total, self._group.world_size, out=mean)

    def _collect(self, k: int, gathering: dict[int, Any]) -> None:
        gathering.pop(k).wait()
        self._check(self._gathered(k)[1], range(self._group.world_size))

    def _check(self, messages: Sequence[torch.Tensor], ranks: Sequence[int]) -> None:
        for rank, header in zip(ranks, self._codec.headers(messages), strict=True):
            if header != self._header:
                raise RuntimeError(
                    f"rank {rank} sent a message of another call: plan {header[0]:#x}, call {header[1]}, "
                    f"where plan {self._header[0]:#x}, call {self._header[1]} was to come"
                )

    def _settle(self, debt: torch.Tensor) -> None:
        """Makes debts of what was lost: in what was sent, and in the result of the own part."""
        for k in range(self._plan.segments):
            for rank, message in self._sent(k)[1]:
                segment = self._plan.segment(rank, k)
                owed = debt[segment.begin : segment.end]
                # owed - what arrived there, by a codec that can only add.
                owed.add_(self._source[segment.begin : segment.end]).neg_()
                self._codec.decode(message, owed, True)
                owed.neg_()
            own = self._plan.segment(self._rank, k)
            owed = debt[own.begin : own.end]
            if self._gathers:
                result = self._numbers("staged", own.length)
                self._codec.decode(self._gathered(k)[1][self._rank], result, False)
                if self._plan.operator == "avg":
                    result.mul_(self._group.world_size)
                torch.sub(self._total(k), result, out=owed)
            else:
                owed.zero_()
        debt.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)  # of blocks that were not finite

    def _write(self) -> None:
        if not self._gathers:
            total = self._numbers("sum", self._target.numel())
            self._target.copy_(total.div_(self._group.world_size) if self._plan.operator == "avg" else total)
            unify_nans(self._target)
            return
        for k in range(self._plan.segments):
            for rank, message in enumerate(self._gathered(k)[1]):
                segment = self._plan.segment(rank, k)
                self._codec.decode(message, self._target[segment.begin : segment.end], False)
        if not self._target.is_inference():
            increment_version(self._target)
