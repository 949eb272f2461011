"""dequantize equals the model: every pair of types, set and add, every instruction set, any threads and lengths."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import model
import piquant.numpy
from cases import HUGE, codes, contexts, describe, differences, floats, same_bits, scales, zero_points

pytestmark = pytest.mark.no_cover  # other tests run the same lines; counting them takes as long as the calls
PAIRS = pytest.mark.parametrize(("dtype", "real"), list(itertools.product(model.QUANTIZED, model.FLOATS)))
OPERATORS = pytest.mark.parametrize("reduce_op", ["set", "add"])


def run(ctx, q, n, scale, zero_point, dtype, real, out=None, reduce_op="set"):
    """Dequantizes packed codes."""
    shape, source = ((n,), dtype) if model.QUANTIZED[dtype].bits < 8 else (None, None)
    return piquant.numpy.dequantize(
        q,
        scale=scale,
        zero_point=zero_point,
        dtype=model.FLOATS[real],
        source_dtype=source,
        shape=shape,
        reduce_op=reduce_op,
        out=out,
        ctx=ctx,
    )


def check(q, scale, zero_point, dtype, real, ctxs, before=None):
    """Dequantizes codes, one per element, with each context; adds to ``before`` if given. Compares with the model."""
    wanted = model.dequantize(q, scale, zero_point, dtype, real, before)
    packed = model.pack(q, dtype)
    for ctx in ctxs:
        if before is None:
            got = run(ctx, packed, q.size, scale, zero_point, dtype, real)
        else:
            got = run(ctx, packed, q.size, scale, zero_point, dtype, real, before.copy(), "add")
        assert same_bits(got, wanted), (
            f"{describe(ctx)}: scale={scale}, zero_point={zero_point}: {differences(got, wanted)}"
        )
    return wanted


def all_or_random_codes(dtype, n):
    t = model.QUANTIZED[dtype]
    return np.arange(t.low, t.high + 1).astype(t.storage) if t.bits <= 8 else codes(dtype, n)


@OPERATORS
@PAIRS
def test_values(dtype, real, reduce_op):
    """Scales x zero points on every code (8 bits and below) or random ones; add to floats of every kind."""
    ctxs = contexts()
    q = np.resize(
        all_or_random_codes(dtype, 201 if dtype.endswith("64") else 801), 201 if dtype.endswith("64") else 801
    )
    for i, (scale, zero_point) in enumerate(itertools.product((*scales(real), 2.0**-24, 257.5), zero_points(dtype))):
        before = floats(real, scale, dtype, q.size, seed=i) if reduce_op == "add" else None
        check(q, scale, zero_point, dtype, real, ctxs, before)


@OPERATORS
@pytest.mark.parametrize("real", model.FLOATS)
@pytest.mark.parametrize("dtype", [d for d, t in model.QUANTIZED.items() if t.bits <= 8])
def test_every_code_at_every_zero_point(dtype, real, reduce_op):
    t = model.QUANTIZED[dtype]
    q = all_or_random_codes(dtype, 0)
    before = floats(real, 0.1, dtype, q.size) if reduce_op == "add" else None
    for zero_point in range(t.low, t.high + 1):
        check(q, 0.1, zero_point, dtype, real, contexts(), before)


@OPERATORS
@PAIRS
def test_threads_and_stores(dtype, real, reduce_op):
    """Several chunks; cached and non-temporal stores."""
    n = 100_003 if not dtype.endswith("64") else 30_003
    before = floats(real, 0.3, dtype, n) if reduce_op == "add" else None
    ctxs = contexts(threads=(1, 2, 3, 5), stream=(0, HUGE))
    check(codes(dtype, n), 0.3, zero_points(dtype)[2], dtype, real, ctxs, before)


@OPERATORS
@PAIRS
def test_lengths_and_places(dtype, real, reduce_op):
    """Every short length at every place relative to a vector, and not a byte written beyond."""
    bits = model.QUANTIZED[dtype].bits
    n_codes = 400
    q, zero_point = codes(dtype, n_codes), zero_points(dtype)[1]
    packed, per_byte = model.pack(q, dtype), max(8 // bits, 1)
    before = floats(real, 0.3, dtype, n_codes)
    guard = np.frombuffer(b"\xa5" * 8, model.FLOATS[real])[0]
    places = [(n, n % 37) for n in range(132)] + [(n, place) for n in (1, 33, 65) for place in range(34)]
    wanted = model.dequantize(q, 0.3, zero_point, dtype, real, before if reduce_op == "add" else None)
    for ctx in contexts(stream=(0, HUGE)):
        for n, place in places:
            memory = np.full(place + n + 9, guard, model.FLOATS[real])
            out = memory[place : place + n]
            first = place * per_byte  # codes start on bytes
            out[:] = before[first : first + n]
            run(ctx, packed[place : place + -(-n // per_byte)], n, 0.3, zero_point, dtype, real, out, reduce_op)
            expected = wanted[first : first + n]
            assert same_bits(out, expected), f"{describe(ctx)}: n={n}, place={place}: {differences(out, expected)}"
            rest = np.concatenate([memory[:place], memory[place + n :]])
            assert same_bits(rest, np.full(rest.size, guard)), f"{describe(ctx)}: n={n} writes beyond its output"


@PAIRS
def test_overflow_and_subnormals(dtype, real):
    """Results beyond the output type are infinities, results below its smallest normal number are kept."""
    t, kind = model.QUANTIZED[dtype], model.FLOATS[real]
    info = ml_dtypes.finfo(kind)
    q = np.resize(all_or_random_codes(dtype, 1000), 1000)
    largest = float(info.max)
    for scale in (largest, largest / 2, largest / 1000):
        out = check(q, scale, t.low, dtype, real, contexts())
        assert np.isinf(out).any() == (largest / scale < t.high - t.low)
        assert not np.isnan(out).any()
    if real == "float16":
        out = check(q, 2.0**-24, t.low, dtype, real, contexts())  # the code differences themselves, as subnormals
        small = q.astype(object) - t.low < 2**10
        assert (out[small].view(np.uint16) == (q[small].astype(object) - t.low)).all()
        # 65520 is the tie between the largest float16 and infinity, and goes to infinity
        x = np.array([t.low, t.low + 1], t.storage)
        assert check(x, 65519.996, t.low, dtype, real, contexts()).tolist() == [0, 65504]
        assert check(x, 65520.0, t.low, dtype, real, contexts()).tolist() == [0, np.inf]
    else:
        # add: differences of numbers near the smallest normal one are subnormal
        normal = float(info.smallest_normal)
        step = float(info.smallest_subnormal)
        before = (-normal * np.linspace(1, 2, 1000)).astype(kind)
        x = np.full(1000, t.low + 1).astype(t.storage)
        out = check(x, normal, t.low, dtype, real, contexts(), before)
        assert ((out != 0) & (np.abs(out.astype(np.float64)) < normal)).sum() > 100
        assert (np.abs(out.astype(np.float64)[out != 0]) >= step).all()


@pytest.mark.parametrize("dtype", [d for d, t in model.QUANTIZED.items() if t.bits <= 16])
def test_bfloat16_rounding(dtype):
    """Against ml_dtypes, ties included: odd multiples of half a step of bfloat16."""
    t = model.QUANTIZED[dtype]
    q = np.arange(t.low, t.high + 1).astype(t.storage)
    q = np.resize(q, max(q.size, 64))
    for scale in (1.0, 1.00390625, 2.0**-126 * 1.00390625, 129 / 128, 257 * 2.0**60):
        for zero_point in zero_points(dtype):
            out = check(q, scale, zero_point, dtype, "bfloat16", contexts())
            v = (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
            assert same_bits(out, v.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_differences_are_exact_then_rounded_once(dtype, real):
    """q - zero_point takes up to 65 bits. float32 gets it in one rounding, not by way of float64."""
    t = model.QUANTIZED[dtype]
    precision = 24 if real == "float32" else 53
    top = t.bits - 1
    # Ties at the precision of T, and one to either side of them: beyond the precision of float64 for 64-bit types.
    half = 1 << max(top - precision, 0)
    hard = [(1 << top) + half * odd + extra for odd in (1, 3) for extra in (-1, 0, 1)] + [1, 2**24 + 1, 2**t.bits - 1]
    for scale in (1.0, 0.7):
        low = np.array([t.low + d for d in hard] * 11, dtype=object)
        check(low.astype(t.storage), scale, t.low, dtype, real, contexts())
        high = np.array([t.high - d for d in hard] * 11, dtype=object)
        check(high.astype(t.storage), scale, t.high, dtype, real, contexts())


@pytest.mark.parametrize("real", model.FLOATS)
def test_add_to_specials(real):
    """Infinities and NaN in the accumulator stay; opposite infinities are NaN; zeros have the sign that sums have."""
    kind = model.FLOATS[real]
    before = np.resize(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], kind), 1000)
    for code in (0, 128, 255):
        for scale in (1.0, 3e38):
            q = np.full(1000, code, np.uint8)
            check(q, scale, 128, "uint8", real, contexts(), before)
    out = check(np.zeros(1000, np.uint8), 1.0, 0, "uint8", real, contexts(), before)
    assert np.signbit(out[3::5]).sum() == 0
    assert np.signbit(out[4::5]).sum() == 0  # -0 + 0
