"""Arguments that are none, and what is said of them: before anything is sent or made."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist

import piquant
import piquant.distributed
from piquant.distributed import all_gather_into_tensor, all_reduce, all_reduce_coalesced, reduce_scatter_tensor

X = torch.ones(5000)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"dtype": "uint8"}, ValueError, "dtype must be 'int8', 'int4', 'int2' or None, got 'uint8'"),
        ({"dtype": torch.float32}, TypeError, "dtype must be 'int8', 'int4', 'int2' or None, got torch.float32"),
        ({"dtype": 8}, TypeError, "dtype must be 'int8', 'int4', 'int2' or None, got 8"),
        ({"block_size": 0}, ValueError, "block_size must be an int of at least 1, got 0"),
        ({"block_size": (1, 64)}, TypeError, r"block_size must be an int of at least 1, got \(1, 64\)"),
        ({"block_size": 2**70}, ValueError, "block_size must be an int of at least 1, got"),
        ({"segment_bytes": 0}, ValueError, "segment_bytes must be an int of at least 1, got 0"),
        ({"segment_bytes": 1.5}, TypeError, "segment_bytes must be an int of at least 1, got 1.5"),
        ({"round_mode": "up"}, ValueError, "round_mode must be"),
        ({"seed": -1}, ValueError, r"seed must be an int in 0..2\*\*64 - 1 or None, got -1"),
        ({"seed": 2**64}, ValueError, "seed must be"),
        ({"seed": "1"}, TypeError, "seed must be"),
        ({"ctx": 3}, TypeError, "ctx must be a piquant.Context or None, got 3"),
    ],
)
def test_options(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    calls = (
        lambda: all_reduce(X, **arguments),
        lambda: all_reduce_coalesced([X], **arguments),
        lambda: reduce_scatter_tensor(X, X, **arguments),
        lambda: all_gather_into_tensor(X, X, **arguments),
    )
    for call in calls:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize(
    ("tensor", "error", "words"),
    [
        ([1.0], TypeError, "must be a torch.Tensor, got list"),
        (
            torch.ones(5000, dtype=torch.complex64),
            TypeError,
            "must be of torch.float16, .* or integers, got torch.comp",
        ),
        (torch.ones(5000).to(torch.float8_e4m3fn), TypeError, "must be of .* or integers, got torch.float8_e4m3fn"),
        (torch.ones(5000).to_sparse(), TypeError, "must be strided, got layout torch.sparse_coo"),
        (
            torch.ones(5000, device="meta"),
            NotImplementedError,
            "must be on one of the devices cpu, cuda to be quantized, got",
        ),
    ],
)
def test_tensors(tensor: Any, error: type[Exception], words: str) -> None:
    for call, name in (
        (lambda: all_reduce(tensor), "tensor"),
        (lambda: all_reduce_coalesced([X, tensor]), r"tensors\[1\]"),
        (lambda: reduce_scatter_tensor(X, tensor), "input"),
        (lambda: reduce_scatter_tensor(tensor, X), "output"),
        (lambda: all_gather_into_tensor(tensor, X), "output"),
        (lambda: all_gather_into_tensor(X, tensor), "input"),
    ):
        with pytest.raises(error, match=f"{name} {words}"):
            call()


def test_other_arguments() -> None:
    with pytest.raises(TypeError, match="tensors must be a sequence of tensors, got one; all_reduce takes that"):
        all_reduce_coalesced(X)  # type: ignore[arg-type]
    for op in (dist.ReduceOp.MAX, dist.ReduceOp.PRODUCT, "sum", None):
        with pytest.raises(ValueError, match=r"op must be ReduceOp.SUM or ReduceOp.AVG, got"):
            all_reduce(X, op)
    with pytest.raises(
        ValueError, match=r"op must be ReduceOp.SUM for integers, got ReduceOp.AVG for a tensor of torch"
    ):
        all_reduce(torch.arange(9), dist.ReduceOp.AVG)


def test_groups() -> None:
    """There is none in this process."""
    assert not dist.is_initialized()
    with pytest.raises(ValueError, match=r"torch.distributed has no process group yet: call init_process_group first"):
        all_reduce(X)
    with pytest.raises(ValueError, match="group must be one that this process belongs to"):
        all_reduce(X, group=dist.GroupMember.NON_GROUP_MEMBER)  # type: ignore[arg-type]
    piquant.distributed.close()


def test_is_imported_when_asked_for() -> None:
    program = """
import sys
import piquant, piquant.torch
assert "piquant.distributed" not in sys.modules
import threading
assert piquant.distributed.all_reduce
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)
