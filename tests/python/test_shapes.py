"""Shapes of packed codes, with plain and with symbolic sizes."""

import itertools

import pytest
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from piquant._shapes import packed_length, packed_shape, product, result_shape, unpacked_shape

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
