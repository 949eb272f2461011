"""Quantization of numpy arrays.

Float arrays are of ``float16``, ``float32``, ``float64`` or ``ml_dtypes.bfloat16``. ``dtype`` selects the quantized
type and the form of the result:

- ``numpy.int8 ... uint64``, or their names: an array of the same shape.
- the names ``"int4"``, ``"uint4"``, ``"int2"``, ``"uint2"``: a ``uint8`` array with the last dimension packed, lowest
  bits first, each row padded with zero bits to whole bytes.
- ``ml_dtypes.int4, uint4, int2, uint2``: an array of the same shape in that dtype, one code per byte.

Inputs may have any strides and byte order; only those of foreign byte order are copied. Lists, and arrays of other
packages that offer ``__array__`` or ``__dlpack__``, are converted. Outputs may have any strides. Results that are not
packed keep the memory format of their input, as ``numpy.empty_like`` does. Masked arrays are refused if anything is
masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, overload

from piquant import _native

try:
    from piquant._arrays import FACE as _FACE
    from piquant._quantized import refill
    from piquant._quantized_array import QuantizedArray
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    raise ModuleNotFoundError("piquant.numpy needs numpy: pip install 'pypiquant[numpy]'", name="numpy") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from piquant._arrays import Array
    from piquant._context import Context
    from piquant._dtypes import BlockSize, Integer, Number, ReduceOpLike, RoundModeLike

__all__ = [
    "QuantizedArray",
    "compute_quant_params",
    "dequantize",
    "quantize",
    "quantize_dequantize",
    "quantize_dynamic",
]

_compute_quant_params: Final = _native.compute_quant_params
_quantize: Final[Callable[..., Array]] = _native.quantize
_dequantize: Final[Callable[..., Array]] = _native.dequantize
_quantize_dequantize: Final[Callable[..., Array]] = _native.quantize_dequantize


@overload
def compute_quant_params(
    x: ArrayLike,
    *,
    dtype: DTypeLike | str,
    block_size: None = None,
    scale_dtype: None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]: ...
@overload
def compute_quant_params(
    x: ArrayLike,
    *,
    dtype: DTypeLike | str,
    block_size: BlockSize,
    scale_dtype: DTypeLike | str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[Array, Array | int]: ...
def compute_quant_params(
    x: ArrayLike,
    *,
    dtype: DTypeLike | str,
    block_size: BlockSize | None = None,
    scale_dtype: DTypeLike | str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[float, int] | tuple[Array, Array | int]:
    """Computes scale and zero point that cover the data.

    ``block_size`` makes them arrays, with a scale for each block of the data.

    With ``lo = min(0, min x)``, ``hi = max(0, max x)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, zero point 0 (signed) or ``2**(bits-1)`` (unsigned) and ``scale = max|x| / m``, where
    ``m`` is the smaller of ``zero_point - quant_min`` and ``quant_max - zero_point``: 127 for int8, 7 for codes -7..7.
    Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        x: float array of any shape with at least one element, all finite.
        dtype: quantized dtype, see the module.
        block_size: elements of a block along the last dimension, or along as many last dimensions as it has sizes:
            those before are cut into single elements, -1 is the whole. -1 is a scale a row, 128 groups of 128, ``(-1,
            1)`` a scale a column, ``(-1, -1)`` one in all. By default one scale and zero point as numbers.
        scale_dtype: float dtype of the scales of blocks; by default float32, float64 for float64 data. What is narrower
            is rounded up, so that half of the stored scale bounds the error.
        symmetric: a range around zero instead of the tightest one.
        quant_min: smallest code to use; by default the smallest of ``dtype``.
        quant_max: largest code to use; by default the largest of ``dtype``.
        ctx: context; by default ``Context.get()``.

    Returns:
        The scale, positive and exact in the compute type (float64 for float64 data, else float32), and the zero point.
        Of blocks two arrays of the rank of ``x``, of ``ceil(size / block size)`` along each dimension: the zero points
        in the plain dtype of the codes (int8 for int4), with ``symmetric`` the int instead.

    Raises:
        ValueError: no elements (of blocks that is no error), NaN or infinity among them (the words name the block), bad
            range, dtype name or block size.
        TypeError: not an array of a float dtype; not a quantized dtype.
    """
    return _compute_quant_params(_FACE, x, dtype, block_size, scale_dtype, symmetric, quant_min, quant_max, None, ctx)


def quantize(
    x: ArrayLike,
    *,
    scale: Number | Array,
    zero_point: Integer | Array = 0,
    dtype: DTypeLike | str,
    block_size: BlockSize | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """Quantizes: ``clamp(round(x / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32). NaN
    gives ``quant_min``, infinities the nearer end.

    Args:
        x: float array of any shape.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of ``dtype``: an int, or integers of any dtype, one for each block.
        dtype: quantized dtype, see the module.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from the module ``random``.
        offset: index of the first element in the random sequence of ``seed``: a part of the data, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        out: array to write to and return, of the result's shape and dtype, with any strides as long as no two
            elements share memory. The bytes of a packed row lie side by side.
        ctx: context; by default ``Context.get()``.

    Returns:
        The codes, in the form that ``dtype`` selects.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds (the words name the block), or of
            another shape than the blocks; ``out`` of another shape, read-only, overlapping ``x``, or with elements that
            share memory.
        TypeError: not an array of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    return _quantize(
        _FACE,
        x,
        scale,
        zero_point,
        dtype,
        block_size,
        None,
        round_mode,
        seed,
        offset,
        quant_min,
        quant_max,
        None,
        out,
        ctx,
    )


def dequantize(
    q: ArrayLike,
    *,
    scale: Number | Array,
    zero_point: Integer | Array = 0,
    dtype: DTypeLike | str,
    block_size: BlockSize | None = None,
    reduce_op: ReduceOpLike = "set",
    source_dtype: DTypeLike | str | None = None,
    shape: Sequence[Integer] | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """Dequantizes: ``(q - zero_point) * scale``, or adds that to ``out``.

    Packed bytes, of 2- and 4-bit codes, need ``source_dtype``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``.

    Args:
        q: codes, in any of the forms that ``quantize`` returns.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of the quantized type: an int, or integers of any dtype, one for each block.
        dtype: float dtype of the result.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: ``"uint4"`` and so on, for packed bytes. Without it bytes are 8-bit codes.
        shape: shape of the result, of as many elements as ``q`` holds; by default that of ``q``, for packed bytes with
            as many elements in the last dimension as the bytes can hold. Each row of packed codes begins with a byte.
        out: array to write to and return, of the result's shape and ``dtype``, with any strides as long as no two
            elements share memory. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        The array of ``dtype``.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds (the words name the block), or of another
            shape than the blocks; "add" without ``out``; ``shape`` that does not fit ``q``; ``out`` of another shape,
            read-only, overlapping ``q``, or with elements that share memory.
        TypeError: not an array of codes; not a float dtype; ``out`` of another dtype.
    """
    return _dequantize(_FACE, q, scale, zero_point, dtype, block_size, None, reduce_op, source_dtype, shape, out, ctx)


def quantize_dequantize(
    x: ArrayLike,
    *,
    scale: Number | Array,
    zero_point: Integer | Array = 0,
    dtype: DTypeLike | str,
    block_size: BlockSize | None = None,
    round_mode: RoundModeLike = "nearest",
    reduce_op: ReduceOpLike = "set",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: Array | None = None,
    ctx: Context | None = None,
) -> Array:
    """``dequantize(quantize(x))`` in one pass, bit for bit: what quantization does to data.

    Args:
        x: float array of any shape.
        scale, zero_point, dtype, block_size, round_mode, seed, offset, quant_min, quant_max: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: array to write to and return, of the shape and dtype of ``x``, with any strides as long as no two
            elements share memory. It may be ``x`` itself, and nothing else that overlaps it. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        An array of the shape and dtype of ``x``.

    Raises:
        ValueError, TypeError: as ``quantize`` and ``dequantize``.
    """
    return _quantize_dequantize(
        _FACE,
        x,
        scale,
        zero_point,
        dtype,
        block_size,
        None,
        round_mode,
        reduce_op,
        seed,
        offset,
        quant_min,
        quant_max,
        None,
        out,
        ctx,
    )


def quantize_dynamic(
    x: ArrayLike,
    *,
    dtype: DTypeLike | str,
    block_size: BlockSize | None = None,
    symmetric: bool = False,
    scale_dtype: DTypeLike | str | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: QuantizedArray | None = None,
    ctx: Context | None = None,
) -> QuantizedArray:
    """Quantizes with a scale and zero point for each block of the data, which it computes: both steps in one call.

    Equal to ``compute_quant_params`` and then ``quantize`` with the parameters as they are stored, bit for bit. Where
    blocks lie within the last dimension the data is read once.

    Args:
        x: float array of any shape, all finite.
        dtype: quantized dtype, see the module.
        block_size: elements of a block, as in ``compute_quant_params``. By default all of the data is one.
        symmetric: ranges around zero instead of the tightest ones, and an int for all zero points.
        scale_dtype: float dtype of the scales; by default float32, float64 for float64 data. What is narrower is
            rounded up, so that half of the stored scale bounds the error.
        round_mode, seed, offset: as in ``quantize``.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        out: container of the same shape, type, blocks and dtypes to write to and return. Its scales and zero points are
            contiguous; those of every second row, say, are refused.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a new container.

    Raises:
        ValueError: NaN or infinity in the data (the words name the block), after which what ``out`` holds is
            unspecified; bad range, dtype name or block size; ``out`` of another shape, type or blocks.
        TypeError: not an array of a float dtype; not a quantized dtype.
    """
    arrays, told, scales = refill(QuantizedArray, out, scale_dtype)
    made = _native.quantize_dynamic(
        _FACE, x, dtype, block_size, scales, symmetric, round_mode, seed, offset, quant_min, quant_max, None, arrays,
        told, ctx,
    )  # fmt: skip
    return QuantizedArray._made(*made[:3], *made[3]) if out is None else out
