"""Quantization of torch tensors on the CPU.

``dtype`` selects the quantized type and the form of the result:

- ``torch.quint8, qint8, qint32, quint4x2, quint2x4``: a torch quantized tensor that carries its scale and zero point.
- ``torch.uint8, int8, uint16, ..., uint64``: a plain tensor of the same shape.
- ``torch.uint4, int4, uint2, int2``: a ``torch.uint8`` tensor with the last dimension packed, lowest bits first, each
  row padded with zero bits to whole bytes. torch's stubs lack these dtypes; their names do as well.

A dtype may also be given by its name: ``"int4"``, or ``"torch.int4"`` as ``str`` prints it.

Inputs and outputs may have any strides, and nothing is copied for that. Results that are not packed keep the memory
format of dense inputs, as ``torch.empty_like`` does. Only the data counts: results carry no gradient. Writing to
``out`` counts as a change in place, which autograd notices. ``torch.compile`` runs the calls as they are, between its
graphs; ``torch.jit.trace`` and ``make_fx`` do not see them, and record no result.

Calls run on torch's threads where torch lends them (2.10 and later): ``torch.set_num_threads`` governs. A call with
``ctx=`` runs on the threads of that context, and so do all where ``PIQUANT_TORCH_THREADS=0`` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from piquant import _native

try:
    from piquant._tensors import FACE as _FACE
    from piquant._tensors import piquant_to_torch_dtype, torch_to_piquant_dtype
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("piquant.torch needs torch: pip install 'pypiquant[torch]'", name="torch") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from piquant._context import Context
    from piquant._dtypes import Integer, Number, ReduceOpLike, RoundModeLike

__all__ = [
    "compute_quant_params",
    "dequantize",
    "piquant_to_torch_dtype",
    "quantize",
    "quantize_dequantize",
    "torch_to_piquant_dtype",
]


_compute_quant_params: Final = _native.compute_quant_params
_quantize: Final[Callable[..., torch.Tensor]] = _native.quantize
_dequantize: Final[Callable[..., torch.Tensor]] = _native.dequantize
_quantize_dequantize: Final[Callable[..., torch.Tensor]] = _native.quantize_dequantize


def compute_quant_params(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | str,
    symmetric: bool = False,
    quant_min: Integer | None = None,
    quant_max: Integer | None = None,
    ctx: Context | None = None,
) -> tuple[float, int]:
    """Computes scale and zero point that cover the data.

    With ``lo = min(0, min tensor)``, ``hi = max(0, max tensor)``::

        scale      = (hi - lo) / (quant_max - quant_min)                 1 if lo == hi == 0
        zero_point = clamp(round(quant_min - lo / scale), quant_min, quant_max)

    and with ``symmetric``, zero point 0 (signed) or ``2**(bits-1)`` (unsigned) and ``scale = max|tensor| / m``, where
    ``m`` is the smaller of ``zero_point - quant_min`` and ``quant_max - zero_point``: 127 for int8, 7 for codes -7..7.
    Quantizing with them and dequantizing changes no element by more than ``scale / 2`` plus rounding.

    Args:
        tensor: float16, bfloat16, float32 or float64 tensor of any shape with at least one element, all finite.
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
    return _compute_quant_params(_FACE, tensor, dtype, symmetric, quant_min, quant_max, None, ctx)


def quantize(
    tensor: torch.Tensor,
    *,
    scale: Number,
    zero_point: Integer,
    dtype: torch.dtype | str,
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
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of ``dtype``.
        dtype: quantized dtype, see the module.
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
        ValueError: scale, zero point, range, seed, mode or dtype name out of bounds; ``out`` of another shape,
            overlapping ``tensor``, or with elements that share memory.
        TypeError: not a CPU tensor of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    return _quantize(
        _FACE, tensor, scale, zero_point, dtype, round_mode, seed, offset, quant_min, quant_max, None, out, ctx
    )


def dequantize(
    tensor: torch.Tensor,
    *,
    scale: Number,
    zero_point: Integer,
    dtype: torch.dtype | str,
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
        scale: finite and positive, not subnormal in the compute type.
        zero_point: within the range of the quantized type.
        dtype: ``torch.float16``, ``bfloat16``, ``float32`` or ``float64``, or the name of one.
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
        ValueError: scale, zero point, operator or dtype name out of bounds; "add" without ``out``; ``shape`` that
            does not fit ``tensor``; a tensor that carries other parameters; ``out`` of another shape, overlapping
            ``tensor``, or with elements that share memory.
        TypeError: not a CPU tensor of codes; not a float dtype; ``out`` of another dtype.
    """
    return _dequantize(_FACE, tensor, scale, zero_point, dtype, reduce_op, source_dtype, shape, out, ctx)


def quantize_dequantize(
    tensor: torch.Tensor,
    *,
    scale: Number,
    zero_point: Integer,
    dtype: torch.dtype | str,
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
        scale, zero_point, dtype, round_mode, seed, offset, quant_min, quant_max: as in ``quantize``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        out: tensor to write to and return, of the shape and dtype of ``tensor``, with any strides as long as no two
            elements share memory. It may be ``tensor`` itself, and nothing else that overlaps it. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        A tensor of the shape and dtype of ``tensor``.

    Raises:
        ValueError, TypeError: as ``quantize`` and ``dequantize``.
    """
    return _quantize_dequantize(
        _FACE,
        tensor,
        scale,
        zero_point,
        dtype,
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
