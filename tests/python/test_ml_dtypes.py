"""Equal to the ml_dtypes package: how bfloat16 and float16 convert, every pattern; int4 and int2, values and bytes."""

import ml_dtypes
import numpy as np
import pytest

import piquant.numpy
from cases import contexts, describe, same_bits

HALVES = pytest.mark.parametrize("half", [ml_dtypes.bfloat16, np.float16], ids=["bfloat16", "float16"])
PATTERNS = np.arange(65536, dtype=np.uint16)


@HALVES
@pytest.mark.parametrize("scale", [1.0, 0.1, 2.0**-20])
def test_every_pattern_widens(half, scale):
    x = PATTERNS.view(half)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float32)
    for ctx in contexts():
        for dtype in ("int8", "int32"):
            a, b = (piquant.numpy.quantize(v, scale=scale, zero_point=-5, dtype=dtype, ctx=ctx) for v in (x, wide))
            assert np.array_equal(a, b), describe(ctx)


@HALVES
@pytest.mark.parametrize("scale", [1.0, 0.1, 1 / 3, 2.0**-140 * 2.0**14, 1e-6, 3e30])
def test_every_rounding_narrows(half, scale):
    """Products of all 16-bit integers and a scale: subnormal, tie, and overflowing results among them."""
    q = PATTERNS.view(np.int16)
    for ctx in contexts():
        right = {"scale": scale, "zero_point": 3, "ctx": ctx}
        wide = piquant.numpy.dequantize(q, dtype=np.float32, **right)
        with np.errstate(over="ignore"):
            wanted = wide.astype(half)
        assert same_bits(piquant.numpy.dequantize(q, dtype=half, **right), wanted), describe(ctx)


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_narrow_codes(name):
    dtype = getattr(ml_dtypes, name)
    info = ml_dtypes.iinfo(dtype)
    x = np.linspace(2 * float(info.min) - 2, 2 * float(info.max) + 2, 1003, dtype=np.float32)
    wanted = np.clip(np.rint(x), int(info.min), int(info.max)).astype(dtype)
    for ctx in contexts():
        right = {"scale": 1.0, "zero_point": 0, "ctx": ctx}
        codes = piquant.numpy.quantize(x, dtype=dtype, **right)
        assert codes.dtype == wanted.dtype
        assert codes.tobytes() == (wanted.view(np.uint8) & (2**info.bits - 1)).tobytes(), describe(ctx)
        assert np.array_equal(codes.astype(np.float32), wanted.astype(np.float32)), describe(ctx)
        back = piquant.numpy.dequantize(wanted, dtype=np.float32, **right)
        assert np.array_equal(back, wanted.astype(np.float32)), describe(ctx)
        # The packed form holds the same fields, the first one lowest.
        packed = piquant.numpy.quantize(x, dtype=name, **right)
        fields = wanted.view(np.uint8).astype(int) & (2**info.bits - 1)
        whole = sum(int(f) << (info.bits * i) for i, f in enumerate(fields))
        assert packed.tobytes() == whole.to_bytes(packed.size, "little"), describe(ctx)
