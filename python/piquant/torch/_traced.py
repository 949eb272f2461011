"""Calls of piquant.torch as operators: those that a compiler traces, or a mode or transform of torch takes part in.

Compilers trace these functions, too. So they ask tensors for nothing but their sizes, and never for numbers in them.
"""

from __future__ import annotations

import functools
from operator import index
from typing import TYPE_CHECKING, Any, Final

import torch

from piquant._context import Context
from piquant._dtypes import BITS, DTYPE_ID, FLOATS, MAX_BLOCK_RANK, NAMES, read_block_size, shown
from piquant._shapes import Shape, full_block_size, inferred_block_size, resolved_block_size
from piquant.torch import _operators, _transforms  # noqa: F401  which registers what torch makes of them
from piquant.torch._tensors import DTYPES, find_dtype, is_fake, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from piquant.torch._quantized_tensor import QuantizedTensor

_FLOATS: Final = {spelled: NAMES[known.id] for spelled, known in DTYPES.items() if known.is_float}
_CODES: Final = {
    spelled: NAMES[known.id] for spelled, known in DTYPES.items() if not known.is_float and not known.carries_params
}
_CARRIED: Final = frozenset(spelled for spelled, known in DTYPES.items() if known.carries_params)
# For results that are no codes it does not matter.
_ALL_CODES: Final = {spelled: NAMES[known.id] for spelled, known in DTYPES.items() if not known.is_float}
_SYMMETRIC_ZERO: Final = {
    name: 0 if name.startswith("int") else 1 << BITS[DTYPE_ID[name]] - 1 for name in _CODES.values()
}
_OP: Final = torch.ops.piquant
_Uninitialized: Final[Any] = torch.nn.parameter.UninitializedTensorMixin  # type: ignore[attr-defined]


def takes_part() -> bool:
    """Whether a compiler traces the call, or a mode of torch wants to see it."""
    return torch.compiler.is_dynamo_compiling() or torch._C._len_torch_dispatch_stack() > 0


def stands_for_others(*arguments: object) -> bool:
    """Whether there is a tensor among them that an operator takes, though it has no elements in memory here."""
    return any(isinstance(x, torch.Tensor) and _stands_for_others(x) for x in arguments)


def _stands_for_others(x: torch.Tensor) -> bool:
    if is_fake(x) or torch._C._functorch.is_functorch_wrapped_tensor(x) or torch._is_functional_tensor(x):
        return True
    if torch.nn.parameter.is_lazy(x) or x.layout is not torch.strided or x.is_nested:
        return False
    if x.is_meta:
        return True
    dispatches = type(x).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl
    return dispatches and _has_no_memory(x)


def _has_no_memory(x: torch.Tensor) -> bool:
    try:
        with torch._C.DisableTorchFunctionSubclass():
            return x.data_ptr() == 0
    except RuntimeError:
        return True


def is_sharded(x: object) -> bool:
    """Whether it is a DTensor, of which ranks hold parts. Compilers see the parts."""
    return not torch.compiler.is_dynamo_compiling() and type(x).__name__ == "DTensor"


def _of_parts() -> Any:
    # It needs torch.distributed, which who has a DTensor has imported.
    from piquant.torch import _sharded  # noqa: PLC0415

    return _sharded


def carries_params(dtype: object) -> bool:
    """Whether tensors of a dtype carry their scale and zero point: there are no operators for these."""
    return isinstance(dtype, (str, torch.dtype)) and dtype in _CARRIED


# ---------------------------------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------------------------------


def _name(dtype: Any, argument: str, known: dict[object, str]) -> str:
    if isinstance(dtype, (str, torch.dtype)) and dtype in known:
        return known[dtype]
    if carries_params(dtype):
        raise TypeError(
            f"{argument} must be a plain dtype where a compiler, a mode or a transform of torch takes part, got {dtype}"
        )
    find_dtype(dtype, argument, known is _FLOATS)
    raise AssertionError


def _whole(value: Any, argument: str) -> Any:
    """An int, maybe symbolic."""
    if isinstance(value, (int, torch.SymInt)):
        return value
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{argument} must be an int, got {shown(value)}") from None


def _number(scale: Any) -> Any:
    if isinstance(scale, (float, int, torch.SymFloat, torch.SymInt)):
        return float(scale)
    try:
        return float(scale.__float__())
    except (AttributeError, TypeError, ValueError):  # also of strings, which ``float`` would read
        raise TypeError(f"scale must be a number or a torch.Tensor, got {shown(scale)}") from None


def _signed(value: Any, argument: str) -> Any:
    """The int with a sign that has the same 64 bits."""
    value = _whole(value, argument)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"{argument} must be of 64 bits, got {value}")
    return value - (1 << 64) if value >= 1 << 63 else value


