"""The operators of torch beneath piquant.torch: what compilers, modes and transforms see of a call.

Each has a schema, a kernel for the CPU and CUDA devices, and a fake kernel that knows shapes alone. Parameters come in
two forms, by overload: numbers ("scalar"), or tensors of blocks, with zero points as a tensor or as an int for all.
Dtypes are names, since exported programs cannot hold all of torch's. Integers of 64 bits without a sign are passed as
those with one.

Each declared argument costs a hundredth of a call or two, whether it is given or not. So what is rarely given comes as
lists: ``stochastic`` is the offset, and the seed if there is one; ``limits`` are the smallest and the largest code.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import torch

from piquant import _native
from piquant._dtypes import BITS, DTYPE_ID, PACKED
from piquant._shapes import check_grid, grid_shape, packed_shape, result_shape
from piquant.torch._tensors import DTYPES, FACE

if TYPE_CHECKING:
    from collections.abc import Callable

    Shape = tuple[Any, ...]

BLOCKS: Final = "Tensor scale, Tensor? zero_points, SymInt zero_point, SymInt[] block_size"
NUMBERS: Final = "float scale, SymInt zero_point"
LIMITS: Final = "SymInt[]? limits=None"
ROUNDING: Final = f"SymInt[]? stochastic=None, {LIMITS}"
SOURCE: Final = "str? source_dtype=None, SymInt[]? shape=None"
FINDING: Final = f"SymInt[] block_size, str dtype, *, str? scale_dtype=None, {LIMITS}"
DYNAMIC: Final = f"SymInt[] block_size, str dtype, *, str? scale_dtype=None, {ROUNDING}"
OUT: Final = "Tensor(a!) out"

LIBRARY: Final[Any] = torch.library.Library("piquant", "DEF")  # type: ignore[no-untyped-call]

STORAGE: Final = {name: known.storage for name, known in DTYPES.items() if isinstance(name, str)}
"""The dtype of tensors that hold elements of a type, by its name."""


_UINT64: Final = torch.uint64


def _unsigned(value: Any) -> Any:
    """An int of 64 bits without a sign; what is none stays as it is."""
    return value + (1 << 64) if isinstance(value, int) and value < 0 else value


def code_range(dtype: str) -> tuple[int, int]:
    """The smallest and the largest code of a type."""
    bits, signed = BITS[DTYPE_ID[dtype]], dtype.startswith("int")
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _ends(dtype: str, limits: Any) -> tuple[Any, Any]:
    """``limits`` as codes of a dtype count them."""
    if limits is None:
        return None, None
    low, high = limits
    return (_unsigned(low), _unsigned(high)) if dtype == "uint64" else (low, high)


def _drawing(stochastic: Any) -> tuple[str, int | None, int]:
    """Rounding mode, seed and offset."""
    if stochastic is None:
        return "nearest", None, 0
    offset, *seed = stochastic
    return "stochastic", _unsigned(seed[0]) if seed else None, _unsigned(offset)


# ---------------------------------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------------------------------


# Each calls the native function itself, without Python functions or dictionaries in between: the operator's own way
# through torch takes as long as a call.


def _quantize(
    tensor: Any,
    scale: Any,
    zero_point: Any,
    dtype: str,
    block_size: Any = None,
    out: Any = None,
    stochastic: Any = None,
    limits: Any = None,
) -> Any:
    if dtype == "uint64":
        zero_point = _unsigned(zero_point)
    if stochastic is None is limits:
        return _native.quantize(
            FACE, tensor, scale, zero_point, dtype, block_size, None, "nearest", None, 0, None, None, None, out, None
        )
    return _native.quantize(
        FACE, tensor, scale, zero_point, dtype, block_size, None, *_drawing(stochastic), *_ends(dtype, limits), None,
        out, None,
    )  # fmt: skip


def _dequantize(
    tensor: Any,
    scale: Any,
    zero_point: Any,
    dtype: str,
    block_size: Any = None,
    out: Any = None,
    source_dtype: str | None = None,
    shape: Any = None,
    reduce_op: str = "set",
) -> Any:
    if tensor.dtype is _UINT64:
        zero_point = _unsigned(zero_point)
    return _native.dequantize(
        FACE, tensor, scale, zero_point, dtype, block_size, None, reduce_op, source_dtype, shape, out, None
    )


def _quantize_dequantize(
    tensor: Any,
    scale: Any,
    zero_point: Any,
    dtype: str,
    block_size: Any = None,
    out: Any = None,
    stochastic: Any = None,
    limits: Any = None,
    reduce_op: str = "set",
) -> Any:
    if dtype == "uint64":
        zero_point = _unsigned(zero_point)
    mode, seed, offset = _drawing(stochastic)
    low, high = _ends(dtype, limits)
    return _native.quantize_dequantize(
        FACE, tensor, scale, zero_point, dtype, block_size, None, mode, reduce_op, seed, offset, low, high, None, out,
        None,
    )  # fmt: skip


def _forms(numbers: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """A kernel in all forms of parameters and results, by what their names end with."""

    def blocks(tensor: Any, scale: Any, zeros: Any, zero: int, block_size: Any, dtype: str, **options: Any) -> Any:
        return numbers(tensor, scale, zero if zeros is None else zeros, dtype, tuple(block_size), None, **options)

    def numbers_into(tensor: Any, scale: float, zero_point: int, dtype: str, out: Any, **options: Any) -> None:
        numbers(tensor, scale, zero_point, dtype, None, out, **options)

    def blocks_into(
        tensor: Any, scale: Any, zeros: Any, zero: int, block_size: Any, dtype: str, out: Any, **options: Any
    ) -> None:
        numbers(tensor, scale, zero if zeros is None else zeros, dtype, tuple(block_size), out, **options)

    return {".scalar": numbers, "": blocks, "_into.scalar": numbers_into, "_into": blocks_into}


def _quantize_dequantize_backward(
    grad: torch.Tensor, tensor: torch.Tensor, *params: Any, limits: Any = None
) -> torch.Tensor:
    """``grad`` where the code was not clamped. Codes of a wider type tell, as these are not clamped there.

    Of 64 bits there is no wider type: what reaches the ends of int64 counts as clamped.
    """
    *given, dtype = params
    bits = BITS[DTYPE_ID[dtype]]
    low, high = code_range(dtype) if limits is None else _ends(dtype, limits)
    low, high = max(low, 1 - (1 << 63)), min(high, (1 << 63) - 2)
    wide = "int16" if bits <= 8 else f"int{min(2 * bits, 64)}"
    codes = _QUANTIZE[".scalar" if len(given) == 2 else ""](tensor, *given, wide)
    return torch.where((codes >= low) & (codes <= high), grad, 0)


def _compute_quant_params(
    tensor: torch.Tensor,
    block_size: Any,
    dtype: str,
    *,
    scale_dtype: str | None = None,
    limits: Any = None,
    symmetric: bool = False,
) -> Any:
    ends = _ends(dtype, limits)
    made = _native.compute_quant_params(
        FACE, tensor, dtype, tuple(block_size), scale_dtype, symmetric, *ends, None, None
    )
    return made[0] if symmetric else made


def _quantize_dynamic(
    tensor: torch.Tensor,
    block_size: Any,
    dtype: str,
    *,
    scale_dtype: str | None = None,
    stochastic: Any = None,
    limits: Any = None,
    symmetric: bool = False,
) -> Any:
    drawing, ends = _drawing(stochastic), _ends(dtype, limits)
    made = _native.quantize_dynamic(
        FACE, tensor, dtype, tuple(block_size), scale_dtype, symmetric, *drawing, *ends, None, None, None, None
    )
    return made[: 2 if symmetric else 3]


# ---------------------------------------------------------------------------------------------------------------------
# Fake kernels
# ---------------------------------------------------------------------------------------------------------------------


def _check_params(shape: Shape, params: Any) -> None:
    if len(params) == 2:
        return
    scale, zero_points, _, block_size = params
    check_grid("scale", tuple(scale.shape), shape, tuple(block_size), "tensor")
    if zero_points is not None:
        check_grid("zero_point", tuple(zero_points.shape), shape, tuple(block_size), "tensor")


def _codes_like(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    if dtype in PACKED:
        return tensor.new_empty(packed_shape(tuple(tensor.shape), BITS[DTYPE_ID[dtype]]), dtype=torch.uint8)
    return torch.empty_like(tensor, dtype=STORAGE[dtype])


def _fake_quantize(tensor: torch.Tensor, *params: Any, **_: Any) -> torch.Tensor:
    *given, dtype = params
    _check_params(tuple(tensor.shape), given)
    return _codes_like(tensor, dtype)


def elements_shape(tensor: torch.Tensor, source_dtype: str | None, shape: Shape | None) -> Shape:
    """Shape of what codes stand for."""
    bits = BITS[DTYPE_ID[source_dtype]] if source_dtype in PACKED else 8
    return result_shape(tuple(tensor.shape), None if shape is None else tuple(shape), bits, "tensor")


def _fake_dequantize(
    tensor: torch.Tensor, *params: Any, source_dtype: str | None = None, shape: Any = None
) -> torch.Tensor:
    *given, dtype = params
    elements = elements_shape(tensor, source_dtype, shape)
    _check_params(elements, given)
    if elements == tuple(tensor.shape):
        return torch.empty_like(tensor, dtype=STORAGE[dtype])
    return tensor.new_empty(elements, dtype=STORAGE[dtype])


def _fake_quantize_dequantize(tensor: torch.Tensor, *params: Any, **_: Any) -> torch.Tensor:
    _check_params(tuple(tensor.shape), params[:-1])
    return torch.empty_like(tensor)


def _fake_backward(grad: torch.Tensor, tensor: torch.Tensor, *params: Any, **_: Any) -> torch.Tensor:
    _check_params(tuple(tensor.shape), params[:-1])
    return torch.empty_like(grad)


def _fake_into(fake: Callable[..., torch.Tensor]) -> Callable[..., None]:
    """The fake kernel of an operator that writes to its last parameter what another one returns."""

    def written(tensor: torch.Tensor, *params: Any, **options: Any) -> None:
        options.pop("reduce_op", None)
        out, made = params[-1], fake(tensor, *params[:-1], **options)
        if tuple(out.shape) != tuple(made.shape):
            raise ValueError(f"out must have shape {tuple(made.shape)}, got {tuple(out.shape)}")
        if out.dtype != made.dtype:
            raise TypeError(f"out must be of {made.dtype}, got {out.dtype}")

    return written


def _fake_params(
    tensor: torch.Tensor, block_size: Any, dtype: str, *, scale_dtype: str | None = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = grid_shape(tuple(tensor.shape), tuple(block_size))
    plain = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}.get(dtype, dtype)
    kind = STORAGE[scale_dtype] if scale_dtype else torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.new_empty(shape, dtype=kind), tensor.new_empty(shape, dtype=STORAGE[plain])


def _fake_scale(tensor: torch.Tensor, block_size: Any, dtype: str, **options: Any) -> torch.Tensor:
    return _fake_params(tensor, block_size, dtype, **options)[0]


def _fake_dynamic(tensor: torch.Tensor, block_size: Any, dtype: str, **options: Any) -> tuple[torch.Tensor, ...]:
    return _codes_like(tensor, dtype), *_fake_params(tensor, block_size, dtype, **options)


def _fake_dynamic_symmetric(
    tensor: torch.Tensor, block_size: Any, dtype: str, **options: Any
) -> tuple[torch.Tensor, ...]:
    return _fake_dynamic(tensor, block_size, dtype, **options)[:2]


# ---------------------------------------------------------------------------------------------------------------------
# Registration
# ---------------------------------------------------------------------------------------------------------------------


def _define(name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any], draws: bool = False) -> None:
    """``draws``: it may draw random numbers, which compilers must neither join nor repeat."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded)[: 1 + draws]
    LIBRARY.define(f"{name}{schema}", tags=tags)
    LIBRARY.impl(name, kernel, "CPU")
    LIBRARY.impl(name, kernel, "CUDA")
    LIBRARY.impl(name, fake, "Meta")


