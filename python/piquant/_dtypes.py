"""Element types and modes by name, and the numbers that the native module knows them by."""

from __future__ import annotations

from enum import Enum
from operator import index
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        return BITS[CODES[self]]

    @property
    def is_dequantized(self) -> bool:
        """Whether this is a floating-point type."""
        return CODES[self] < FLOAT_COUNT

    @property
    def is_quantized(self) -> bool:
        """Whether this is an integer type that arrays are quantized to."""
        return CODES[self] >= FLOAT_COUNT


class RoundMode(_Name):
    """How quantization rounds: to nearest, ties to even; or stochastically, without bias."""

    NEAREST = "nearest"
    STOCHASTIC = "stochastic"


class ReduceOp(_Name):
    """What dequantization does to its output: overwrites it, or adds to it."""

    SET = "set"
    ADD = "add"


FLOAT_COUNT: Final = 4

# The order of piquant_dtype_t.
CODES: Final[dict[str, int]] = {name: code for code, name in enumerate(dict.fromkeys(t.value for t in DataType))}
NAMES: Final[tuple[str, ...]] = tuple(CODES)
BITS: Final[tuple[int, ...]] = (16, 16, 32, 64, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64)

FLOAT_NAMES: Final = ", ".join(NAMES[:FLOAT_COUNT])
QUANTIZED_NAMES: Final = ", ".join(NAMES[FLOAT_COUNT:])

_ROUND_MODES: Final[dict[Any, bool]] = {"nearest": False, "stochastic": True}
_REDUCE_OPS: Final[dict[Any, bool]] = {"set": False, "add": True}


def is_stochastic(round_mode: object) -> bool:
    """``round_mode`` as the native module takes it."""
    try:
        return _ROUND_MODES[round_mode]
    except (KeyError, TypeError):
        refuse(f"round_mode must be 'nearest' or 'stochastic', got {shown(round_mode)}", round_mode)


def is_add(reduce_op: object) -> bool:
    """``reduce_op`` as the native module takes it."""
    try:
        return _REDUCE_OPS[reduce_op]
    except (KeyError, TypeError):
        refuse(f"reduce_op must be 'set' or 'add', got {shown(reduce_op)}", reduce_op)


def float_code(dtype: object, argument: str) -> int:
    """Number of a floating-point type given by member or name."""
    code = CODES.get(dtype, FLOAT_COUNT) if isinstance(dtype, str) else FLOAT_COUNT
    if code >= FLOAT_COUNT:
        refuse(f"{argument} must be one of {FLOAT_NAMES}, got {shown(dtype)}", dtype)
    return code


def quantized_code(dtype: object, argument: str) -> int:
    """Number of a quantized type given by member or name."""
    code = CODES.get(dtype, 0) if isinstance(dtype, str) else 0
    if code < FLOAT_COUNT:
        refuse(f"{argument} must be one of {QUANTIZED_NAMES}, got {shown(dtype)}", dtype)
    return code


def shown(given: object) -> str:
    """An argument in an error message: its repr, where it has one, and no more of it than one likes to read."""
    try:
        words = repr(given)
    except Exception:  # an int of thousands of digits, say
        return f"a value of type {type(given).__name__}"
    return words if len(words) <= 200 else f"{words[:200]}..."


def refuse(words: str, given: object) -> NoReturn:
    """Raises for something that is not one of certain names: ``ValueError`` for another name, else ``TypeError``."""
    raise (ValueError if isinstance(given, str) else TypeError)(words) from None


def read_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """The argument ``shape`` as a tuple of sizes."""
    try:
        sizes = tuple(map(index, shape))
    except TypeError:
        raise TypeError(f"shape must be a sequence of ints, got {shown(shape)}") from None
    if not all(0 <= n < 1 << 63 for n in sizes):
        raise ValueError(f"shape must be a sequence of ints in 0..2**63 - 1, got {shown(shape)}")
    if product(tuple(filter(None, sizes))) >= 1 << 63:
        raise ValueError(f"shape must be of fewer than 2**63 elements, zeros left out, got {shown(shape)}")
    return sizes


OVERLAP: Final = "out must not overlap the input"  # of a copy the native module cannot see it


def extent(address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> tuple[int, int]:
    """Where the elements of an array begin and end in memory; strides are in bytes, ``None`` without gaps."""
    if 0 in shape:
        return address, address
    if strides is None:
        return address, address + product(shape) * itemsize
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return address + sum(r for r in reach if r < 0), address + sum(r for r in reach if r > 0) + itemsize


def packed_length(n: int, bits: int) -> int:
    """Bytes that a row of ``n`` codes of at most 8 bits takes."""
    return (n * bits + 7) // 8


def packed_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Shape of the bytes that hold an array of sub-byte codes: the last dimension is packed, each row by itself."""
    return (*shape[:-1], packed_length(shape[-1], bits)) if shape else (1,)


def result_shape(stored: tuple[int, ...], shape: Iterable[int] | None, bits: int, argument: str) -> tuple[int, ...]:
    """Shape of the codes that an array of shape ``stored`` holds, packed if ``bits``, their width, is below 8.

    ``shape``, if given, must have as many elements. Packed, its rows must be those of ``stored``, unless that is one
    run of bytes, as it comes from a file.
    """
    if shape is None:
        if bits >= 8:
            return stored
        return (*stored[:-1], stored[-1] * 8 // bits) if stored else (8 // bits,)
    wanted = read_shape(shape)
    if bits >= 8:
        if wanted != stored and product(wanted) != product(stored):
            raise ValueError(f"shape must have as many elements as {argument}, whose shape is {stored}, got {wanted}")
        return wanted
    packed = packed_shape(wanted, bits)
    if packed != stored and not (len(stored) == 1 and product(packed) == stored[0]):
        raise ValueError(
            f"shape {wanted} of {bits}-bit codes takes bytes of shape {packed}, but {argument} has shape {stored}"
        )
    return wanted


def product(shape: tuple[int, ...]) -> int:
    """How many elements an array has."""
    count = 1
    for n in shape:
        count *= n
    return count


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and their length, the last dimension."""
    return (product(shape[:-1]), shape[-1]) if shape else (1, 1)
