"""Derivatives and batches: what torch.autograd, torch.func and torch.vmap make of the operators."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import torch

from piquant._dtypes import BITS, DTYPE_ID, PACKED
from piquant._shapes import packed_shape
from piquant.torch._operators import LIBRARY
from piquant.torch._tensors import draw_seed

if TYPE_CHECKING:
    from collections.abc import Callable

_OP: Final = torch.ops.piquant


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives: straight through where the code was not clamped
# ---------------------------------------------------------------------------------------------------------------------


class _QuantizeDequantize(torch.autograd.Function):
    """A call of the operator, and its derivative."""

    @staticmethod
    def forward(ctx: Any, operator: Any, options: dict[str, Any], *args: Any) -> Any:
        ctx.operator, ctx.options, ctx.args = operator, _of_derivative(options), list(args)
        ctx.tensors = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        ctx.save_for_backward(*(args[i] for i in ctx.tensors))
        for i in ctx.tensors:
            ctx.args[i] = None  # which would outlive what autograd knows of it
        return operator(*args, **options)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        args = list(ctx.args)
        for i, saved in zip(ctx.tensors, ctx.saved_tensors, strict=True):
            args[i] = saved
        return None, None, _derivative_of(ctx.operator)(grad, *args, **ctx.options), *(None,) * (len(args) - 1)


def _of_derivative(options: dict[str, Any]) -> dict[str, Any]:
    return {name: given for name, given in options.items() if name != "stochastic"}


def _derivative_of(operator: Any) -> Any:
    """``quantize_dequantize_backward`` for parameters in the form that an operator takes."""
    return getattr(_OP.quantize_dequantize_backward, operator._overloadname)


def _wanted(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad and torch.is_grad_enabled()


def _beneath(operator: Any, keyset: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What an operator gives without a derivative."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keyset & torch._C._after_autograd_keyset, *args, **options)


def _tracked(operator: Any, keyset: Any, *args: Any, **options: Any) -> Any:
    """``quantize_dequantize`` for autograd."""
    if not _wanted(args[0]):
        return _beneath(operator, keyset, args, options)
    if not torch._C._are_functorch_transforms_active():
        return _QuantizeDequantize.apply(operator, options, *args)  # type: ignore[no-untyped-call]
    # torch.func derives nothing here but operations of torch. The difference is 0, and carries the gradient.
    plain = (args[0].detach(), *args[1:])
    made = _beneath(operator, keyset, plain, options)
    passed = _derivative_of(operator)(torch.ones_like(made), *plain, **_of_derivative(options))
    carried = torch.where(passed != 0, args[0], 0)
    return made + (carried - carried.detach())


def _tracked_backward(operator: Any, keyset: Any, grad: torch.Tensor, *args: Any, **options: Any) -> Any:
    """``quantize_dequantize_backward`` for autograd: linear in ``grad``."""
    if not _wanted(grad):
        return _beneath(operator, keyset, (grad, *args), options)
    passed = _beneath(operator, keyset, (torch.ones_like(grad), args[0].detach(), *args[1:]), options)
    return torch.where(passed != 0, grad, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Batches: a dimension more in front, of blocks of one example where these have parameters of their own
# ---------------------------------------------------------------------------------------------------------------------


def _front(x: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """A tensor with the batch as its first dimension, whether it has one or not."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _example(x: Any, dim: Any, i: int) -> Any:
    return x.select(dim, i) if isinstance(x, torch.Tensor) and dim is not None else x


def _one_by_one(operator: Any, info: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...], options: Any) -> Any:
    if _draws(options) and info.randomness == "same":
        options = options | {"stochastic": [*options["stochastic"], draw_seed() - (1 << 63)]}
    results = [operator(*map(_example, args, in_dims, (i,) * len(args)), **options) for i in range(info.batch_size)]
    if isinstance(results[0], tuple):
        made = tuple(map(torch.stack, zip(*results, strict=True)))
        return made, (0,) * len(made)
    return (None, None) if results[0] is None else (torch.stack(results), 0)


def _is_one_by_one(info: Any, tensor: torch.Tensor, dim: int | None, dtype: str, options: dict[str, Any]) -> bool:
    """Whether examples are no part of one call: they share random words, or bytes would hold codes of several."""
    alike = options.get("stochastic") is not None and (not _draws(options) or info.randomness == "same")
    types = dtype, options.get("source_dtype")
    rank = tensor.dim() - (dim is not None)
    return alike or (rank == 0 and any(name in PACKED for name in types)) or options.get("shape", (1,)) in ((), [])


def _draws(options: dict[str, Any]) -> bool:
    """Whether a call draws random numbers: it is told an offset and no seed."""
    return len(options.get("stochastic") or ()) == 1


def _check_randomness(info: Any, options: dict[str, Any]) -> None:
    if _draws(options) and info.randomness == "error":
        raise RuntimeError(
            "vmap: stochastic rounding without a seed draws random numbers; call vmap with randomness='different' or "
            "'same', or give a seed"
        )


def _params_in_front(params: tuple[Any, ...], dims: tuple[int | None, ...], size: int) -> tuple[Any, ...]:
    if len(params) == 2:
        return params
    scale, zero_points, zero_point, block_size = params
    if dims[0] is None and dims[1] is None and size > 0:
        zero_points = None if zero_points is None else zero_points.unsqueeze(0)
        return scale.unsqueeze(0), zero_points, zero_point, (-1, *block_size)
    zero_points = None if zero_points is None else _front(zero_points, dims[1], size)
    return _front(scale, dims[0], size), zero_points, zero_point, (1, *block_size)


