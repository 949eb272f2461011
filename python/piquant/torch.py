"""Quantization of torch tensors on the CPU.

``dtype`` selects the quantized type and the form of the result:

- ``torch.quint8, qint8, qint32, quint4x2, quint2x4``: a torch quantized tensor that carries its scale and zero point.
- ``torch.uint8, int8, uint16, ..., uint64``: a plain tensor of the same shape.
- ``torch.uint4, int4, uint2, int2``: a ``torch.uint8`` tensor with the last dimension packed, lowest bits first, each
  row padded with zero bits to whole bytes. Their names, ``"int4"`` and so on, say the same without torch's stubs, which
  lack these dtypes; the other plain dtypes may be named, too.

Inputs may have any strides; those that are not contiguous are copied first. Only the data counts: results carry no
gradient. Writing to ``out`` counts as a change in place, which autograd notices. ``torch.compile`` runs the calls as
they are, between its graphs; ``torch.jit.trace`` and ``make_fx`` do not see them, and record no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch.autograd.graph import increment_version

from piquant import _native
from piquant._context import Context, context_or_default
from piquant._dtypes import FLOAT_COUNT, is_add, is_stochastic, packed_shape, result_shape, rows_of
from piquant._tensors import (
    BIT_PACKED,
    FLOATS,
    FLOATS_BY_NAME,
    STRIDED,
    address_of,
    check_out,
    check_params,
    empty,
    fresh_codes,
    fresh_seed,
    plain,
    plain_floats,
    refuse_float,
    refuse_overlap,
    small_result,
    source_of,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant._tensors import Target

__all__ = ["compute_quant_params", "dequantize", "quantize", "quantize_dequantize"]


# Called as functions, because torch.compile loses the self of a native bound method.
_compute_quant_params: Final = _native.Context._compute_quant_params
_quantize: Final = _native.Context._quantize
_dequantize: Final = _native.Context._dequantize
_quantize_dequantize: Final = _native.Context._quantize_dequantize
_plain_tensors: Final = _native.plain_tensors


def compute_quant_params(
    x: torch.Tensor,
    *,
    dtype: torch.dtype | str,
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
        x: float16, bfloat16, float32 or float64 tensor of any shape with at least one element, all finite.
        dtype: quantized dtype, see the module.
        symmetric: a range around zero instead of the tightest one.
        quant_min: smallest code to use; by default the smallest of ``dtype``.
        quant_max: largest code to use; by default the largest of ``dtype``.
        ctx: context; by default ``Context.get()``.

    Returns:
        The scale, positive and exact in the compute type (float64 for float64 data, else float32), and the zero point.

    Raises:
        ValueError: no elements, NaN or infinity among them, bad range or dtype name.
        TypeError: not a CPU tensor of a float dtype; not a quantized dtype.
    """
    x, address, source, n = plain_floats(x)
    target = target_of(dtype, "dtype")
    context = context_or_default(ctx)
    return _compute_quant_params(context, address, source, target.code, n, symmetric, quant_min, quant_max)


