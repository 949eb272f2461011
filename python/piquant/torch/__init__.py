"""Quantization of torch tensors, on the CPU and on CUDA devices, to the same bytes.

``dtype`` selects the quantized type and the form of the result:

- ``torch.quint8, qint8, qint32, quint4x2, quint2x4``: a torch quantized tensor that carries its scale and zero point.
- ``torch.uint8, int8, uint16, ..., uint64``: a plain tensor of the same shape.
- ``torch.uint4, int4, uint2, int2``: a ``torch.uint8`` tensor with the last dimension packed, lowest bits first, each
  row padded with zero bits to whole bytes. torch's stubs lack these dtypes; their names do as well.

A dtype may also be given by its name: ``"int4"``, or ``"torch.int4"`` as ``str`` prints it.

Inputs and outputs may have any strides, and nothing is copied for that. Results that are not packed keep the memory
format of dense inputs, as ``torch.empty_like`` does. Writing to ``out`` counts as a change in place, which autograd
notices.

Calls are operations of torch: ``torch.compile``, ``torch.export``, ``make_fx``, ``torch.func``, ``torch.vmap``, modes
and wrapper subclasses take them. ``quantize_dequantize`` carries gradients straight through where the code was not
clamped; other results carry none. Numbers that are found in data, and torch's quantized dtypes, break graphs.

Calls on CUDA tensors are queued on the current stream; nothing waits but ``compute_quant_params`` without
``block_size``. So data and parameters of blocks raise no errors there: a block that holds NaN or infinity gets the
scale NaN. They need Triton, which comes with torch for CUDA. All tensors of a call are on one device.

Calls run on torch's threads where torch lends them (2.10 and later): ``torch.set_num_threads`` governs. A call with
``ctx=`` runs on the threads of that context, and so do all where ``PIQUANT_TORCH_THREADS=0`` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, overload

from piquant import _native

try:
    from torch import is_grad_enabled as _is_grad_enabled
    from torch._C import _len_torch_dispatch_stack
    from torch.compiler import is_dynamo_compiling as _is_dynamo_compiling

    from piquant._quantized import refill
    from piquant.torch import _traced
    from piquant.torch._quantized_tensor import QuantizedTensor
    from piquant.torch._tensors import FACE as _FACE
    from piquant.torch._tensors import piquant_to_torch_dtype, torch_to_piquant_dtype
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("piquant.torch needs torch: pip install 'pypiquant[torch]'", name="torch") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from piquant._context import Context
    from piquant._dtypes import BlockSize, Integer, Number, ReduceOpLike, RoundModeLike
    from piquant.torch._modules import QuantizedEmbedding, QuantizedLinear, quantize_module

__all__ = [
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedTensor",
    "compute_quant_params",
    "dequantize",
    "piquant_to_torch_dtype",
    "quantize",
    "quantize_dequantize",
    "quantize_dynamic",
    "quantize_module",
    "torch_to_piquant_dtype",
]

_MODULES: Final = ("QuantizedEmbedding", "QuantizedLinear", "quantize_module")
_carries_params: Final = _traced.carries_params
_compute_quant_params: Final = _native.compute_quant_params
_quantize: Final[Callable[..., torch.Tensor]] = _native.quantize
_dequantize: Final[Callable[..., torch.Tensor]] = _native.dequantize
_quantize_dequantize: Final[Callable[..., torch.Tensor]] = _native.quantize_dequantize
# The same as operators.
_traced_params: Final[Callable[..., tuple[torch.Tensor, torch.Tensor | int]]] = _traced.compute_quant_params
_traced_quantize: Final[Callable[..., torch.Tensor]] = _traced.quantize
_traced_dequantize: Final[Callable[..., torch.Tensor]] = _traced.dequantize
_traced_quantize_dequantize: Final[Callable[..., torch.Tensor]] = _traced.quantize_dequantize
_traced_quantize_dynamic: Final[Callable[..., QuantizedTensor]] = _traced.quantize_dynamic


@overload
def compute_quant_params(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | str,
    block_size: None = None,
    scale_dtype: None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]: ...
@overload
def compute_quant_params(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | str,
    block_size: BlockSize,
    scale_dtype: torch.dtype | str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[torch.Tensor, torch.Tensor | int]: ...
def compute_quant_params(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    scale_dtype: torch.dtype | str | None = None,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[float, int] | tuple[torch.Tensor, torch.Tensor | int]:
    """Computes scale and zero point that cover the data.

    ``block_size`` makes them arrays, with a scale for each block of the data.

    With ``lo = min(0, min tensor)``, ``hi = max(0, max tensor)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, zero point 0 (signed) or ``2**(bits-1)`` (unsigned) and ``scale = max|tensor| / m``, where
    ``m`` is the smaller of ``zero_point - quant_min`` and ``quant_max - zero_point``: 127 for int8, 7 for codes -7..7.
    Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        tensor: float16, bfloat16, float32 or float64 tensor of any shape with at least one element, all finite.
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
        Of blocks two tensors of the rank of ``tensor``, of ``ceil(size / block size)`` along each dimension: the zero
        points in the plain dtype of the codes (int8 for int4), with ``symmetric`` the int instead. Numbers break the
        graphs of compilers; ``block_size=(-1, ...)`` gives tensors of one element.

    Raises:
        ValueError: no elements (of blocks that is no error), NaN or infinity among them (the words name the block), bad
            range, dtype name or block size.
        TypeError: not a tensor of a float dtype; not a quantized dtype.
    """
    if block_size is None or not (_is_dynamo_compiling() or _len_torch_dispatch_stack()):
        try:
            return _compute_quant_params(
                _FACE, tensor, dtype, block_size, scale_dtype, symmetric, quant_min, quant_max, None, ctx
            )
        except TypeError:
            if not _traced.stands_for_others(tensor):
                raise
    return _traced_params(tensor, dtype, block_size, scale_dtype, symmetric, quant_min, quant_max, ctx)


def quantize(
    tensor: torch.Tensor,
    *,
    scale: Number | torch.Tensor,
    zero_point: Integer | torch.Tensor = 0,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """Quantizes: ``clamp(round(tensor / scale) + zero_point, quant_min, quant_max)``.

    The division is a product with ``T(1 / scale)`` in the compute type T (float64 for float64 data, else float32). NaN
    gives ``quant_min``, infinities the nearer end.

    Equal to ``torch.ops.quantized_decomposed.quantize_per_tensor`` bit for bit.

    Args:
        tensor: float16, bfloat16, float32 or float64 tensor of any shape.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of ``dtype``: an int, or integers of any dtype, one for each block.
        dtype: quantized dtype, see the module.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        round_mode: "nearest" (ties to even), or "stochastic": up with the probability of the fraction, in steps of
            2**-16, independently per element.
        seed: 0..2**64-1, makes stochastic rounding reproducible, whatever the number of threads. ``None`` draws one
            from torch's default generator.
        offset: index of the first element in the random sequence of ``seed``: a part of the data, quantized with its
            offset, gives the part of the whole result.
        quant_min: smallest code; by default the smallest of ``dtype``.
        quant_max: largest code; by default the largest of ``dtype``.
        out: tensor to write to and return, of the result's shape and dtype, with any strides as long as no two
            elements share memory. The bytes of a packed row lie side by side.
        ctx: context; by default ``Context.get()``.

    Returns:
        The codes, in the form that ``dtype`` selects.

    Raises:
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds (the words name the block), or of
            another shape than the blocks; ``out`` of another shape, overlapping ``tensor``, or with elements that share
            memory.
        TypeError: not a tensor of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    if not (_is_dynamo_compiling() or _len_torch_dispatch_stack()) or _carries_params(dtype):
        try:
            return _quantize(
                _FACE,
                tensor,
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
        except TypeError:
            if not _traced.stands_for_others(tensor, scale, zero_point, out):
                raise
    return _traced_quantize(
        tensor, scale, zero_point, dtype, block_size, round_mode, seed, offset, quant_min, quant_max, out, ctx
    )


def dequantize(
    tensor: torch.Tensor,
    *,
    scale: Number | torch.Tensor,
    zero_point: Integer | torch.Tensor = 0,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    reduce_op: ReduceOpLike = "set",
    source_dtype: torch.dtype | str | None = None,
    shape: Sequence[Integer] | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """Dequantizes: ``(tensor - zero_point) * scale``, or adds that to ``out``.

    Packed bytes, of 2- and 4-bit codes, need ``source_dtype``.

    The difference is exact; it, the product and the sum round once each in the compute type (float64 for a float64
    result, else float32), and the result once more to ``dtype``.

    Equal to ``torch.ops.quantized_decomposed.dequantize_per_tensor`` bit for bit.

    Args:
        tensor: codes, in any of the forms that ``quantize`` returns. A torch quantized tensor must carry the ``scale``
            and ``zero_point`` that are given.
        scale: finite and positive, not subnormal in the compute type: a number, or floats, one for each block.
        zero_point: within the range of the quantized type: an int, or integers of any dtype, one for each block.
        dtype: ``torch.float16``, ``bfloat16``, ``float32`` or ``float64``, or the name of one.
        block_size: elements of a block, as in ``compute_quant_params``. By default the shape of ``scale`` tells, by the
            rules of broadcasting: a size of 1 is one block along that dimension, another a block for each element.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: ``torch.uint4, int4, uint2, int2`` or their names, for packed bytes. Without it bytes are 8-bit
            codes.
        shape: shape of the result, of as many elements as ``tensor`` holds; by default that of ``tensor``, for packed
            bytes with as many elements in the last dimension as the bytes can hold. Each row of packed codes begins
            with a byte.
        out: tensor to write to and return, of the result's shape and ``dtype``, with any strides as long as no two
            elements share memory. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        The tensor of ``dtype``.

    Raises:
        ValueError: scale, zero point, operator or dtype name out of bounds (the words name the block), or of another
            shape than the blocks; "add" without ``out``; ``shape`` that does not fit ``tensor``; a tensor that carries
            other parameters; ``out`` of another shape, overlapping ``tensor``, or with elements that share memory.
        TypeError: not a tensor of codes; not a float dtype; ``out`` of another dtype.
    """
    if not (_is_dynamo_compiling() or _len_torch_dispatch_stack()) or _carries_params(getattr(tensor, "dtype", None)):
        try:
            return _dequantize(
                _FACE, tensor, scale, zero_point, dtype, block_size, None, reduce_op, source_dtype, shape, out, ctx
            )
        except TypeError:
            if not _traced.stands_for_others(tensor, scale, zero_point, out):
                raise
    return _traced_dequantize(tensor, scale, zero_point, dtype, block_size, reduce_op, source_dtype, shape, out, ctx)


def quantize_dequantize(
    tensor: torch.Tensor,
    *,
    scale: Number | torch.Tensor,
    zero_point: Integer | torch.Tensor = 0,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    round_mode: RoundModeLike = "nearest",
    reduce_op: ReduceOpLike = "set",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: torch.Tensor | None = None,
    ctx: Context | None = None,
) -> torch.Tensor:
    """``dequantize(quantize(tensor))`` in one pass, bit for bit: what quantization does to data.

    Args:
        tensor: float16, bfloat16, float32 or float64 tensor of any shape.
        scale, zero_point, dtype, block_size, round_mode, seed, offset, quant_min, quant_max: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: tensor to write to and return, of the shape and dtype of ``tensor``, with any strides as long as no two
            elements share memory. It may be ``tensor`` itself, and nothing else that overlaps it. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        A tensor of the shape and dtype of ``tensor``. A new one carries gradients, straight through where nothing was
        clamped.

    Raises:
        ValueError, TypeError: as ``quantize`` and ``dequantize``.
    """
    differs = _is_dynamo_compiling() or _len_torch_dispatch_stack()
    if not (differs or (out is None and getattr(tensor, "requires_grad", False) and _is_grad_enabled())):
        try:
            return _quantize_dequantize(
                _FACE,
                tensor,
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
        except TypeError:
            if not _traced.stands_for_others(tensor, scale, zero_point, out):
                raise
    return _traced_quantize_dequantize(
        tensor,
        scale,
        zero_point,
        dtype,
        block_size,
        round_mode,
        reduce_op,
        seed,
        offset,
        quant_min,
        quant_max,
        out,
        ctx,
    )


def quantize_dynamic(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    symmetric: bool = False,
    scale_dtype: torch.dtype | str | None = None,
    round_mode: RoundModeLike = "nearest",
    seed: Integer | None = None,
    offset: Integer = 0,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    out: QuantizedTensor | None = None,
    ctx: Context | None = None,
) -> QuantizedTensor:
    """Quantizes with a scale and zero point for each block of the data, which it computes: both steps in one call.

    Equal to ``compute_quant_params`` and then ``quantize`` with the parameters as they are stored, bit for bit. Where
    blocks lie within the last dimension the data is read once.

    Args:
        tensor: float16, bfloat16, float32 or float64 tensor of any shape, all finite.
        dtype: quantized dtype of plain tensors, see the module.
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
        TypeError: not a tensor of a float dtype; not a quantized dtype.
    """
    if not (_is_dynamo_compiling() or _len_torch_dispatch_stack()):
        arrays, told, scales = refill(QuantizedTensor, out, scale_dtype)
        try:
            made = _native.quantize_dynamic(
                _FACE, tensor, dtype, block_size, scales, symmetric, round_mode, seed, offset, quant_min, quant_max,
                None, arrays, told, ctx,
            )  # fmt: skip
            return QuantizedTensor._made(*made[:3], *made[3]) if out is None else out
        except TypeError:
            if not _traced.stands_for_others(tensor, *(arrays or ())):
                raise
    return _traced_quantize_dynamic(
        tensor, dtype, block_size, symmetric, scale_dtype, round_mode, seed, offset, quant_min, quant_max, out, ctx,
        QuantizedTensor,
    )  # fmt: skip


def __getattr__(name: str) -> object:
    """Modules are imported when they are asked for: most programs need none of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from piquant.torch import _modules  # noqa: PLC0415  calls the functions above

    found = {name: getattr(_modules, name) for name in _MODULES}
    globals().update(found)
    return found[name]


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