def _batched_floats(
    operator: Any, info: Any, in_dims: tuple[Any, ...], *args: Any, lead: int = 1, **options: Any
) -> Any:
    """The rule of an operator whose first tensors, ``lead`` of them, are of one shape, and which parameters follow."""
    _check_randomness(info, options)
    if _is_one_by_one(info, args[0], in_dims[0], args[-1], options):
        return _one_by_one(operator, info, in_dims, args, options)
    size = info.batch_size
    tensors = [_front(x, dim, size) for x, dim in zip(args[:lead], in_dims[:lead], strict=True)]
    params = _params_in_front(args[lead:-1], in_dims[lead:], size)
    return operator(*tensors, *params, args[-1], **options), 0


def _batched_into(operator: Any, info: Any, in_dims: tuple[Any, ...], *args: Any, **options: Any) -> Any:
    """The rule of an operator that writes to its last parameter."""
    _check_randomness(info, options)
    if in_dims[len(args) - 1] is None:
        raise ValueError("out must have a batch dimension, as the result of a batched call does")
    if _is_one_by_one(info, args[0], in_dims[0], args[-2], options):
        return _one_by_one(operator, info, in_dims, args, options)
    size = info.batch_size
    tensor, out = _front(args[0], in_dims[0], size), _front(args[-1], in_dims[-1], size)
    tensor, options = _codes_in_front(tensor, options, size)
    operator(tensor, *_params_in_front(args[1:-2], in_dims[1:], size), args[-2], out, **options)
    return None, None


def _codes_in_front(tensor: torch.Tensor, options: dict[str, Any], size: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Codes of a batch, and the shape of all where there is one of each."""
    shape = options.get("shape")
    if shape is None:
        return tensor, options
    source = options.get("source_dtype")
    stored = packed_shape(tuple(shape), BITS[DTYPE_ID[source]]) if source in PACKED else shape
    return tensor.reshape(size, *stored), options | {"shape": (size, *shape)}


def _batched_codes(operator: Any, info: Any, in_dims: tuple[Any, ...], *args: Any, **options: Any) -> Any:
    if _is_one_by_one(info, args[0], in_dims[0], args[-1], options):
        return _one_by_one(operator, info, in_dims, args, options)
    tensor, options = _codes_in_front(_front(args[0], in_dims[0], info.batch_size), options, info.batch_size)
    return operator(tensor, *_params_in_front(args[1:-1], in_dims[1:], info.batch_size), args[-1], **options), 0


def _batched_blocks(
    operator: Any,
    info: Any,
    in_dims: tuple[Any, ...],
    tensor: torch.Tensor,
    block_size: Any,
    dtype: str,
    **options: Any,
) -> Any:
    """The rule of an operator that finds parameters of blocks."""
    _check_randomness(info, options)
    if _is_one_by_one(info, tensor, in_dims[0], dtype, options):
        return _one_by_one(operator, info, in_dims, (tensor, block_size, dtype), options)
    found = operator(_front(tensor, in_dims[0], info.batch_size), (1, *block_size), dtype, **options)
    return found, (0,) * len(found) if isinstance(found, tuple) else 0


def _batched(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule as a kernel. It is what ``torch.library.register_vmap`` makes, without imports of rarely used parts."""

    def kernel(operator: Any, _keyset: Any, *args: Any, **options: Any) -> Any:
        from torch._functorch.autograd_function import custom_function_call_vmap_helper as batch  # noqa: PLC0415
        from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter as level  # noqa: PLC0415

        now: Any = level()
        return batch(now, functools.partial(rule, operator), operator, *args, **options)

    return kernel


def _implement(name: str, overload: str, kernel: Callable[..., Any], key: str) -> None:
    """Registers a kernel that is told its operator, which is looked up when it is called: that takes long."""

    def told(keyset: Any, *args: Any, **options: Any) -> Any:
        return kernel(getattr(getattr(_OP, name), overload), keyset, *args, **options)

    LIBRARY.impl(name if overload == "default" else f"{name}.{overload}", told, key, with_keyset=True)


for _name, _kernel in (("quantize_dequantize", _tracked), ("quantize_dequantize_backward", _tracked_backward)):
    for _form in ("default", "scalar"):
        _implement(_name, _form, _kernel, "Autograd")
for _names, _rule, _form_names in (
    (("quantize", "quantize_dequantize"), _batched_floats, ("default", "scalar")),
    (("quantize_dequantize_backward",), functools.partial(_batched_floats, lead=2), ("default", "scalar")),
    (("dequantize",), _batched_codes, ("default", "scalar")),
    (("quantize_into", "dequantize_into", "quantize_dequantize_into"), _batched_into, ("default", "scalar")),
    (
        ("compute_quant_params", "compute_quant_params_symmetric", "quantize_dynamic", "quantize_dynamic_symmetric"),
        _batched_blocks,
        ("default",),
    ),
):
    for _name in _names:
        for _form in _form_names:
            _implement(_name, _form, _batched(_rule), "FuncTorchBatched")
