"""Quantization of numpy arrays.

Float arrays are of ``float16``, ``float32``, ``float64`` or ``ml_dtypes.bfloat16``. ``dtype`` selects the quantized
type and the form of the result:

- ``numpy.int8 ... uint64``, or their names: an array of the same shape.
- the names ``"int4"``, ``"uint4"``, ``"int2"``, ``"uint2"``: a ``uint8`` array with the last dimension packed, lowest
  bits first, each row padded with zero bits to whole bytes.
- ``ml_dtypes.int4, uint4, int2, uint2``: an array of the same shape in that dtype, one code per byte.

Inputs may have any strides and byte order; those that are not contiguous and native are copied first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from piquant import _native
from piquant._arrays import (
    FLOATS,
    field_range,
    float_code,
    float_dtype,
    hold,
    output,
    plain,
    refuse_overlap,
    small_output,
    source_of,
    target_of,
)
from piquant._context import Context, context_or_default, fresh_seed
from piquant._dtypes import CODES, FLOAT_COUNT, is_add, is_stochastic, packed_shape, result_shape, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from piquant._arrays import Array

__all__ = ["compute_quant_params", "dequantize", "quantize", "quantize_dequantize"]

_plain_arrays: Final = _native.plain_arrays


def compute_quant_params(
    x: Array,
    *,
    dtype: DTypeLike | str,
    symmetric: bool = False,
    quant_min: int | None = None,
    quant_max: int | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]:
    """Computes scale and zero point that cover the data.

    With ``lo = min(0, min x)``, ``hi = max(0, max x)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, ``scale = max|x| / (2**(bits-1) - 1)`` and zero point 0 (signed) or ``2**(bits-1)``
    (unsigned). Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        x: float array of any shape with at least one element, all finite.
        dtype: quantized dtype, see the module.
        symmetric: a range around zero instead of the tightest one.
        quant_min: smallest code to use; by default the smallest of ``dtype``.
        quant_max: largest code to use; by default the largest of ``dtype``.
        ctx: context; by default ``Context.get()``.

    Returns:
        The scale, positive and exact in the compute type (float64 for float64 data, else float32), and the zero point.

    Raises:
        ValueError: no elements, NaN or infinity among them, bad range or dtype name.
        TypeError: not an array of a float dtype; not a quantized dtype.
    """
    source = float_code(x)
    target = target_of(dtype, "dtype")
    x = plain(x)
    context = context_or_default(ctx)
    held = hold(x, False)
    return context._compute_quant_params(held.address, source, target.code, x.size, symmetric, quant_min, quant_max)


def quantize(
    x: Array,
    *,
    scale: float,
    zero_point: int,
    dtype: DTypeLike | str,
    round_mode: str = "nearest",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """Quantizes: ``clamp(round(x / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32). NaN
    gives ``quant_min``, infinities the nearer end.

    Args:
        x: float array of any shape.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of ``dtype``.
        dtype: quantized dtype, see the module.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from the module ``random``.
        offset: index of the first element in the random sequence of ``seed``: a part of an array, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        out: C-contiguous array to write to and return, of the result's shape and dtype.
        ctx: context; by default ``Context.get()``.

    Returns:
        The codes, in the form that ``dtype`` selects.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds; ``out`` of another shape,
            read-only, or overlapping ``x``.
        TypeError: not an array of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    target = target_of(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    # The short way for plain arrays: with out, and for small results without.
    place = small_output(x, target.storage, target.per_byte) if out is None else out
    pair = None if place is None else _plain_arrays(x, place, target.per_byte)
    if pair is not None and place is not None and pair[1] < FLOAT_COUNT and pair[3] == target.stored:
        in_address, source, address, _, rows, n = pair
        context._quantize(
            in_address, source, address, target.code, rows, n,
            scale, zero_point, stochastic, seed, offset, quant_min, quant_max,
        )  # fmt: skip
        return place

    source = float_code(x)
    given, x = x, plain(x)
    shape = x.shape
    code = target.code
    if target.packed_bits:
        rows, n = rows_of(shape)
        shape = packed_shape(shape, target.packed_bits)
    else:
        rows, n = 1, x.size
    if target.field_bits:
        # Codes one to a byte are those of the 8-bit type in the range of the narrow one, which first checks it all.
        context._quantize(0, source, 0, code, 1, 0, scale, zero_point, False, seed, offset, quant_min, quant_max)
        lowest, highest, code = field_range(target)
        quant_min = lowest if quant_min is None else quant_min
        quant_max = highest if quant_max is None else quant_max
    refuse_overlap(given, x, out)
    out = output(out, shape, target.storage)
    source_memory, out_memory = hold(x, False), hold(out, True)
    context._quantize(
        source_memory.address, source, out_memory.address, code, rows, n,
        scale, zero_point, stochastic, seed, offset, quant_min, quant_max,
    )  # fmt: skip
    if target.field_bits:
        bytes_of_out = out.view(np.uint8)
        np.bitwise_and(bytes_of_out, (1 << target.field_bits) - 1, out=bytes_of_out)
    return out


def dequantize(
    q: Array,
    *,
    scale: float,
    zero_point: int,
    dtype: DTypeLike | str,
    reduce_op: str = "set",
    source_dtype: DTypeLike | str | None = None,
    shape: Sequence[int] | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """Dequantizes: ``(q - zero_point) * scale``, or adds that to ``out``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``.

    Args:
        q: codes, in any of the forms that ``quantize`` returns.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of the quantized type.
        dtype: float dtype of the result.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: what ``q`` holds, where its dtype does not tell: ``"uint4"`` and so on for packed bytes.
        shape: shape of the result, of as many elements as ``q`` holds; by default that of ``q``, for packed bytes with
            as many elements in the last dimension as the bytes can hold. Each row of packed codes begins with a byte.
        out: C-contiguous array to write to and return, of the result's shape and ``dtype``. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        The array of ``dtype``.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds; "add" without ``out``; ``shape`` that
            does not fit ``q``; ``out`` of another shape, read-only, or overlapping ``q``.
        TypeError: not an array of codes; not a float dtype; ``out`` of another dtype.
    """
    result = float_dtype(dtype, "dtype")
    place = small_output(q, result) if out is None and source_dtype is None and reduce_op == "set" else out
    if place is not None:
        named = None if source_dtype is None else target_of(source_dtype, "source_dtype")
        per_byte = 1 if named is None else named.per_byte
        pair = _plain_arrays(q, place, per_byte)
        if pair is not None and pair[1] >= FLOAT_COUNT and pair[3] == FLOATS[result]:
            in_address, code, address, real, rows, n = pair
            whole = shape is None and n % per_byte == 0
            if whole and (named is None or code == named.stored):
                if named is not None:
                    code = named.code
                add = is_add(reduce_op)
                context_or_default(ctx)._dequantize(in_address, code, address, real, rows, n, scale, zero_point, add)
                return place

    source = source_of(q, source_dtype)
    add = is_add(reduce_op)
    given, q = q, plain(q)
    code = source.code
    size = result_shape(q.shape, shape, source.packed_bits or 8, "q")
    rows, n = rows_of(size) if source.packed_bits else (1, q.size)
    if add and out is None:
        raise ValueError("reduce_op='add' needs out, the array to add to, got out=None")
    context = context_or_default(ctx)
    if source.field_bits:
        context._dequantize(0, code, 0, FLOATS[result], 1, 0, scale, zero_point, add)
        code = field_range(source)[2]
        q = q.astype(np.int8 if code == CODES["int8"] else np.uint8)
    refuse_overlap(given, q, out)
    out = output(out, size, result)
    source_memory, out_memory = hold(q, False), hold(out, True)
    context._dequantize(
        source_memory.address, code, out_memory.address, FLOATS[result], rows, n, scale, zero_point, add
    )
    return out


def quantize_dequantize(
    x: Array,
    *,
    scale: float,
    zero_point: int,
    dtype: DTypeLike | str,
    round_mode: str = "nearest",
    reduce_op: str = "set",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """``dequantize(quantize(x))`` in one pass, bit for bit, back in the dtype of ``x``: what quantization does to data.

    Args:
        x: float array of any shape.
        scale, zero_point, dtype, round_mode, seed, offset, quant_min, quant_max: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: C-contiguous array to write to and return, of the shape and dtype of ``x``. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError, TypeError: as ``quantize`` and ``dequantize``.
    """
    source = float_code(x)
    target = target_of(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    add = is_add(reduce_op)
    given, x = x, plain(x)
    if add and out is None:
        raise ValueError("reduce_op='add' needs out, the array to add to, got out=None")
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    refuse_overlap(given, x, out)
    out = output(out, x.shape, x.dtype)
    source_memory, out_memory = hold(x, False), hold(out, True)
    context._quantize_dequantize(
        source_memory.address, out_memory.address, source, target.code, x.size,
        scale, zero_point, stochastic, add, seed, offset, quant_min, quant_max,
    )  # fmt: skip
    return out