def quantize(
    x: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype | str,
    round_mode: str = "nearest",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """Quantizes: ``clamp(round(x / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32), as
    in ``torch.ops.quantized_decomposed.quantize_per_tensor``, whose results these are bit for bit. NaN gives
    ``quant_min``, infinities the nearer end.

    Args:
        x: float16, bfloat16, float32 or float64 tensor of any shape.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of ``dtype``.
        dtype: quantized dtype, see the module.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from torch's default generator.
        offset: index of the first element in the random sequence of ``seed``: a part of a tensor, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        out: contiguous tensor to write to and return, of the result's shape and dtype.
        ctx: context; by default ``Context.get()``.

    Returns:
        The codes, in the form that ``dtype`` selects.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds; ``out`` of another shape, or
            overlapping ``x``.
        TypeError: not a CPU tensor of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    target = target_of(dtype, "dtype")
    context = context_or_default(ctx)
    stochastic = is_stochastic(round_mode)
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    # The short way for plain tensors: with out, and for small results without.
    place = None
    if not target.carries_params:
        place = small_result(x, target.storage, target.per_byte) if out is None else out
    pair = None if place is None else _plain_tensors(x, place, target.per_byte)
    if pair is not None and place is not None and pair[1] < FLOAT_COUNT and pair[3] == target.stored:
        in_address, source, address, _, rows, n = pair
        result = place
    else:
        options = (scale, zero_point, False, seed, offset, quant_min, quant_max)
        x, in_address, source, result, address, rows, n = _places(context, x, target, options, out)
    _quantize(
        context,
        in_address,
        source,
        address,
        target.code,
        rows,
        n,
        scale,
        zero_point,
        stochastic,
        seed,
        offset,
        quant_min,
        quant_max,
    )
    if out is not None:
        increment_version(out)
    return result


def _places(
    context: Context,
    x: torch.Tensor,
    target: Target,
    options: tuple[float, int, bool, int, int, int | None, int | None],
    out: torch.Tensor | None,
) -> tuple[torch.Tensor, int, int, torch.Tensor, int, int, int]:
    """Where any tensors are quantized from and to: each with its address, then rows and elements per row."""
    given = x
    name = "the result" if out is None else "out"
    x, in_address, source, n = plain_floats(x)
    shape = x.shape
    rows = 1
    if target.packed_bits:
        rows, n = rows_of(shape)
        shape = torch.Size(packed_shape(shape, target.packed_bits))
    if target.carries_params:
        # Checks the arguments, in our words, before torch builds them into a tensor or they are compared with its own.
        _quantize(context, 0, source, 0, target.code, 1, 0, *options)
    if out is None:
        out = fresh_codes(shape, target, *options[:2])
    else:
        check_out(out, shape, target.storage)
        refuse_overlap(given, x, out)
        if target.carries_params:
            check_params(out, *options[:2])
    return x, in_address, source, out, address_of(out, name), rows, n


def dequantize(
    q: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype | str,
    reduce_op: str = "set",
    source_dtype: torch.dtype | str | None = None,
    shape: Sequence[int] | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """Dequantizes: ``(q - zero_point) * scale``, or adds that to ``out``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``. Equal to
    ``torch.ops.quantized_decomposed.dequantize_per_tensor`` bit for bit.

    Args:
        q: codes, in any of the forms that ``quantize`` returns.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of the quantized type.
        dtype: ``torch.float16``, ``bfloat16``, ``float32`` or ``float64``, or the name of one.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: what ``q`` holds, where its dtype does not tell: ``torch.uint4, int4, uint2, int2`` or their names
            for packed bytes.
        shape: shape of the result, of as many elements as ``q`` holds; by default that of ``q``, for packed bytes with
            as many elements in the last dimension as the bytes can hold. Each row of packed codes begins with a byte.
        out: contiguous tensor to write to and return, of the result's shape and ``dtype``. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        The tensor of ``dtype``.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds; "add" without ``out``; ``shape`` that
            does not fit ``q``; ``out`` of another shape, or overlapping ``q``.
        TypeError: not a CPU tensor of codes; not a float dtype; ``out`` of another dtype.
    """
    if isinstance(dtype, str):
        dtype = FLOATS_BY_NAME.get(dtype, dtype)
    result_code = FLOATS.get(dtype) if isinstance(dtype, torch.dtype) else None
    if result_code is None or isinstance(dtype, str):
        refuse_float(dtype)
    add = is_add(reduce_op)
    context = context_or_default(ctx)
    place = small_result(q, dtype) if out is None and source_dtype is None and shape is None and not add else out
    found = None if place is None else _short_way(q, place, source_dtype, shape, result_code)
    if found is not None and place is not None:
        in_address, code, address, rows, n = found
        result = place
    else:
        if add and out is None:
            raise ValueError("reduce_op='add' needs out, the tensor to add to, got out=None")
        q, in_address, code, result, address, rows, n = _code_places(q, dtype, source_dtype, shape, out)
    _dequantize(context, in_address, code, address, result_code, rows, n, scale, zero_point, add)
    if out is not None:
        increment_version(out)
    return result


def _short_way(
    q: torch.Tensor,
    out: torch.Tensor,
    source_dtype: torch.dtype | str | None,
    shape: Sequence[int] | None,
    result_code: int,
) -> tuple[int, int, int, int, int] | None:
    """Where plain tensors are dequantized from and to: addresses and dtype of the codes, rows and elements per row."""
    named = None if source_dtype is None else target_of(source_dtype, "source_dtype")
    per_byte = 1 if named is None else named.per_byte
    pair = _plain_tensors(q, out, per_byte)
    if pair is None or pair[1] < FLOAT_COUNT or pair[3] != result_code:
        return None
    in_address, code, address, _, rows, n = pair
    if n % per_byte != 0 if shape is None else type(shape) is not torch.Size or shape != out.shape:
        return None
    if named is not None:
        if code != named.stored:
            return None
        code = named.code
    return in_address, code, address, rows, n


def _code_places(
    q: torch.Tensor,
    dtype: torch.dtype,
    source_dtype: torch.dtype | str | None,
    shape: Sequence[int] | None,
    out: torch.Tensor | None,
) -> tuple[torch.Tensor, int, int, torch.Tensor, int, int, int]:
    """The same for any tensors, and these themselves."""
    source = source_of(q, source_dtype)
    given = q
    name = "the result" if out is None else "out"
    contiguous = q.is_cpu and q.layout is STRIDED and not q.is_nested and q.is_contiguous()
    if not contiguous or (q.dtype in BIT_PACKED and q.storage_offset() != 0):
        q = plain(q, "q")
    size = q.shape
    if shape is not None or source.packed_bits:
        size = torch.Size(result_shape(tuple(size), shape, source.packed_bits or 8, "q"))
    rows, n = rows_of(size) if source.packed_bits else (1, q.numel())
    in_address = address_of(q, "q")
    if out is None:
        out = empty(size, dtype)
    else:
        check_out(out, size, dtype)
        refuse_overlap(given, q, out)
    return q, in_address, source.code, out, address_of(out, name), rows, n


def quantize_dequantize(
    x: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype | str,
    round_mode: str = "nearest",
    reduce_op: str = "set",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """``dequantize(quantize(x))`` in one pass, bit for bit, back in the dtype of ``x``: what quantization does to data.

    Args:
        x: float16, bfloat16, float32 or float64 tensor of any shape.
        scale, zero_point, dtype, round_mode, seed, offset, quant_min, quant_max: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: contiguous tensor to write to and return, of the shape and dtype of ``x``. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        A tensor of the shape and dtype of ``x``.

    Raises:
        ValueError, TypeError: as ``quantize`` and ``dequantize``.
    """
    given = x
    x, in_address, source, n = plain_floats(x)
    target = target_of(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    add = is_add(reduce_op)
    fresh = out is None
    if out is None:
        if add:
            raise ValueError("reduce_op='add' needs out, the tensor to add to, got out=None")
        out = small_result(x, x.dtype)
        if out is None:
            out = empty(x.shape, x.dtype)
    else:
        check_out(out, x.shape, x.dtype)
        refuse_overlap(given, x, out)
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    address = address_of(out, "the result" if fresh else "out")
    _quantize_dequantize(
        context,
        in_address,
        address,
        source,
        target.code,
        n,
        scale,
        zero_point,
        stochastic,
        add,
        seed,
        offset,
        quant_min,
        quant_max,
    )
    if not fresh:
        increment_version(out)
    return out
