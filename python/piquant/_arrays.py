"""numpy's side of piquant.numpy: its dtypes, where the elements of an array are, and what is wrong with an array."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from piquant import _native
from piquant._dtypes import BITS, CODES, FLOAT_COUNT, FLOAT_NAMES, OVERLAP, QUANTIZED_NAMES, packed_shape, refuse, shown
from piquant._outputs import ADVISED_FROM, KEPT_FROM, allocated

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Array = NDArray[Any]

_native.use_array_type(np.ndarray)

SMALL: Final = ADVISED_FROM // 8  # elements: results of fewer need no advice, whatever their dtype


class Target(NamedTuple):
    """A dtype that stands for a quantized type."""

    code: int  # number of the quantized type
    storage: np.dtype[Any]  # dtype of the array that holds the codes
    packed_bits: int  # bits per code where the last dimension is packed, else 0
    field_bits: int  # bits per code where each code has a byte of its own, else 0
    stored: int  # number of the dtype that holds the codes, -1 where it is a dtype of ml_dtypes
    per_byte: int  # codes in a byte where the last dimension is packed, else 1


_NARROW: Final = ("int4", "uint4", "int2", "uint2")


def _known_floats() -> dict[np.dtype[Any], int]:
    return {np.dtype(name): CODES[name] for name in ("float16", "float32", "float64")}


def _known_targets() -> dict[object, Target]:
    targets: dict[object, Target] = {}
    for name, code in CODES.items():
        if code >= FLOAT_COUNT and name not in _NARROW:
            target = Target(code, np.dtype(name), 0, 0, code, 1)
            targets |= {name: target, np.dtype(name): target, np.dtype(name).type: target}
        elif name in _NARROW:
            targets[name] = Target(code, np.dtype(np.uint8), BITS[code], 0, CODES["uint8"], 8 // BITS[code])
    return targets


# dtypes, by every common spelling; ml_dtypes adds its own when one of them turns up.
FLOATS: Final = _known_floats()
_FLOAT_DTYPES: Final[dict[object, np.dtype[Any]]] = {
    spelling: dtype for dtype in FLOATS for spelling in (dtype, dtype.name, dtype.type)
}
_TARGETS: Final = _known_targets()


def _learn_ml_dtypes(dtype: np.dtype[Any]) -> None:
    """Adds a dtype of the ml_dtypes package to the tables. Known by name: the package itself is not needed here."""
    name = dtype.name
    if dtype.type.__module__ != "ml_dtypes" and not dtype.type.__module__.startswith("ml_dtypes."):
        return
    if name == "bfloat16":
        FLOATS[dtype] = CODES[name]
    elif name in _NARROW:
        target = Target(CODES[name], dtype, 0, BITS[CODES[name]], -1, 1)
        _TARGETS[dtype] = target
        _TARGETS[dtype.type] = target


def _native_dtype(dtype: DTypeLike | str) -> np.dtype[Any] | None:
    """What numpy knows as ``dtype``, in native byte order."""
    if dtype is None:
        return None
    if isinstance(dtype, str) and dtype == "bfloat16":
        # numpy knows the name once the package that brings the dtype is loaded.
        with contextlib.suppress(ImportError):
            import ml_dtypes  # noqa: F401, PLC0415  not needed by those who do not use it
    try:
        return np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):  # SyntaxError: "f4,,"
        return None


def float_dtype(dtype: DTypeLike | str, argument: str) -> np.dtype[Any]:
    """A float dtype of the tables, native byte order."""
    try:
        common = _FLOAT_DTYPES.get(dtype)
    except TypeError:  # unhashable
        common = None
    if common is not None:
        return common
    known = _native_dtype(dtype)
    if known is not None and known not in FLOATS:
        _learn_ml_dtypes(known)
    if known is None or known not in FLOATS:
        refuse(
            f"{argument} must be one of {FLOAT_NAMES} (bfloat16 with the package ml_dtypes), got {shown(dtype)}", dtype
        )
    return known


def float_code(x: Array) -> int:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a numpy.ndarray, got {type(x).__name__}")
    code = FLOATS.get(x.dtype)
    return code if code is not None else FLOATS[float_dtype(x.dtype, "the dtype of x")]


def target_of(dtype: DTypeLike | str, argument: str) -> Target:
    try:
        target = _TARGETS.get(dtype)
    except TypeError:  # unhashable
        target = None
    if target is None:
        known = _native_dtype(dtype)
        if known is not None:
            _learn_ml_dtypes(known)
            target = _TARGETS.get(known)
    if target is None:
        refuse(f"{argument} must be one of {QUANTIZED_NAMES}, got {shown(dtype)}", dtype)
    return target


def source_of(q: Array, source_dtype: DTypeLike | str | None) -> Target:
    if not isinstance(q, np.ndarray):
        raise TypeError(f"q must be a numpy.ndarray, got {type(q).__name__}")
    stored = target_of(q.dtype, "the dtype of q")
    if source_dtype is None:
        return stored
    source = target_of(source_dtype, "source_dtype")
    if source.storage != stored.storage:
        raise TypeError(f"source_dtype {shown(source_dtype)} is stored as {source.storage}, but q is of {q.dtype}")
    return source


def field_range(target: Target) -> tuple[int, int, int]:
    """Smallest and largest code of a narrow type, and the number of the 8-bit type of its sign."""
    bits = target.field_bits
    if target.code in (CODES["int2"], CODES["int4"]):
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1, CODES["int8"]
    return 0, (1 << bits) - 1, CODES["uint8"]


def plain(x: Array) -> Array:
    """``x`` as contiguous elements of native byte order."""
    if x.flags.c_contiguous and x.dtype.isnative:
        return x
    return np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")).reshape(x.shape)


def small_output(like: Array, dtype: np.dtype[Any], per_byte: int = 1) -> Array | None:
    """As ``output``, in less time, of the shape of an array, packed or not; None if it is large, or no plain array."""
    if type(like) is not np.ndarray or like.size >= SMALL:
        return None
    shape = like.shape if per_byte == 1 else packed_shape(like.shape, 8 // per_byte)
    return np.empty(shape, dtype)


def refuse_overlap(x: Array, used: Array, out: Array | None) -> None:
    """For an input of which a copy is used, as the native module sees the copy only."""
    if used is not x and isinstance(out, np.ndarray) and np.may_share_memory(x, out):
        raise ValueError(OVERLAP)


def output(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if out is None:
        return _fresh(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray or None, got {type(out).__name__}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out must be of {dtype} in native byte order, got {out.dtype!r}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous, got strides {out.strides} for shape {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    return out


def _fresh(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes >= KEPT_FROM:
        memory = _native.output_memory(nbytes)
        if memory is not None:
            return np.ndarray(shape, dtype, buffer=memory)
    fresh: Array = allocated(lambda: np.empty(shape, dtype))
    if nbytes >= ADVISED_FROM:
        _native.prepare_output(hold(fresh, True).address, nbytes)
    return fresh


def hold(x: Array, writable: bool) -> _native.Buffer:
    """The memory of an array; dtypes of ml_dtypes do not export theirs, a view as integers does."""
    return _native.Buffer(x if x.dtype.char in "efdbBhHiIlLqQ" else x.view(f"u{x.itemsize}"), writable)
