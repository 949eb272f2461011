"""Quantization of plain buffers: ``array.array``, ``bytes``, ``memoryview``, ``mmap``, ``numpy.ndarray`` and the like.

Nothing but Python is needed. The item format of a buffer tells its element type; bytes, and types that have no item
format, are told with ``source_dtype``. Results of a type with an item format are typed memoryviews of the input's
shape; others (float16, bfloat16, and 2- and 4-bit codes, packed) are bytearrays.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from piquant import _native
from piquant._context import Context, context_or_default, fresh_seed
from piquant._dtypes import (
    BITS,
    FLOAT_COUNT,
    NAMES,
    OVERLAP,
    extent,
    float_code,
    is_add,
    is_stochastic,
    packed_shape,
    product,
    quantized_code,
    result_shape,
    rows_of,
)
from piquant._outputs import allocated

if TYPE_CHECKING:
    from collections.abc import Sequence

    if sys.version_info >= (3, 12):
        from collections.abc import Buffer
    else:
        from typing_extensions import Buffer

# Item formats of the buffer protocol (module struct), native byte order. "l" and "L" have the size of a pointer or of
# an int, depending on the platform, so sizes come from the view.
_KINDS: Final = dict.fromkeys("efd", "float") | dict.fromkeys("bhilqn", "int") | dict.fromkeys("BHILQN", "uint")
# Items of other types that may hold a result: there is no format for bfloat16.
_STAND_INS: Final = (("bfloat16", "uint16"), ("bfloat16", "int16"))
_NATIVE_ORDER: Final = "@=<" if sys.byteorder == "little" else "@=>!"
_FORMATS: Final = {
    "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip


def compute_quant_params(
    x: Buffer,
    *,
    dtype: str,
    symmetric: bool = False,
    quant_min: int | None = None,
    quant_max: int | None = None,
    source_dtype: str | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]:
    """Computes scale and zero point that cover the data.

    With ``lo = min(0, min x)``, ``hi = max(0, max x)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, ``scale = max|x| / (2**(bits-1) - 1)`` and zero point 0 (signed) or ``2**(bits-1)``
    (unsigned). Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements, at least one, all finite.
        dtype: quantized type: ``DataType`` member or its name.
        symmetric: a range around zero instead of the tightest one.
        quant_min: smallest code to use; by default the smallest of ``dtype``.
        quant_max: largest code to use; by default the largest of ``dtype``.
        source_dtype: float type of ``x``, where its item format does not tell.
        ctx: context; by default ``Context.get()``.

    Returns:
        The scale, positive and exact in the compute type (float64 for float64 data, else float32), and the zero point.

    Raises:
        ValueError: no elements, NaN or infinity among them, bad range or dtype name.
        TypeError: not a buffer of floats.
    """
    target = quantized_code(dtype, "dtype")
    source = _Input(x, "x", source_dtype, floats=True)
    context = context_or_default(ctx)
    return context._compute_quant_params(
        source.held.address, source.code, target, source.count, symmetric, quant_min, quant_max
    )


def quantize(
    x: Buffer,
    *,
    scale: float,
    zero_point: int,
    dtype: str,
    round_mode: str = "nearest",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    source_dtype: str | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """Quantizes: ``clamp(round(x / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32). NaN
    gives ``quant_min``, infinities the nearer end.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of ``dtype``.
        dtype: quantized type: ``DataType`` member or its name.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from the module ``random``.
        offset: index of the first element in the random sequence of ``seed``: a part of the data, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        source_dtype: float type of ``x``, where its item format does not tell.
        out: writable contiguous buffer of bytes, or of items of the result's type, as many bytes as the result, to
            write to and return.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview of the shape of ``x``. For 2- and 4-bit types a bytearray: lowest bits first,
        each row (last dimension) padded with zero bits to whole bytes.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds; ``out`` of another size, or
            overlapping ``x``.
        TypeError: not a buffer of floats; ``out`` holds other items.
        BufferError: ``out`` is read-only or not contiguous.
    """
    target = quantized_code(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    source = _Input(x, "x", source_dtype, floats=True)
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    result = _Output(out, source.shape, target, source.copied)
    rows, n = rows_of(source.shape) if BITS[target] < 8 else (1, source.count)
    context._quantize(
        source.held.address, source.code, result.held.address, target, rows, n,
        scale, zero_point, stochastic, seed, offset, quant_min, quant_max,
    )  # fmt: skip
    return result.finished


def dequantize(
    q: Buffer,
    *,
    scale: float,
    zero_point: int,
    dtype: str,
    reduce_op: str = "set",
    source_dtype: str | None = None,
    shape: Sequence[int] | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """Dequantizes: ``(q - zero_point) * scale``, or adds that to ``out``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``.

    Args:
        q: buffer of codes, as ``quantize`` returns it.
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of the quantized type.
        dtype: float type of the result: ``DataType`` member or its name.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: type of the codes, where the item format does not tell: "uint4" and so on for packed codes.
        shape: shape of the result, of as many elements as ``q`` holds; by default that of ``q``, for packed codes with
            as many elements in the last dimension as the bytes can hold. Each row of packed codes begins with a byte.
        out: writable contiguous buffer of bytes, or of items of the result's type (16-bit integers for bfloat16), as
            many bytes as the result, to write to and return. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview, or a bytearray for float16 and bfloat16.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds; "add" without ``out``; ``shape`` that does
            not fit ``q``; ``out`` of another size, or overlapping ``q``.
        TypeError: not a buffer of integers; ``out`` holds other items.
        BufferError: ``out`` is read-only or not contiguous.
    """
    target = float_code(dtype, "dtype")
    add = is_add(reduce_op)
    source = _Input(q, "q", source_dtype, floats=False)
    bits = BITS[source.code]
    size = result_shape(source.shape, shape, bits, "q")
    if add and out is None:
        raise ValueError("reduce_op='add' needs out, the buffer to add to, got out=None")
    context = context_or_default(ctx)
    result = _Output(out, size, target, source.copied)
    rows, n = rows_of(size) if bits < 8 else (1, source.count)
    context._dequantize(source.held.address, source.code, result.held.address, target, rows, n, scale, zero_point, add)
    return result.finished


def quantize_dequantize(
    x: Buffer,
    *,
    scale: float,
    zero_point: int,
    dtype: str,
    round_mode: str = "nearest",
    reduce_op: str = "set",
    seed: int | None = None,
    offset: int = 0,
    quant_min: int | None = None,
    quant_max: int | None = None,
    source_dtype: str | None = None,
    out: Buffer | None = None,
    ctx: Context | None = None,
) -> Buffer:
    """``dequantize(quantize(x))`` in one pass, bit for bit, back in the type of ``x``: what quantization does to data.

    Args:
        x: buffer of float16, bfloat16, float32 or float64 elements.
        scale, zero_point, dtype, round_mode, seed, offset, quant_min, quant_max, source_dtype: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: writable contiguous buffer of bytes, or of items of the type of ``x``, as many bytes as ``x``, to write to
            and return. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        ``out``, or a typed memoryview of the shape of ``x``, or a bytearray for float16 and bfloat16.

    Raises:
        ValueError, TypeError, BufferError: as ``quantize`` and ``dequantize``.
    """
    target = quantized_code(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    add = is_add(reduce_op)
    source = _Input(x, "x", source_dtype, floats=True)
    if add and out is None:
        raise ValueError("reduce_op='add' needs out, the buffer to add to, got out=None")
    if seed is None:
        seed = fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    result = _Output(out, source.shape, source.code, source.copied)
    context._quantize_dequantize(
        source.held.address, result.held.address, source.code, target, source.count,
        scale, zero_point, stochastic, add, seed, offset, quant_min, quant_max,
    )  # fmt: skip
    return result.finished


class _Input:
    """A buffer to read: its elements, contiguous and held in place while this object lives."""

    def __init__(self, exporter: Buffer, argument: str, dtype: str | None, *, floats: bool) -> None:
        view = _view(exporter, argument)
        self.code = _code_of(view, argument, floats) if dtype is None else _code_told(view, argument, floats, dtype)
        bits = BITS[self.code]
        size = max(bits // 8, 1)
        if view.itemsize == size:
            self.shape = tuple(view.shape or ())
        elif view.nbytes % size == 0:
            self.shape = (view.nbytes // size,)
        else:
            raise ValueError(
                f"{argument} of {view.nbytes} bytes must be a multiple of {size} bytes, the size of {NAMES[self.code]}"
            )
        self.count = product(self.shape)
        # Rows in C order, as a new buffer only where the given one is not.
        self.held = _native.Buffer(view if view.c_contiguous else view.tobytes(), False)
        self.copied = None if view.c_contiguous else view


def _view(exporter: Buffer, argument: str) -> memoryview:
    try:
        return memoryview(exporter)
    except TypeError:
        raise TypeError(f"{argument} must support the buffer protocol, got {type(exporter).__name__}") from None
    except (BufferError, ValueError) as error:  # closed, released, or of items that the protocol cannot describe
        raise BufferError(
            f"{argument} must give access to its memory, got {type(exporter).__name__}: {error}"
        ) from None


def _item_type(view: memoryview) -> str | None:
    """Name of the type that the item format tells."""
    order, letter = view.format[:-1], view.format[-1:]
    kind = _KINDS.get(letter)
    if kind is None or (order != "" and order not in _NATIVE_ORDER and view.itemsize > 1):
        return None
    return f"{kind}{8 * view.itemsize}"


def _code_of(view: memoryview, argument: str, floats: bool) -> int:
    name = _item_type(view)
    if name is None or (NAMES.index(name) < FLOAT_COUNT) != floats:
        raise TypeError(
            f"{argument} must hold {'floats' if floats else 'integers'} of native byte order, or bytes together with "
            f"source_dtype; got items of format {view.format!r}"
        )
    return NAMES.index(name)


def _code_told(view: memoryview, argument: str, floats: bool, dtype: str) -> int:
    """Number of the type ``source_dtype``, which bytes may hold, and integers of its size."""
    code = float_code(dtype, "source_dtype") if floats else quantized_code(dtype, "source_dtype")
    name = "uint8" if view.format == "c" else _item_type(view)
    fits = name in ("int8", "uint8") or (name is not None and "int" in name and BITS[NAMES.index(name)] == BITS[code])
    if not fits and name != NAMES[code]:
        raise TypeError(
            f"{argument} must hold bytes, or items of {NAMES[code]}, with source_dtype={str(dtype)!r}; "
            f"got items of format {view.format!r}"
        )
    return code


def _typed(memory: bytearray, shape: tuple[int, ...], item_format: Any) -> Buffer:
    """``memory`` as items of a format, or itself where there is none. Empty views have one dimension only."""
    if item_format is None:
        return memory
    view = memoryview(memory)
    return view.cast(item_format, shape) if len(shape) != 1 and memory else view.cast(item_format)


class _Output:
    """A buffer to write to: the given one, or a new one."""

    finished: Buffer

    def __init__(self, out: Buffer | None, shape: tuple[int, ...], code: int, copied: memoryview | None) -> None:
        bits = BITS[code]
        nbytes = product(packed_shape(shape, bits)) if bits < 8 else product(shape) * bits // 8
        if out is None:
            memory = allocated(lambda: bytearray(nbytes))
            self.held = _native.Buffer(memory, True)
            self.finished = _typed(memory, shape, _FORMATS.get(NAMES[code]))
            return
        view = _view(out, "out")
        if view.readonly:
            raise BufferError(f"out must be writable, got a read-only {type(out).__name__}")
        if not view.c_contiguous:
            raise BufferError(f"out must be C-contiguous, got strides {view.strides} for shape {view.shape}")
        name = "uint8" if view.format == "c" else _item_type(view)
        if name not in ("int8", "uint8", NAMES[code]) and (NAMES[code], name) not in _STAND_INS:
            raise TypeError(f"out must hold bytes or items of {NAMES[code]}, got items of format {view.format!r}")
        if view.nbytes != nbytes:
            raise ValueError(f"out must have {nbytes} bytes for {NAMES[code]} of shape {shape}, got {view.nbytes}")
        self.held = _native.Buffer(view, True)
        self.finished = out
        if copied is not None:  # the native module sees the copy only
            address = _native.Buffer(copied, False).address
            begin, end = extent(address, tuple(copied.shape or ()), copied.strides, copied.itemsize)
            if begin < self.held.address + nbytes and self.held.address < end:
                raise ValueError(OVERLAP)
