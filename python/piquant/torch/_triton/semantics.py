"""What is computed, for one element at a time, as ``core/semantics.hpp`` says it for the CPU.

Two forms of each operation give the same bits. The narrow one, for codes of up to 16 bits and T = float32, has no
conversion between floats and integers, which the hardware does at a part of the rate of a sum. It adds 1.5 * 2^23:
the sum's last bit then counts ones, so that the sum rounds to an integer, half to even, and that integer lies in its
lowest bits. Values are clamped before that, which gives the same codes, as the ends are integers. The wide form is the
reference in 64-bit patterns.

``tl.maximum`` takes a number before NaN, as the hardware does.
"""

import triton
import triton.language as tl

MAGIC: tl.constexpr = tl.constexpr(12582912.0)  # 1.5 * 2^23
MAGIC_BITS: tl.constexpr = tl.constexpr(0x4B400000)
MAGIC_UPPER: tl.constexpr = tl.constexpr(0x4B40)
TWO23: tl.constexpr = tl.constexpr(8388608.0)
TWO23_BITS: tl.constexpr = tl.constexpr(0x4B000000)
TWO52: tl.constexpr = tl.constexpr(4503599627370496.0)
TWO64: tl.constexpr = tl.constexpr(18446744073709551616.0)
TWO65: tl.constexpr = tl.constexpr(36893488147419103232.0)
ALL64: tl.constexpr = tl.constexpr(0xFFFFFFFFFFFFFFFF)


@triton.jit
def pattern_of(x):
    """The bits of floats, as integers."""
    if x.dtype == tl.float64:
        return x.to(tl.int64, bitcast=True)
    elif x.dtype == tl.float32:
        return x.to(tl.int32, bitcast=True)
    else:
        return x.to(tl.int16, bitcast=True)


@triton.jit
def positive_nan(DTYPE: tl.constexpr):
    """The pattern of the NaN without payload. The one that NVIDIA's arithmetic makes is another."""
    if DTYPE == tl.float64:
        return tl.full((), 0x7FF8000000000000, tl.int64)
    elif DTYPE == tl.float32:
        return tl.full((), 0x7FC00000, tl.int32)
    elif DTYPE == tl.float16:
        return tl.full((), 0x7E00, tl.int16)
    else:
        return tl.full((), 0x7FC0, tl.int16)


@triton.jit
def default_nan(DTYPE: tl.constexpr):
    """The same with the other sign: the NaN that x86 makes."""
    if DTYPE == tl.float64:
        return tl.full((), -(1 << 51), tl.int64)
    elif DTYPE == tl.float32:
        return tl.full((), -(1 << 22), tl.int32)
    elif DTYPE == tl.float16:
        return tl.full((), -(1 << 9), tl.int16)
    else:
        return tl.full((), -(1 << 6), tl.int16)


@triton.jit
def clamped_steps(y, low, high, zero, u, STOCHASTIC: tl.constexpr):
    """``zero`` plus y, clamped to low..high, integers of up to 17 bits, and rounded, as an int32. NaN gives low."""
    y = tl.minimum(tl.maximum(y, low), high)
    sum_ = y + MAGIC
    if STOCHASTIC:
        rest = y - (sum_ - MAGIC)  # exact
        parts = tl.fma(rest, 65536.0, MAGIC)  # as is the product
        up = (parts.to(tl.int32, bitcast=True) + u) >> 16
        return sum_.to(tl.int32, bitcast=True) + up + (zero - (MAGIC_BITS + MAGIC_UPPER))
    else:
        return sum_.to(tl.int32, bitcast=True) + (zero - MAGIC_BITS)


@triton.jit
def nearest(y):
    """Rounds half to even, whatever the size."""
    if y.dtype == tl.float64:
        beyond = y * 0 + TWO52
    else:
        beyond = y * 0 + TWO23
    magnitude = tl.abs(y)
    rounded = tl.where(magnitude < beyond, (magnitude + beyond) - beyond, magnitude)
    return tl.where(y < 0, -rounded, rounded)


@triton.jit
def magnitude64(x):
    """A float's magnitude, an integer, as 64 bits, at most all ones."""
    magnitude = tl.abs(x)
    is_large = magnitude >= TWO64
    return tl.where(is_large, ALL64, tl.where(is_large, 0.0, magnitude).to(tl.uint64))


@triton.jit
def raised_codes(y, low, high, zero, u, STOCHASTIC: tl.constexpr):
    """Codes in offset binary, as are the range and the zero point, all uint64."""
    is_nan = y != y
    y = tl.where(is_nan, 0.0, y)
    y = tl.where(y > TWO65, TWO65, tl.where(y < -TWO65, -TWO65, y))
    r = nearest(y)
    if STOCHASTIC:
        parts = nearest((y - r) * 65536.0).to(tl.int32)
        r = r + ((parts + u) >> 16).to(y.dtype)
    distance = magnitude64(r)
    below = tl.where(distance > zero, 0, zero - distance)
    above = tl.where(distance > zero ^ ALL64, ALL64, zero + distance)
    q = tl.where(r < 0, below, above)
    q = tl.where(q < low, low, tl.where(q > high, high, q))
    return tl.where(is_nan, low, q)


@triton.jit
def value_of_field(raised, zero, scale):
    """(raised - zero) * scale of fields of up to 16 bits, as int32, and zero points in offset binary, as floats."""
    return ((raised | TWO23_BITS).to(tl.float32, bitcast=True) - (zero + TWO23)) * scale


@triton.jit
def value_of_code(raised, zero, scale):
    """The same of 64 bits; the type of the scale is T."""
    is_below = raised < zero
    distance = tl.where(is_below, zero - raised, raised - zero)
    return distance.to(scale.dtype) * tl.where(is_below, -scale, scale)


@triton.jit
def accumulated(before, v, DTYPE: tl.constexpr):
    """The sum of reduce_op "add" in the type of ``before``, as a pattern. A NaN that was there keeps its payload; else
    opposite infinities, or the NaN of a scale, give the default one."""
    wide = before.to(v.dtype)
    total = wide + v
    default = default_nan(DTYPE)
    made = tl.where(wide != wide, pattern_of(before) | -default, default)  # the bit that makes a NaN quiet
    return tl.where(total != total, made, pattern_of(total.to(DTYPE)))
