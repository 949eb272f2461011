"""Equal to torch.ops.quantized_decomposed bit for bit, wherever torch's arithmetic is exact beyond its roundings."""

import itertools

import pytest
import torch
import torch.ao.quantization.fx._decomposed

import piquant.torch
from cases import contexts, describe

TYPES = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.int16: (-(2**15), 2**15 - 1),
    torch.uint16: (0, 2**16 - 1),
    torch.int32: (-(2**31), 2**31 - 1),
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SCALES = (1.0, 0.1, 1 / 3, 0.0173, 2.0**-10, 1e-4, 12.5)
EXACT = 2**22  # torch adds the zero point in float32: up to here both terms and their sum are integers of 24 bits


def test_every_integer_type_of_torch_is_compared():
    known = torch.ao.quantization.fx._decomposed._DTYPE_TO_QVALUE_BOUNDS
    assert {dtype: tuple(map(int, limits)) for dtype, limits in known.items() if not dtype.is_floating_point} == TYPES


# Every kind of value a third: ties, values within the range of the codes, values far outside.
N = 4500


def data(scale: float, low: int, high: int, limit: int | None, seed: int) -> torch.Tensor:
    """float32, codes up to ``limit`` where it is given."""
    generator = torch.Generator().manual_seed(seed)
    reach = min(high - low, EXACT)

    def uniform(lowest, highest):
        return torch.rand(N // 3, generator=generator, dtype=torch.float64) * (highest - lowest) + lowest

    ties = (uniform(-reach, reach).round() + 0.5) * scale
    inside = uniform(-reach, reach) * scale
    magnitudes = uniform(-40, 38 if limit is None else torch.tensor(limit * scale).log10().item())
    far = 10**magnitudes * torch.where(uniform(-1, 1) < 0, -1.0, 1.0)
    return torch.cat([ties, inside, far]).to(torch.float32)


def zero_points(low: int, high: int) -> list[int]:
    return sorted(
        {max(low, -EXACT), max(low, -EXACT) + 1, 0, (low + high) // 2, min(high, EXACT) - 1, min(high, EXACT)}
    )


@pytest.mark.parametrize("real", FLOATS, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_quantize(dtype, real):
    """For int32 torch computes a float32 sum, inexact beyond 24 bits, and converts the clamp limit 2**31 - 1 to 2**31,
    which no int32 holds: there, data and zero points are kept to where that sum is exact. Narrower codes need no such
    care, because sums that are not exact lie outside of their range anyway."""
    low, high = TYPES[dtype]
    limit = EXACT if dtype is torch.int32 else None
    ties = 0
    for i, (scale, zero_point) in enumerate(itertools.product(SCALES, zero_points(low, high))):
        x = data(scale, low, high, limit, seed=i).to(real)
        x = x[x.isfinite()]
        if limit is not None:
            x = x[x.double().abs() < 2 * EXACT * scale]
        y = x.float() * (1.0 / scale)
        ties += int(((y - y.floor()) == 0.5).sum())
        for quant_min, quant_max in ((low, high), (max(low, -7), 7)):
            wanted = torch.ops.quantized_decomposed.quantize_per_tensor(
                x, scale, zero_point, quant_min, quant_max, dtype
            )
            for ctx in contexts():
                got = piquant.torch.quantize(
                    x,
                    scale=scale,
                    zero_point=zero_point,
                    dtype=dtype,
                    quant_min=quant_min,
                    quant_max=quant_max,
                    ctx=ctx,
                )
                assert got.dtype == dtype
                assert torch.equal(got, wanted), f"{describe(ctx)}: scale={scale}, zero_point={zero_point}"
    # Ties survive the rounding of scale and product for most scales, so they are tested in numbers.
    assert ties > 10_000 or real is not torch.float32


@pytest.mark.parametrize("out", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_dequantize(dtype, out):
    """torch converts the code to the output type before it subtracts. In float32 that is exact up to 24 bits, which
    int32 is kept to; in float16 and bfloat16 the whole computation rounds to them, and is not what we compare with."""
    low, high = TYPES[dtype]
    reach = EXACT if out is torch.float32 else 2**31
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(max(low, -reach), min(high, reach - 1) + 1, (N,), generator=generator).to(dtype)
    for scale, zero_point in itertools.product((*SCALES, 2.0**-126, 1e-30, 3e38), zero_points(low, high)):
        wanted = torch.ops.quantized_decomposed.dequantize_per_tensor(
            q, scale, zero_point, low, high, dtype, out_dtype=out
        )
        for ctx in contexts():
            got = piquant.torch.dequantize(q, scale=scale, zero_point=zero_point, dtype=out, ctx=ctx)
            assert got.dtype == out
            pattern = torch.int32 if out is torch.float32 else torch.int64
            assert torch.equal(got.view(pattern), wanted.view(pattern)), (
                f"{describe(ctx)}: scale={scale}, zero_point={zero_point}"
            )


def channels(low: int, high: int, axis: int, shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points of an axis, by torch's rule in one dimension."""
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (torch.rand(shape[axis], generator=generator) * 4 - 3)
    zero_points = torch.randint(max(low, -EXACT), min(high, EXACT) + 1, (shape[axis],), generator=generator)
    return scales, zero_points


@pytest.mark.parametrize("dtype", [t for t in TYPES if t is not torch.int32], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_per_channel(dtype, axis):
    """Channels along an axis are blocks of one along it, and the whole of all others; ties are a third of the data."""
    low, high = TYPES[dtype]
    shape = (5, 12, 75)
    x = data(1.0, low, high, None, 3)[: 5 * 12 * 75].reshape(shape)
    scales, zero_points = channels(low, high, axis, shape, 4)
    block_size = [-1, -1, -1]
    block_size[axis] = 1
    grid = [1, 1, 1]
    grid[axis] = -1
    x = x * scales.reshape(grid)
    wanted = torch.ops.quantized_decomposed.quantize_per_channel(x, scales, zero_points, axis, low, high, dtype)
    right = {"scale": scales.reshape(grid), "zero_point": zero_points.reshape(grid), "block_size": tuple(block_size)}
    y = x * (1.0 / scales.reshape(grid).double()).float()
    assert int(((y - y.floor()) == 0.5).sum()) > 500
    for ctx in contexts():
        got = piquant.torch.quantize(x, **right, dtype=dtype, ctx=ctx)
        assert torch.equal(got, wanted), describe(ctx)
    if dtype is torch.uint16:  # which torch's dequantization does not promote
        return
    values = torch.ops.quantized_decomposed.dequantize_per_channel(
        wanted, scales, zero_points, axis, low, high, dtype, out_dtype=torch.float32
    )
    for ctx in contexts():
        back = piquant.torch.dequantize(wanted, **right, dtype=torch.float32, ctx=ctx)
        assert torch.equal(back.view(torch.int32), values.view(torch.int32)), describe(ctx)