def _word(value: Any, argument: str) -> Any:
    value = _whole(value, argument)
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{argument} must be an int in 0..2**64 - 1, got {value}")
    return value - (1 << 64) if value >= 1 << 63 else value


def _choice(value: Any, argument: str, choices: tuple[str, str]) -> str:
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    words = f"{argument} must be '{choices[0]}' or '{choices[1]}', got {shown(value)}"
    raise (ValueError if isinstance(value, str) else TypeError)(words)


def _limits(code: str, quant_min: Any, quant_max: Any) -> dict[str, Any]:
    """The range of codes as an option of operators, if one is given."""
    if quant_min is None and quant_max is None:
        return {}
    low, high = _operators.code_range(code)
    ends = low if quant_min is None else quant_min, high if quant_max is None else quant_max
    return {"limits": [_signed(ends[0], "quant_min"), _signed(ends[1], "quant_max")]}


def _rounding(code: str, round_mode: Any, seed: Any, offset: Any, quant_min: Any, quant_max: Any) -> dict[str, Any]:
    given = _limits(code, quant_min, quant_max)
    if _choice(round_mode, "round_mode", ("nearest", "stochastic")) == "nearest":
        return given
    drawn = [_word(offset, "offset")] if seed is None else [_word(offset, "offset"), _word(seed, "seed")]
    return given | {"stochastic": drawn}


def _check_tensor(tensor: Any, argument: str) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{argument} must be a torch.Tensor, got {type(tensor).__name__}")
    if is_sharded(tensor) and argument != "tensor":
        raise TypeError(f"{argument} must not be a DTensor where tensor is none; give its to_local()")
    lazy = isinstance(tensor, _Uninitialized)
    is_placed = tensor.device.type in ("cpu", "cuda", "meta")
    if lazy or tensor.layout is not torch.strided or tensor.is_nested or not is_placed:
        raise TypeError(f"{argument} must be strided and on the CPU or a CUDA device, got {kind_of(tensor)}")


def _check_floats(tensor: Any) -> None:
    _check_tensor(tensor, "tensor")
    if tensor.dtype not in _FLOATS:
        raise TypeError(f"tensor must be of one of {', '.join(FLOATS)}, got {tensor.dtype}")


def _check_out(out: Any, tensor: Any) -> None:
    _check_tensor(out, "out")
    _check_device(out, "out", tensor)
    if out.requires_grad and torch.is_grad_enabled():
        raise ValueError("out must not require a gradient while gradients are recorded, got one that does")


def _check_device(x: Any, argument: str, tensor: Any) -> None:
    if is_sharded(x):
        _check_tensor(x, argument)
    if isinstance(x, torch.Tensor) and x.device != tensor.device:
        raise TypeError(f"{argument} must be on device {tensor.device}, as the data is, got device {x.device}")


def _check_context(ctx: object) -> None:
    if ctx is not None and not isinstance(ctx, Context):
        raise TypeError(f"ctx must be a piquant.Context or None, got {shown(ctx)}")


def _check_rank(rank: int) -> None:
    if rank > MAX_BLOCK_RANK:
        raise ValueError(
            f"tensor must have at most {MAX_BLOCK_RANK} dimensions where blocks have parameters, got {rank}"
        )


def _sizes(block_size: Any, rank: int) -> Shape:
    """Sizes of a block along all dimensions, -1 kept."""
    _check_rank(rank)
    if isinstance(block_size, (int, torch.SymInt)):
        block_size = (block_size,)
    elif not (isinstance(block_size, tuple) and all(isinstance(b, (int, torch.SymInt)) for b in block_size)):
        block_size = read_block_size(block_size)
    if not all(b == -1 or b >= 1 for b in block_size):
        read_block_size(block_size)
    return full_block_size(block_size, rank, "tensor")


def _params(tensor: Any, scale: Any, zero_point: Any, block_size: Any, shape: Shape) -> tuple[Any, ...]:
    """Parameters as operators take them: numbers, or tensors with block sizes for data of this shape."""
    rank = len(shape)
    _check_device(scale, "scale", tensor)
    _check_device(zero_point, "zero_point", tensor)
    if not isinstance(scale, torch.Tensor):
        if block_size is not None:
            raise TypeError(f"scale must be a torch.Tensor where block_size is given, got {shown(scale)}")
        if not isinstance(zero_point, torch.Tensor):
            return _number(scale), _signed(zero_point, "zero_point")
        scale = torch.full((), _number(scale), dtype=torch.float64, device=zero_point.device)
    _check_rank(rank)
    if block_size is None and scale.numel() == 1:  # a number, in whatever form
        scale, sizes = scale.reshape((1,) * rank), (-1,) * rank
        if isinstance(zero_point, torch.Tensor):
            zero_point = zero_point.reshape((1,) * rank)
    elif block_size is None:
        sizes = inferred_block_size(tuple(scale.shape), shape, "tensor")
    else:
        sizes = _sizes(block_size, rank)
    if not isinstance(zero_point, torch.Tensor):
        return scale, None, _signed(zero_point, "zero_point"), sizes
    return scale, zero_point.expand(scale.shape) if zero_point.dim() == 0 else zero_point, 0, sizes


