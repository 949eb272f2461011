"""Collectives on CUDA tensors: two ranks that share a card, over Gloo; messages as NCCL sends them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

import piquant.distributed
from device_messages import differing_messages
from piquant.distributed._codec import CudaCodec
from piquant.distributed._plan import Options, layout_of_message
from pool import Pool


@pytest.fixture(scope="module")
def pair() -> Iterator[Pool]:
    pool = Pool(2)
    yield pool
    pool.close()


def test_messages_are_those_of_the_cpu() -> None:
    assert [*differing_messages(torch.device("cuda", 0), contextlib.nullcontext)] == []


@pytest.mark.parametrize(("dtype", "block_size"), [("int8", 256), ("int4", 64), ("int2", 33)])
def test_sums_are_those_of_the_cpu(pair: Pool, dtype: str, block_size: int) -> None:
    on_card = pair.run(2, "cuda_ranks.sums", "cuda", dtype, block_size)
    assert on_card == pair.run(2, "cuda_ranks.sums", "cpu", dtype, block_size)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a card for each rank")
@pytest.mark.parametrize(("dtype", "block_size"), [("int8", 256), ("int4", 64)])
def test_sums_over_nccl_are_those_of_the_cpu(pair: Pool, dtype: str, block_size: int) -> None:
    over_nccl = pair.run(2, "cuda_ranks.sums_over_nccl", dtype, block_size)
    assert over_nccl == pair.run(2, "cuda_ranks.sums", "cpu", dtype, block_size)


def test_gradients_are_alike_on_all_ranks(pair: Pool) -> None:
    first, second = pair.run(2, "cuda_ranks.trained", "cuda")
    assert len(first) == 4
    assert first == second


def test_messages_that_stay_on_the_card() -> None:
    """As NCCL takes them."""
    options = Options("int4", 64, True)
    codec = CudaCodec(options, torch.device("cuda", 0), by_host=False)
    x = torch.randn(10_001, device="cuda")
    size = layout_of_message(10_001, 64, 4).end
    message = codec.empty(size)
    codec.encode(x, message, (1 << 63, 9), 1, 2)
    host = CudaCodec(options, torch.device("cuda", 0), by_host=True)
    other = host.empty(size)
    host.encode(x, other, (1 << 63, 9), 1, 2)
    assert message.is_cuda
    assert other.is_pinned()
    assert torch.equal(message.cpu(), other)
    assert codec.headers([message, message]) == [(1 << 63, 9)] * 2
    out = torch.ones_like(x)
    codec.decode(message, out, True)
    assert (out - 1 - x).abs().max() < 1


def test_a_group_of_nccl_with_one_rank_leaves_tensors_as_they_are() -> None:
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        x = torch.randn(10_000, device="cuda")
        before = x.clone()
        piquant.distributed.all_reduce(x)
        assert torch.equal(x, before)
    finally:
        dist.destroy_process_group()