_ADD: Final = ', str reduce_op="set"'
_QUANTIZE: Final = _forms(_quantize)
for _name, _forms_of, _fake, _options, _may_add, _draws in (
    ("quantize", _QUANTIZE, _fake_quantize, ROUNDING, "", True),
    ("dequantize", _forms(_dequantize), _fake_dequantize, SOURCE, _ADD, False),
    ("quantize_dequantize", _forms(_quantize_dequantize), _fake_quantize_dequantize, ROUNDING, _ADD, True),
):
    for _overload, _params in (("", BLOCKS), (".scalar", NUMBERS)):
        _given = f"Tensor tensor, {_params}, str dtype"
        _define(f"{_name}{_overload}", f"({_given}, *, {_options}) -> Tensor", _forms_of[_overload], _fake, _draws)
        _into = f"({_given}, {OUT}, *, {_options}{_may_add}) -> ()"
        _define(f"{_name}_into{_overload}", _into, _forms_of[f"_into{_overload}"], _fake_into(_fake), _draws)
for _overload, _params in (("", BLOCKS), (".scalar", NUMBERS)):
    _define(
        f"quantize_dequantize_backward{_overload}",
        f"(Tensor grad, Tensor tensor, {_params}, str dtype, *, {LIMITS}) -> Tensor",
        _quantize_dequantize_backward, _fake_backward,
    )  # fmt: skip
