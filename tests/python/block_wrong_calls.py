"""Wrong calls with parameters of blocks raise what is documented and change nothing: part of properties.py."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from hypothesis import event, given
from hypothesis import strategies as st

import blocked
import model
import strategies as own
from piquant.numpy import QuantizedArray
from piquant.torch import QuantizedTensor
from right_calls import float_dtype, module, raw
from wrong_calls import DOCUMENTED, check_in_mode, names_an_argument, try_call

TOLD = ("quantize", "dequantize", "quantize_dequantize")
FUNCTIONS = (*TOLD, "compute_quant_params", "quantize_dynamic")
WRAP: dict[str, Any] = {"torch": own.as_torch, "numpy": lambda a: a, "buffers": memoryview}


def right_call(face: str, name: str) -> tuple[Any, list[Any], dict[str, Any], list[np.ndarray]]:
    """A right call with blocks, its data and its arguments by name; and all memory that it knows of."""
    wrap = WRAP[face]
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    q = np.arange(12, dtype=np.uint8).reshape(2, 6)
    first = q if name == "dequantize" else x
    codes = {"torch": torch.uint8, "numpy": np.uint8, "buffers": "uint8"}[face]
    right: dict[str, Any] = {"dtype": float_dtype(face, "float32") if name == "dequantize" else codes, "block_size": 4}
    memory = [first]
    function = getattr(module(face), name)
    if name in TOLD:
        scale, zero_point = np.full((2, 2), 0.1, np.float32), np.full((2, 2), 5, np.int16)
        out = np.full((2, 6), 77, np.uint8 if name == "quantize" else np.float32)
        memory += [scale, zero_point, out]
        right |= {"scale": wrap(scale), "zero_point": wrap(zero_point), "out": wrap(out)}
    elif name == "quantize_dynamic":
        out = function(wrap(x), **right)
        memory += map(raw, out if face == "buffers" else (out.data, out.scale, out.zero_point))
        right["out"] = out
    return function, [wrap(first)], right, [m.reshape(-1).view(np.uint8) for m in memory]


# Of what could be meant as parameters of 2 by 6 elements.
SHAPES: list[tuple[int, ...]] = [
    *[(2, 2)] * 3, (2,), (4,), (1, 2), (2, 1), (2, 6), (1, 1), (), (0,), (2, 2, 1),
]  # fmt: skip
ITEMS = ["f4", "f4", "f2", "f8", "i1", "u1", "i8", "u8", "?", "c8", "M8[s]", ">f4", ">i2", "S3", "O"]
BLOCK_SIZES: list[Any] = [
    0, -1, -2, 1, 6, 7, 2**62, 2**63, 2**64, (), (1, 4), (2, 4), (1, 1, 4), (1,) * 9, (4.0,), True, "4",
]  # fmt: skip


@st.composite
def params_like(draw: Any, face: str) -> Any:
    """Arrays that could be meant as parameters."""
    shape = draw(st.sampled_from(SHAPES))
    dtype = np.dtype(draw(st.sampled_from(ITEMS)))
    values = np.full(shape, draw(st.sampled_from([1, 0.5, 0, -1, np.nan, np.inf, 1e-40, 1e300, 200, -200])), np.float64)
    with np.errstate(all="ignore"):
        a = np.asarray(values.astype(dtype) if dtype.kind not in "MS" else np.zeros(shape, dtype))
    kind = draw(st.sampled_from([face, face, face, *own.FACES]))
    try:
        return WRAP[kind](a) if kind != "torch" or a.dtype.isnative else torch.zeros(shape)
    except (TypeError, ValueError):  # of no other kind
        return a


@given(st.data())
def any_arguments_of_blocks_are_right_or_refused(data: st.DataObject) -> None:
    face, name = data.draw(st.tuples(st.sampled_from(own.FACES), st.sampled_from(FUNCTIONS)))
    function, positional, named, memory = right_call(face, name)
    block_sizes = st.one_of(st.sampled_from(BLOCK_SIZES), st.lists(st.integers(-2, 7), max_size=3), own.junk)
    arguments = [n for n in named if n != "out"] + ["block_size", "scale_dtype", "out", "round_mode", "offset", "ctx"]
    for argument in data.draw(st.lists(st.sampled_from(arguments), min_size=1, max_size=2, unique=True)):
        if argument == "block_size":
            named[argument] = data.draw(block_sizes)
        elif argument in ("scale", "zero_point"):
            named[argument] = data.draw(params_like(face) | own.junk)
        elif argument in named or argument in function.__kwdefaults__:
            named[argument] = data.draw(own.junk)
    if data.draw(st.integers(0, 5)) == 0:
        positional[0] = data.draw(params_like(face) | own.junk)
    inputs = memory if named.get("out") is not None else memory[:3]
    try_call(function, positional, named, inputs)


@given(st.data())
def parameters_are_taken_if_they_fit(data: st.DataObject) -> None:
    """By a rule that says which do; those that do give what the model gives."""
    face, name = data.draw(st.sampled_from(own.FACES)), data.draw(st.sampled_from(TOLD))
    shape = data.draw(st.sampled_from([(4,), (3, 5), (5, 5), (2, 3, 4), (3, 1), (2, 1, 3)]))
    sizes = tuple(data.draw(own.block_lengths) for _ in shape)
    grid = blocked.grid(shape, sizes)
    block_size = data.draw(
        st.sampled_from([sizes, sizes, None, sizes[-1], sizes[1:], (*sizes, 1), (0, *sizes[1:]), (-2, *sizes[1:])])
    )
    ones = tuple(1 for _ in shape)
    near = st.sampled_from([grid, grid, grid, grid[::-1], grid[1:], (math.prod(grid),), (1, *grid), ones])
    scale = np.full(data.draw(near), 0.5, data.draw(st.sampled_from(["f4", "f4", "f8", "f2", "i4"])))
    zero_point = np.full(data.draw(near), 3, data.draw(st.sampled_from(["i1", "u1", "i8", "u8", "i4", "f4"])))
    bad = data.draw(st.sampled_from([None, None, np.nan, np.inf, 0, -1, 2.0**-140]))
    if bad is not None and scale.size and scale.dtype.kind == "f":
        scale.flat[data.draw(st.integers(0, scale.size - 1))] = bad
    point = data.draw(st.sampled_from([None, None, -129, 128, 2**40]))
    if point is not None and zero_point.size and zero_point.dtype.name in ("int32", "int64"):
        highest = int(np.iinfo(zero_point.dtype).max)
        zero_point.flat[data.draw(st.integers(0, zero_point.size - 1))] = min(point, highest)
    if block_size is None and (scale.ndim == 0 or (face == "torch" and scale.size == 1)):
        return  # a number
    wrap = WRAP[face]
    x = np.linspace(-3, 3, math.prod(shape), dtype=np.float32).reshape(shape)
    q = np.arange(x.size, dtype=np.int8).reshape(shape)
    out = np.full(shape, 77, np.int8 if name == "quantize" else np.float32)
    dtype = float_dtype(face, "float32") if name == "dequantize" else "int8"
    named = {"scale": wrap(scale), "zero_point": wrap(zero_point), "out": wrap(out)}
    named |= {"dtype": dtype, "block_size": block_size}
    first = wrap(q if name == "dequantize" else x)
    taken = try_call(getattr(module(face), name), [first], named, [raw(out), raw(scale)])
    wanted = blocks_told(face, shape, block_size, scale, zero_point)
    assert taken == (wanted is not None), f"{face} {shape} {block_size} {scale} {zero_point}"
    if wanted is None:
        return
    params = [p.reshape(blocked.grid(shape, wanted)) if p.ndim else p for p in (scale, zero_point)]
    each = [model.expanded(p, shape, blocked.sizes(shape, wanted)) if p.ndim else p for p in params]
    codes = q if name == "dequantize" else model.quantize(x, *each, "int8")
    assert np.array_equal(out, codes if name == "quantize" else model.dequantize(codes, *each, "int8", "float32"))


def are_scales(scale: np.ndarray) -> bool:
    """Whether all are scales for float32."""
    each = scale.astype(np.float64)
    return bool(((each >= 2.0**-126) & (each <= float(np.finfo(np.float32).max))).all())


def blocks_told(face: str, shape: tuple[int, ...], block_size: Any, scale: np.ndarray, zero_point: np.ndarray) -> Any:
    """The sizes of a block along each dimension that right parameters mean; None for wrong ones."""
    if block_size is None:
        if scale.size == 1:
            sizes = tuple(-1 for _ in shape)
        elif scale.ndim == len(shape) and all(s in (1, n) for s, n in zip(scale.shape, shape, strict=True)):
            sizes = tuple(-1 if s == 1 else 1 for s in scale.shape)
        else:
            return None
    else:
        sizes = block_size if isinstance(block_size, tuple) else (block_size,)
        if len(sizes) > len(shape) or not all(b == -1 or b >= 1 for b in sizes):
            return None
        sizes = (*(1,) * (len(shape) - len(sizes)), *sizes)
    grid = blocked.grid(shape, sizes)
    for a in (scale, zero_point):
        flat = face == "buffers" and block_size is not None and a.shape == (math.prod(grid),)
        one = block_size is None and a.size == 1 and math.prod(grid) == 1
        number = a is zero_point and a.ndim == 0 and face != "buffers"
        if not (a.shape == grid or flat or one or number):
            return None
    right = scale.dtype.kind == "f" and zero_point.dtype.kind in "iu" and are_scales(scale)
    return sizes if right and all(-128 <= int(z) <= 127 for z in zero_point.flat) else None


@given(st.data())
def parameters_without_plain_elements_are_refused(data: st.DataObject) -> None:
    """Tensors whose memory holds other numbers than they stand for, or none, as scales and zero points."""
    for kind in data.draw(st.lists(st.sampled_from(tuple(own.UNREADABLE)), min_size=4, max_size=4, unique=True)):
        for name in TOLD:
            function, positional, named, memory = right_call("torch", name)
            argument = data.draw(st.sampled_from(["scale", "zero_point"]))
            if kind == "carries other parameters":
                argument = "scale"
            right = named[argument]
            named[argument] = own.UNREADABLE[kind](data.draw, right)
            if data.draw(st.booleans()):
                named["out"] = None
            assert not try_call(function, positional, named, memory), f"{kind} was taken as {argument}"


@given(st.data())
def modes_of_torch_change_nothing_of_blocks_or_refuse(data: st.DataObject) -> None:
    mode, name = data.draw(st.sampled_from(tuple(own.MODES))), data.draw(st.sampled_from(FUNCTIONS))
    function, positional, named, _ = right_call("torch", name)
    check_in_mode(data, mode, function, positional, named)


@given(st.data())
def what_overlaps_is_refused(data: st.DataObject) -> None:
    """Data, parameters and outputs anywhere in the same memory: right results, or refused."""
    face, name = data.draw(st.sampled_from(["torch", "numpy"])), data.draw(st.sampled_from([*TOLD, "quantize_dynamic"]))
    memory = np.full(512, 1, np.uint8)

    def somewhere(dtype: Any, shape: tuple[int, ...], value: Any) -> np.ndarray:
        nbytes = np.dtype(dtype).itemsize * math.prod(shape)
        at = data.draw(st.integers(0, (len(memory) - 64 - nbytes) // 16)) * 16
        view = memory[at : at + nbytes].view(dtype).reshape(shape)
        view[...] = value
        return view

    wrap = WRAP[face]
    x = somewhere("f4", (4, 8), 0.25)
    scale = somewhere("f4", (4, 2), 0.5)
    zero_point = somewhere("i1", (4, 2), 1)
    q = somewhere("i1", (4, 8), 1)
    y = somewhere("f4", (4, 8), 0.125)
    named: dict[str, Any] = {"dtype": float_dtype(face, "float32") if name == "dequantize" else "int8", "block_size": 4}
    first = q if name == "dequantize" else x
    if name == "quantize_dynamic":
        kind = QuantizedTensor if face == "torch" else QuantizedArray
        named["out"] = kind(wrap(q), wrap(scale), wrap(zero_point), "int8", (4, 8), (1, 4), "float32")
        written, read = [q, scale, zero_point], [x]
    else:
        out = q if name == "quantize" else y
        named |= {"scale": wrap(scale), "zero_point": wrap(zero_point), "out": wrap(out)}
        written, read = [out], [first, scale, zero_point]
    if name == "quantize_dequantize" and out.ctypes.data == x.ctypes.data:
        read.remove(read[0])
    pairs = [(a, b) for a in written for b in read] + [(a, b) for i, a in enumerate(written) for b in written[:i]]
    apart = not any(np.may_share_memory(a, b) for a, b in pairs)
    with np.errstate(all="ignore"):
        sane = bool(np.isfinite(first.astype(np.float64)).all() and (name == "quantize_dynamic" or are_scales(scale)))
    kept = first.copy(), scale.copy(), zero_point.copy()
    unchanged = [memory] if sane or name != "quantize_dynamic" else []  # it finds NaN while it writes
    function = getattr(module(face), name)
    taken = try_call(function, [wrap(first)], named, unchanged)
    assert taken == (apart and sane), f"{name}: {'apart' if apart else 'overlapping'}"
    if taken:
        del named["out"]
        if name != "quantize_dynamic":
            named |= {"scale": wrap(kept[1]), "zero_point": wrap(kept[2])}
        wanted = function(wrap(kept[0]), **named)
        wanted = (wanted.data, wanted.scale, wanted.zero_point) if name == "quantize_dynamic" else (wanted,)
        assert all(np.array_equal(raw(a), raw(b)) for a, b in zip(wanted, written, strict=True))


some_ints = st.integers(-3, 9) | st.integers()
some_words = st.sampled_from(["int8", "int4", "float16", "float64", "dtype", ""]) | st.text(max_size=5)
any_json = st.recursive(
    st.none() | st.booleans() | some_ints | st.floats() | some_words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(st.data())
def any_dict_is_read_or_refused(data: st.DataObject) -> None:
    """A container's dict with anything else in it."""
    face = data.draw(st.sampled_from(["torch", "numpy"]))
    kind = {"torch": QuantizedTensor, "numpy": QuantizedArray}[face]
    x = WRAP[face](np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6))
    made = module(face).quantize_dynamic(
        x, block_size=4, dtype=data.draw(st.sampled_from(["uint8", "int4", "uint16"])),
        symmetric=data.draw(st.booleans()), scale_dtype=data.draw(st.sampled_from([None, "bfloat16"])),
    )  # fmt: skip
    arrays: Any = made.to_dict()
    text: Any = bytes(arrays["format"].tolist())
    how = data.draw(st.sampled_from(["values", "values", "values", "bytes", "arrays"]))
    if how == "values":
        fields = json.loads(text)
        for key in data.draw(st.lists(st.sampled_from([*fields, "zero_point"]), min_size=1, max_size=2, unique=True)):
            fields[key] = data.draw(any_json | st.lists(some_ints, max_size=3))
        text = json.dumps(fields).encode()
    elif how == "bytes":
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    memory = np.frombuffer(text, np.uint8).copy()
    arrays["format"] = torch.from_numpy(memory) if face == "torch" else memory
    if how == "arrays":
        for key in data.draw(st.lists(st.sampled_from(tuple(arrays)), min_size=1, max_size=2, unique=True)):
            arrays[key] = data.draw(own.junk | params_like(face))
    if data.draw(st.integers(0, 9)) == 0:
        arrays = data.draw(own.junk)
    names = ["arrays", "format", "data", "scale", "zero_point", "quant_dtype", "shape", "block_size", "dtype"]
    try:
        read = kind.from_dict(arrays)
    except DOCUMENTED as error:
        assert names_an_argument(str(error), names) or "evil" in str(error), repr(error)  # noqa: PT017
        event(f"{how}: {type(error).__name__}")
        return
    event(f"{how}: taken")
    assert repr(read).startswith(kind.__name__)
    assert read == kind.from_dict(read.to_dict())
    try:
        assert tuple(read.dequantize().shape) == read.shape
    except DOCUMENTED as error:
        assert names_an_argument(str(error), names), repr(error)  # noqa: PT017
