"""Wrong calls raise what is documented and change nothing, whatever hypothesis thinks of: part of properties.py."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import event, given
from hypothesis import strategies as st

import piquant
import strategies as own
from right_calls import elements_of, float_dtype, module

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTED = (ValueError, TypeError, BufferError, MemoryError)


def right_call(face: str, name: str) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """A call that is right, its data and its arguments by name; ``out`` holds 77s."""
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    q = np.arange(8, dtype=np.uint8)
    out = np.full(8, 77, np.uint8 if name == "quantize" else np.float32)
    wrap = {"torch": own.as_torch, "numpy": lambda a: a, "buffers": memoryview}[face]
    dtype = {"torch": torch.uint8, "numpy": np.uint8, "buffers": "uint8"}[face]
    right: dict[str, Any] = {"dtype": float_dtype(face, "float32") if name == "dequantize" else dtype}
    if name != "compute_quant_params":
        right |= {"scale": 0.1, "zero_point": 5, "out": wrap(out)}
    return getattr(module(face), name), [wrap(q if name == "dequantize" else x)], right


FUNCTIONS = ("quantize", "dequantize", "quantize_dequantize", "compute_quant_params")


def names_an_argument(message: str, names: list[str]) -> bool:
    return any(re.search(rf"(?<!\w){name}(?!\w)", message) for name in names)


def try_call(
    function: Callable[..., Any], positional: list[Any], named: dict[str, Any], memory: list[np.ndarray]
) -> bool:
    """Whether the call was right. If not, it raised what is documented, named an argument, and changed nothing."""
    before = [m.copy() for m in memory]
    names = list(inspect.signature(function).parameters)
    raised = None
    try:
        function(*positional, **named)
    except DOCUMENTED as error:
        raised = error
    if raised is not None:
        assert all(map(np.array_equal, memory, before)), f"changed its output, then raised {raised!r}"
        if "evil" not in str(raised):
            assert names_an_argument(str(raised), names), f"the message names no argument: {raised!r}"
        event(f"{function.__name__}: {type(raised).__name__}")
        return False
    return True


@given(st.data())
def any_arguments_are_right_or_refused(data: st.DataObject) -> None:
    face, name = data.draw(st.tuples(st.sampled_from(own.FACES), st.sampled_from(FUNCTIONS)))
    function, positional, named = right_call(face, name)
    out = named.get("out")
    memory = [np.frombuffer(out.numpy() if face == "torch" else out, np.uint8)] if out is not None else []
    parameters = list(inspect.signature(function).parameters)
    for argument in data.draw(st.lists(st.sampled_from(parameters), min_size=1, max_size=3, unique=True)):
        value = data.draw(own.junk)
        if argument == parameters[0]:
            positional[0] = value
        else:
            named[argument] = value
    try_call(function, positional, named, memory)


@given(st.data())
def any_output_is_right_or_refused(data: st.DataObject) -> None:
    """Outputs of any type, shape and layout, apart from the input or on top of it."""
    face, name = data.draw(st.sampled_from(["torch", "numpy"])), data.draw(st.sampled_from(FUNCTIONS[:3]))
    function, positional, named = right_call(face, name)
    memory = np.arange(256, dtype=np.uint8) % 64
    wanted_dtype = np.uint8 if name == "quantize" else np.float32
    dtype = np.dtype(data.draw(st.sampled_from([*[wanted_dtype] * 6, "u1", "f4", "i1", "f2", "f8", "i4", "u2"])))
    start = data.draw(st.integers(0, 3)) * 8
    wide = memory[start : start + 16 * dtype.itemsize].view(dtype)
    kinds = {"right": wide[:8], "column": wide[:8, None], "row": wide[None, :8], "strided": wide[::2], "too many": wide}
    kinds |= {"reversed": wide[:8][::-1], "matrix": wide[:8].reshape(2, 4), "any": wide[:8]}
    kind = data.draw(st.sampled_from(tuple(kinds)))
    out = data.draw(own.views(kinds[kind])) if kind == "any" else kinds[kind]
    if data.draw(st.integers(0, 2)) == 0:  # an input in the same memory
        real = np.uint8 if name == "dequantize" else np.float32
        size = 8 * np.dtype(real).itemsize
        at = data.draw(st.integers(0, 16)) * 4
        x = memory[at : at + size].view(real)
        positional = [torch.from_numpy(x) if face == "torch" else x]
    if data.draw(st.integers(0, 4)) == 0:
        out = out[...]
        out.flags.writeable = face == "torch"
    given = np.asarray(positional[0])
    in_place = name == "quantize_dequantize" and given.ctypes.data == out.ctypes.data and given.strides == out.strides
    overlapping = np.may_share_memory(out, given) and not in_place
    named["out"] = torch.from_numpy(out) if face == "torch" and own.as_torch(out).data_ptr() == out.ctypes.data else out
    outside = memory.copy()
    right = try_call(function, positional, named, [memory])
    fits = out.dtype == wanted_dtype and out.shape == (8,) and out.flags.writeable
    if isinstance(named["out"], torch.Tensor) == (face == "torch"):
        assert right == (fits and not overlapping), f"{out.dtype} {out.shape} {out.strides}, overlap: {overlapping}"
    if right:
        changed = elements_of(out, memory)
        assert np.array_equal(outside[~changed], memory[~changed]), "bytes outside of out were written"


@given(st.data())
def tensors_without_plain_elements_are_refused(data: st.DataObject) -> None:
    """Tensors whose memory holds other numbers than they stand for, or none, in the layouts that they can have."""
    array = data.draw(own.floats("float32", 0.1, "uint8"))
    floats = own.as_torch(np.where(np.isfinite(array), array, 0).astype(array.dtype))
    codes = own.as_torch(data.draw(own.codes("uint8")))
    for kind in data.draw(st.lists(st.sampled_from(tuple(own.UNREADABLE)), min_size=6, max_size=6, unique=True)):
        make = own.UNREADABLE[kind]
        for name in FUNCTIONS:
            function, _, named = right_call("torch", name)
            right = codes if name == "dequantize" else floats
            has_out = named.pop("out", None) is not None
            strange = make(data.draw, right)
            assert not try_call(function, [strange], named, []), f"{kind} was taken"
            if not has_out:
                continue
            out = torch.full(right.shape, 77, dtype=torch.uint8 if name == "quantize" else torch.float32)
            memory = [out.reshape(-1).numpy().view(np.uint8)]
            assert not try_call(function, [strange], {**named, "out": out}, memory), f"{kind} was taken"
            strange = make(data.draw, out)
            # A resized one is of another shape, and no other fault of the call shall hide this one.
            given = torch.zeros(strange.shape, dtype=right.dtype) if kind == "resized" else right
            assert not try_call(function, [given], {**named, "out": strange}, memory), f"{kind} was taken as out"


@given(st.data())
def modes_of_torch_change_nothing_or_refuse(data: st.DataObject) -> None:
    """Real tensors while torch makes others, or none that know of autograd."""
    mode = data.draw(st.sampled_from(tuple(own.MODES)))
    for name in FUNCTIONS:
        function, positional, named = right_call("torch", name)
        check_in_mode(data, mode, function, positional, named)


def parts(result: Any) -> tuple[Any, ...]:
    """The tensors or numbers of a result."""
    if isinstance(result, piquant.torch.QuantizedTensor):
        return result.data, result.scale, result.zero_point
    return result if isinstance(result, tuple) else (result,)


def check_in_mode(
    data: st.DataObject, mode: str, function: Callable[..., Any], positional: list[Any], named: dict[str, Any]
) -> None:
    if data.draw(st.booleans()):
        named.pop("out", None)
    wanted = [p.clone() if isinstance(p, torch.Tensor) else p for p in parts(function(*positional, **named))]
    try:
        with own.MODES[mode]():
            got = function(*positional, **named)
    except DOCUMENTED as error:
        event(f"{mode}: {type(error).__name__}")
    else:
        for a, b in zip(parts(got), wanted, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@given(st.data())
def negated_outputs_are_refused(data: st.DataObject) -> None:
    """Views of negated numbers, as ``_neg_view`` makes them and the imaginary part of a conjugate is one."""
    name = data.draw(st.sampled_from(FUNCTIONS[:3]))
    function, positional, named = right_call("torch", name)
    out = named["out"]
    if out.is_floating_point() and data.draw(st.booleans()):
        named["out"] = torch.complex(out, out).conj().imag
    else:
        named["out"] = torch._neg_view(out)
    assert not try_call(function, positional, named, [out.numpy().view(np.uint8)])


@given(st.data())
def tensors_carry_the_parameters_of_the_call(data: st.DataObject) -> None:
    """Tensors of torch's quantized dtypes are read, and written, by the parameters that they carry, or refused."""
    dtype = data.draw(st.sampled_from(tuple(own.TORCH_QUANTIZED.values())))
    numbers = st.tuples(st.sampled_from([0.1, 0.5, 0.5 + 2**-40, 0.7]), st.integers(0, 3))
    (scale, zero_point), carried = data.draw(numbers), data.draw(numbers)
    x = torch.linspace(-1, 1, 16).reshape(2, 8)
    if data.draw(st.booleans()):
        q = piquant.torch.quantize(x, scale=carried[0], zero_point=carried[1], dtype=dtype)
    elif dtype is torch.quint2x4:
        return  # torch makes none with several scales
    else:
        points = torch.tensor([carried[1]] * 2, dtype=torch.float if dtype is torch.quint4x2 else torch.long)
        q = torch.quantize_per_channel(x, torch.tensor([carried[0]] * 2), points, 0, dtype)
    same = q.qscheme() == torch.per_tensor_affine and carried == (scale, zero_point)
    codes = torch.empty(0, dtype=torch.uint8).set_(q.untyped_storage()).numpy()
    named: dict[str, Any] = {"scale": scale, "zero_point": zero_point}
    if data.draw(st.booleans()):
        assert try_call(piquant.torch.dequantize, [q], {**named, "dtype": torch.float32}, [codes]) == same
    else:
        assert try_call(piquant.torch.quantize, [x + 1], {**named, "dtype": dtype, "out": q}, [codes]) == same


