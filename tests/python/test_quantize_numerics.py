"""quantize equals the model: every pair of types, both modes, every instruction set, any threads, lengths, chunks."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import model
import piquant.numpy
from cases import HUGE, contexts, describe, differences, floats, ranges, scales, zero_points

pytestmark = pytest.mark.no_cover  # other tests run the same lines; counting them takes as long as the calls
PAIRS = pytest.mark.parametrize(("real", "dtype"), list(itertools.product(model.FLOATS, model.QUANTIZED)))
MODES = pytest.mark.parametrize("round_mode", ["nearest", "stochastic"])


def check(x, scale, zero_point, dtype, ctxs, **options):
    """Quantizes with each context and compares with the model. Returns what the model says, unpacked."""
    codes = model.quantize(x, scale, zero_point, dtype, **options)
    wanted = model.pack(codes, dtype)
    for ctx in ctxs:
        got = piquant.numpy.quantize(x, scale=scale, zero_point=zero_point, dtype=dtype, ctx=ctx, **options)
        assert np.array_equal(got, wanted), (
            f"{describe(ctx)}: scale={scale}, zero_point={zero_point}, {options}: {differences(got, wanted)}"
        )
    return codes


@MODES
@PAIRS
def test_values(real, dtype, round_mode):
    """Scales x zero points, the ranges in turn, on ties, ends of the range, every magnitude and specials."""
    ctxs = contexts()
    turns = itertools.cycle(ranges(dtype))
    n = 403 if dtype.endswith("64") else 1603
    for i, (scale, zero_point) in enumerate(itertools.product(scales(real), zero_points(dtype))):
        x = floats(real, scale, dtype, n + i % 7, seed=i)
        low, high = next(turns)
        options = {
            "quant_min": low,
            "quant_max": high,
            "round_mode": round_mode,
            "seed": i * 0x9E3779B97F4A7C15 % 2**64,
        }
        check(x, scale, zero_point, dtype, ctxs, offset=i * 12345, **options)
    # The last case again with the whole range, so that each pair has seen all scales and ranges at some zero point.
    check(x, scale, zero_point, dtype, ctxs, round_mode=round_mode, seed=1)


@MODES
@PAIRS
def test_threads_and_stores(real, dtype, round_mode):
    """Several chunks, random words from three blocks; cached and non-temporal stores."""
    n = 100_003
    x = floats(real, 0.05, dtype, n)
    ctxs = contexts(threads=(1, 2, 3, 5), stream=(0, HUGE))
    zero_point = zero_points(dtype)[2]
    check(x, 0.05, zero_point, dtype, ctxs, round_mode=round_mode, seed=99, offset=2**32 - 40_001)


@MODES
@PAIRS
def test_lengths_and_places(real, dtype, round_mode):
    """Every short length at every place relative to a vector, and not a byte written beyond."""
    target = model.QUANTIZED[dtype]
    x = floats(real, 0.3, dtype, 400, seed=3)
    zero_point = zero_points(dtype)[2]
    codes = model.quantize(x, 0.3, zero_point, dtype, round_mode, seed=5, offset=70)
    storage = target.storage if target.bits >= 8 else np.dtype(np.uint8)
    guard = np.frombuffer(b"\xa5" * storage.itemsize, storage)[0]
    places = [(n, n % 37) for n in range(132)] + [(n, place) for n in (1, 33, 65) for place in range(34)]
    for ctx in contexts(stream=(0, HUGE)):
        for n, place in places:
            wanted = model.pack(codes[place : place + n], dtype)
            memory = np.full(place + wanted.size + 9, guard, storage)
            out = memory[place : place + wanted.size]
            piquant.numpy.quantize(
                x[place : place + n],
                scale=0.3,
                zero_point=zero_point,
                dtype=dtype,
                round_mode=round_mode,
                seed=5,
                offset=70 + place,
                out=out,
                ctx=ctx,
            )
            assert np.array_equal(out, wanted), f"{describe(ctx)}: n={n}, place={place}: {differences(out, wanted)}"
            assert (memory[:place] == guard).all()
            assert (memory[place + wanted.size :] == guard).all(), f"{describe(ctx)}: n={n} writes beyond its output"


@PAIRS
def test_specials(real, dtype):
    """What the contract spells out: NaN, infinities, zeros of both signs, subnormals, huge values."""
    kind = model.FLOATS[real]
    info = ml_dtypes.finfo(kind)
    tiny, largest = float(info.smallest_subnormal), float(info.max)
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, largest, -largest], kind)
    x = np.tile(x, 15)  # longer than any vector, and with a tail
    for (quant_min, quant_max), zero_point in itertools.product(ranges(dtype), zero_points(dtype)):
        low = model.QUANTIZED[dtype].low if quant_min is None else quant_min
        high = model.QUANTIZED[dtype].high if quant_max is None else quant_max
        zero = min(max(zero_point, low), high)
        # 65504 / 1e-37 is beyond every code and its zero point, and so is any larger number.
        wanted = [low, low, high, low, zero, zero, None, None, high, low]
        for ctx, round_mode in itertools.product(contexts(), ("nearest", "stochastic")):
            q = piquant.numpy.quantize(
                x,
                scale=1e-37,
                zero_point=zero_point,
                dtype=dtype if model.QUANTIZED[dtype].bits >= 8 else getattr(ml_dtypes, dtype),
                quant_min=quant_min,
                quant_max=quant_max,
                round_mode=round_mode,
                seed=0,
                ctx=ctx,
            )
            for element, code in enumerate(wanted):
                if code is not None:
                    assert (q[element::10].astype(object) == code).all(), (describe(ctx), round_mode, x[element])


@PAIRS
def test_subnormals_count(real, dtype):
    """Subnormal data and subnormal products are numbers, not zeros."""
    kind = model.FLOATS[real]
    info = ml_dtypes.finfo(kind)
    smallest, normal = float(info.smallest_subnormal), float(info.smallest_normal)
    scale = max(smallest * 4, 2.0**-1022 if real == "float64" else 2.0**-126)
    x = (np.arange(-300, 301) / 301 * normal).astype(kind)
    assert ((x != 0) & (abs(x.astype(np.float64)) < normal)).sum() >= 200
    codes = check(x, scale, zero_points(dtype)[1], dtype, contexts())
    assert len(np.unique(codes)) > 1
    # A product below the smallest normal has a random word's chance of going up only from 2**-17 on.
    check(x, 3e38, zero_points(dtype)[1], dtype, contexts(), round_mode="stochastic", seed=1)


@pytest.mark.parametrize("dtype", [d for d in model.QUANTIZED if not d.endswith("64")])
@pytest.mark.parametrize("real", ["float16", "bfloat16"])
def test_every_16_bit_pattern(real, dtype):
    x = np.arange(1 << 16, dtype=np.uint16).view(model.FLOATS[real])
    for scale, zero_point in ((1 / 3, zero_points(dtype)[0]), (2.0**-5, zero_points(dtype)[2])):
        for round_mode in ("nearest", "stochastic"):
            check(x, scale, zero_point, dtype, contexts(), round_mode=round_mode, seed=2)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_sums_of_64_bits_are_exact(dtype):
    """r + zero_point is clamped as a whole: r may lie far outside of the type while the sum does not."""
    t = model.QUANTIZED[dtype]
    x = np.array([2.0**63, 2.0**63 + 2048, 2.0**64 - 2048, 1.5 * 2.0**63, 2.0**53 + 1, 4.5, 5.5, 0.5, 0.0])
    x = np.concatenate([x, -x])
    for zero_point in (t.low, t.low + 12345, 0, 2**62 + 1, t.high - 4096, t.high):
        expected = [min(max(round(v) + zero_point, t.low), t.high) for v in x.tolist()]
        for real in (np.float32, np.float64):
            if real is np.float64:
                assert check(x.astype(real), 1.0, zero_point, dtype, contexts()).tolist() == expected
            check(x.astype(real), 1.0, zero_point, dtype, contexts(), round_mode="stochastic", seed=4)


@MODES
def test_chunks_make_the_whole(round_mode):
    """Any cut, each piece with its offset, gives the whole."""
    n = 70_001
    random = np.random.default_rng(8)
    for real, dtype in (("float32", "uint8"), ("bfloat16", "int4"), ("float64", "int32"), ("float16", "uint2")):
        x = floats(real, 0.2, dtype, n)
        whole = model.quantize(x, 0.2, 1, dtype, round_mode, seed=11, offset=123)
        cuts = [0, *sorted(random.integers(0, n, 25).tolist()), n]
        for ctx in contexts(threads=(1, 3)):
            for begin, end in itertools.pairwise(cuts):
                piece = piquant.numpy.quantize(
                    x[begin:end],
                    scale=0.2,
                    zero_point=1,
                    dtype=dtype,
                    round_mode=round_mode,
                    seed=11,
                    offset=123 + begin,
                    ctx=ctx,
                )
                assert np.array_equal(piece, model.pack(whole[begin:end], dtype))
