"""The model itself, against rational arithmetic and published vectors: it judges everything else."""

from fractions import Fraction
from math import floor

import ml_dtypes
import numpy as np
import pytest

import model


def half_even(x: Fraction) -> int:
    return round(x)  # Python rounds rationals half to even


def code_by_definition(y: float, u: int | None, zero_point: int, low: int, high: int) -> int:
    if np.isnan(y):
        return low
    if np.isinf(y):
        return high if y > 0 else low
    exact = Fraction(y)
    r = half_even(exact) if u is None else floor(exact) + (half_even((exact - floor(exact)) * 65536) + u >= 65536)
    return min(max(r + zero_point, low), high)


@pytest.mark.parametrize("round_mode", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", model.QUANTIZED)
def test_quantize_is_the_definition(dtype, round_mode):
    target = model.QUANTIZED[dtype]
    random = np.random.default_rng(target.bits)
    values = np.concatenate(
        [
            random.integers(0, 2**64, 300, dtype=np.uint64).view(np.float64),
            random.standard_normal(300) * 10.0 ** random.integers(-8, 21, 300),
            random.integers(-50, 50, 100) / 2,
            np.array([1, -1]) * 2.0**-17 * (1 + 2.0**-52),  # where y - floor(y) does not fit a double
            np.array([1, -1, 3, -3]) * 2.0**-17,
            [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, -0.49999999999999994, 2.0**63, -(2.0**63), 2.0**64],
        ]
    )
    for real in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            x = values.astype(real)
        for zero_point in (target.low, target.high, (target.low + target.high) // 2):
            codes = model.quantize(x, 1.0, zero_point, dtype, round_mode, seed=7, offset=2**40)
            words = model.random_words(7, 2**40, x.size).tolist() if round_mode == "stochastic" else [None] * x.size
            wanted = [
                code_by_definition(y, u, zero_point, target.low, target.high)
                for y, u in zip(x.tolist(), words, strict=True)
            ]
            assert codes.tolist() == wanted


def test_integers_to_float32():
    random = np.random.default_rng(0)
    exact = random.integers(-(2**63), 2**63, 20000) >> random.integers(0, 63, 20000)
    ties = (2 * random.integers(2**23, 2**24, 1000) + 1) << random.integers(0, 38, 1000)
    for d in (exact, ties, -ties, ties + 1, ties - 1):
        assert [model.nearest_float32(int(i)) for i in d] == d.astype(np.float32).tolist()
    assert model.nearest_float32(2**64 + 2**40) == 2**64  # a tie of a 65-bit integer, to even
    assert model.nearest_float32(-(2**64) - 2**40 - 1) == -(2**64) - 2**41


def test_zero_point_rounding():
    for whole in (-128, -3, 0, 1, 2**63 + 1):
        for t in (0.0, 0.25, 0.5, 0.5 - 2**-54, 0.5 + 2**-53, 1.5, 2.5, 3.75, 1e15 + 0.5, 1e19):
            assert model.round_half_even_sum(whole, t) == half_even(whole + Fraction(t))


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_vectors(counter, key, wanted):
    """The known answers that come with the Random123 library."""
    assert model.philox4x32(counter, key) == wanted


def test_packing():
    assert model.pack(np.array([1, 2, 3], np.uint8), "uint4").tolist() == [0x21, 0x03]
    assert model.pack(np.array([-1, 0, -8], np.int8), "int4").tolist() == [0x0F, 0x08]
    assert model.pack(np.array([1, 2, 3, 0, 2], np.uint8), "uint2").tolist() == [0b00111001, 0b10]
    assert model.pack(np.array([-1, 1, -2], np.int8), "int2").tolist() == [0b100111]


def test_bfloat16_rounding():
    """ml_dtypes rounds half to even, as upper halves of float32 patterns show."""
    bits = np.random.default_rng(1).integers(0, 0x7F7F8000, 100000, dtype=np.uint32)
    bits[::3] = bits[::3] & 0xFFFF0000 | 0x8000
    upper = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16
    assert (bits.view(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16) == upper).all()
