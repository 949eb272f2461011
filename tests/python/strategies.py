"""Hypothesis strategies: arrays in every layout, parameters that are right, and arguments that are anything."""

from __future__ import annotations

import array
import ctypes
import decimal
import fractions
import math
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import cases
import model
import piquant

if TYPE_CHECKING:
    from collections.abc import Callable

for thought in ("quantized tensor creation functions", "nested tensors", "Sparse CSR", "Sparse invariant"):
    warnings.filterwarnings("ignore", message=f".*{thought}.*")  # what torch thinks of its own

FACES = ("torch", "numpy", "buffers")
TORCH_FLOATS = {name: getattr(torch, name) for name in model.FLOATS}
TORCH_QUANTIZED = {
    "quint8": torch.quint8, "qint8": torch.qint8, "qint32": torch.qint32,
    "quint4x2": torch.quint4x2, "quint2x4": torch.quint2x4,
}  # fmt: skip
NARROW = ("int2", "uint2", "int4", "uint4")
SHELLS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in range(1, 8)]

shapes = st.one_of(
    st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple),
    st.integers(0, 300).map(lambda n: (n,)),
    st.tuples(st.integers(0, 4), st.integers(0, 40)),
)
reals = st.sampled_from(tuple(model.FLOATS))
targets = st.sampled_from(tuple(model.QUANTIZED))
words = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**64 - 1, 65536, 65535, 2**63]))


class Params(NamedTuple):
    """Right parameters for a type."""

    scale: float
    zero_point: int
    quant_min: int | None
    quant_max: int | None


@st.composite
def params(draw: Any, real: str, target: str) -> Params:
    t = model.QUANTIZED[target]
    scale = draw(st.sampled_from(cases.scales(real)) | st.floats(1e-6, 1e6))
    zero_point = draw(st.sampled_from(cases.zero_points(target)) | st.integers(t.low, t.high))
    limits = st.sampled_from(cases.ranges(target))
    both = st.lists(st.integers(t.low, t.high), min_size=2, max_size=2, unique=True).map(sorted)
    low, high = draw(limits | both)
    return Params(scale, zero_point, low, high)


# Sizes of a block along a dimension: any, and what is larger than the dimension.
block_lengths = st.one_of(st.just(-1), st.integers(1, 9), st.sampled_from([1, 16, 32, 64, 300, 2**62]))


