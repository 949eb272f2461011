"""numpy's side of piquant.numpy: its dtypes, what is wrong with an array, and new arrays for results."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from piquant import _native
from piquant._dtypes import (
    CODE_NAMES,
    CODES,
    DTYPE_ID,
    FLOAT_NAMES,
    PACKED,
    draw_seed,
    refuse,
    refuse_float_zero_points,
    shown,
)
from piquant._outputs import ADVISED_FROM, KEPT_FROM, allocated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

DTYPES: Final[dict[object, _native.DType]] = {}
"""Every spelling of a dtype. Strings are looked up here and never given to numpy, whose parser some of them crash."""


def _learn(dtype: np.dtype[Any], dtype_id: int, *spellings: str) -> None:
    """Adds a dtype. What says that it is known, the dtype itself, comes last.

    Of threads that learn the same, the first one makes the entry of all: the native module does not keep it alive.
    """
    known = DTYPES.setdefault(dtype.type, _native.DType(dtype_id, dtype_id, dtype))
    for spelling in (*spellings, dtype):
        DTYPES[spelling] = known


def _learn_numpy() -> None:
    for name in ("float16", "float32", "float64", *(name for name in CODES if name not in PACKED)):
        _learn(np.dtype(name), DTYPE_ID[name])
    uint8 = DTYPES[np.dtype(np.uint8)]
    for alias, scalar in np.sctypeDict.items():  # "single", "f4", "intc" and so on
        if isinstance(alias, str) and np.dtype(scalar) in DTYPES:
            DTYPES[alias] = DTYPES[np.dtype(scalar)]
    for letter in "efdbBhHiIlLqQ":
        DTYPES[letter] = DTYPES[np.dtype(letter)]
    for known in tuple(DTYPES.values()):
        DTYPES[known.storage.str[1:]] = known  # "f4" and so on
    for name in PACKED:
        DTYPES[name] = _native.DType(DTYPE_ID[name], uint8.id, uint8.storage)


_learn_numpy()


def _learn_ml_dtypes(dtype: np.dtype[Any]) -> None:
    """Adds a dtype of the ml_dtypes package. It is known by name, so that the package itself is not needed here."""
    module, name = dtype.type.__module__, dtype.name
    if (module == "ml_dtypes" or module.startswith("ml_dtypes.")) and dtype not in DTYPES:
        if name == "bfloat16":
            _learn(dtype, DTYPE_ID[name], name)
        elif name in PACKED:
            _learn(dtype, DTYPE_ID[f"{name}_unpacked"])


def _known(dtype: object) -> _native.DType | None:
    """The entry of ``DTYPES`` for a spelling that need not be there."""
    if isinstance(dtype, str):
        if dtype == "bfloat16":
            with contextlib.suppress(ImportError):
                import ml_dtypes  # noqa: PLC0415  not needed by those who do not use it

                _learn_ml_dtypes(np.dtype(ml_dtypes.bfloat16))
        return DTYPES.get(dtype[1:] if dtype[:1] in ("<", ">", "=", "|") else dtype)
    if not isinstance(dtype, (np.dtype, type)):
        return None
    try:
        native = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError):
        return None
    _learn_ml_dtypes(native)
    return DTYPES.get(native)


def find_dtype(dtype: object, argument: str, floats: bool) -> _native.DType:
    """What a spelling that is not in ``DTYPES`` stands for."""
    try:
        known = _known(dtype)
    except Exception:  # whatever an object says about its dtype
        known = None
    if known is None or known.is_float != floats:
        names = f"{FLOAT_NAMES} (bfloat16 with the package ml_dtypes)" if floats else CODE_NAMES
        refuse(f"{argument} must be one of {names}, got {shown(dtype)}", dtype)
    return known


def describe(x: object, argument: str, role: str, wanted: _native.DType | None) -> tuple[Any, ...]:
    """Looks at what is no plain ``numpy.ndarray``: its address, dtype, shape, byte strides, and what to read instead.

    ``role`` says what it is for: "floats", "codes", an "output" of the dtype ``wanted``; or of blocks their "scales" or
    "zero points".
    """
    foreign = type(x) is not np.ndarray
    if not isinstance(x, np.ndarray):
        if role in ("output", *_PARAMS):  # nothing of the caller's runs once other arrays were looked at
            alone = "" if role in _PARAMS else " or None"
            raise TypeError(f"{argument} must be a numpy.ndarray{alone}, got {type(x).__name__}")
        x = _converted(x, argument)
    elif isinstance(x, np.ma.MaskedArray) and (role == "output" or np.ma.is_masked(x)):
        raise TypeError(f"{argument} must hold its elements without a mask, got a masked array; fill it first")
    # Of subclasses the array beneath, as their attributes may be others.
    plain: Array = np.ndarray.view(x, np.ndarray)
    if role == "output":
        _check_output(plain, argument, wanted)
    known = _known(plain.dtype)
    floats = role in ("floats", "scales")
    if role == "zero points":
        _check_zero_points(plain.dtype, known, argument)
    elif known is None or (role != "output" and known.is_float != floats):
        find_dtype(plain.dtype, f"the dtype of {argument}", floats)
    instead = plain if foreign else None  # keeps what was converted alive
    if not plain.dtype.isnative:
        instead = allocated(lambda: plain.astype(plain.dtype.newbyteorder("=")))
    return plain.__array_interface__["data"][0], known, plain.shape, plain.strides, instead


_PARAMS: Final = ("scales", "zero points")


def _check_zero_points(dtype: np.dtype[Any], known: _native.DType | None, argument: str) -> None:
    if dtype.kind == "f" or (known is not None and known.is_float):
        refuse_float_zero_points(argument, dtype.name)
    if known is None or dtype.kind not in "iu":
        raise TypeError(f"{argument} must hold integers of 8 bits or more, got {dtype}")


def _converted(x: object, argument: str) -> Array:
    """An array of what offers ``__array__`` or ``__dlpack__``, and of nested lists of numbers."""
    offers = hasattr(type(x), "__array__") or hasattr(type(x), "__dlpack__")
    if not offers and not isinstance(x, (list, tuple)):
        raise TypeError(f"{argument} must be a numpy.ndarray, or convertible to one, got {type(x).__name__}")
    try:
        if hasattr(type(x), "__array__") or not offers:
            return allocated(lambda: np.asarray(x))
        return allocated(lambda: np.from_dlpack(x))  # type: ignore[arg-type]
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{argument} must be convertible to a numpy.ndarray, got {type(x).__name__}: {error}") from None


def _check_output(out: Array, argument: str, wanted: _native.DType | None) -> None:
    assert wanted is not None  # of an output
    if DTYPES.get(out.dtype) is not DTYPES.get(wanted.storage):
        raise TypeError(f"{argument} must be of {wanted.storage} in native byte order, got {out.dtype!r}")
    if not out.flags.writeable:
        raise ValueError(f"{argument} must be writeable, got a read-only array")


def contiguous(x: Array, _argument: str) -> Array:
    """A row-major copy."""
    return allocated(lambda: np.array(x, order="C", subok=False))


def make(
    like: Array, dtype: _native.DType, shape: tuple[int, ...] | None, _scale: object, _zero_point: object
) -> Array:
    """An array for a result, not filled; ``shape`` is ``None`` for that of ``like``, in its memory format."""
    if shape is not None:
        return _new(shape, dtype.storage, None)
    return _new(like.shape, dtype.storage, like)


def _new(shape: tuple[int, ...], dtype: np.dtype[Any], like: Array | None) -> Array:
    nbytes = math.prod(shape) * dtype.itemsize
    ordered = like is None or like.flags.c_contiguous
    if nbytes >= KEPT_FROM:
        memory = _native.output_memory(nbytes)
        if memory is not None:
            steps = np.empty_like(like, "b", "K", False).strides if not ordered else None
            strides = tuple(step * dtype.itemsize for step in steps) if steps is not None else None
            return np.ndarray(shape, dtype, memory, 0, strides)
    fresh: Array = allocated(lambda: np.empty(shape, dtype) if ordered else np.empty_like(like, dtype, "K", False))
    if nbytes >= ADVISED_FROM:
        _native.prepare_output(fresh.__array_interface__["data"][0], nbytes)
    return fresh


def tell_native() -> None:
    """Tells the native module how arrays lie in memory, by an example."""
    example = np.zeros((5, 7), np.uint8)[1::2, 2:]
    address = example.__array_interface__["data"][0]
    _native.use_arrays(np.ndarray, example, address, example.shape, example.strides, example.flags.writeable)


tell_native()

FACE: Final = _native.Face(
    "numpy",
    dtypes=DTYPES,
    find_dtype=find_dtype,
    describe=describe,
    contiguous=contiguous,
    make=make,
    make_alike=np.empty_like,
    make_small=np.empty,
    small=ADVISED_FROM,
    draw_seed=draw_seed,
)
