"""Right calls with parameters of blocks give what the model gives, element by element: part of properties.py."""

from __future__ import annotations

import copy
import functools
import io
import math
import pickle
import re
from typing import Any

import ml_dtypes
import numpy as np
import torch
from hypothesis import event, given
from hypothesis import strategies as st

import blocked
import cases
import model
import strategies as own
from piquant.numpy import QuantizedArray
from piquant.torch import QuantizedTensor
from right_calls import (
    Given,
    check_dequantize,
    check_quantize,
    check_quantize_dequantize,
    float_argument,
    float_dtype,
    module,
    packed,
    packed_shape,
    raw,
    shape_of,
    some_contexts,
    target_argument,
)

Shape = tuple[int, ...]
PLAIN = tuple(name for name, t in model.QUANTIZED.items() if t.bits >= 8)


def scales(data: st.DataObject, real: str, grid: Shape, scale: float) -> np.ndarray:
    """Scales of any float dtype, most of them a power of two from a given one, so that ties stay ties."""
    kind = model.FLOATS[data.draw(st.sampled_from(["float32", "float32", "float64", "float16", "bfloat16"]))]
    t = np.finfo(model.compute_type(real))
    low = max(float(t.smallest_normal), float(ml_dtypes.finfo(kind).smallest_subnormal))
    high = min(float(t.max), float(ml_dtypes.finfo(kind).max))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    with np.errstate(all="ignore"):
        some = np.where(random.random(grid) < 0.8, scale * 2.0 ** random.integers(-3, 4, grid), random.random(grid))
        return np.asarray(np.clip(some, low, high)).astype(kind)


def zero_points(data: st.DataObject, target: str, grid: Shape) -> np.ndarray:
    """Integers of any dtype, the ends of the range among them, as far as the dtype goes."""
    t = model.QUANTIZED[target]
    kind = np.iinfo(data.draw(st.sampled_from([t.storage.name, *PLAIN])))
    low, high = max(t.low, int(kind.min)), min(t.high, int(kind.max))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    some = random.integers(low, high, grid, dtype=kind.dtype, endpoint=True)
    return np.where(random.random(grid) < 0.3, random.choice(np.array([low, high], kind.dtype), grid), some)


def argument(data: st.DataObject, face: str, name: str, values: np.ndarray, flat: bool) -> tuple[Any, dict[str, Any]]:
    """Parameters as the face takes them, and what the call must be told."""
    laid = data.draw(own.gaps(values, backwards=face != "torch"))
    if face == "torch":
        tensor = own.as_torch(laid)
        floats = name == "scale"
        return data.draw(own.strange_tensors(tensor, same_shape=True) if floats else own.strange_codes(tensor)), {}
    if face == "numpy":
        return data.draw(own.strange_arrays(laid)), {}
    told: dict[str, Any] = {}
    real = next((real for real, kind in model.FLOATS.items() if kind == laid.dtype), None)
    if real == "bfloat16" or (real is not None and data.draw(st.booleans())):
        told = {"scale_dtype": real}
    if flat and (real is None or told) and data.draw(st.booleans()):
        contents = laid.flatten()
        if told:
            return contents.tobytes(), told
        return memoryview(contents), told
    return memoryview(laid.view(np.uint16) if real == "bfloat16" else laid), told


def scales_of_blocks(data: st.DataObject, face: str, real: str, target: str, shape: Shape, p: own.Params) -> Given:
    """Parameters of blocks of any size, told or to be seen from their shape."""
    block_size: Any = None
    if data.draw(st.booleans()):
        block_size, sizes = data.draw(own.block_sizes(shape))
    else:
        sizes = tuple(data.draw(st.sampled_from([1, -1])) for _ in shape)
    grid = blocked.grid(shape, sizes)
    if face == "buffers" and not grid:
        return Given({"scale": p.scale, "zero_point": p.zero_point}, p.scale, p.zero_point)  # no arrays among buffers
    scale = scales(data, real, grid, p.scale)
    if data.draw(st.integers(0, 3)) == 0:
        scale = np.broadcast_to(scale[:1], grid) if grid else scale
    told = {} if block_size is None else {"block_size": block_size}
    flat = block_size is not None
    given_scale, told_scale = argument(data, face, "scale", scale, flat)
    zero_point: Any = p.zero_point
    given_zero_point: Any = zero_point
    if data.draw(st.booleans()):
        zero_point = zero_points(data, target, grid)
        given_zero_point, _ = argument(data, face, "zero_point", zero_point, flat)
        zero_point = model.expanded(zero_point, shape, blocked.sizes(shape, sizes))
    event(f"{scale.dtype.name} scales of {'one' if scale.size == 1 else 'several'}, told {flat}")
    return Given(
        {"scale": given_scale, "zero_point": given_zero_point, **told, **told_scale},
        model.expanded(scale, shape, blocked.sizes(shape, sizes)).astype(np.float64),
        zero_point,
    )


