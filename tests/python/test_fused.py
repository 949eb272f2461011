"""quantize_dequantize is dequantize(quantize(x)) bit for bit, set and add, and both are the model's."""

import itertools

import numpy as np
import pytest

import model
import piquant.numpy
from cases import HUGE, contexts, describe, differences, floats, ranges, same_bits, scales, zero_points

pytestmark = pytest.mark.no_cover  # other tests run the same lines; counting them takes as long as the calls
PAIRS = pytest.mark.parametrize(("real", "dtype"), list(itertools.product(model.FLOATS, model.QUANTIZED)))
MODES = pytest.mark.parametrize("round_mode", ["nearest", "stochastic"])
OPERATORS = pytest.mark.parametrize("reduce_op", ["set", "add"])


def two_steps(x, scale, zero_point, dtype, ctx, before, **options):
    """What the two calls of the library give."""
    q = piquant.numpy.quantize(x, scale=scale, zero_point=zero_point, dtype=dtype, ctx=ctx, **options)
    narrow = model.QUANTIZED[dtype].bits < 8
    return piquant.numpy.dequantize(
        q,
        scale=scale,
        zero_point=zero_point,
        dtype=x.dtype,
        source_dtype=dtype if narrow else None,
        shape=x.shape if narrow else None,
        reduce_op="set" if before is None else "add",
        out=None if before is None else before.copy(),
        ctx=ctx,
    )


def one_step(x, scale, zero_point, dtype, ctx, before, **options):
    return piquant.numpy.quantize_dequantize(
        x,
        scale=scale,
        zero_point=zero_point,
        dtype=dtype,
        reduce_op="set" if before is None else "add",
        out=None if before is None else before.copy(),
        ctx=ctx,
        **options,
    )


def modelled(x, scale, zero_point, dtype, before, **options):
    q = model.quantize(x, scale, zero_point, dtype, **options)
    return model.dequantize(q, scale, zero_point, dtype, model.name_of(x.dtype), before)


@OPERATORS
@MODES
@PAIRS
def test_values(real, dtype, round_mode, reduce_op):
    """Scales x zero points, ranges in turn."""
    ctxs = contexts()
    turns = itertools.cycle(ranges(dtype))
    for i, (scale, zero_point) in enumerate(itertools.product(scales(real), zero_points(dtype)[::2])):
        x = floats(real, scale, dtype, 501 + i % 7, seed=i)
        before = floats(real, scale, dtype, x.size, seed=i + 1) if reduce_op == "add" else None
        low, high = next(turns)
        options = {"round_mode": round_mode, "seed": i, "offset": 65536 - 100, "quant_min": low, "quant_max": high}
        wanted = two_steps(x, scale, zero_point, dtype, ctxs[-1], before, **options)
        for ctx in ctxs:
            got = one_step(x, scale, zero_point, dtype, ctx, before, **options)
            assert same_bits(got, wanted), (
                f"{describe(ctx)}: scale={scale}, zero_point={zero_point}, {options}: {differences(got, wanted)}"
            )
    wanted = modelled(x, scale, zero_point, dtype, before, **options)
    assert same_bits(got, wanted), differences(got, wanted)


@OPERATORS
@MODES
@PAIRS
def test_threads_and_stores(real, dtype, round_mode, reduce_op):
    n = 20_003 if dtype.endswith("64") else 50_003
    x = floats(real, 0.05, dtype, n)
    before = floats(real, 0.05, dtype, n, seed=1) if reduce_op == "add" else None
    zero_point = zero_points(dtype)[2]
    options = {"round_mode": round_mode, "seed": 3, "offset": 2**63 - 10_000}
    wanted = modelled(x, 0.05, zero_point, dtype, before, **options)
    for ctx in contexts(threads=(1, 2, 3, 5), stream=(0, HUGE)):
        got = one_step(x, 0.05, zero_point, dtype, ctx, before, **options)
        assert same_bits(got, wanted), f"{describe(ctx)}: {differences(got, wanted)}"


@OPERATORS
@PAIRS
def test_lengths_and_places(real, dtype, reduce_op):
    """Every short length at every place, nothing written beyond."""
    x, before = floats(real, 0.3, dtype, 260), floats(real, 0.3, dtype, 260, seed=1)
    zero_point = zero_points(dtype)[1]
    wanted = modelled(x, 0.3, zero_point, dtype, before if reduce_op == "add" else None)
    for ctx, n in itertools.product(contexts(stream=(0, HUGE)), range(132)):
        place = n % 37
        out = before.copy()
        piquant.numpy.quantize_dequantize(
            x[place : place + n],
            scale=0.3,
            zero_point=zero_point,
            dtype=dtype,
            reduce_op=reduce_op,
            out=out[place : place + n],
            ctx=ctx,
        )
        expected = np.concatenate([before[:place], wanted[place : place + n], before[place + n :]])
        assert same_bits(out, expected), f"{describe(ctx)}: n={n}, place={place}: {differences(out, expected)}"


@PAIRS
def test_idempotent(real, dtype):
    """Data that quantization made is kept by quantizing it again, where the output type holds it exactly."""
    t = model.QUANTIZED[dtype]
    x = (np.arange(-100, 101) * 0.25).astype(model.FLOATS[real])
    zero_point = min(max(0, t.low), t.high)
    for ctx in contexts():
        once = one_step(x, 0.25, zero_point, dtype, ctx, None)
        assert same_bits(one_step(once, 0.25, zero_point, dtype, ctx, None), once)