_SYMMETRIC: Final = functools.partial(_compute_quant_params, symmetric=True)
_define("compute_quant_params", f"(Tensor tensor, {FINDING}) -> (Tensor, Tensor)", _compute_quant_params, _fake_params)
_define("compute_quant_params_symmetric", f"(Tensor tensor, {FINDING}) -> Tensor", _SYMMETRIC, _fake_scale)
_define(
    "quantize_dynamic", f"(Tensor tensor, {DYNAMIC}) -> (Tensor, Tensor, Tensor)",
    _quantize_dynamic, _fake_dynamic, True,
)  # fmt: skip
_define(
    "quantize_dynamic_symmetric", f"(Tensor tensor, {DYNAMIC}) -> (Tensor, Tensor)",
    functools.partial(_quantize_dynamic, symmetric=True), _fake_dynamic_symmetric, True,
)  # fmt: skip
for _name in ("quantize", "quantize_into", "dequantize", "dequantize_into", "quantize_dequantize_into"):
    for _overload in ("", ".scalar"):
        LIBRARY.impl(f"{_name}{_overload}", torch.library.fallthrough_kernel, "Autograd")
for _name in ("compute_quant_params", "quantize_dynamic"):
    for _overload in ("", "_symmetric"):
        LIBRARY.impl(f"{_name}{_overload}", torch.library.fallthrough_kernel, "Autograd")