@given(st.data())
def blocks_quantize_as_the_model(data: st.DataObject) -> None:
    check_quantize(data, scales_of_blocks)


@given(st.data())
def blocks_dequantize_as_the_model(data: st.DataObject) -> None:
    check_dequantize(data, scales_of_blocks)


@given(st.data())
def blocks_quantize_dequantize_as_the_model(data: st.DataObject) -> None:
    check_quantize_dequantize(data, scales_of_blocks)


class Dynamic:
    """A call that computes parameters of blocks, and what the model says of it."""

    def __init__(self, data: st.DataObject, *, needs_blocks: bool) -> None:
        self.face, self.real, self.target = data.draw(st.tuples(st.sampled_from(own.FACES), own.reals, own.targets))
        p = data.draw(own.params(self.real, self.target))
        x = data.draw(own.floats(self.real, p.scale, self.target))
        if data.draw(st.integers(0, 4)):
            x = np.where(np.isfinite(x), x, x.dtype.type(0))
        self.x, self.values, told = float_argument(data, self.face, x)
        self.shape = self.values.shape
        block_size: Any = None
        sizes = tuple(-1 for _ in self.shape)
        if needs_blocks or data.draw(st.integers(0, 4)):
            block_size, sizes = data.draw(own.block_sizes(self.shape))
        self.sizes = blocked.sizes(self.shape, sizes)
        # As a container has them.
        self.resolved = tuple(min(b, max(n, 1)) for n, b in zip(self.shape, self.sizes, strict=True))
        self.scale_dtype = data.draw(st.sampled_from([None, *model.FLOATS]))
        self.symmetric = data.draw(st.booleans())
        self.low, self.high = p[2:]
        self.arguments = {
            "dtype": target_argument(data, self.face, self.target), "block_size": block_size,
            "scale_dtype": None if self.scale_dtype is None else float_dtype(self.face, self.scale_dtype),
            "symmetric": self.symmetric, "quant_min": self.low, "quant_max": self.high,
            "ctx": data.draw(st.sampled_from(some_contexts())), **told,
        }  # fmt: skip
        t = model.QUANTIZED[self.target]
        kind = np.dtype(model.compute_type(self.real)) if self.scale_dtype is None else model.FLOATS[self.scale_dtype]
        self.scale = np.empty(blocked.grid(self.shape, sizes), kind)
        self.zero_point: Any = np.empty(self.scale.shape, t.storage)
        middle = 0 if t.signed else 2 ** (t.bits - 1)
        low, high = t.low if self.low is None else self.low, t.high if self.high is None else self.high
        self.wrong: str | None = None
        if self.symmetric and not low < middle < high:
            self.wrong = "symmetric parameters of"
            return
        for index, where in blocked.blocks(self.shape, sizes):
            block = self.values[where]
            found = math.inf, 0
            if np.isfinite(block).all():
                found = model.quant_params(block, self.target, self.symmetric, *p[2:], self.scale_dtype)
            if math.isinf(found[0]):
                words = f"({', '.join(map(str, index))}{',' * (len(index) == 1)})"
                self.wrong = rf"(x|tensor) (must|spans|holds).* in block {re.escape(words)}"
                return
            self.scale[index], self.zero_point[index] = found
        if self.symmetric:
            self.zero_point = middle
        event(f"{self.face} {self.real} {self.target}")

    def is_refused(self, function: Any, **more: Any) -> bool:
        """Whether the data have no parameters; if so, the call says why and where."""
        if self.wrong is None:
            return False
        try:
            got = function(self.x, **self.arguments, **more)
        except ValueError as error:
            assert re.match(self.wrong, str(error)), error  # noqa: PT017
            return True
        raise AssertionError(f"{got} for data that have no parameters")

    def check_params(self, scale: Any, zero_point: Any) -> None:
        for got, wanted in ((scale, self.scale), (zero_point, self.zero_point)):
            if isinstance(wanted, int):
                assert (type(got), got) == (int, wanted)
                continue
            assert shape_of(got) in (None, wanted.shape)
            found = raw(got).view(wanted.dtype).reshape(wanted.shape)
            assert cases.same_bits(found, wanted), cases.differences(found, wanted)


@given(st.data())
def parameters_of_blocks_equal_the_model(data: st.DataObject) -> None:
    call = Dynamic(data, needs_blocks=True)
    function = module(call.face).compute_quant_params
    if not call.is_refused(function):
        call.check_params(*function(call.x, **call.arguments))


