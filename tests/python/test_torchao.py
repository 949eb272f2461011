"""Equal to torchao's affine quantization of blocks bit for bit, on float32; its block_size is ours."""

from __future__ import annotations

import pytest
import torch
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

import piquant.torch
from blocked import TABLE, grid, sizes
from cases import contexts, describe

# torchao takes whole blocks only, and one size for each dimension.
DIVIDING = [
    ((12, 256), (1, 256)),
    ((12, 256), (1, 32)),
    ((12, 256), (12, 1)),
    ((12, 256), (4, 64)),
    ((6, 4, 3, 3), (1, 4, 3, 3)),
    ((2, 3, 64, 20), (1, 1, 32, 1)),
    ((7, 33), (7, 33)),
]
TYPES = {torch.int8: (-128, 127), torch.uint8: (0, 255)}


def data(shape, scale, block_size, seed):
    """A third each: ties of the blocks' scales, values within and far outside of the range."""
    generator = torch.Generator().manual_seed(seed)
    spread = scale
    for d, b in enumerate(block_size):
        spread = spread.repeat_interleave(b, d)
    codes = torch.randint(-300, 300, shape, generator=generator) + 0.5
    inside = (torch.rand(shape, generator=generator) - 0.5) * 256
    kind = torch.randint(0, 3, shape, generator=generator)
    return torch.where(kind == 0, codes, torch.where(kind == 1, inside, 100 * inside)) * spread


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("shape", "block_size"), DIVIDING, ids=str)
def test_given_scales(shape, block_size, dtype):
    low, high = TYPES[dtype]
    generator = torch.Generator().manual_seed(1)
    scale = 10 ** (torch.rand(grid(shape, block_size), generator=generator) * 4 - 3)
    zero_point = torch.randint(low, high + 1, scale.shape, generator=generator, dtype=torch.int32)
    x = data(shape, scale, block_size, 2)
    wanted = quantize_affine(x, block_size, scale, zero_point, dtype, low, high)
    values = dequantize_affine(wanted, block_size, scale, zero_point, dtype, low, high, output_dtype=torch.float32)
    right = {"scale": scale, "zero_point": zero_point, "block_size": block_size}
    for ctx in contexts(threads=(1, 3)):
        q = piquant.torch.quantize(x, **right, dtype=dtype, ctx=ctx)
        assert torch.equal(q, wanted), describe(ctx)
        y = piquant.torch.dequantize(wanted, **right, dtype=torch.float32, ctx=ctx)
        assert torch.equal(y.view(torch.int32), values.view(torch.int32)), describe(ctx)


@pytest.mark.parametrize(("shape", "block_size"), DIVIDING, ids=str)
def test_symmetric_scales(shape, block_size):
    """With codes from -127 on, which torchao must be told, its scales are ours."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    scale, zero_point = choose_qparams_affine(
        x, MappingType.SYMMETRIC, block_size, torch.int8, quant_min=-127, quant_max=127, keepdim=True
    )
    assert not zero_point.any()
    found = piquant.torch.compute_quant_params(x, dtype=torch.int8, block_size=block_size, symmetric=True)
    assert torch.equal(found[0], scale)
    assert found[1] == 0


def test_shapes_of_scales():
    """Where torchao takes the blocks of the table, the shape of its scales is that of ours."""
    for _, shape, block_size, parameters in TABLE:
        size = sizes(shape, block_size)
        if all(n % b == 0 for n, b in zip(shape, size, strict=True)):
            x = torch.randn(shape)
            scale, _ = choose_qparams_affine(x, MappingType.ASYMMETRIC, size, torch.uint8, keepdim=True)
            assert tuple(scale.shape) == parameters
