"""Edges of calls with blocks: nothing, no dimensions, too many, and memory that is shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import piquant
from blocked import FACES, Face

X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10)
SCALE = np.full((4, 3), 0.5, np.float32)  # groups of 4, the last of 2


@pytest.mark.parametrize("face", ["torch", "numpy"])
def test_no_data_broadcasts_as_data_does(face):
    f = Face(face)
    for shape, grid in [((0, 5), (1, 5)), ((0, 5), (1, 1)), ((0, 5), (0, 5)), ((5, 0), (5, 1)), ((2, 0, 3), (2, 1, 3))]:
        x, scale, zero_point = np.zeros(shape, np.float32), np.ones(grid, np.float32), np.ones(grid, np.int8)
        assert f.quantize(x, scale, zero_point, "int8").shape == shape
        assert f.dequantize(x.astype(np.int8), scale, 0, "int8", "float32", shape).shape == shape


@pytest.mark.parametrize("face", FACES)
def test_results_without_dimensions_are_refilled(face):
    f = Face(face)
    x, y = np.array(0.5, np.float32), np.array(-3, np.float32)
    made = f.module.quantize_dynamic(f.given(x), dtype="int8")
    assert f.module.quantize_dynamic(f.given(y), dtype="int8", out=made) is made
    wanted = f.module.quantize_dynamic(f.given(y), dtype="int8")
    assert made == wanted


def test_parameters_of_out_may_not_lie_in_data_that_is_copied():
    """Data of foreign byte order is read from a copy, and would be overwritten all the same."""
    memory = np.zeros(12, ">f4")
    x = memory.reshape(2, 6)
    x[...] = np.linspace(-1, 1, 12).reshape(2, 6)
    kept = memory.copy()
    for name, part in (("scale", memory[:4].view("f4")), ("zero_point", memory.view("i1")[4:8])):
        right = piquant.numpy.quantize_dynamic(x, dtype="int8", block_size=4)
        out = piquant.numpy.QuantizedArray(**vars(right) | {name: part.reshape(2, 2)})
        with pytest.raises(ValueError, match="out must not overlap the input"):
            piquant.numpy.quantize_dynamic(x, dtype="int8", block_size=4, out=out)
        assert np.array_equal(memory, kept)


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8, torch.qint32])
def test_zero_points_carry_no_parameters(dtype):
    x, scale = torch.tensor(X), torch.tensor(SCALE)
    zero_point = piquant.torch.quantize(torch.ones(4, 3), scale=0.5, dtype=dtype)
    with pytest.raises(TypeError, match=rf"zero_point must hold integers of 8 bits or more, got {dtype}"):
        piquant.torch.quantize(x, scale=scale, zero_point=zero_point, dtype="int8", block_size=4)


def test_too_many_dimensions_of_both():
    x = torch.ones((1,) * 8 + (3,))
    with pytest.raises(ValueError, match="tensor must have at most 8 dimensions where blocks have parameters, got 9"):
        piquant.torch.quantize(x, scale=x, dtype="int8")


def test_flat_buffers_may_have_gaps():
    wide = memoryview(np.repeat(SCALE.reshape(-1), 2))[::2]
    wanted = piquant.quantize(X, scale=SCALE, dtype="int8", block_size=4)
    assert piquant.quantize(X, scale=wide, dtype="int8", block_size=4) == wanted
