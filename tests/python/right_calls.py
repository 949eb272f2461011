"""Right calls give what the model gives, for any input that hypothesis can think of: part of properties.py."""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from hypothesis import event, given
from hypothesis import strategies as st

import cases
import model
import piquant
import strategies as own

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def some_contexts() -> list[piquant.Context]:
    return cases.contexts(threads=(1, 3))


def module(face: str) -> Any:
    return {"torch": piquant.torch, "numpy": piquant.numpy, "buffers": piquant}[face]


def rows(codes: np.ndarray) -> np.ndarray:
    """As rows of the last dimension, each of which is packed by itself."""
    return codes.reshape(math.prod(codes.shape[:-1]), codes.shape[-1]) if codes.ndim else codes.reshape(1, 1)


def packed(codes: np.ndarray, target: str) -> np.ndarray:
    per_row = [model.pack(row, target) for row in rows(codes)]
    return np.concatenate(per_row) if per_row else np.zeros(0, np.uint8)


def packed_shape(shape: tuple[int, ...], target: str) -> tuple[int, ...]:
    bits = model.QUANTIZED[target].bits
    return shape if bits >= 8 else (*shape[:-1], -(-shape[-1] * bits // 8)) if shape else (1,)


def float_argument(data: st.DataObject, face: str, x: np.ndarray) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """The data as the face takes them, their values, and what the call must be told."""
    real = model.name_of(x.dtype)
    if face == "torch":
        tensor = data.draw(own.strange_tensors(own.as_torch(x)))
        return tensor, own.as_numpy(tensor), {}
    if face == "numpy":
        return data.draw(own.strange_arrays(x)), x, {}
    if real == "bfloat16":
        return (
            x.view(np.uint16) if x.ndim else np.atleast_1d(x).view(np.uint16),
            np.atleast_1d(x) if not x.ndim else x,
            {"source_dtype": real},
        )
    if data.draw(st.booleans()):
        return x.tobytes(), x.reshape(-1), {"source_dtype": real}
    return memoryview(x), x, {}


def float_dtype(face: str, real: str) -> Any:
    return {"torch": own.TORCH_FLOATS[real], "numpy": model.FLOATS[real], "buffers": real}[face]


def target_argument(data: st.DataObject, face: str, target: str) -> Any:
    """One of the spellings of a quantized type."""
    if face == "torch":
        return data.draw(st.sampled_from([getattr(torch, target), target, f"torch.{target}"]))
    if face == "numpy":
        spelled = getattr(ml_dtypes, target) if target in own.NARROW else np.dtype(target)
        short = target if target in own.NARROW else spelled.str[1:]  # "i4" and so on
        return data.draw(st.sampled_from([spelled, target, short]))
    return data.draw(st.sampled_from([target, piquant.DataType(target)]))


def raw(result: Any) -> np.ndarray:
    """The bytes of a result."""
    if isinstance(result, torch.Tensor):
        return own.as_numpy(result).reshape(-1).view(np.uint8)
    if isinstance(result, np.ndarray):
        return result.reshape(-1).view(np.uint8)
    return np.frombuffer(result, np.uint8)


def shape_of(result: Any) -> tuple[int, ...] | None:
    if isinstance(result, bytearray) or (isinstance(result, memoryview) and result.nbytes == 0):
        return None  # flat
    return tuple(result.shape)


def output(
    data: st.DataObject, face: str, dtype: Any, fill: np.ndarray, packed_rows: bool
) -> tuple[Any, np.ndarray, np.ndarray]:
    """An output of the face with contents, in any layout; it as an array of ``fill``'s dtype; and memory around it."""
    backwards = face != "torch"
    view, memory = data.draw(own.rooms(fill.dtype, fill.shape, packed_rows=packed_rows, backwards=backwards))
    view[...] = fill
    if face == "torch":
        offset = (view.ctypes.data - memory.ctypes.data) // fill.itemsize if fill.size else 0
        strides = [stride // fill.itemsize for stride in view.strides]
        return torch.from_numpy(memory).view(dtype).as_strided(fill.shape, strides, offset), view, memory
    if face == "numpy":
        return view.view(dtype), view, memory
    exportable = view.dtype if view.dtype.kind in "iuf" else np.dtype(np.uint16)  # no format for bfloat16
    if fill.ndim == 0 or (fill.size and data.draw(st.booleans()) and view.flags.c_contiguous):
        return memoryview(view.reshape(-1).view(np.uint8)), view, memory
    return memoryview(view.view(exportable)), view, memory


def elements_of(view: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Which bytes of the memory the elements of a view are."""
    mask = np.zeros_like(memory)
    if view.size:
        at = view.ctypes.data - memory.ctypes.data
        same = np.lib.stride_tricks.as_strided(mask[at : at + 1], (*view.shape, view.itemsize), (*view.strides, 1))
        same[...] = 1
    return mask.astype(bool)


def check_result(
    data: st.DataObject, face: str, call: Callable[..., Any], dtype: Any, wanted: np.ndarray, fill: np.ndarray | None,
    packed_rows: bool = False,
) -> None:  # fmt: skip
    """Without ``out``, and with one. ``wanted`` is what the bytes are, in the result's shape."""
    with_out = fill is not None or data.draw(st.booleans())
    if not with_out:
        result = call()
        assert shape_of(result) in (None, wanted.shape)
        got = raw(result).view(wanted.dtype).reshape(wanted.shape)
    else:
        before = np.full(wanted.shape, 0x55, np.uint8).astype(wanted.dtype) if fill is None else fill
        out, got, memory = output(data, face, dtype, before, packed_rows)
        outside = memory.copy()
        assert call(out=out) is out
        changed = elements_of(got, memory)
        assert np.array_equal(outside[~changed], memory[~changed]), "bytes outside of out were written"
        event(f"out is {'contiguous' if got.flags.c_contiguous else 'strided'}")
        got = got.copy()
    assert cases.same_bits(got, wanted), cases.differences(got, wanted)


class Given(NamedTuple):
    """Parameters of a call: its arguments; and the scale and zero point of all elements, or of each."""

    arguments: dict[str, Any]
    scale: Any
    zero_point: Any


def one_scale(_data: st.DataObject, _face: str, _real: str, _target: str, _shape: object, p: own.Params) -> Given:
    return Given({"scale": p.scale, "zero_point": p.zero_point}, p.scale, p.zero_point)


def quantization(
    data: st.DataObject, parameters: Callable[..., Given]
) -> tuple[str, str, str, Any, np.ndarray, dict[str, Any], Given]:
    """Face, types and floats of a call that makes codes; the model's codes; the rest of its arguments."""
    face, real, target = data.draw(st.tuples(st.sampled_from(own.FACES), own.reals, own.targets))
    p = data.draw(own.params(real, target))
    x, values, told = float_argument(data, face, data.draw(own.floats(real, p.scale, target)))
    given = parameters(data, face, real, target, values.shape, p)
    mode, seed, offset = (
        data.draw(st.sampled_from(["nearest", "stochastic"])),
        data.draw(own.words),
        data.draw(own.words),
    )
    arguments = {
        "quant_min": p.quant_min, "quant_max": p.quant_max, "round_mode": mode, "seed": seed, "offset": offset,
        "ctx": data.draw(st.sampled_from(some_contexts())), **told, **given.arguments,
    }  # fmt: skip
    codes = model.quantize(values, given.scale, given.zero_point, target, mode, seed, offset, *p[2:])
    return face, real, target, x, codes, arguments, given


def check_quantize(data: st.DataObject, parameters: Callable[..., Given]) -> None:
    face, real, target, x, codes, arguments, _ = quantization(data, parameters)
    dtype = target_argument(data, face, target)
    one_each = dtype is getattr(ml_dtypes, target, None)
    storage = {"torch": "uint8", "numpy": np.uint8, "buffers": "uint8"}[face] if target in own.NARROW else dtype
    if face == "torch":
        storage = getattr(torch, str(storage).removeprefix("torch."))
    if one_each:
        wanted, storage = codes.view(np.uint8) & (2 ** model.QUANTIZED[target].bits - 1), np.dtype(dtype)
    elif target in own.NARROW:
        wanted = packed(codes, target).reshape(packed_shape(codes.shape, target))
    else:
        wanted = codes
    call = functools.partial(module(face).quantize, x, dtype=dtype, **arguments)
    event(f"{face} {real} {target}")
    check_result(data, face, call, storage, wanted, None, target in own.NARROW and not one_each)


@given(st.data())
def quantize_equals_the_model(data: st.DataObject) -> None:
    check_quantize(data, one_scale)


@given(st.data())
def dequantize_equals_the_model(data: st.DataObject) -> None:
    check_dequantize(data, one_scale)


@given(st.data())
def quantize_dequantize_equals_the_model(data: st.DataObject) -> None:
    check_quantize_dequantize(data, one_scale)


@given(st.data())
def quantized_tensors_carry_the_codes(data: st.DataObject) -> None:
    """The dtypes of torch that hold their parameters; those of 4 and 2 bits pack the whole tensor as one row."""
    name = data.draw(st.sampled_from(tuple(own.TORCH_QUANTIZED)))
    dtype = own.TORCH_QUANTIZED[name]
    target = {"quint8": "uint8", "qint8": "int8", "qint32": "int32", "quint4x2": "uint4", "quint2x4": "uint2"}[name]
    real = data.draw(own.reals)
    p = data.draw(own.params("float32", target))
    x, values, _ = float_argument(data, "torch", data.draw(own.floats(real, p.scale, target)))
    q = piquant.torch.quantize(x, scale=p.scale, zero_point=p.zero_point, dtype=dtype)
    assert (q.dtype, tuple(q.shape), q.q_scale(), q.q_zero_point()) == (dtype, values.shape, *p[:2])
    codes = model.quantize(values, *p[:2], target)
    memory = np.array(q.untyped_storage().tolist()[: -(-codes.size * model.QUANTIZED[target].bits // 8)], np.uint8)
    if not q.is_contiguous():  # channels last, as the data are
        order = np.argsort([-stride for stride in q.stride()], kind="stable")
        codes = np.ascontiguousarray(codes.transpose(order))
    assert np.array_equal(memory, model.pack(codes.reshape(-1), target).view(np.uint8))
    codes = model.quantize(values, *p[:2], target)
    back = piquant.torch.dequantize(q, scale=p.scale, zero_point=p.zero_point, dtype=torch.float64)
    wanted = model.dequantize(codes, *p[:2], target, "float64")
    assert cases.same_bits(own.as_numpy(back), wanted)


def check_dequantize(data: st.DataObject, parameters: Callable[..., Given]) -> None:
    face, real, source = data.draw(st.tuples(st.sampled_from(own.FACES), own.reals, own.targets))
    p = data.draw(own.params(real, source))
    codes = data.draw(own.codes(source))
    told: dict[str, Any] = {}
    if source in own.NARROW:
        stored = packed(codes, source).reshape(packed_shape(codes.shape, source))
        told = {"source_dtype": source, "shape": codes.shape}
        if face == "numpy" and data.draw(st.booleans()):
            stored, told = codes.astype(getattr(ml_dtypes, source)), {}
        elif face == "torch":
            told["source_dtype"] = target_argument(data, face, source)
    else:
        stored = codes
        if data.draw(st.booleans()):
            told = {"shape": data.draw(st.sampled_from([codes.shape, (codes.size,)]))}
            codes = codes.reshape(told["shape"])
    if face == "torch":
        q = data.draw(own.strange_codes(own.as_torch(stored)))
    else:
        q = data.draw(own.strange_arrays(stored)) if face == "numpy" else memoryview(stored)
    params = parameters(data, face, real, source, codes.shape, p)
    add = data.draw(st.booleans())
    fill = cases.floats(real, p.scale, source, codes.size).reshape(codes.shape) if add else None
    wanted = model.dequantize(codes, params.scale, params.zero_point, source, real, fill)
    call = functools.partial(
        module(face).dequantize, q, dtype=float_dtype(face, real), reduce_op="add" if add else "set",
        ctx=data.draw(st.sampled_from(some_contexts())), **told, **params.arguments,
    )  # fmt: skip
    event(f"{face} {source} {real}")
    check_result(data, face, call, float_dtype(face, real), wanted, fill)


def check_quantize_dequantize(data: st.DataObject, parameters: Callable[..., Given]) -> None:
    face, real, target, x, codes, arguments, params = quantization(data, parameters)
    add = data.draw(st.booleans())
    fill = cases.floats(real, 1.0, target, codes.size, 1).reshape(codes.shape) if add else None
    call = functools.partial(
        module(face).quantize_dequantize, x, dtype=target_argument(data, face, target),
        reduce_op="add" if add else "set", **arguments,
    )  # fmt: skip
    event(f"{face} {real} {target}")
    wanted = model.dequantize(codes, params.scale, params.zero_point, target, real, fill)
    check_result(data, face, call, float_dtype(face, real), wanted, fill)


@given(st.data())
def parameters_equal_the_model(data: st.DataObject) -> None:
    face, real, target = data.draw(st.tuples(st.sampled_from(own.FACES), own.reals, own.targets))
    p = data.draw(own.params(real, target))
    x = data.draw(own.floats(real, p.scale, target))
    if data.draw(st.booleans()):
        x = np.where(np.isfinite(x), x, x.dtype.type(0))
    x, values, told = float_argument(data, face, x)
    symmetric = data.draw(st.booleans())
    low, high = p[2:]
    call = functools.partial(
        module(face).compute_quant_params, x, dtype=target_argument(data, face, target), symmetric=symmetric,
        quant_min=low, quant_max=high, ctx=data.draw(st.sampled_from(some_contexts())), **told,
    )  # fmt: skip
    wanted = None
    t = model.QUANTIZED[target]
    middle = 0 if t.signed else 2 ** (t.bits - 1)
    has_range = not symmetric or (t.low if low is None else low) < middle < (t.high if high is None else high)
    if values.size and np.isfinite(values).all() and has_range:
        wanted = model.quant_params(values, target, symmetric, low, high)
    if wanted is None or math.isinf(wanted[0]):
        try:
            got = call()
        except ValueError as error:
            assert re.match("(x|tensor) (must|spans)|symmetric parameters of", str(error)), error  # noqa: PT017
        else:
            raise AssertionError(f"{got} for data that have no parameters")
    else:
        assert call() == wanted
