"""The numerics of the library a second time, from its contract: numpy, Python integers and nothing of the library.

Every function follows the formulas as they are documented, in the plainest way that is exact. What is vectorized in
float64 is exact there, for the reason that its comment gives; 64-bit types go through Python integers. Slow, and the
judge of everything that is fast. ``test_model.py`` holds it against rational arithmetic.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import ml_dtypes
import numpy as np


class Quantized(NamedTuple):
    """A quantized type."""

    name: str
    bits: int
    signed: bool

    @property
    def low(self) -> int:
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return self.low + 2**self.bits - 1

    @property
    def storage(self) -> np.dtype:
        """Holds one code per element, also for the types that are packed in memory."""
        return np.dtype(f"{'int' if self.signed else 'uint'}{max(self.bits, 8)}")


FLOATS = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
QUANTIZED = {
    name: Quantized(name, bits, name[0] == "i")
    for bits in (2, 4, 8, 16, 32, 64)
    for name in (f"int{bits}", f"uint{bits}")
}


def compute_type(real: str) -> type[np.floating]:
    return np.float64 if real == "float64" else np.float32


def name_of(dtype: np.dtype) -> str:
    return next(name for name, known in FLOATS.items() if known == dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Random words
# ---------------------------------------------------------------------------------------------------------------------

_WORD = 2**32 - 1


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32 (Salmon et al., SC11)."""
    for _ in range(10):
        left, right = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = (
            (right >> 32) ^ counter[1] ^ key[0],
            right & _WORD,
            (left >> 32) ^ counter[3] ^ key[1],
            left & _WORD,
        )
        key = ((key[0] + 0x9E3779B9) & _WORD, (key[1] + 0xBB67AE85) & _WORD)
    return counter


