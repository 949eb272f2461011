"""Shapes of packed codes and of blocks, with plain and with symbolic sizes."""

import itertools

import pytest
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

import piquant
import piquant.torch
from piquant._shapes import (
    check_grid,
    full_block_size,
    grid_shape,
    inferred_block_size,
    packed_length,
    packed_shape,
    product,
    resolved_block_size,
    result_shape,
    unpacked_shape,
)

BITS = pytest.mark.parametrize("bits", [2, 4])


@BITS
def test_packed_length(bits):
    for n in range(71):
        whole, rest = divmod(n, 8 // bits)
        assert packed_length(n, bits) == whole + (rest > 0)


@BITS
def test_packing_and_unpacking(bits):
    assert packed_shape((), bits) == (1,)
    assert unpacked_shape((), bits) == (8 // bits,)
    assert packed_shape((3, 0), bits) == (3, 0)
    assert packed_shape((2, 3, 9), bits) == (2, 3, packed_length(9, bits))
    assert unpacked_shape((2, 3, 5), bits) == (2, 3, 5 * 8 // bits)
    assert packed_shape(unpacked_shape((4, 7), bits), bits) == (4, 7)


def test_result_shapes():
    assert result_shape((3, 4), None, 8, "q") == (3, 4)
    assert result_shape((3, 4), None, 4, "q") == (3, 8)
    assert result_shape((3, 4), (2, 6), 8, "q") == (2, 6)
    assert result_shape((3, 4), (3, 7), 4, "q") == (3, 7)
    assert result_shape((12,), (3, 7), 4, "q") == (3, 7)
    for stored, shape, bits, words in [
        ((3, 4), (3, 5), 8, r"shape must have as many elements as q, whose shape is \(3, 4\), got \(3, 5\)"),
        ((3, 4), (3, 9), 4, r"shape \(3, 9\) of 4-bit codes takes bytes of shape \(3, 5\), but q has shape \(3, 4\)"),
        ((3, 4), (24,), 4, "of 4-bit codes takes bytes of shape"),
        ((11,), (3, 7), 4, "of 4-bit codes takes bytes of shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            result_shape(stored, shape, bits, "q")


def symbolic(size, hint):
    """A size of a fake tensor that is not known to the compiler."""
    env = ShapeEnv()
    mode = FakeTensorMode(shape_env=env)
    return env, mode, env.create_symintnode(
        env.create_symbol(hint, ConstantSource(size), dynamic_dim=DimDynamic.DYNAMIC), hint=hint
    )  # fmt: skip


@BITS
def test_sizes_may_be_symbolic(bits):
    for hint in (5, 8, 33):
        env, mode, n = symbolic("n", hint)
        stored = packed_shape((3, n), bits)
        assert isinstance(stored[1], torch.SymInt)
        with mode:
            assert isinstance(torch.empty(stored, dtype=torch.uint8).shape[1], torch.SymInt)
        assert isinstance(product(stored), torch.SymInt)
        assert isinstance(unpacked_shape((2, n), bits)[1], torch.SymInt)
        assert result_shape((2, n), None, 8, "q")[1] is n
        assert not env.guards, "nothing was asked about the size"
        assert stored[1] == packed_length(hint, bits)
        assert result_shape(stored, (3, n), bits, "q") == (3, n)
        with pytest.raises(ValueError, match="-bit codes takes bytes of shape"):
            result_shape((3, stored[1] + 1), (3, n), bits, "q")


def test_results_of_plain_sizes_are_plain():
    for shape, bits in itertools.product([(3, 5), (7,), ()], [2, 4]):
        assert all(type(n) is int for n in packed_shape(shape, bits))


SHAPES = [(), (0,), (1,), (7,), (5, 33), (0, 4), (4, 0), (2, 3, 9)]
BLOCKS = [(), (1,), (-1,), (3,), (64,), (2, 5), (-1, 1), (1, -1), (-1, -1), (2, -1, 4)]


def test_blocks_as_the_native_module_cuts_them():
    """The rule is written twice, in C++ for calls and here for shapes that may be symbolic."""
    for shape, block_size in itertools.product(SHAPES, BLOCKS):
        x = torch.zeros(shape)
        if len(block_size) > len(shape):
            words = f"block_size must have at most as many sizes as tensor has dimensions, {len(shape)}, got"
            with pytest.raises(ValueError, match=words):
                full_block_size(block_size, len(shape), "tensor")
            with pytest.raises(ValueError, match=words):
                piquant.torch.quantize_dynamic(x, dtype=torch.int8, block_size=block_size)
            continue
        made = piquant.torch.quantize_dynamic(x, dtype=torch.int8, block_size=block_size)
        assert grid_shape(shape, block_size) == tuple(made.scale.shape) == tuple(made.zero_point.shape)
        assert resolved_block_size(shape, block_size) == made.block_size
        assert all(type(n) is int for n in (*grid_shape(shape, block_size), *made.block_size))


def test_inferred_blocks_as_the_native_module_infers_them():
    for shape in ((1, 1), (5, 5), (1, 4), (5, 1), (5, 4)):
        for scale in itertools.product((1, 4, 5), repeat=2):
            t = torch.rand(scale) + 1
            if all(s in (1, n) for s, n in zip(scale, shape, strict=True)):
                block_size = inferred_block_size(scale, shape, "tensor")
                assert grid_shape(shape, block_size) == scale
                a = piquant.torch.quantize(torch.ones(shape), scale=t, dtype="int8")
                b = piquant.torch.quantize(torch.ones(shape), scale=t, dtype="int8", block_size=block_size)
                assert torch.equal(a, b)
                continue
            for refuse in (
                lambda: inferred_block_size(scale, shape, "tensor"),  # noqa: B023
                lambda: piquant.torch.quantize(torch.ones(shape), scale=t, dtype="int8"),  # noqa: B023
            ):
                with pytest.raises(ValueError, match="scale must have a size of 1 or that of tensor along each"):
                    refuse()


def test_blocks_of_symbolic_sizes():
    for hint in (5, 64, 130):
        env, _, n = symbolic("n", hint)
        grid = grid_shape((3, n), (64,))
        assert full_block_size((64,), 2, "x") == (1, 64)
        assert isinstance(grid[1], torch.SymInt)
        assert not env.guards, "nothing was asked about the size"
        assert grid == (3, -(-hint // 64))
        assert grid_shape((n, 3), (1, -1)) == (hint, 1)
        check_grid("scale", (3, -(-hint // 64)), (3, n), (64,), "x")
        with pytest.raises(ValueError, match=r"scale must have shape \(3, .*\) for x of shape \(3, .*\) in blocks of"):
            check_grid("scale", (3, 9), (3, n), (64,), "x")