@given(st.data())
def containers_hold_what_the_model_gives(data: st.DataObject) -> None:
    """quantize_dynamic, new containers and refilled ones, and all that a container can be asked."""
    call = Dynamic(data, needs_blocks=False)
    function = module(call.face).quantize_dynamic
    mode, seed, offset = (
        data.draw(st.sampled_from(["nearest", "stochastic"])),
        data.draw(own.words),
        data.draw(own.words),
    )
    more: dict[str, Any] = {"round_mode": mode, "seed": seed, "offset": offset}
    if call.is_refused(function, **more):
        return
    made = function(call.x, **call.arguments, **more)
    each = [call.scale.astype(np.float64), call.zero_point]
    each = [p if isinstance(p, int) else model.expanded(p, call.shape, call.sizes) for p in each]
    codes = model.quantize(call.values, *each, call.target, mode, seed, offset, call.low, call.high)
    one_each = call.arguments["dtype"] is getattr(ml_dtypes, call.target, None)
    stored = codes
    if one_each:
        stored = codes.view(np.uint8) & (2 ** model.QUANTIZED[call.target].bits - 1)
    elif call.target in own.NARROW:
        stored = packed(codes, call.target).reshape(packed_shape(call.shape, call.target))
    parts = made if call.face == "buffers" else (made.data, made.scale, made.zero_point)
    for refilled in (False, True):
        if refilled and not call.shape:
            break
        if refilled:
            for part in parts:
                if not isinstance(part, int):
                    raw(part)[...] = 0x55
            assert function(call.x, **call.arguments, **more, out=made) is made
        got = raw(parts[0]).view(stored.dtype).reshape(stored.shape)
        assert cases.same_bits(got, stored), cases.differences(got, stored)
        call.check_params(*parts[1:])
    if call.face != "buffers":
        wanted = functools.partial(model.dequantize, codes, *each, call.target)
        check_container(data, made, call, wanted)


def values_of(x: Any) -> np.ndarray:
    return own.as_numpy(x) if isinstance(x, torch.Tensor) else x


def check_container(data: st.DataObject, made: Any, call: Dynamic, wanted: Any) -> None:
    real = call.real
    assert (made.quant_dtype, made.shape, made.block_size) == (call.target, call.shape, call.resolved)
    assert str(made.dtype).removeprefix("torch.") == real
    values = wanted(real)
    assert repr(made).startswith(type(made).__name__)
    again: list[Any] = [copy.copy(made), copy.deepcopy(made), type(made).from_dict(made.to_dict())]
    if call.face == "torch":
        file = io.BytesIO()
        torch.save(made, file)
        file.seek(0)
        again.append(torch.load(file, weights_only=True))
    else:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **made.to_dict())
        file.seek(0)
        again += [QuantizedArray.from_dict(np.load(file)), pickle.loads(pickle.dumps(made))]
        again.append(QuantizedTensor.from_dict({name: torch.tensor(a) for name, a in made.to_dict().items()}))
    for container in (made, *again):
        assert container == made or type(container) is not type(made)
        found = values_of(container.dequantize())
        assert cases.same_bits(found, values), cases.differences(found, values)
    other = data.draw(own.reals)
    before = cases.floats(other, 1.0, call.target, values.size).reshape(values.shape)
    out = own.as_torch(before.copy()) if call.face == "torch" else before.copy()
    t = np.finfo(model.compute_type(other))
    each = call.scale.astype(np.float64)
    if ((each >= float(t.smallest_normal)) & (each <= float(t.max))).all():
        assert made.dequantize(out=out, reduce_op="add") is out
        added = wanted(other, before)
        assert cases.same_bits(values_of(out), added), cases.differences(values_of(out), added)
    check_rows(data, made, values)


def check_rows(data: st.DataObject, made: Any, values: np.ndarray) -> None:
    if not made.shape or made.block_size[0] != 1 or (made._is_packed and len(made.shape) == 1):
        return
    n = made.shape[0]
    bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    step = st.sampled_from([None, 1, 2, 3] + [-1, -2] * isinstance(made, QuantizedArray))
    slices = st.builds(slice, bound, bound, step)
    rows = data.draw(slices | st.integers(-n, n - 1) if n else slices)
    part, wanted = made[rows], values[rows]
    assert tuple(part.shape) == wanted.shape
    found = values_of(part.dequantize())
    assert cases.same_bits(found, np.asarray(wanted)), cases.differences(found, np.asarray(wanted))
    assert type(part)(**vars(part)) == part
    assert type(part).from_dict(part.to_dict()) == part