def _with_fakes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, saying what to do about tensors with elements where torch wants fake ones."""

    @functools.wraps(function)
    def calling(*args: Any) -> Any:
        try:
            return function(*args)
        except AssertionError as error:
            if "FakeTensor" not in str(error):
                raise
            raise TypeError(
                "tensors must all be FakeTensors within FakeTensorMode or beside a FakeTensor, got one with elements; "
                "mode.from_tensor(x) makes it fake, and FakeTensorMode(allow_non_fake_inputs=True) takes it"
            ) from error

    return calling


def _overload(operator: Any, params: tuple[Any, ...]) -> Any:
    return operator.scalar if len(params) == 2 else operator.default


# ---------------------------------------------------------------------------------------------------------------------
# Functions
# ---------------------------------------------------------------------------------------------------------------------


@_with_fakes
def compute_quant_params(
    tensor: Any, dtype: Any, block_size: Any, scale_dtype: Any, symmetric: Any, quant_min: Any, quant_max: Any, ctx: Any
) -> Any:
    _check_floats(tensor)
    _check_context(ctx)
    code = _name(dtype, "dtype", _CODES)
    if block_size is None:
        raise TypeError("tensor must have its elements in memory to find numbers; block_size=(-1, ...) finds tensors")
    options = _scales(scale_dtype) | _limits(code, quant_min, quant_max)
    sizes = _sizes(block_size, tensor.dim())
    if is_sharded(tensor):
        told = {"scale_dtype": scale_dtype, "symmetric": symmetric, "quant_min": quant_min, "quant_max": quant_max}
        return _of_parts().compute_quant_params(tensor, code, sizes, told)
    if _flag(symmetric):
        return _OP.compute_quant_params_symmetric(tensor, sizes, code, **options), _SYMMETRIC_ZERO[code]
    return _OP.compute_quant_params(tensor, sizes, code, **options)


def _flag(symmetric: Any) -> bool:
    if not isinstance(symmetric, bool):
        raise TypeError(f"symmetric must be True or False, got {shown(symmetric)}")
    return symmetric


def _scales(scale_dtype: Any) -> dict[str, Any]:
    return {} if scale_dtype is None else {"scale_dtype": _name(scale_dtype, "scale_dtype", _FLOATS)}


@_with_fakes
def quantize(
    tensor: Any, scale: Any, zero_point: Any, dtype: Any, block_size: Any, round_mode: Any, seed: Any, offset: Any,
    quant_min: Any, quant_max: Any, out: Any, ctx: Any,
) -> Any:  # fmt: skip
    _check_floats(tensor)
    _check_context(ctx)
    code = _name(dtype, "dtype", _CODES)
    options = _rounding(code, round_mode, seed, offset, quant_min, quant_max)
    if is_sharded(tensor):
        told = {"round_mode": round_mode, "quant_min": quant_min, "quant_max": quant_max}
        sizes = None if block_size is None else _sizes(block_size, tensor.dim())
        return _of_parts().quantize(tensor, code, sizes, scale, zero_point, out, told)
    params = _params(tensor, scale, zero_point, block_size, tuple(tensor.shape))
    if out is None:
        return _overload(_OP.quantize, params)(tensor, *params, code, **options)
    _check_out(out, tensor)
    _overload(_OP.quantize_into, params)(tensor, *params, code, out, **options)
    return out


@_with_fakes
def dequantize(
    tensor: Any, scale: Any, zero_point: Any, dtype: Any, block_size: Any, reduce_op: Any, source_dtype: Any,
    shape: Any, out: Any, ctx: Any,
) -> Any:  # fmt: skip
    _check_tensor(tensor, "tensor")
    _check_context(ctx)
    if _operators.STORAGE.get(_CODES.get(tensor.dtype, "")) is not tensor.dtype:
        raise TypeError(f"tensor must be of codes, narrow ones packed in torch.uint8, got {tensor.dtype}")
    real = _name(dtype, "dtype", _FLOATS)
    options: dict[str, Any] = {}
    source = None if source_dtype is None else _name(source_dtype, "source_dtype", _CODES)
    if source is not None:
        options["source_dtype"] = source
        if _operators.STORAGE[source] != tensor.dtype:
            raise TypeError(
                f"source_dtype {source} is of {_operators.STORAGE[source]}, but tensor is of {tensor.dtype}"
            )
    if shape is not None:
        shape = options["shape"] = tuple(_whole(n, "shape") for n in shape)
    elements = _operators.elements_shape(tensor, source, shape)
    if is_sharded(tensor):
        sizes = None if block_size is None else _sizes(block_size, len(elements))
        return _of_parts().dequantize(tensor, real, sizes, scale, zero_point, out, source, elements, reduce_op)
    params = _params(tensor, scale, zero_point, block_size, elements)
    if _choice(reduce_op, "reduce_op", ("set", "add")) == "add":
        options["reduce_op"] = "add"
    if out is None:
        _refuse_add(options)
        return _overload(_OP.dequantize, params)(tensor, *params, real, **options)
    _check_out(out, tensor)
    _overload(_OP.dequantize_into, params)(tensor, *params, real, out, **options)
    return out


def _refuse_add(options: dict[str, Any]) -> None:
    if "reduce_op" in options:
        raise ValueError("reduce_op='add' needs out, the tensor to add to, got out=None")


@_with_fakes
def quantize_dequantize(
    tensor: Any, scale: Any, zero_point: Any, dtype: Any, block_size: Any, round_mode: Any, reduce_op: Any, seed: Any,
    offset: Any, quant_min: Any, quant_max: Any, out: Any, ctx: Any,
) -> Any:  # fmt: skip
    _check_floats(tensor)
    _check_context(ctx)
    code = _name(dtype, "dtype", _ALL_CODES)
    options = _rounding(code, round_mode, seed, offset, quant_min, quant_max)
    if is_sharded(tensor):
        told = {"round_mode": round_mode, "quant_min": quant_min, "quant_max": quant_max, "reduce_op": reduce_op}
        sizes = None if block_size is None else _sizes(block_size, tensor.dim())
        return _of_parts().quantize_dequantize(tensor, code, sizes, scale, zero_point, out, told)
    params = _params(tensor, scale, zero_point, block_size, tuple(tensor.shape))
    if _choice(reduce_op, "reduce_op", ("set", "add")) == "add":
        options["reduce_op"] = "add"
    if out is None:
        _refuse_add(options)
        return _overload(_OP.quantize_dequantize, params)(tensor, *params, code, **options)
    _check_out(out, tensor)
    _overload(_OP.quantize_dequantize_into, params)(tensor, *params, code, out, **options)
    return out


@_with_fakes
def quantize_dynamic(
    tensor: Any, dtype: Any, block_size: Any, symmetric: Any, scale_dtype: Any, round_mode: Any, seed: Any, offset: Any,
    quant_min: Any, quant_max: Any, out: Any, ctx: Any, kind: type[QuantizedTensor],
) -> Any:  # fmt: skip
    _check_floats(tensor)
    _check_context(ctx)
    shape = tuple(tensor.shape)
    code = _name(dtype, "dtype", _CODES)
    if out is not None and scale_dtype is None:
        scale_dtype = out.scale.dtype
    options = _scales(scale_dtype) | _rounding(code, round_mode, seed, offset, quant_min, quant_max)
    sizes = _sizes((-1,) * len(shape) if block_size is None else block_size, len(shape))
    if is_sharded(tensor):
        if out is not None:
            raise TypeError("out must be None for a DTensor, got a QuantizedTensor")
        told = {"scale_dtype": scale_dtype, "round_mode": round_mode, "quant_min": quant_min, "quant_max": quant_max}
        return _of_parts().quantize_dynamic(tensor, code, sizes, told | {"symmetric": _flag(symmetric)})
    if _flag(symmetric):
        made = (*_OP.quantize_dynamic_symmetric(tensor, sizes, code, **options), _SYMMETRIC_ZERO[code])
    else:
        made = _OP.quantize_dynamic(tensor, sizes, code, **options)
    meaning = code, shape, resolved_block_size(shape, sizes), tensor.dtype
    if out is None:
        return kind._made(*made, *meaning)
    _refill(out, made, meaning)
    return out


def _refill(out: QuantizedTensor, made: tuple[Any, ...], meaning: tuple[Any, ...]) -> None:
    told = out.quant_dtype, out.shape, out.block_size, out.dtype
    if told != meaning:
        raise ValueError(
            f"out must be of the codes, shape, block sizes and dtype of the data {meaning}, got one of {told}"
        )
    for argument, given, new in zip(
        ("data", "scale", "zero_point"), (out.data, out.scale, out.zero_point), made, strict=True
    ):
        if isinstance(given, torch.Tensor) != isinstance(new, torch.Tensor):
            raise ValueError(f"out must have the kind of zero_point that is made, got {shown(given)}")
        if isinstance(given, torch.Tensor):
            if given.dtype != new.dtype:
                raise TypeError(f"the {argument} of out must be of {new.dtype}, got {given.dtype}")
            given.copy_(new)
