"""What ranks with CUDA tensors do, by name; see pool.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import piquant.distributed
from piquant.distributed import QuantizeState, quantize_hook

if TYPE_CHECKING:
    from pool import Rank

N = 300_007


def data(rank: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(N, generator=torch.Generator().manual_seed(rank)).to(dtype)


def sums(me: Rank, device: str, dtype: str, block_size: int) -> list[bytes]:
    """Results of the collectives, on tensors of a device."""
    torch.cuda.set_device(me.rank % torch.cuda.device_count())
    options: dict[str, Any] = {"dtype": dtype, "block_size": block_size, "seed": 7, "segment_bytes": 40_000}
    found = []
    for floats in (torch.float32, torch.bfloat16):
        with torch.cuda.stream(torch.cuda.Stream()):  # not the one on which the worker runs
            x = data(me.rank, floats)
            x[1000 * me.rank :: 100_000] = float("nan")
            x[7] = (-1) ** me.rank * float("inf")  # which the sum makes a NaN of
            x = x.to(device)
            piquant.distributed.all_reduce(x, dist.ReduceOp.AVG, me.group, **options)
            part = x.new_empty(N // 2)
            piquant.distributed.reduce_scatter_tensor(part, x[: N // 2 * 2], group=me.group, **options)
            every = x.new_empty(N // 2 * 2)
            piquant.distributed.all_gather_into_tensor(every, part, group=me.group, **options)
            wild = data(me.rank)[:10_000].index_fill(0, torch.tensor(5), float("nan"))
            small = [wild.to(device), wild.half().to(device), torch.arange(5, device=device)]
            piquant.distributed.all_reduce_coalesced(small, group=me.group, **options)
            found += [y.cpu().view(torch.uint8).numpy().tobytes() for y in (x, part, every, *small)]
    piquant.distributed.close(me.group)
    return found


def sums_over_nccl(me: Rank, dtype: str, block_size: int) -> list[bytes]:
    """The same through NCCL, each rank with a card of its own."""
    torch.cuda.set_device(me.rank)
    group = dist.new_group(backend="nccl")
    assert isinstance(group, dist.ProcessGroup)
    return sums(me._replace(group=group), "cuda", dtype, block_size)


def trained(me: Rank, device: str) -> list[bytes]:
    """Gradients of a model under DDP, with error feedback."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 300), nn.Linear(300, 100)).to(device)
    ddp = DistributedDataParallel(model, process_group=me.group, bucket_cap_mb=0.1)
    state = QuantizeState(me.group, error_feedback=True)
    ddp.register_comm_hook(state, quantize_hook)
    x = data(me.rank)[:10_000].view(100, 100).to(device)
    for _ in range(3):
        ddp(x).square().mean().backward()
    state.close()
    return [p.grad.cpu().view(torch.uint8).numpy().tobytes() for p in model.parameters() if p.grad is not None]
