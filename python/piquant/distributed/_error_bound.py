"""How far a quantized sum may be from the sum: two quantizations, and the roundings between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch.distributed as dist

from piquant._dtypes import shown
from piquant._error_bound import error_bound as bound_of_one
from piquant.distributed._arguments import read_operator, read_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant._dtypes import Number, RoundModeLike

_REACH: Final = {"int8": 127, "int4": 7, "int2": 1}
# Scales are float32, rounded up from float64, and normal numbers.
_ABOVE: Final = 1 + 2.0**-22
_LEAST: Final = 2.0**-126


def error_bound(
    largest: Sequence[Number],
    op: Any = dist.ReduceOp.SUM,
    *,
    dtype: str = "int8",
    round_mode: RoundModeLike = "stochastic",
    source_dtype: str = "float32",
) -> float:
    """The most by which ``all_reduce`` misses the sum, or the mean, of an element.

    That is, up to rounding, ``h * (scales of the blocks of the other ranks + scale of the block of the sum)``, with h =
    1/2 to nearest and 1 stochastically, and for the mean a part of that. It holds whichever rank owns the element, and
    bounds ``reduce_scatter_tensor``, too.

    Args:
        largest: of each rank, the largest magnitude in the element's block.
        op: ``ReduceOp.SUM`` or ``ReduceOp.AVG``.
        dtype: of the codes.
        round_mode: "stochastic" or "nearest".
        source_dtype: float type of the tensors, by its name.

    Raises:
        ValueError: a magnitude that is negative or not finite; none at all; a dtype, mode or ``op`` of another name.
    """
    code = read_options(dtype, 1, round_mode, None).dtype
    operator = read_operator(op)
    magnitudes = [math.fsum((x,)) for x in largest]
    if code is None or not magnitudes or not all(0 <= x < math.inf for x in magnitudes):
        raise ValueError(
            f"largest must be finite magnitudes, one for each rank, and dtype name codes, got {shown(largest)}, {dtype}"
        )
    wide = "float64" if source_dtype == "float64" else "float32"
    unit = 2.0**-53 if wide == "float64" else 2.0**-24

    def quantized(most: float, to: str) -> float:
        scale = max(most / _REACH[code] * _ABOVE, _LEAST)
        return bound_of_one(-most, most, scale=scale, dtype=to, round_mode=round_mode)

    # The owner's own part is exact. Its block might be the one with the smallest scale.
    errors = sorted(quantized(x, wide) for x in magnitudes)
    lost = math.fsum(errors[1:])
    most = math.fsum(magnitudes) + lost
    lost += len(magnitudes) * unit * most * 2  # of the additions, and of the division
    ranks = len(magnitudes) if operator == "avg" else 1
    return lost / ranks + quantized((most + lost) / ranks, source_dtype)
