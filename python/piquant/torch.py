"""Quantization of torch tensors on the CPU.

``dtype`` selects the quantized type and the form of the result:

- ``torch.quint8, qint8, qint32, quint4x2, quint2x4``: a torch quantized tensor that carries its scale and zero point.
- ``torch.uint8, int8, uint16, ..., uint64``: a plain tensor of the same shape.
- ``torch.uint4, int4, uint2, int2``: a ``torch.uint8`` tensor with the last dimension packed, lowest bits first, each
  row padded with zero bits to whole bytes.

Inputs may have any strides; those that are not contiguous are copied first. Only the data counts: results carry no
gradient. Writing to ``out`` counts as a change in place, which autograd notices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.autograd.graph import increment_version

from piquant import _native
from piquant._context import Context, context_or_default
from piquant._dtypes import CODES, is_add, is_stochastic, packed_shape, read_shape, rows_of, unpacked_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compute_quant_params", "dequantize", "quantize", "quantize_dequantize"]


class _Target(NamedTuple):
    """A torch dtype that stands for a quantized type."""

    code: int  # number of the quantized type
    storage: torch.dtype  # dtype of the tensor that holds the codes
    packed_bits: int  # bits per code where the last dimension is packed, else 0
    carries_params: bool  # whether the tensor holds scale and zero point itself


_FLOATS: Final = {
    torch.float16: CODES["float16"],
    torch.bfloat16: CODES["bfloat16"],
    torch.float32: CODES["float32"],
    torch.float64: CODES["float64"],
}

_TARGETS: Final[dict[torch.dtype, _Target]] = {
    torch.quint8: _Target(CODES["uint8"], torch.quint8, 0, True),
    torch.qint8: _Target(CODES["int8"], torch.qint8, 0, True),
    torch.qint32: _Target(CODES["int32"], torch.qint32, 0, True),
    torch.quint4x2: _Target(CODES["uint4"], torch.quint4x2, 0, True),
    torch.quint2x4: _Target(CODES["uint2"], torch.quint2x4, 0, True),
} | {
    getattr(torch, name): _Target(CODES[name], getattr(torch, name), 0, False)
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
}
# Newer than the oldest torch that the rest works with.
_TARGETS.update(
    (getattr(torch, name), _Target(CODES[name], torch.uint8, bits, False))
    for name, bits in (("uint4", 4), ("int4", 4), ("uint2", 2), ("int2", 2))
    if hasattr(torch, name)
)

_STRIDED: Final = torch.strided
_BIT_PACKED: Final = frozenset((torch.quint4x2, torch.quint2x4))

# Called as functions, because torch.compile loses the self of a native bound method.
_compute_quant_params: Final = _native.Context._compute_quant_params
_quantize: Final = _native.Context._quantize
_dequantize: Final = _native.Context._dequantize
_quantize_dequantize: Final = _native.Context._quantize_dequantize

_FLOAT_NAMES: Final = ", ".join(str(d) for d in _FLOATS)
_TARGET_NAMES: Final = ", ".join(str(d) for d in _TARGETS)


def compute_quant_params(
    x: torch.Tensor,
    *,
    dtype: torch.dtype,
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
        ValueError: no elements, NaN or infinity among them, bad range.
        TypeError: not a CPU tensor of a float dtype; not a quantized dtype.
    """
    source = _FLOATS.get(x.dtype) if isinstance(x, torch.Tensor) else None
    if source is None:
        raise _not_floats(x)
    target = _TARGETS.get(dtype) if isinstance(dtype, torch.dtype) else None
    if target is None:
        raise _no_target(dtype, "dtype")
    if not (x.is_cpu and x.layout is _STRIDED and not x.is_nested and x.is_contiguous()) or x.is_neg():
        x = _plain(x, "x")
    context = context_or_default(ctx)
    address = _address(x, "x")
    return _compute_quant_params(context, address, source, target.code, x.numel(), symmetric, quant_min, quant_max)


