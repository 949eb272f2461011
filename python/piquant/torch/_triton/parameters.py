"""Scales and zero points that are given, and those from the extents of data, as ``core/parameters.hpp`` finds them.

Zero always belongs to an extent, so its ends are two maxima of patterns, that of x and that of -x, signed, from 0 on.
NaN and infinities are the largest patterns, and what is found of such data is NaN.
"""

import triton
import triton.language as tl

from piquant.torch._triton.places import OF_COLUMNS, OF_SEGMENTS, array, places_within
from piquant.torch._triton.semantics import pattern_of, positive_nan

TWO64: tl.constexpr = tl.constexpr(18446744073709551616.0)


@triton.jit
def number_of(bits, T: tl.constexpr):
    """A number of type T, of which an argument has the bits."""
    if T == tl.float64:
        return bits.to(tl.int64).to(tl.float64, bitcast=True)
    else:
        return bits.to(tl.int64).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def reciprocal(scale, T: tl.constexpr):
    """T(1 / scale), divided in float64; a quotient of two float32 is the same in float64, rounded to float32."""
    if scale.dtype == tl.float64:
        return (1.0 / scale).to(T)
    elif T == tl.float64:
        return 1.0 / scale.to(tl.float64)
    else:
        return tl.math.div_rn(1.0, scale.to(tl.float32))


@triton.jit
def entries_of(
    at, segment, first, count, block, per_entry, step, PARAMS: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """Which entries of the arrays of parameters the rows of a tile have, or its elements, and whether there are any.

    ``at`` are the entries of lines; one is that of ``per_entry`` segments, or of ``block`` columns from ``first`` on.
    """
    if PARAMS == OF_SEGMENTS:
        return at + (segment // per_entry.to(segment.dtype)).to(tl.int64) * step, count > 0
    else:
        columns = first[:, None] + tl.arange(0, COLS)[None, :]
        if PARAMS != OF_COLUMNS:
            columns = columns // block
        return at[:, None] + columns * step, places_within(count, COLS, 1, False)


@triton.jit
def of_rows(values, PARAMS: tl.constexpr):
    """Values of rows as a column."""
    if PARAMS == OF_SEGMENTS:
        return values[:, None]
    else:
        return values


@triton.jit
def load_scale(scales, entries, mask, DTYPE: tl.constexpr):
    return tl.load(array(scales, DTYPE) + entries, mask, other=1.0)


@triton.jit
def load_zero(zeros, zero, entries, mask, DTYPE: tl.constexpr):
    """Zero points as int64, of which the type's highest bits may be missing."""
    if DTYPE is None:
        return zero.to(tl.int64)
    else:
        return tl.load(array(zeros, DTYPE) + entries, mask, other=0).to(tl.int64)


# ---------------------------------------------------------------------------------------------------------------------
# From extents
# ---------------------------------------------------------------------------------------------------------------------


@triton.jit
def patterns(x, T: tl.constexpr, SYMMETRIC: tl.constexpr):
    """Patterns of which the largest is the upper end of the extent, and the lower one, but for its sign.

    Of symmetric parameters both are the magnitude.
    """
    x = x.to(T)
    if T == tl.float64:
        bits = x.to(tl.int64, bitcast=True)
        sign = -(1 << 63)
    else:
        bits = x.to(tl.int32, bitcast=True)
        sign = -(1 << 31)
    if SYMMETRIC:
        upper = bits & ~sign
        return upper, upper
    else:
        return bits, bits ^ sign


@triton.jit
def next_above(x):
    """The next larger number of the same type, of at most 32 bits; x is positive."""
    if x.dtype == tl.float32:
        return (x.to(tl.int32, bitcast=True) + 1).to(tl.float32, bitcast=True)
    else:
        return (x.to(tl.int16, bitcast=True) + 1).to(x.dtype, bitcast=True)


@triton.jit
def stored_scale(scale, T: tl.constexpr, DTYPE: tl.constexpr):
    """The smallest number of a float type that is not below a scale of type T, which is given as a float64."""
    if DTYPE == tl.float64:
        stored = scale
    else:
        stored = scale.to(tl.float32)
        if T == tl.float64:
            stored = tl.where(stored.to(tl.float64) < scale, next_above(stored), stored)
        if DTYPE != tl.float32:
            narrow = stored.to(DTYPE)
            stored = tl.where(narrow.to(tl.float32) < stored, next_above(narrow), narrow)
    return stored


@triton.jit
def steps_above(low, high, steps):
    """clamp(round_half_to_even(low + steps), low, high) for steps >= 0, all but these uint64."""
    is_beyond = steps >= TWO64
    finite = tl.where(is_beyond, 0.0, steps)
    whole = finite.to(tl.uint64)
    rest = finite - whole.to(tl.float64)
    up = (rest > 0.5) | ((rest == 0.5) & (((low + whole) & 1) != 0))
    return tl.where(is_beyond | (whole >= high - low), high, low + whole + up.to(tl.uint64))


@triton.jit
def found_parameters(
    upper, lower, zero, low, high,
    T: tl.constexpr, NARROW: tl.constexpr, SYMMETRIC: tl.constexpr, NANS: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """The scale, in the type that it is stored in, and the zero point, int64.

    ``upper`` and ``lower`` are the largest patterns of a block, at least 0; ``zero`` is the symmetric zero point.
    ``NANS``: also a scale that is too large becomes NaN, and then the zero point is 0.
    """
    low = low.to(tl.int64).to(tl.uint64, bitcast=True)
    high = high.to(tl.int64).to(tl.uint64, bitcast=True)
    smallest = 2.2250738585072014e-308 if T == tl.float64 else 1.1754943508222875e-38
    hi = upper.to(T, bitcast=True)
    if SYMMETRIC:
        middle = zero.to(tl.int64).to(tl.uint64, bitcast=True)
        reach = tl.minimum(middle - low, high - middle)
        if NARROW:  # the quotient of two float32 is the same in float64, rounded to float32
            scale = tl.math.div_rn(hi, reach.to(tl.float32))
        else:
            scale = (hi.to(tl.float64) / reach.to(tl.float64)).to(T)
        is_empty = hi == 0
        is_wrong = ~(hi < float("inf"))
    else:
        lo = lower.to(T, bitcast=True)
        steps = (high - low).to(tl.float64)
        span = hi.to(tl.float64) + lo.to(tl.float64)
        if T == tl.float64:
            halves = (hi / 2 + lo / 2) / steps * 2
            scale = tl.where(span < float("inf"), span / steps, halves)
        else:
            scale = (span / steps).to(tl.float32)
        is_empty = (hi == 0) & (lo == 0)
        is_wrong = ~(hi < float("inf")) | ~(lo < float("inf"))
    scale = tl.where(is_empty, 1.0, tl.where(scale < smallest, smallest, scale))
    stored = stored_scale(scale.to(tl.float64), T, SCALE)
    if NANS:
        wide: tl.constexpr = tl.float64 if SCALE == tl.float64 else tl.float32
        is_wrong = is_wrong | ~(stored.to(wide) < float("inf"))
    found = tl.where(is_wrong, positive_nan(SCALE), pattern_of(stored)).to(SCALE, bitcast=True)
    if SYMMETRIC:
        return found, zero.to(tl.int64)
    else:
        steps = lo.to(tl.float64) / stored.to(tl.float64)
        zeros = steps_above(low, high, tl.where(is_wrong, 0.0, steps)).to(tl.int64, bitcast=True)
        if NANS:
            zeros = tl.where(is_wrong, 0, zeros)
        return found, zeros