@st.composite
def block_sizes(draw: Any, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """A block size for arrays of this shape in one of its spellings, and its size along each dimension."""
    given = draw(st.lists(block_lengths, min_size=0, max_size=len(shape)).map(tuple))
    spellings: list[Any] = [given, list(given), tuple(map(np.int64, given))]
    if len(given) == 1:
        spellings += [given[0], given[0], np.uint64(given[0]) if given[0] > 0 else np.int8(-1), torch.tensor(given[0])]
    return draw(st.sampled_from(spellings)), (*(1,) * (len(shape) - len(given)), *given)


@st.composite
def gaps(draw: Any, values: np.ndarray, *, backwards: bool) -> np.ndarray:
    """The same values in an array of the same shape and any layout."""
    how = draw(st.sampled_from(["dense", "dense", "column-major", "apart", "reversed", "somewhere"]))
    if values.ndim == 0:
        return values
    if how == "column-major":
        return np.asfortranarray(values)
    if how == "apart":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if how == "reversed" and backwards:
        return np.flip(np.ascontiguousarray(np.flip(values, 0)), 0)
    return draw(placed(values.flatten(), values.shape)) if how == "somewhere" else values


@st.composite
def views(draw: Any, base: np.ndarray) -> np.ndarray:
    """Some view of the data: transposed, sliced, reversed, repeated, without or with more dimensions."""
    x = base
    for _ in range(draw(st.integers(0, 3))):
        how = draw(st.sampled_from(["transpose", "slice", "reverse", "new axis", "broadcast", "index", "fortran"]))
        if how == "transpose":
            x = x.transpose(draw(st.permutations(range(x.ndim))))
        elif how == "slice" and x.ndim:
            axis, start, step = draw(st.integers(0, x.ndim - 1)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
            x = x[(slice(None),) * axis + (slice(start, None, step),)]
        elif how == "reverse" and x.ndim:
            x = np.flip(x, draw(st.integers(0, x.ndim - 1)))
        elif how == "new axis" and x.ndim < 5:
            x = np.expand_dims(x, draw(st.integers(0, x.ndim)))
        elif how == "broadcast" and x.size < 300 and x.ndim < 5:
            x = np.broadcast_to(x, (draw(st.integers(0, 3)), *x.shape))
        elif how == "index" and x.ndim and x.shape[0]:
            x = x[draw(st.integers(0, x.shape[0] - 1)), ...]
        elif how == "fortran":
            x = np.asfortranarray(x)
    return x


@st.composite
def placed(draw: Any, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The data at some address, which need not be a multiple of anything."""
    shift = draw(st.sampled_from([0, 0, 1, 2, 3, 8, 63]))
    memory = np.zeros(flat.nbytes + 64, np.uint8)
    memory[shift : shift + flat.nbytes] = flat.view(np.uint8)
    return memory[shift : shift + flat.nbytes].view(flat.dtype).reshape(shape)


@st.composite
def rooms(
    draw: Any, dtype: np.dtype, shape: tuple[int, ...], *, packed_rows: bool, backwards: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A view of a shape in a layout whose elements share no memory, and the memory around it.

    The bytes of packed rows lie side by side.
    """
    order = list(draw(st.permutations(range(len(shape))))) if draw(st.booleans()) else list(range(len(shape)))
    steps, ends = [1] * len(shape), [0] * len(shape)
    if draw(st.booleans()):
        steps = [draw(st.integers(1, 3)) for _ in shape]
        ends = [draw(st.integers(0, 2)) for _ in shape]
    if packed_rows and shape:
        order.remove(len(shape) - 1)
        order.append(len(shape) - 1)
        steps[-1] = 1
    sizes = [n * step + end for n, step, end in zip(shape, steps, ends, strict=True)]
    shift = draw(st.integers(0, 2)) * 16 + (draw(st.integers(0, 7)) if backwards else 0)
    nbytes = math.prod(sizes) * dtype.itemsize
    memory = np.full(-(-(nbytes + 96) // 16) * 16, 0xA5, np.uint8)
    room = memory[shift : shift + nbytes].view(dtype).reshape([sizes[d] for d in order])
    view = room.transpose(np.argsort(order))
    view = view[(..., *(slice(0, n * step, step) for n, step in zip(shape, steps, strict=True)))]
    if backwards:
        for d in range(len(shape) - packed_rows):
            view = np.flip(view, d) if draw(st.integers(0, 3)) == 0 else view
    return view, memory


@st.composite
def floats(draw: Any, real: str, scale: float, target: str) -> np.ndarray:
    shape = draw(shapes)
    data = cases.floats(real, scale, target, math.prod(shape), draw(st.integers(0, 2**32 - 1)))
    return draw(views(draw(placed(data, shape))))


@st.composite
def codes(draw: Any, target: str) -> np.ndarray:
    shape = draw(shapes)
    data = cases.codes(target, math.prod(shape), draw(st.integers(0, 2**32 - 1)))
    return draw(views(draw(placed(data, shape))))


def as_torch(x: np.ndarray) -> torch.Tensor:
    """A tensor of the same elements; strides too, where torch has such."""
    if any(s < 0 or s % x.itemsize for s in x.strides) or x.ctypes.data % x.itemsize or not x.flags.writeable:
        x = x.copy()
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def as_numpy(x: torch.Tensor) -> np.ndarray:
    """The elements of a plain tensor."""
    x = x.detach().resolve_neg()
    return x.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


@st.composite
def strange_tensors(draw: Any, x: torch.Tensor, *, same_shape: bool = False) -> torch.Tensor:
    """The same values in a tensor of another kind."""
    kinds = ["plain", "plain", "parameter", "negated", "imaginary", "channels last", *["expanded"] * (not same_shape)]
    kind = draw(st.sampled_from(kinds))
    if kind == "parameter":
        return torch.nn.Parameter(x)
    if kind == "negated":
        return torch._neg_view(-x)
    if kind == "imaginary" and x.dtype in (torch.float32, torch.float64):
        return torch.complex(x, -x).conj().imag
    if kind == "expanded" and x.dim() and x.numel():
        return x[:1].expand(3, *x.shape[1:])
    if kind == "channels last" and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x


@st.composite
def strange_codes(draw: Any, q: torch.Tensor) -> torch.Tensor:
    """The same codes in a tensor of another kind."""
    kind = draw(st.sampled_from(["plain", "plain", "parameter", "negated"]))
    if kind == "parameter":
        return torch.nn.Parameter(q, requires_grad=False)
    if kind == "negated" and q.dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64):
        return torch._neg_view(-q)
    return q


@st.composite
def strange_arrays(draw: Any, x: np.ndarray) -> np.ndarray:
    """The same values in an array of another kind."""
    kind = draw(st.sampled_from(["plain", "plain", "swapped", "nothing masked", "subclass"]))
    if kind == "swapped" and x.dtype.kind in "iuf":
        return x.astype(x.dtype.newbyteorder())
    if kind == "nothing masked":
        return np.ma.masked_array(x, mask=draw(st.sampled_from([np.ma.nomask, False])))
    return x.view(np.memmap) if kind == "subclass" else x


@st.composite
def masked(draw: Any, x: np.ndarray) -> tuple[np.ma.MaskedArray, bool]:
    """The array with a mask, and whether it hides anything."""
    hidden = draw(st.sampled_from(["nothing", "one", "all"]))
    mask = np.full(x.shape, hidden == "all")
    if hidden == "one" and x.size:
        mask.flat[draw(st.integers(0, x.size - 1))] = True
    return np.ma.masked_array(x, mask=mask), bool(mask.any())


def _resized(draw: Any, x: torch.Tensor) -> torch.Tensor:
    """A tensor whose storage was resized beneath it: to nothing, or to a part of what 4 MiB of elements take."""
    large = draw(st.integers(0, 9)) == 0
    whole = torch.zeros((8 << 20) // x.element_size() if large else 64, dtype=x.dtype)
    shrunk = draw(st.sampled_from([whole, whole[::2], whole.reshape(4, -1).T, whole[whole.numel() // 2 :]]))
    whole.untyped_storage().resize_(draw(st.integers(0, 7 << 20)) if large else 0)
    return shrunk


def _carrying(draw: Any, x: torch.Tensor) -> torch.Tensor:
    """A quantized tensor that carries other parameters than scale 0.1 and zero point 5."""
    dtype = draw(st.sampled_from(tuple(TORCH_QUANTIZED.values())))
    return piquant.torch.quantize(x.float(), scale=draw(st.sampled_from([0.1, 0.7])), zero_point=1, dtype=dtype)


# Makes tensors that look like a given one and must be refused, as an input and as ``out``: their memory and shape do
# not tell their numbers.
UNREADABLE: dict[str, Any] = {
    "sparse": lambda _, t: t.to_sparse(),
    "csr": lambda _, t: t.reshape(1, -1).to_sparse_csr(),
    "nested": lambda _, t: torch.nested.nested_tensor([t.reshape(-1), t.reshape(-1)[:3]]),
    "jagged": lambda _, t: torch.nested.nested_tensor([t.reshape(-1), t.reshape(-1)[:3]], layout=torch.jagged),
    "complex": lambda _, t: t.to(torch.complex64),
    "conjugated": lambda _, t: t.to(torch.complex64).conj(),
    "bool": lambda _, t: t.to(torch.bool),
    "float8": lambda _, t: t.to(torch.float8_e4m3fn),
    "shell": lambda draw, t: t.to(torch.uint8).view(draw(st.sampled_from(SHELLS))),
    "shell of packed codes": lambda draw, t: t.to(torch.uint8).view(getattr(torch, draw(st.sampled_from(NARROW)))),
    "mkldnn": lambda _, t: torch.zeros(2, 4, dtype=t.dtype).float().to_mkldnn(),
    "uninitialized": lambda _, t: torch.nn.UninitializedBuffer(dtype=t.dtype),
    "uninitialized parameter": lambda _, t: torch.nn.UninitializedParameter(requires_grad=False, dtype=t.dtype),
    "resized": _resized,
    "carries other parameters": _carrying,
    "no tensor": lambda _, t: t.tolist(),
    "numpy": lambda _, t: t.numpy(),
}


# Some end the process within numpy's own parser, some are names of what is no number.
_ODD_NAMES = (
    "9T", "9Z", "f4,f4", "(2,3)f4", "V8", "O", "M8[s]", "U4", "S3", "i3", "f16", "float128", "float8_e4m3fn", "", "<",
    "<<f4", "=", "\ud800", "int4\0", "torch.", "torch.torch.int8", "torch.int3", "torch.uint1", "torch.Tensor", "nan",
    "torch.complex64", "numpy.int8", "dtype", "__class__", "bool", "longdouble", "object", "Int8", " int8", "int8 ",
)  # fmt: skip
_KNOWN_NAMES = (
    *model.FLOATS, *model.QUANTIZED, *TORCH_QUANTIZED, "f4", "u1", "i8", "single", "intc", "half", "B", "q", "d",
)  # fmt: skip
_PREFIXES = ("torch.", "numpy.", "<", ">", "=", "|", "2", " ")
names_of_dtypes = st.one_of(
    st.sampled_from(_ODD_NAMES),
    st.sampled_from(_KNOWN_NAMES),
    st.builds("".join, st.tuples(st.sampled_from(_PREFIXES), st.sampled_from(_KNOWN_NAMES))),
    st.text("0123456789TZfiuVOMUSbhlq<>=|,.()[]", max_size=6),
    st.text(max_size=6),
)


MODES: dict[str, Callable[[], Any]] = {
    "FakeTensorMode": FakeTensorMode, "meta by default": lambda: torch.device("meta"), "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}  # fmt: skip


def named_by_torch(name: str) -> Any:
    """What the name says, if it is one that the face knows."""
    name = name.removeprefix("torch.")
    return getattr(torch, name) if name in (*model.FLOATS, *model.QUANTIZED, *TORCH_QUANTIZED) else None


def named_by_numpy(name: str) -> Any:
    """The same; a sign for the byte order may come first, and says nothing."""
    name = name[name[:1] in ("<", ">", "=", "|") :]
    if name in NARROW:
        return np.dtype(np.uint8)
    if name == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    alias = re.fullmatch("f[248]|[iu][1248]|[efdbBhHiIlLqQ]", name)
    known = np.dtype(name) if alias or name in np.sctypeDict else None
    return known if known is not None and known.name in (*model.FLOATS, *model.QUANTIZED) else None


def named_by_us(name: str) -> Any:
    return name if name in (*model.FLOATS, *model.QUANTIZED) else None


class Evil:
    """Raises from everything that an argument may be asked."""

    def _raise(self, *_: object) -> Any:
        raise ValueError("evil argument")

    __index__ = __float__ = __bool__ = __repr__ = __str__ = __eq__ = __len__ = __iter__ = __getitem__ = _raise
    __hash__ = object.__hash__


# What callers get wrong, and what they may well expect to work.
_NUMBERS = (
    10**5000, -(2**63), 2**63, 2**64, -1, 0, 1, 3, 255, 256, 1e-39, 5e-324, 1e39, 0.1, float("nan"), float("inf"), -0.0,
    decimal.Decimal("0.1"), fractions.Fraction(1, 3), np.float32(0.5), np.float64("nan"), np.int64(3), np.uint8(255),
    np.uint64(2**64 - 1), np.bool_(True), np.array(0.5), np.array(3), np.array([0.5]), ml_dtypes.bfloat16(0.5),
    torch.tensor(0.5), torch.tensor(3), torch.tensor([0.5]), torch.tensor(0.5, requires_grad=True),
)  # fmt: skip
_NAMES = (
    "add", "set", "nearest", "stochastic", "uint4", "UINT8", "float32", "bfloat16", "float8_e4m3", "\ud800", "uint8\0",
    "9T", "torch.int8", "é" * 300, np.str_("uint8"), piquant.DataType.UINT8, piquant.DataType.F32, piquant.ReduceOp.ADD,
    piquant.RoundMode.STOCHASTIC,
)  # fmt: skip
_DTYPES = (
    np.dtype("f4"), np.uint8, np.dtype("V8"), np.dtype([("a", "f4")]), np.float16, np.complex64, ml_dtypes.bfloat16,
    ml_dtypes.int4, ml_dtypes.float8_e5m2, torch.float32, torch.uint8, torch.quint4x2, torch.int4, torch.complex64,
    torch.bool, torch.uint1, torch.int7, torch.float8_e4m3fn, torch.strided,
)  # fmt: skip
_ARRAYS = (
    np.array([1, 2]), np.zeros((2, 0)), np.array(["a"], object), np.datetime64("2020"), np.arange(12.0)[::2],
    torch.tensor([1.0, 2.0]), torch.tensor(0.5, device="meta"), torch.zeros(3).to_sparse(),
    torch.zeros(2, device="meta"), array.array("f", [1.0]), array.array("u", "a"), array.array("B", [1, 2, 3]),
    bytearray(4), memoryview(b"1234")[::2], (ctypes.c_float * 2)(), (ctypes.c_char_p * 2)(), range(3),
)  # fmt: skip
_ARRAYS += (
    np.ma.masked_array([1.0, 2.0], mask=[False, True]), np.ma.masked,
    torch.zeros(8, dtype=torch.uint8).view(torch.uint4), torch._neg_view(torch.ones(8)),
    torch.ones(8, dtype=torch.complex64).conj(), torch.nn.UninitializedParameter(),
    torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)], layout=torch.jagged),
    FakeTensorMode().from_tensor(torch.zeros(8)),
    torch.quantize_per_channel(torch.zeros(2, 4), torch.tensor([0.1, 0.2]), torch.tensor([5, 5]), 0, torch.quint8),
)  # fmt: skip
_OTHERS = (object(), object, Evil, ..., NotImplemented, piquant.Context(1))

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(), st.none(), max_size=1),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_NAMES),
    st.sampled_from(_DTYPES),
    st.sampled_from(_ARRAYS),
    st.sampled_from(_OTHERS),
    st.builds(Evil),
)
