"""Element types and modes by name, and the ids that the C API knows them by."""

from __future__ import annotations

import struct
import sys
from enum import Enum
from operator import index
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias

from piquant import _native
from piquant._shapes import product, result_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import SupportsFloat, SupportsIndex


class _Name(str, Enum):
    """A string out of a fixed set. Prints as that string on every Python, as ``enum.StrEnum`` does from 3.11 on."""

    def __str__(self) -> str:
        return str(self.value)


class DataType(_Name):
    """An element type. Members are strings: ``"uint4"`` works wherever ``DataType.UINT4`` does."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT2 = "int2"
    UINT2 = "uint2"
    INT4 = "int4"
    UINT4 = "uint4"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"

    F16 = FLOAT16
    BF16 = BFLOAT16
    F32 = FLOAT32
    F64 = FLOAT64

    @property
    def bit_size(self) -> int:
        """Bits per element."""
        return BITS[DTYPE_ID[self]]

    @property
    def is_dequantized(self) -> bool:
        """Whether this is a floating-point type."""
        return self in FLOATS

    @property
    def is_quantized(self) -> bool:
        """Whether this is an integer type that arrays are quantized to."""
        return self in CODES


class RoundMode(_Name):
    """How quantization rounds: to nearest, ties to even; or stochastically, without bias."""

    NEAREST = "nearest"
    STOCHASTIC = "stochastic"


Number: TypeAlias = "SupportsFloat | SupportsIndex"
"""A scale: a float, an int, a 0-d tensor or array, a numpy scalar, a ``Fraction``."""
Integer: TypeAlias = "SupportsIndex"
"""A zero point or another integer: an int, a 0-d tensor or array of integers, a numpy integer."""

BlockSize: TypeAlias = "SupportsIndex | Sequence[SupportsIndex]"
"""Elements of a block along the last dimension, or along as many last dimensions as it has sizes. -1 is the whole."""

RoundModeLike: TypeAlias = "RoundMode | Literal['nearest', 'stochastic']"


class ReduceOp(_Name):
    """What dequantization does to its output: overwrites it, or adds to it."""

    SET = "set"
    ADD = "add"


ReduceOpLike: TypeAlias = "ReduceOp | Literal['set', 'add']"

shown: Final = _native.shown

_ALL: Final = _native.dtypes()

NAMES: Final = tuple(name for name, _, _ in _ALL)
"""By dtype id, the number that the C API gives a type."""
DTYPE_ID: Final = {name: dtype_id for dtype_id, name in enumerate(NAMES)}
BITS: Final = tuple(bits for _, bits, _ in _ALL)

_PUBLIC: Final = tuple(dict.fromkeys(t.value for t in DataType))
FLOATS: Final = tuple(name for name, _, is_float in _ALL if is_float)
CODES: Final = tuple(name for name in _PUBLIC if name not in FLOATS)
PACKED: Final = tuple(name for name in CODES if BITS[DTYPE_ID[name]] < 8)

FLOAT_NAMES: Final = ", ".join(FLOATS)
CODE_NAMES: Final = ", ".join(CODES)


def float_id(dtype: object, argument: str) -> int:
    """Id of a floating-point type given by member or name."""
    if not isinstance(dtype, str) or dtype not in FLOATS:
        refuse(f"{argument} must be one of {FLOAT_NAMES}, got {shown(dtype)}", dtype)
    return DTYPE_ID[dtype]


def code_id(dtype: object, argument: str) -> int:
    """Id of a quantized type given by member or name."""
    if not isinstance(dtype, str) or dtype not in CODES:
        refuse(f"{argument} must be one of {CODE_NAMES}, got {shown(dtype)}", dtype)
    return DTYPE_ID[dtype]


def refuse(words: str, given: object) -> NoReturn:
    """Raises for something that is not one of certain names: ``ValueError`` for another name, else ``TypeError``."""
    raise (ValueError if isinstance(given, str) else TypeError)(words) from None


def read_sizes(given: Iterable[SupportsIndex], argument: str) -> tuple[int, ...]:
    """An argument as a tuple of sizes."""
    try:
        sizes = tuple(map(index, given))
    except MemoryError:
        raise
    except Exception:
        raise TypeError(f"{argument} must be a sequence of ints, got {shown(given)}") from None
    if not all(0 <= n < 1 << 63 for n in sizes):
        raise ValueError(f"{argument} must be a sequence of ints in 0..2**63 - 1, got {shown(given)}")
    if product(filter(None, sizes)) >= 1 << 63:
        raise ValueError(f"{argument} must be of fewer than 2**63 elements, zeros left out, got {shown(given)}")
    return sizes


def read_shape(shape: Iterable[SupportsIndex]) -> tuple[int, ...]:
    """The argument ``shape`` as a tuple of sizes. Called by the native module."""
    return read_sizes(shape, "shape")


MAX_BLOCK_RANK: Final = 8
"""Dimensions that data may have where blocks have parameters."""


def read_block_size(block_size: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    """The argument ``block_size`` as a tuple of sizes. Called by the native module for all but plain tuples."""
    wanted = "block_size must be an int, or a tuple of as many ints as it has dimensions, each -1 or at least 1"
    try:
        sizes = tuple(map(index, (block_size,) if hasattr(type(block_size), "__index__") else block_size))  # type: ignore[arg-type]
    except MemoryError:
        raise
    except Exception:
        raise TypeError(f"{wanted}, got {shown(block_size)}") from None
    if len(sizes) > MAX_BLOCK_RANK or not all(size == -1 or 1 <= size < 1 << 63 for size in sizes):
        raise ValueError(f"{wanted}, of at most {MAX_BLOCK_RANK} dimensions, got {shown(block_size)}")
    return sizes


ITEM_FORMATS: Final = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip
"""Of the module struct, for types that have one."""


def element(name: str, memory: bytes) -> float | int:
    """An element of an array as a number, for the words of exceptions. Called by the native module."""
    if name == "bfloat16":
        name, memory = "float32", bytes(2) + memory if sys.byteorder == "little" else memory + bytes(2)
    number: float | int = struct.unpack(ITEM_FORMATS[name], memory)[0]
    return number


def refuse_float_zero_points(argument: str, dtype: str) -> NoReturn:
    """Raises for zero points that are floats. Called by the native module, too."""
    raise TypeError(
        f"{argument} must hold integers, got {dtype}; zero points in floats, as those of tinygemm and HQQ and the bias "
        f"of FBGEMM, belong to another formula"
    )


def told_shape(
    stored: tuple[int, ...], sizes: tuple[int, ...], bits: int, argument: str, could_be_packed: bool
) -> tuple[int, ...]:
    """``result_shape`` for the argument ``shape``, as ``read_shape`` gives it. Called by the native module.

    ``could_be_packed``: the array holds bytes of which nothing was said.
    """
    try:
        return result_shape(stored, sizes, bits, argument)
    except ValueError as error:
        if not could_be_packed:
            raise
        words = (
            f"source_dtype must say so if {argument} holds packed codes; without it each byte is a code, and {error}"
        )
        raise ValueError(words) from None


def draw_seed() -> int:
    """A seed from the process generator (module ``random``)."""
    import random  # noqa: PLC0415  only stochastic rounding without a seed pays for this import

    return random.getrandbits(64)
