"""How far a number may end up from where it was: the formula that docs/numerics.md derives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from piquant import _native
from piquant._dtypes import NAMES, float_id, shown

if TYPE_CHECKING:
    from piquant._dtypes import Number, RoundModeLike

# Unit roundoff of the compute type; roundings that the ends of the range may be off by, in units of it; unit roundoff
# of the output, where that is another type; half of its smallest subnormal, where data may be as small.
_ROUNDINGS: Final = {
    "float16": (2.0**-24, 1, 2.0**-11, 2.0**-25),
    "bfloat16": (2.0**-24, 1, 2.0**-8, 0.0),
    "float32": (2.0**-24, 1, 0.0, 0.0),
    "float64": (2.0**-53, 4, 0.0, 0.0),
}


def error_bound(
    lo: Number, hi: Number, *, scale: Number, dtype: str = "float32", round_mode: RoundModeLike = "nearest"
) -> float:
    """The most by which quantizing and dequantizing changes a number.

    It holds for data in ``lo`` to ``hi`` with the scale and zero point that ``compute_quant_params`` finds for them, as
    long as ``1 / scale`` is a normal number of the compute type and no result is beyond the largest number of
    ``dtype``. It is ``scale / 2`` to nearest and ``scale`` stochastically, and the roundings of the compute type, which
    matter for codes of 32 and 64 bits, and of ``dtype``. docs/numerics.md derives it.

    Args:
        lo: smallest number of the data.
        hi: largest number of the data.
        scale: what ``compute_quant_params`` gives for the data.
        dtype: float type of the data and of the result: ``DataType`` member or its name.
        round_mode: "nearest" or "stochastic".

    Raises:
        ValueError: not ``lo <= hi``, both finite; ``scale`` not positive and finite; a dtype or mode of another name.
        TypeError: no numbers.
    """
    unit, clamp_units, output_unit, subnormal = _ROUNDINGS[NAMES[float_id(dtype, "dtype")]]
    step = 1.0 if _native.is_stochastic(round_mode) else 0.5
    given = f"got lo={shown(lo)}, hi={shown(hi)}, scale={shown(scale)}"
    try:
        lo, hi, scale = math.fsum((lo,)), math.fsum((hi,)), math.fsum((scale,))
    except TypeError:
        raise TypeError(f"lo, hi and scale must be numbers, {given}") from None
    except OverflowError:
        raise ValueError(f"lo, hi and scale must be finite, {given}") from None
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise ValueError(f"lo and hi must be finite, lo <= hi, {given}")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, {given}")
    lo, hi = min(0.0, lo), max(0.0, hi)
    largest = max(-lo, hi)
    # Sums of products, rather than products of sums, which overflow for data at the ends of float64.
    quantized = step * scale + 2 * unit * largest + clamp_units * (unit * hi - unit * lo)
    dequantized = quantized + 2 * unit * largest + 2 * unit * quantized
    return dequantized + output_unit * largest + output_unit * dequantized + subnormal