def quantize(
    x: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype,
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
        ValueError: scale, zero point, range, seed or mode out of bounds; ``out`` of another shape, or overlapping
            ``x``.
        TypeError: not a CPU tensor of a float dtype; not a quantized dtype; ``out`` of another dtype.
    """
    source = _FLOATS.get(x.dtype) if isinstance(x, torch.Tensor) else None
    if source is None:
        raise _not_floats(x)
    target = _TARGETS.get(dtype) if isinstance(dtype, torch.dtype) else None
    if target is None:
        raise _no_target(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    if not (x.is_cpu and x.layout is _STRIDED and not x.is_nested and x.is_contiguous()) or x.is_neg():
        x = _plain(x, "x")
    shape = x.shape
    if target.packed_bits:
        rows, n = rows_of(shape)
        shape = torch.Size(packed_shape(shape, target.packed_bits))
    else:
        rows, n = 1, shape.numel()
    if seed is None:
        seed = _fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    fresh = out is None
    if target.carries_params:
        # Checks the arguments, in our words, before torch builds them into a tensor or they are compared with its own.
        _quantize(
            context, 0, source, 0, target.code, 1, 0, scale, zero_point, False, seed, offset, quant_min, quant_max
        )
    if out is None:
        out = _empty(shape, target, scale, zero_point)
    else:
        _check_out(out, shape, target.storage)
        if target.carries_params:
            _check_params(out, scale, zero_point)
    in_address, address = _address(x, "x"), _address(out, "out")
    if fresh and n >= _LARGE:
        _native.prepare_output(address, out.untyped_storage().nbytes())
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
    if not fresh:
        increment_version(out)
    return out


def dequantize(
    q: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype,
    reduce_op: str = "set",
    source_dtype: torch.dtype | None = None,
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
        dtype: ``torch.float16``, ``bfloat16``, ``float32`` or ``float64``.
        reduce_op: "set" overwrites ``out``, "add" adds to it.
        source_dtype: what ``q`` holds, where its dtype does not tell: ``torch.uint4, int4, uint2, int2`` for packed
            bytes.
        shape: shape of the result for packed bytes; by default their shape with as many elements in the last dimension
            as the bytes can hold.
        out: contiguous tensor to write to and return, of the result's shape and ``dtype``. "add" needs it.
        ctx: context; by default ``Context.get()``.

    Returns:
        The tensor of ``dtype``.

    Raises:
        ValueError: scale, zero point or operator out of bounds; "add" without ``out``; ``shape`` that does not fit
            ``q``; ``out`` of another shape, or overlapping ``q``.
        TypeError: not a CPU tensor of codes; not a float dtype; ``out`` of another dtype.
    """
    result_code = _FLOATS.get(dtype) if isinstance(dtype, torch.dtype) else None
    if result_code is None:
        raise TypeError(f"dtype must be one of {_FLOAT_NAMES}, got {dtype!r}")
    source = _source(q, source_dtype)
    add = is_add(reduce_op)
    if not (q.is_cpu and q.layout is _STRIDED and not q.is_nested and q.is_contiguous()) or q.dtype in _BIT_PACKED:
        q = _plain(q, "q")
    size = q.shape
    if source.packed_bits:
        given = None if shape is None else read_shape(shape)
        size = torch.Size(unpacked_shape(tuple(size), given, source.packed_bits, "q"))
        rows, n = rows_of(size)
    else:
        if shape is not None and read_shape(shape) != size:
            raise ValueError(
                f"shape must be that of q, {tuple(size)}, unless q holds packed codes; got {read_shape(shape)}"
            )
        rows, n = 1, q.numel()
    fresh = out is None
    if out is None:
        if add:
            raise ValueError("reduce_op='add' needs out, the tensor to add to, got out=None")
        out = torch.empty(size, dtype=dtype, device="cpu")
    else:
        _check_out(out, size, dtype)
    context = context_or_default(ctx)
    in_address, address = _address(q, "q"), _address(out, "out")
    if fresh and n >= _LARGE:
        _native.prepare_output(address, out.untyped_storage().nbytes())
    _dequantize(context, in_address, source.code, address, result_code, rows, n, scale, zero_point, add)
    if not fresh:
        increment_version(out)
    return out


def quantize_dequantize(
    x: torch.Tensor,
    *,
    scale: float,
    zero_point: int,
    dtype: torch.dtype,
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
    source = _FLOATS.get(x.dtype) if isinstance(x, torch.Tensor) else None
    if source is None:
        raise _not_floats(x)
    target = _TARGETS.get(dtype) if isinstance(dtype, torch.dtype) else None
    if target is None:
        raise _no_target(dtype, "dtype")
    stochastic = is_stochastic(round_mode)
    add = is_add(reduce_op)
    if not (x.is_cpu and x.layout is _STRIDED and not x.is_nested and x.is_contiguous()) or x.is_neg():
        x = _plain(x, "x")
    n = x.numel()
    fresh = out is None
    if out is None:
        if add:
            raise ValueError("reduce_op='add' needs out, the tensor to add to, got out=None")
        out = torch.empty(x.shape, dtype=x.dtype, device="cpu")
    else:
        _check_out(out, x.shape, x.dtype)
    if seed is None:
        seed = _fresh_seed() if stochastic else 0
    context = context_or_default(ctx)
    in_address, address = _address(x, "x"), _address(out, "out")
    if fresh and n >= _LARGE:
        _native.prepare_output(address, out.untyped_storage().nbytes())
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


# Elements from which a fresh output can be large enough for huge pages.
_LARGE: Final = 1 << 19


# The functions above check in place what right arguments pass, because a call of 1,024 elements spends more time on
# that than in its kernel; the functions below find the words for wrong ones.


def _not_floats(x: object) -> TypeError:
    if not isinstance(x, torch.Tensor):
        return TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    return TypeError(f"x must be of one of {_FLOAT_NAMES}, got {x.dtype}")


def _no_target(dtype: object, argument: str) -> TypeError:
    return TypeError(f"{argument} must be one of {_TARGET_NAMES}, got {dtype!r}")


def _source(q: torch.Tensor, source_dtype: torch.dtype | None) -> _Target:
    if not isinstance(q, torch.Tensor):
        raise TypeError(f"q must be a torch.Tensor, got {type(q).__name__}")
    stored = _TARGETS.get(q.dtype)
    if stored is None or stored.packed_bits:
        raise TypeError(f"q must be of one of {_TARGET_NAMES} (sub-byte codes packed in torch.uint8), got {q.dtype}")
    if source_dtype is None:
        return stored
    source = _TARGETS.get(source_dtype) if isinstance(source_dtype, torch.dtype) else None
    if source is None:
        raise _no_target(source_dtype, "source_dtype")
    if source.storage != q.dtype:
        raise TypeError(f"source_dtype {source_dtype} is stored as {source.storage}, but q is of {q.dtype}")
    return source


def _plain(x: torch.Tensor, argument: str) -> torch.Tensor:
    """``x`` as contiguous elements in memory, where it is not that already."""
    _check_place(x, argument)
    if x.dtype in _BIT_PACKED and not (x.is_contiguous() and x.storage_offset() == 0):
        # torch counts the elements of these dtypes as whole bytes, so a view's address is not where its codes are.
        raise ValueError(f"{argument} of {x.dtype} must be whole and contiguous, got a view with strides {x.stride()}")
    if not x.is_contiguous():
        x = x.contiguous()
    return x.resolve_neg() if x.is_neg() else x


def _check_place(x: torch.Tensor, argument: str) -> None:
    if not x.is_cpu or x.layout is not torch.strided or x.is_nested:
        given = "a nested tensor" if x.is_nested else f"device {x.device}, layout {x.layout}"
        raise TypeError(f"{argument} must be strided and on the CPU, got {given}")


def _address(x: torch.Tensor, argument: str) -> int:
    """Where the elements of a contiguous tensor are."""
    try:
        address = x.data_ptr()
    except RuntimeError:  # within torch.vmap
        address = 0
    if address == 0 and x.numel() > 0:
        raise TypeError(
            f"{argument} must have its elements in memory, got a {type(x).__name__} that only stands for them"
        )
    return address


def _empty(shape: torch.Size, target: _Target, scale: float, zero_point: int) -> torch.Tensor:
    if target.carries_params:
        return torch._empty_affine_quantized(
            shape, scale=scale, zero_point=zero_point, dtype=target.storage, device="cpu"
        )
    return torch.empty(shape, dtype=target.storage, device="cpu")


def _check_out(out: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch.Tensor or None, got {type(out).__name__}")
    if out.dtype is not dtype:
        raise TypeError(f"out must be of {dtype}, got {out.dtype}")
    if not (out.is_cpu and out.layout is _STRIDED and not out.is_nested):
        _check_place(out, "out")
    if out.shape != shape:
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if dtype in _FLOATS:
        if out.is_neg():
            raise ValueError("out must not be a view of negated values, got one")
        if out.requires_grad and torch.is_grad_enabled():
            raise ValueError("out must not require a gradient while gradients are recorded, got one that does")
    if not out.is_contiguous() or (dtype in _BIT_PACKED and out.storage_offset() != 0):
        raise ValueError(f"out must be whole and contiguous, got strides {out.stride()} for shape {tuple(out.shape)}")


def _check_params(out: torch.Tensor, scale: float, zero_point: int) -> None:
    try:
        scheme = out.qscheme()
    except RuntimeError:  # made by torch.empty: it carries none, and says so when asked
        return
    if scheme != torch.per_tensor_affine:
        raise ValueError(f"out must carry one scale and zero point (torch.per_tensor_affine), got {scheme}")
    carried = out.q_scale(), out.q_zero_point()
    if carried != (scale, zero_point):
        raise ValueError(
            f"out must carry the scale and zero_point that are given, scale={scale}, zero_point={zero_point}; "
            f"got one that carries scale={carried[0]}, zero_point={carried[1]}"
        )


def _fresh_seed() -> int:
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())