@given(st.data())
def masked_arrays_are_refused(data: st.DataObject) -> None:
    """Those that have something to hide; as ``out`` all, since a result may not be hidden."""
    name = data.draw(st.sampled_from(FUNCTIONS))
    function, _, named = right_call("numpy", name)
    array = data.draw(own.codes("uint8") if name == "dequantize" else own.floats("float32", 0.1, "uint8"))
    array = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    plain = np.full(array.shape, 77, named.pop("out").dtype if "out" in named else np.uint8)
    if name != "compute_quant_params" and data.draw(st.booleans()):
        wrong = not try_call(function, [array], {**named, "out": data.draw(own.masked(plain))[0]}, [plain])
        assert wrong, "a masked output was taken"
        return
    masked, any_hidden = data.draw(own.masked(array))
    if name != "compute_quant_params":
        named["out"] = plain
    right = try_call(function, [masked], named, [plain])
    assert right == (not any_hidden and not (name == "compute_quant_params" and array.size == 0))


@given(st.data())
def names_of_dtypes_are_known_or_refused(data: st.DataObject) -> None:
    """Strings that numpy's own parser takes amiss, or torch's, are names like others: known, or a ``ValueError``."""
    name = data.draw(st.sampled_from(FUNCTIONS))
    for spelled in data.draw(st.lists(own.names_of_dtypes, min_size=8, max_size=8)):
        for face in own.FACES:
            check_name(face, name, spelled, data.draw(st.sampled_from(["dtype", "dtype", "source_dtype"])))


def check_name(face: str, name: str, spelled: str, argument: str) -> None:
    function, positional, named = right_call(face, name)
    named.pop("out", None)
    if name != "compute_quant_params":
        named["zero_point"] = 1  # which all types have
    if argument not in inspect.signature(function).parameters:
        argument = "dtype"
    named[argument] = spelled
    known = {"torch": own.named_by_torch, "numpy": own.named_by_numpy, "buffers": own.named_by_us}[face](spelled)
    try:
        result = function(*positional, **named)
    except (ValueError, TypeError) as error:
        # A source_dtype may be a right name, and that of another type than the elements have.
        assert isinstance(error, ValueError) or (argument == "source_dtype" and known is not None), error  # noqa: PT017
        assert names_an_argument(str(error), [argument]), error  # noqa: PT017
        event(f"{face}: refused")
        return
    event(f"{face}: taken")
    assert known is not None, f"{spelled!r} was taken"
    if argument == "dtype" and name in ("quantize", "dequantize") and face != "buffers":
        assert result.dtype in (known, torch.uint8 if face == "torch" else np.uint8)
