"""Memory of large outputs: kept for the next one, never shared by two, given back."""

import copy
import gc
import os
import pickle

import numpy as np
import pytest
import torch

import piquant
import piquant.numpy
import piquant.torch
from piquant import _native

MIB = 1 << 20
N = 9 * MIB  # float32: 36 MiB, beyond what malloc keeps
PARAMS = {"scale": 0.25, "zero_point": 3}


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """Collections need not go through all of torch each time, a quarter of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_kept():
    gc.collect()
    piquant.release_memory()
    yield
    gc.collect()
    piquant.release_memory()


def place(memory):
    return np.frombuffer(memory, np.uint8).ctypes.data


def mapped_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * os.sysconf("SC_PAGESIZE")


FACES = {
    "torch": lambda q, **kw: piquant.torch.dequantize(torch.from_numpy(q), dtype=torch.float32, **kw).numpy(),
    "numpy": lambda q, **kw: piquant.numpy.dequantize(q, dtype="float32", **kw),
}


@pytest.fixture(params=FACES)
def dequantize(request):
    return FACES[request.param]


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(0).integers(0, 256, N, np.uint8)


def right(codes, scale=0.25, zero_point=3):
    return (codes.astype(np.float32) - zero_point) * np.float32(scale)


def test_memory_of_a_dead_output_is_used_again(dequantize, codes):
    first = dequantize(codes, **PARAMS)
    address = first.ctypes.data
    assert address % (2 * MIB) == 0  # whole huge pages
    del first
    second = dequantize(codes, scale=0.5, zero_point=3)
    assert second.ctypes.data == address
    np.testing.assert_array_equal(second, right(codes, 0.5))


def test_live_outputs_and_views_have_memory_of_their_own(dequantize, codes):
    dequantize(codes, **PARAMS)  # leaves memory that one of the next may have
    whole = dequantize(codes, **PARAMS)
    view = whole[100:200]
    other = dequantize(codes, scale=2.0, zero_point=0)
    del whole
    third = dequantize(codes, scale=3.0, zero_point=0)
    np.testing.assert_array_equal(view, right(codes)[100:200])
    np.testing.assert_array_equal(other, right(codes, 2, 0))
    np.testing.assert_array_equal(third, right(codes, 3, 0))


def test_outputs_below_the_limit_are_left_to_malloc(dequantize):
    dequantize(np.zeros(4 * MIB, np.uint8), **PARAMS)
    assert piquant.release_memory() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda x: piquant.torch.quantize_dequantize(x, scale=1 / 128, zero_point=128, dtype=torch.uint8),
        lambda x: piquant.torch.quantize(x, scale=1e-6, zero_point=0, dtype=torch.int32),
        lambda x: piquant.torch.dequantize(x.to(torch.int8), scale=1.0, zero_point=0, dtype=torch.float32),
    ],
)
def test_every_large_result_of_torch_has_memory_that_is_kept(call):
    x = torch.linspace(-1, 1, N)
    out = call(x)
    assert out.shape == x.shape
    assert out._base is None  # no view of another tensor
    assert out.is_contiguous()
    assert out.untyped_storage().nbytes() == 4 * N
    del out
    assert piquant.release_memory() == 36 * MIB


def test_shape_and_default_device_are_those_of_small_outputs():
    q = torch.ones(3, 1024, 3 * 1024, dtype=torch.uint8)
    with torch.device("meta"):
        out = piquant.torch.dequantize(q, dtype=torch.float32, scale=1.0, zero_point=0)
    assert out.device.type == "cpu"
    assert out.shape == q.shape
    assert out.stride() == q.stride()
    assert bool((out == 1).all())


def test_what_one_does_with_a_tensor_works(codes):
    out = piquant.torch.dequantize(torch.from_numpy(codes), dtype=torch.float32, **PARAMS)
    expected = torch.from_numpy(right(codes))
    assert torch.equal(copy.deepcopy(out), expected)
    assert torch.equal(pickle.loads(pickle.dumps(out)), expected)
    assert torch.equal(out.clone().requires_grad_().detach(), expected)
    out.requires_grad_()
    (out * 2).sum().backward()
    assert bool((out.grad == 2).all())
    with torch.no_grad():
        out.share_memory_()
    assert out.is_shared()
    assert torch.equal(out.detach(), expected)


def test_a_forked_child_has_memory_of_its_own(dequantize, codes):
    kept = dequantize(codes, **PARAMS)
    address = kept.ctypes.data
    del kept
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = dequantize(codes, scale=2.0, zero_point=0)
            code = 0 if np.array_equal(mine, right(codes, 2, 0)) else 2
        finally:
            os._exit(code)
    out = dequantize(codes, **PARAMS)
    assert os.waitpid(pid, 0)[1] == 0
    assert out.ctypes.data == address
    np.testing.assert_array_equal(out, right(codes))


def test_the_smallest_block_that_fits_is_taken():
    blocks = [_native.output_memory(size * MIB) for size in (64, 40, 46, 200)]
    places = [place(b) for b in blocks]
    del blocks
    assert place(_native.output_memory(39 * MIB - 5)) == places[1]
    first = _native.output_memory(39 * MIB - 5)
    second = _native.output_memory(39 * MIB - 5)
    third = _native.output_memory(39 * MIB - 5)
    assert place(first) == places[1]
    assert place(second) == places[2]
    assert place(third) not in places  # of 64 MiB more than a fifth would be idle
    assert len(memoryview(first)) == 39 * MIB - 5
    assert piquant.release_memory() == 264 * MIB


def test_at_most_one_gibibyte_is_kept_the_oldest_goes_first():
    blocks = [_native.output_memory(300 * MIB) for _ in range(5)]
    places = [place(b) for b in blocks]
    for i in range(5):
        blocks[i] = None
    assert place(_native.output_memory(300 * MIB)) in places[2:]
    assert piquant.release_memory() == 900 * MIB
    del blocks
    _native.output_memory(1025 * MIB)
    assert piquant.release_memory() == 0


def test_at_most_sixteen_blocks_are_kept():
    blocks = [_native.output_memory(32 * MIB) for _ in range(20)]
    del blocks
    assert piquant.release_memory() == 16 * 32 * MIB


def test_the_system_may_take_what_is_kept(dequantize, codes):
    dequantize(codes, **PARAMS)
    with open("/proc/self/smaps") as f:
        free = sum(int(line.split()[1]) for line in f if line.startswith("LazyFree:")) << 10
    assert free >= 36 * MIB


def test_memory_goes_back_to_the_system():
    before = mapped_bytes()
    _native.output_memory(512 * MIB)
    assert mapped_bytes() >= before + 512 * MIB
    assert piquant.release_memory() == 512 * MIB
    assert mapped_bytes() < before + 64 * MIB
    assert piquant.release_memory() == 0


def test_without_room_there_is_none_and_what_was_kept_is_given_up():
    _native.output_memory(64 * MIB)
    assert _native.output_memory(1 << 62) is None
    assert piquant.release_memory() == 0
    assert _native.output_memory((1 << 63) - 1) is None
    assert _native.output_memory((1 << 64) - 1) is None