@functools.lru_cache(maxsize=16)
def _block(seed: int, block: int) -> np.ndarray:
    """The 65,536 words of a block."""
    k0, k1, _, _ = philox4x32((block & _WORD, block >> 32, 0, 0), (seed & _WORD, seed >> 32))
    x = np.arange(64 + 65 + 63, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(k0)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= (x >> np.uint32(15)) ^ np.uint32(k1)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    pair = np.arange(1 << 15)
    x = (x[pair % 64] ^ x[64 + pair % 65]) * (x[129 + pair % 63] * np.uint32(2) + np.uint32(1))
    x ^= x >> np.uint32(16)
    words = x.astype("<u4").view("<u2").astype(np.uint16)
    words.flags.writeable = False
    return words


def random_words(seed: int, first: int, n: int) -> np.ndarray:
    """u(seed, first), ..., u(seed, first + n - 1), indices modulo 2**64."""
    words = np.empty(n, np.uint16)
    done = 0
    while done < n:
        block, j = divmod((first + done) % 2**64, 1 << 16)
        count = min(n - done, (1 << 16) - j)
        words[done : done + count] = _block(seed % 2**64, block)[j : j + count]
        done += count
    return words


# ---------------------------------------------------------------------------------------------------------------------
# Quantize
# ---------------------------------------------------------------------------------------------------------------------


def scaled(x: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """y = T(x) * T(1 / scale), widened to float64."""
    real = compute_type(name_of(x.dtype))
    with np.errstate(all="ignore"):
        return (x.astype(real) * (1.0 / np.asarray(scale, np.float64)).astype(real)).astype(np.float64)


def rounded(y: np.ndarray, words: np.ndarray | None) -> np.ndarray:
    """Finite y to integers in float64: to nearest even, or stochastically with the elements' random words.

    Exact: y * 65536 and floor(y) * 65536 are, powers of two being nothing to a mantissa; their integer parts differ by
    at most 65536; and adding 1 happens only where y has a fraction, which is below 2**53.
    """
    if words is None:
        return np.rint(y)
    f = np.floor(y)
    t = np.rint(y * 65536) - f * 65536
    return f + (t + words >= 65536)


def as_int64(zero_point: int | np.ndarray) -> np.ndarray:
    return np.asarray(zero_point).astype(np.int64)


def integers(zero_point: int | np.ndarray, shape: tuple[int, ...]) -> list[int]:
    """A zero point for each element of a shape."""
    each: list[int] = np.broadcast_to(np.asarray(zero_point, object), shape).ravel().tolist()
    return each


def quantize(
    x: np.ndarray,
    scale: float | np.ndarray,
    zero_point: int | np.ndarray,
    dtype: str,
    round_mode: str = "nearest",
    seed: int = 0,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
) -> np.ndarray:
    """Codes, one per element of ``storage``. Scale and zero point: one, or one for each element."""
    target = QUANTIZED[dtype]
    low = target.low if quant_min is None else quant_min
    high = target.high if quant_max is None else quant_max
    y = scaled(x, scale)
    nan = np.isnan(y)
    # Infinities and numbers beyond any code plus any zero point end at the same end of the range.
    y = np.clip(np.where(nan, 0, y), -(2.0**70), 2.0**70)
    r = rounded(y, None if round_mode == "nearest" else random_words(seed, offset, x.size).reshape(x.shape))
    if target.bits == 64:
        each = zip(r.ravel().tolist(), integers(zero_point, x.shape), strict=True)
        q = np.array([min(max(int(v) + z, low), high) for v, z in each], dtype=object).reshape(x.shape)
    else:
        q = np.clip(np.clip(r, -(2.0**40), 2.0**40).astype(np.int64) + as_int64(zero_point), low, high)
    return np.where(nan, low, q).astype(target.storage)


def pack(codes: np.ndarray, dtype: str) -> np.ndarray:
    """One-dimensional codes as they lie in memory: lowest bits first, the last byte padded with zero bits."""
    bits = QUANTIZED[dtype].bits
    if bits >= 8:
        return codes
    per_byte = 8 // bits
    fields = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    fields[: codes.size] = codes.view(np.uint8) & (2**bits - 1)
    return sum(fields[i::per_byte] << (bits * i) for i in range(per_byte)).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Dequantize
# ---------------------------------------------------------------------------------------------------------------------


def nearest_float32(d: int) -> float:
    """An integer rounded half to even to 24 bits."""
    shift = max(abs(d).bit_length() - 24, 0)
    kept, rest = divmod(abs(d), 1 << shift)
    half = (1 << shift) >> 1
    kept += rest > half or (shift > 0 and rest == half and kept % 2 == 1)
    return math.copysign(math.ldexp(kept, shift), d)


def dequantize(
    codes: np.ndarray,
    scale: float | np.ndarray,
    zero_point: int | np.ndarray,
    source: str,
    real: str,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """Codes, one per element, to floats; added to ``before`` if that is given."""
    t = compute_type(real)
    if QUANTIZED[source].bits == 64:
        convert = float if t is np.float64 else nearest_float32
        each = zip(codes.ravel().tolist(), integers(zero_point, codes.shape), strict=True)
        d = np.array([convert(q - z) for q, z in each], dtype=t).reshape(codes.shape)
    else:
        d = (codes.astype(np.int64) - as_int64(zero_point)).astype(t)  # 33 bits, rounded once
    with np.errstate(all="ignore"):
        v = d * np.asarray(scale).astype(t)
        if before is not None:
            v = before.astype(t) + v
        return v.astype(FLOATS[real])


# ---------------------------------------------------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------------------------------------------------


def round_half_even_sum(whole: int, t: float) -> int:
    """round_half_to_even(whole + t), the sum exact."""
    numerator, denominator = t.as_integer_ratio()
    doubled, rest = divmod(2 * (whole * denominator + numerator) + denominator, 2 * denominator)
    return doubled - (rest == 0 and doubled % 2 == 1)


def rounded_up(scale: float, dtype: np.dtype) -> float:
    """The smallest number of the dtype that is not below; infinity where there is none."""
    with np.errstate(all="ignore"):
        nearest = dtype.type(scale)
        return float(nearest if float(nearest) >= scale else np.nextafter(nearest, dtype.type(np.inf)))


def quant_params(
    x: np.ndarray,
    dtype: str,
    symmetric: bool = False,
    quant_min: int | None = None,
    quant_max: int | None = None,
    scale_dtype: str | None = None,
) -> tuple[float, int]:
    """Scale and zero point of finite data. Divisions in double; the scale is rounded to T, the zero point once.

    What ``scale_dtype`` stores is rounded up from that, and the zero point is of what is stored.
    """
    target = QUANTIZED[dtype]
    low = target.low if quant_min is None else quant_min
    high = target.high if quant_max is None else quant_max
    t = compute_type(name_of(x.dtype))
    data = x.astype(np.float64)
    lo, hi = min(0.0, float(data.min())), max(0.0, float(data.max()))
    zero_point = None
    if symmetric:
        zero_point = 0 if target.signed else 2 ** (target.bits - 1)
        scale = max(-lo, hi) / float(min(zero_point - low, high - zero_point))
    elif math.isinf(hi - lo):
        # As if the exponent of a double had no end.
        scale = (hi / 2 - lo / 2) / float(high - low) * 2
    else:
        scale = (hi - lo) / float(high - low)
    with np.errstate(over="ignore"):
        scale = 1.0 if lo == hi == 0 else max(float(t(scale)), float(np.finfo(t).smallest_normal))
    if scale_dtype is not None:
        scale = rounded_up(scale, FLOATS[scale_dtype])
    if zero_point is None:
        zero_point = min(max(round_half_even_sum(low, -lo / scale), low), high)
    return scale, zero_point


# ---------------------------------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------------------------------


def expanded(parameters: np.ndarray, shape: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
    """The parameter of each element's block: element i along a dimension is of block i // size."""
    return np.asarray(parameters[np.ix_(*(np.arange(n) // size for n, size in zip(shape, sizes, strict=True)))])
