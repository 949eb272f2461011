"""Quantization of plain buffers: ``array.array``, ``bytes``, ``memoryview``, ``mmap``, ``numpy.ndarray`` and the like.

Nothing but Python is needed. The item format of a buffer tells its element type; bytes, and types that have no item
format, are told with ``source_dtype``. Results of a type with an item format are typed memoryviews of the input's
shape; others (float16, bfloat16, and 2- and 4-bit codes, packed) are bytearrays.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, overload

from piquant import _native
from piquant._dtypes import (
    BITS,
    CODE_NAMES,
    CODES,
    DTYPE_ID,
    FLOAT_NAMES,
    FLOATS,
    ITEM_FORMATS,
    NAMES,
    PACKED,
    draw_seed,
    refuse,
    shown,
)
from piquant._outputs import allocated
from piquant._shapes import product

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from piquant._context import Context
    from piquant._dtypes import BlockSize, Integer, Number, ReduceOpLike, RoundModeLike

    if sys.version_info >= (3, 12):
        from collections.abc import Buffer
    else:
        from typing_extensions import Buffer

# Item formats of results; the other types have none that a memoryview of every Python can be cast to.
_FORMATS: Final = {name: item_format for name, item_format in ITEM_FORMATS.items() if name != "float16"}


def _known_dtypes() -> dict[object, _native.DType]:
    stored = {name: NAMES[DTYPE_ID["uint8"]] if name in PACKED else NAMES[DTYPE_ID[name]] for name in (*FLOATS, *CODES)}
    return {name: _native.DType(DTYPE_ID[name], DTYPE_ID[holder], holder) for name, holder in stored.items()}


def _find_dtype(dtype: object, argument: str, floats: bool) -> _native.DType:
    """Refuses what is no name of a type."""
    refuse(f"{argument} must be one of {FLOAT_NAMES if floats else CODE_NAMES}, got {shown(dtype)}", dtype)


def _make(_like: object, dtype: _native.DType, shape: tuple[int, ...], _scale: object, _zero_point: object) -> Buffer:
    """A buffer for a result: typed, of a shape, where its type has an item format. Empty views have one dimension."""
    nbytes = product(shape) * BITS[dtype.stored] // 8
    memory = allocated(lambda: bytearray(nbytes))
    item_format: Any = _FORMATS.get(NAMES[dtype.id])
    if item_format is None:
        return memory
    view = memoryview(memory)
    return view.cast(item_format, shape) if len(shape) != 1 and memory else view.cast(item_format)


_compute_quant_params: Final = _native.compute_quant_params
_quantize: Final[Callable[..., Buffer]] = _native.quantize
_dequantize: Final[Callable[..., Buffer]] = _native.dequantize
_quantize_dequantize: Final[Callable[..., Buffer]] = _native.quantize_dequantize
_FACE: Final = _native.Face("buffers", dtypes=_known_dtypes(), find_dtype=_find_dtype, make=_make, draw_seed=draw_seed)


@overload
def compute_quant_params(
    x: Buffer,
    *,
    dtype: str,
    block_size: None = None,
    scale_dtype: None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]: ...
@overload
def compute_quant_params(
    x: Buffer,
    *,
    dtype: str,
    block_size: BlockSize,
    scale_dtype: str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    ctx: Context | None = None,
) -> tuple[Buffer, Buffer | int]: ...
def compute_quant_params(
    x: Buffer,
    *,
    dtype: str,
    block_size: BlockSize | None = None,
    scale_dtype: str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    ctx: Context | None = None,
) -> tuple[float, int] | tuple[Buffer, Buffer | int]:
    """Computes scale and zero point that cover the data.

    ``block_size`` makes them arrays, with a scale for each block of the data.

    With ``lo = min(0, min x)``, ``hi = max(0, max x)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, zero point 0 (signed) or ``2**(bits-1)`` (unsigned) and ``scale = max|x| / m``, where
    ``m`` is the smaller of ``zero_point - quant_min`` and ``quant_max - zero_point``: 127 for int8, 7 for codes -7..7.
    Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements, at least one, all finite.
        dtype: quantized type: ``DataType`` member or its name.
        block_size: elements of a block along the last dimension, or along as many last dimensions as it has sizes:
            those before are cut into single elements, -1 is the whole. -1 is a scale a row, 128 groups of 128, ``(-1,
            1)`` a scale a column, ``(-1, -1)`` one in all. By default one scale and zero point as numbers.
        scale_dtype: float dtype of the scales of blocks; by default float32, float64 for float64 data. What is narrower
            is rounded up, so that half of the stored scale bounds the error.
        symmetric: a range around zero instead of the tightest one.
        quant_min: smallest code to use; by default the smallest of ``dtype``.
        quant_max: largest code to use; by default the largest of ``dtype``.
        source_dtype: float type of ``x``, where its item format does not tell.
        ctx: context; by default ``Context.get()``.

    Returns:
        The scale, positive and exact in the compute type (float64 for float64 data, else float32), and the zero point.
        Of blocks two typed memoryviews (bytearrays of float16 and bfloat16) of the rank of ``x``, of ``ceil(size /
        block size)`` along each dimension: the zero points in the plain dtype of the codes (int8 for int4), with
        ``symmetric`` the int instead.

    Raises:
        ValueError: no elements (of blocks that is no error), NaN or infinity among them (the words name the block), bad
            range, dtype name or block size.
        TypeError: not a buffer of floats.
    """
    return _compute_quant_params(
        _FACE, x, dtype, block_size, scale_dtype, symmetric, quant_min, quant_max, source_dtype, ctx
    )


def quantize(
    x: Buffer,
    *,
    scale: Number | Buffer,
    zero_point: Integer | Buffer = 0,
    dtype: str,
    block_size: BlockSize | None = None,
    scale_dtype: str | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """Quantizes: ``clamp(round(x / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32). NaN
    gives ``quant_min``, infinities the nearer end.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of ``dtype``: an int, or integers of any dtype, one for each block.
        dtype: quantized type: ``DataType`` member or its name.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        scale_dtype: float type of ``scale``, where its item format does not tell.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from the module ``random``.
        offset: index of the first element in the random sequence of ``seed``: a part of the data, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        source_dtype: float type of ``x``, where its item format does not tell.
        out: writable buffer to write to and return: contiguous bytes, or items of the result's type, as many bytes as
            the result takes; or such items in the result's shape, with any strides.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview of the shape of ``x``. For 2- and 4-bit types a bytearray: lowest bits first,
        each row (last dimension) padded with zero bits to whole bytes.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds (the words name the block), or of
            another shape than the blocks; ``out`` of another size, or overlapping ``x``.
        TypeError: not a buffer of floats; ``out`` holds other items.
        BufferError: ``out`` is read-only, or neither contiguous nor of the result's shape.
    """
    return _quantize(
        _FACE,
        x,
        scale,
        zero_point,
        dtype,
        block_size,
        scale_dtype,
        round_mode,
        seed,
        offset,
        quant_min,
        quant_max,
        source_dtype,
        out,
        ctx,
    )


def dequantize(
    q: Buffer,
    *,
    scale: Number | Buffer,
    zero_point: Integer | Buffer = 0,
    dtype: str,
    block_size: BlockSize | None = None,
    scale_dtype: str | None = None,
    reduce_op: ReduceOpLike = "set",
    source_dtype: str | None = None,
    shape: Sequence[Integer] | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """Dequantizes: ``(q - zero_point) * scale``, or adds that to ``out``.

    Packed bytes, of 2- and 4-bit codes, need ``source_dtype``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``.

    Args:
        q: buffer of codes, as ``quantize`` returns it.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of the quantized type: an int, or integers of any dtype, one for each block.
        dtype: float type of the result: ``DataType`` member or its name.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        scale_dtype: float type of ``scale``, where its item format does not tell.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: type of the codes, where the item format does not tell: "uint4" and so on for packed codes.
            Without it bytes are 8-bit codes.
        shape: shape of the result, of as many elements as ``q`` holds; by default that of ``q``, for packed bytes with
            as many elements in the last dimension as the bytes can hold. Each row of packed codes begins with a byte.
        out: writable buffer to write to and return: contiguous bytes, or items of the result's type (16-bit integers
            for bfloat16), as many bytes as the result takes; or such items in the result's shape, with any strides.
            "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview, or a bytearray for float16 and bfloat16.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds (the words name the block), or of another
            shape than the blocks; "add" without ``out``; ``shape`` that does not fit ``q``; ``out`` of another size, or
            overlapping ``q``.
        TypeError: not a buffer of integers; ``out`` holds other items.
        BufferError: ``out`` is read-only, or neither contiguous nor of the result's shape.
    """
    return _dequantize(
        _FACE, q, scale, zero_point, dtype, block_size, scale_dtype, reduce_op, source_dtype, shape, out, ctx
    )


def quantize_dequantize(
    x: Buffer,
    *,
    scale: Number | Buffer,
    zero_point: Integer | Buffer = 0,
    dtype: str,
    block_size: BlockSize | None = None,
    scale_dtype: str | None = None,
    round_mode: RoundModeLike = "nearest",
    reduce_op: ReduceOpLike = "set",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """``dequantize(quantize(x))`` in one pass, bit for bit: what quantization does to data.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements.
        scale, zero_point, dtype, block_size, scale_dtype, round_mode, seed, offset, quant_min, quant_max, source_dtype:
            as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: writable buffer to write to and return: contiguous bytes, or items of the type of ``x``, as many bytes as
            ``x``; or such items in the shape of ``x``, with any strides. It may be ``x`` itself, and nothing else that
            overlaps it. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview of the shape of ``x``, or a bytearray for float16 and bfloat16.

    Raises:
        ValueError, TypeError, BufferError: as ``quantize`` and ``dequantize``.
    """
    return _quantize_dequantize(
        _FACE,
        x,
        scale,
        zero_point,
        dtype,
        block_size,
        scale_dtype,
        round_mode,
        reduce_op,
        seed,
        offset,
        quant_min,
        quant_max,
        source_dtype,
        out,
        ctx,
    )


def quantize_dynamic(
    x: Buffer,
    *,
    dtype: str,
    block_size: BlockSize | None = None,
    symmetric: bool = False,
    scale_dtype: str | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    source_dtype: str | None = None,
    out: tuple[Buffer, Buffer, Buffer | int] | None = None,
    ctx: Context | None = None,
) -> tuple[Buffer, Buffer, Buffer | int]:
    """Quantizes with a scale and zero point for each block of the data, which it computes: both steps in one call.

    Equal to ``compute_quant_params`` and then ``quantize`` with the parameters as they are stored, bit for bit. Where
    blocks lie within the last dimension the data is read once.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements, all finite.
        dtype: quantized type: ``DataType`` member or its name.
        block_size: elements of a block, as in ``compute_quant_params``. By default all of the data is one.
        symmetric: ranges around zero instead of the tightest ones, and an int for all zero points.
        scale_dtype: float dtype of the scales; by default float32, float64 for float64 data. What is narrower is
            rounded up, so that half of the stored scale bounds the error.
        round_mode, seed, offset: as in ``quantize``.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        source_dtype: float type of ``x``, where its item format does not tell.
        out: writable buffers of codes, scales and zero points (with ``symmetric`` any int) as one tuple, to write to
            and return.
        ctx: context; by default ``Context.get()``.

    Returns:
        The codes, as ``quantize`` returns them; the scales and the zero points, as ``compute_quant_params`` does.

    Raises:
        ValueError: NaN or infinity in the data (the words name the block), after which what ``out`` holds is
            unspecified; bad range, dtype name or block size; buffers in ``out`` of other sizes.
        TypeError: not a buffer of floats.
    """
    made: tuple[Buffer, Buffer, Buffer | int] = _native.quantize_dynamic(
        _FACE, x, dtype, block_size, scale_dtype, symmetric, round_mode, seed, offset, quant_min, quant_max,
        source_dtype, out, None, ctx,
    )  # fmt: skip
    return made[:3]
