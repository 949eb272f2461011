"""compute_quant_params equals the model, and its scale and zero point keep the promised error."""

import itertools
from array import array

import ml_dtypes
import numpy as np
import pytest
import torch

import model
import piquant.numpy
import piquant.torch
from cases import contexts, describe, ranges

PAIRS = pytest.mark.parametrize(("real", "dtype"), list(itertools.product(model.FLOATS, model.QUANTIZED)))
REALS = pytest.mark.parametrize("real", model.FLOATS)


def datasets(real: str) -> dict[str, np.ndarray]:
    """Shapes of data that scale and zero point depend on, as large and as small as the type goes."""
    random = np.random.default_rng(0)
    kind, n = model.FLOATS[real], 301
    info = ml_dtypes.finfo(kind)
    largest, normal = float(info.max), float(info.smallest_normal)
    even = np.linspace(-1, 1, n)
    return {
        "normal": random.standard_normal(n).astype(kind),
        "positive": random.uniform(3, 5, n).astype(kind),
        "negative": random.uniform(-5, -3, n).astype(kind),
        "mostly positive": random.uniform(-0.01, 2, n).astype(kind),
        "mostly negative": random.uniform(-2, 0.01, n).astype(kind),
        "zeros": np.array([0.0, -0.0] * n, kind),
        "one element": np.array([0.7], kind),
        "one negative element": np.array([-0.7], kind),
        "integers": np.arange(-50, 51).astype(kind),
        "small": (even * normal * 1000).astype(kind),
        "subnormal": (even * normal / 4).astype(kind),
        "one subnormal": np.array([info.smallest_subnormal], kind),
        "large": (even * (largest / 4)).astype(kind),
        "huge": (even[n // 2 :] * largest).astype(kind),
        "1e300": (even * min(1e300, largest / 3)).astype(kind),
        "longer than the largest number": (even * largest).astype(kind),
    }


def compute(x, dtype, ctx=None, **options):
    return piquant.numpy.compute_quant_params(x, dtype=dtype, ctx=ctx, **options)


def symmetric_range(dtype):
    t = model.QUANTIZED[dtype]
    middle = 0 if t.signed else 2 ** (t.bits - 1)
    return [(None, None), (t.low + 1, None), (middle - 1, None), (t.low, middle + 1), (middle - 1, middle + 1)]


@pytest.mark.parametrize("face", [piquant, piquant.numpy, piquant.torch], ids=lambda face: face.__name__)
def test_symmetric_codes_of_a_restricted_range(face):
    values = [-1.0, 0.25, 0.75]
    x = {piquant: array("f", values), piquant.numpy: np.array(values, np.float32), piquant.torch: torch.tensor(values)}
    for dtype, low, high, m, middle in (
        ("int4", -7, 7, 7, 0), ("int8", -64, 63, 63, 0), ("uint8", 120, 255, 8, 128), ("int2", -1, 1, 1, 0),
        ("int8", None, 100, 100, 0), ("uint16", None, None, 32767, 32768),
    ):  # fmt: skip
        limits = {"quant_min": low, "quant_max": high}
        scale, zero_point = face.compute_quant_params(x[face], dtype=dtype, symmetric=True, **limits)
        assert (scale, zero_point) == (float(np.float32(1 / m)), middle)
        q = face.quantize(x[face], scale=scale, zero_point=zero_point, dtype=dtype, **limits)
        y = face.dequantize(
            q, scale=scale, zero_point=zero_point, dtype="float32", source_dtype=dtype, shape=(len(values),)
        )
        assert float(y[0]) == pytest.approx(-1)


def every_option(dtype):
    for low, high in ranges(dtype):
        yield {"quant_min": low, "quant_max": high}
    for low, high in symmetric_range(dtype):
        yield {"quant_min": low, "quant_max": high, "symmetric": True}


@PAIRS
def test_params(real, dtype):
    for (name, x), options in itertools.product(datasets(real).items(), every_option(dtype)):
        scale, zero_point = model.quant_params(x, dtype, **options)
        for ctx in contexts():
            if np.isfinite(scale):
                assert compute(x, dtype, ctx, **options) == (scale, zero_point), f"{describe(ctx)}: {name}, {options}"
            else:
                with pytest.raises(ValueError, match="span"):
                    compute(x, dtype, ctx, **options)


@PAIRS
def test_kept_promise(real, dtype):
    """|x - dequantize(quantize(x))| <= scale / 2 plus rounding, which is this.

    T rounds to a relative u (2**-24 or 2**-53). M = hi - lo, or max |x| if symmetric; s the scale.

      scale       s = M / steps * (1 + 3u): one rounding to T, two in double. The codes reach steps * s, which may fall
                  short of M by 3u M, so much is cut off at the ends; the zero point's division adds at most u M.
      quantize    y = x / s * (1 + 3u): the reciprocal twice, the product once. r is within 1/2 of y, so s * r is within
                  s / 2 + 3u M of x. Clamping applies at the ends only, where r was rounded away from them: the two
                  errors do not add, and the larger is s / 2 + 4u M.
      dequantize  s * d, |s * d| <= M + s / 2, is rounded twice: 2u M + u s.
      output      u' |v|, or half its smallest subnormal; and what rounds to infinity is infinity.
    """
    t = np.finfo(model.compute_type(real))
    info = ml_dtypes.finfo(model.FLOATS[real])
    u, u_out = float(t.eps) / 2, float(info.eps) / 2
    worst = 0.0
    for (name, x), options in itertools.product(datasets(real).items(), every_option(dtype)):
        if not np.isfinite(model.quant_params(x, dtype, **options)[0]):
            continue
        scale, zero_point = compute(x, dtype, **options)
        clamp = {key: options[key] for key in ("quant_min", "quant_max")}
        out = piquant.numpy.quantize_dequantize(x, scale=scale, zero_point=zero_point, dtype=dtype, **clamp)

        # In units of the largest number around, so that nothing here overflows or rounds noticeably.
        unit = -int(np.frexp(max(np.abs(x.astype(np.float64)).max(), scale))[1])
        exact, got = np.ldexp(x.astype(np.float64), unit), np.ldexp(out.astype(np.float64), unit)
        with np.errstate(over="ignore"):  # the largest of a small unit is infinite
            s, smallest, largest = np.ldexp([scale, float(info.smallest_subnormal), float(info.max)], unit)
        span = np.abs(exact).max() if "symmetric" in options else max(exact.max(), 0) - min(exact.min(), 0)
        bound = s / 2 + 6 * u * span + u * s
        infinite = np.isinf(got)
        assert (np.abs(exact[infinite]) + bound >= largest).all(), f"{name}, {options}"
        got = np.where(infinite, exact, got)
        error = np.abs(exact - got)
        allowed = (bound + u_out * np.abs(got) + smallest / 2) * (1 + 2**-40)
        assert (error <= allowed).all(), f"{name}, {options}: {(error / allowed).max()} times the bound"
        worst = max(worst, (error / allowed).max())

        zero = piquant.numpy.quantize_dequantize(
            np.zeros(1, x.dtype), scale=scale, zero_point=zero_point, dtype=dtype, **clamp
        )
        assert zero[0] == 0, f"{name}, {options}: zero is not representable"
    assert worst > 0.4  # the bound is not idle


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_narrow_ranges_far_from_zero(dtype):
    """The zero point is exact also where doubles no longer hold every integer."""
    x = np.linspace(-50, 50, 101)
    for low in (2**62 + 1, 2**62 + 1023, 2**53 + 1, 2**63 - 101):
        options = {"quant_min": low, "quant_max": low + 100}
        assert compute(x, dtype, **options) == (1.0, low + 50)
        assert model.quant_params(x, dtype, **options) == (1.0, low + 50)
        out = piquant.numpy.quantize_dequantize(x, scale=1.0, zero_point=low + 50, dtype=dtype, **options)
        assert np.array_equal(out, x)


def test_ties_of_the_zero_point():
    """round_half_to_even(quant_min - lo / scale): it is the sum that is even."""
    for low, high in ((-128, 127), (-127, 128 - 1), (0, 255), (1, 255), (3, 254)):
        dtype = "int8" if low < 0 else "uint8"
        steps = high - low
        for below in (0.5, 1.5, 2.5, 100.5):
            x = np.array([-below, steps - below])  # scale 1
            wanted = round(low + below)
            assert compute(x, dtype, quant_min=low, quant_max=high) == (1.0, wanted)


@REALS
def test_every_place_counts(real):
    """An extreme value, NaN or infinity at any index of any short length is seen, by every thread."""
    kind = model.FLOATS[real]
    for ctx in contexts():
        for n in (1, 2, 3, 7, 8, 9, 31, 64, 65, 100, 131):
            x = np.zeros(n, kind)
            for i in range(n):
                x[i] = -64
                assert compute(x, "uint8", ctx, symmetric=True) == (float(model.compute_type(real)(64 / 127)), 128)
                x[i] = 255
                assert compute(x, "uint8", ctx) == (1.0, 0)
                x[i] = -255
                assert compute(x, "uint8", ctx) == (1.0, 255)
                x[i] = (np.nan, np.inf, -np.inf)[i % 3]
                with pytest.raises(ValueError, match=r"NaN|finite"):
                    compute(x, "uint8", ctx)
                x[i] = 0


@REALS
def test_threads(real):
    n = 200_003
    random = np.random.default_rng(1)
    x = random.uniform(-1, 1, n).astype(model.FLOATS[real])
    for ctx in contexts(threads=(1, 2, 3, 5)):
        for i in (0, 1, n // 3, n - 2, n - 1, int(random.integers(n))):
            kept = x[i]
            for value in (-3.0, 5.0):
                x[i] = value
                assert compute(x, "int16", ctx) == model.quant_params(x, "int16"), describe(ctx)
            for value in (np.nan, np.inf, -np.inf):
                x[i] = value
                with pytest.raises(ValueError, match=r"NaN|finite"):
                    compute(x, "int16", ctx)
            x[i] = kept


@PAIRS
def test_errors(real, dtype):
    kind = model.FLOATS[real]
    t = model.QUANTIZED[dtype]
    for options in every_option(dtype):
        with pytest.raises(ValueError, match=r"element|empty"):
            compute(np.zeros(0, kind), dtype, **options)
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match=r"NaN|finite"):
                compute(np.array([1.0, bad, 2.0], kind), dtype, **options)
    for low, high in ((t.low, t.low), (t.high, t.low), (t.low - 1, t.high), (t.low, t.high + 1)):
        with pytest.raises(ValueError, match="quant_m"):
            compute(np.ones(3, kind), dtype, quant_min=low, quant_max=high)
    middle = 0 if t.signed else 2 ** (t.bits - 1)
    for low, high in ((None, middle), (middle, None)):
        with pytest.raises(ValueError, match=f"symmetric parameters of {dtype} need codes on both sides .*, {middle}:"):
            compute(np.ones(3, kind), dtype, quant_min=low, quant_max=high, symmetric=True)


@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
@PAIRS
def test_error_bound_holds_and_is_not_idle(real, dtype, mode):
    worst = 0.0
    for name, x in datasets(real).items():
        s, z = piquant.numpy.compute_quant_params(x, dtype=dtype)
        wide = x.astype(np.float64)
        bound = piquant.error_bound(wide.min(), wide.max(), scale=s, dtype=real, round_mode=mode)
        got = piquant.numpy.quantize_dequantize(x, scale=s, zero_point=z, dtype=dtype, round_mode=mode, seed=1)
        within = np.isfinite(got.astype(np.float64)) & (1 / s >= float(ml_dtypes.finfo(model.compute_type(real)).tiny))
        error = np.abs(got.astype(np.float64) - wide)[within].max(initial=0)
        assert error <= bound * (1 + 2**-40), name
        worst = max(worst, error / bound)
    assert worst > 0.4 or model.QUANTIZED[dtype].bits > 8  # wider codes leave the roundings of the floats alone


def test_error_bound_of_nonsense():
    for lo, hi in ((1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="lo and hi must be finite, lo <= hi, got lo="):
            piquant.error_bound(lo, hi, scale=1.0)
    with pytest.raises(ValueError, match="dtype must be one of float16"):
        piquant.error_bound(0, 1, scale=1.0, dtype="int8")
    for scale in (0, -1.0, np.inf, np.nan, 10**400):
        with pytest.raises(ValueError, match="scale must be"):
            piquant.error_bound(0, 1, scale=scale)
    for bad in ({"lo": "a"}, {"hi": None}, {"scale": []}):
        with pytest.raises(TypeError, match="lo, hi and scale must be numbers, got"):
            piquant.error_bound(**({"lo": 0, "hi": 1, "scale": 1.0} | bad))
