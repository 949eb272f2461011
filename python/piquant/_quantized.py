"""What the containers of torch and numpy have in common: codes and parameters of blocks, as one value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, TypeVar

from piquant import _native
from piquant._dtypes import BITS, CODES, DTYPE_ID, FLOATS, PACKED, read_sizes, shown
from piquant._shapes import check_grid, grid_shape, packed_shape, product, resolved_block_size

if TYPE_CHECKING:
    from typing import SupportsIndex

    from typing_extensions import Self

    from piquant._dtypes import ReduceOpLike

AnyArray = TypeVar("AnyArray", bound=Any)
"""An array of the framework: a tensor."""

VERSION: Final = 1
"""Of what ``to_dict`` writes."""

# How much of the values is printed: rows, and values of each.
_CORNER: Final = (3, 6)


FIELDS: Final = ("data", "scale", "zero_point", "quant_dtype", "shape", "block_size", "dtype")


class Quantized(Generic[AnyArray]):
    """A container that cannot be changed, but for the memory of its arrays."""

    data: AnyArray
    scale: AnyArray
    zero_point: AnyArray | int
    quant_dtype: str
    shape: tuple[int, ...]
    block_size: tuple[int, ...]
    dtype: Any

    _face: ClassVar[_native.Face]
    _has_narrow: ClassVar[bool]
    """Whether the framework has arrays of 4- and 2-bit codes, one in each byte."""
    _has_backward: ClassVar[bool]
    """Whether it slices backwards."""

    def __init__(
        self,
        data: AnyArray,
        scale: AnyArray,
        zero_point: AnyArray | int,
        quant_dtype: str,
        shape: tuple[int, ...],
        block_size: tuple[int, ...],
        dtype: object,
    ) -> None:
        if quant_dtype not in CODES:
            raise ValueError(f"quant_dtype must be one of {', '.join(CODES)}, got {shown(quant_dtype)}")
        shape, block_size = read_sizes(shape, "shape"), read_sizes(block_size, "block_size")
        whole = resolved_block_size(shape, (-1,) * len(shape))
        if len(block_size) != len(shape) or not all(1 <= b <= n for b, n in zip(block_size, whole, strict=True)):
            raise ValueError(f"block_size must be 1 to the whole of each dimension of shape {shape}, got {block_size}")
        if isinstance(zero_point, int) or not hasattr(type(zero_point), "__len__"):  # or a number of the framework
            zero_point = _as_int(zero_point, "zero_point must be an int or an array of them")
        self._fill(data, scale, zero_point, str(quant_dtype), shape, block_size, self._float_dtype(dtype))
        codes = ("uint8", quant_dtype)[: 1 + self._has_narrow] if quant_dtype in PACKED else (quant_dtype,)
        self._check("data", data, codes)
        stored = packed_shape(shape, BITS[DTYPE_ID[quant_dtype]]) if self._is_packed else shape
        if tuple(data.shape) != stored:
            raise ValueError(
                f"data must have shape {stored} for {quant_dtype} of shape {shape}, got {tuple(data.shape)}"
            )
        self._check("scale", scale, FLOATS)
        check_grid("scale", tuple(scale.shape), shape, block_size, "data")
        if not isinstance(zero_point, int):
            self._check("zero_point", zero_point, tuple(name for name in CODES if name not in PACKED))
            check_grid("zero_point", tuple(zero_point.shape), shape, block_size, "data")

    # What a framework knows.

    @classmethod
    def _name(cls, array: object) -> str:
        """The name of an array's dtype, or what it is instead of an array."""
        raise NotImplementedError

    @staticmethod
    def _float_dtype(dtype: object) -> object:
        """The framework's dtype of a name of floats, or of itself; raises for others."""
        raise NotImplementedError

    @staticmethod
    def _dtype_name(dtype: Any) -> str:
        """Its name."""
        raise NotImplementedError

    @staticmethod
    def _stored(array: AnyArray) -> AnyArray:
        """An array in a form that files take, and readers of files give back: of the same bytes, in another dtype."""
        raise NotImplementedError

    @staticmethod
    def _viewed(array: AnyArray, name: str) -> AnyArray:
        """The opposite: the array in the dtype of this name."""
        raise NotImplementedError

    @staticmethod
    def _of_bytes(memory: bytes) -> AnyArray:
        """An array of uint8."""
        raise NotImplementedError

    @staticmethod
    def _equal(a: AnyArray, b: AnyArray) -> bool:
        """Whether two arrays of one dtype are of one shape and hold the same."""
        raise NotImplementedError

    def _floats(self, dtype: object, reduce_op: object, source_dtype: str | None, out: AnyArray | None) -> AnyArray:
        """``dequantize`` of the face; ``source_dtype`` is told of packed codes."""
        params = self.scale, self.zero_point, dtype, self.block_size, None, reduce_op, source_dtype
        result: AnyArray = _native.dequantize(self._face, self.data, *params, self.shape, out, None)
        return result

    @property
    def _has_values(self) -> bool:
        """Whether this process has them all, so that it may print them."""
        return True

    # What follows from that.

    @property
    def _is_packed(self) -> bool:
        return self.quant_dtype in PACKED and self._name(self.data) == "uint8"

    def _check(self, argument: str, array: object, names: tuple[str, ...]) -> None:
        if self._name(array) not in names:
            raise TypeError(f"{argument} must be of dtype {' or '.join(names)}, got {self._name(array)}")

    @classmethod
    def _made(cls, *fields: Any) -> Self:
        """A container of fields that are known to fit, or that stand for such, as those within a compiler do."""
        made = cls.__new__(cls)
        made._fill(*fields)
        return made

    def _fill(self, *fields: object) -> None:
        own = self.__dict__
        for name, field in zip(FIELDS, fields, strict=True):  # what dynamo traces in each torch since 2.10
            own[name] = field

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to {name} of a {type(self).__name__}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name} of a {type(self).__name__}")

    def _arrays(self) -> list[AnyArray]:
        """The arrays among the fields."""
        return [self.data, self.scale, *([] if isinstance(self.zero_point, int) else [self.zero_point])]

    def _rest(self) -> tuple[Any, ...]:
        """The other fields, in JSON's types, with the zero point if it is an int."""
        zero_point = self.zero_point if isinstance(self.zero_point, int) else None
        return self.quant_dtype, self.shape, self.block_size, self._dtype_name(self.dtype), zero_point

    @classmethod
    def _joined(cls, arrays: list[AnyArray], rest: tuple[Any, ...]) -> Self:
        """The opposite of ``_arrays`` and ``_rest``."""
        quant_dtype, shape, block_size, dtype, zero_point = rest
        data, scale, *zero_points = arrays
        zero = zero_points[0] if zero_points else zero_point
        return cls._made(data, scale, zero, quant_dtype, tuple(shape), tuple(block_size), cls._float_dtype(dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        return sum(int(array.nbytes) for array in self._arrays())

    def dequantize(self, dtype: Any = None, out: AnyArray | None = None, reduce_op: ReduceOpLike = "set") -> AnyArray:
        """The values that the codes stand for.

        Args:
            dtype: float dtype of the result; by default that of ``out``, or of the data that was quantized.
            out: what to write to and return, of this shape.
            reduce_op: "set" overwrites ``out``, "add" adds to it.

        Raises:
            ValueError, TypeError: as the function ``dequantize``.
        """
        if dtype is None:
            dtype = getattr(out, "dtype", self.dtype)
        source = self.quant_dtype if self._is_packed else None
        return self._floats(dtype, reduce_op, source, out)

    def __getitem__(self, rows: SupportsIndex | slice) -> Self:
        """Rows along the first dimension, which share the memory of all: of one index, or of a slice."""
        if not isinstance(rows, slice):
            rows = _as_int(rows, "rows must be an int or a slice")
        if not self.shape:
            raise ValueError("rows must be of a container with dimensions, got one of shape ()")
        if self.block_size[0] != 1:
            raise ValueError(
                f"rows must have scales of their own, got block_size {self.block_size}, of which a block has "
                f"{self.block_size[0]} along the first dimension; dequantize first"
            )
        if self._is_packed and len(self.shape) == 1:
            raise ValueError(f"rows must not share bytes, got {self.quant_dtype} of one dimension; dequantize first")
        n = self.shape[0]
        rest = self.shape[1:], self.block_size[1:]
        if not isinstance(rows, slice):
            if not -n <= rows < n:
                raise IndexError(f"rows must be in {-n}..{n - 1} for shape {self.shape}, got {rows}")
        else:
            try:
                rest = (len(range(*rows.indices(n))), *rest[0]), (1, *rest[1])
            except (TypeError, ValueError) as error:
                raise type(error)(f"rows must be an int or a slice of ints, got {shown(rows)}: {error}") from None
            if rows.step is not None and rows.step < 0 and not self._has_backward:
                raise ValueError(f"rows must be a slice of a step of at least 1, as of tensors, got {rows}")
        data, scale, *zero_point = (array[rows, ...] for array in self._arrays())
        return self._made(
            data, scale, zero_point[0] if zero_point else self.zero_point, self.quant_dtype, *rest, self.dtype
        )

    def to_dict(self) -> dict[str, AnyArray]:
        """Arrays alone, for files: "data", "scale", "zero_point" unless it is an int, and "format" for the rest.

        "format" is JSON in bytes, of the keys "version", "type", "shape", "block_size", "dtype", "scale_dtype",
        "packed" and, of an int, "zero_point". bfloat16 scales are 16-bit integers in numpy, which has no files of them.
        """
        quant_dtype, shape, block_size, dtype, zero_point = self._rest()
        text = {
            "version": VERSION,
            "type": quant_dtype,
            "shape": shape,
            "block_size": block_size,
            "dtype": dtype,
            "scale_dtype": self._name(self.scale),
            "packed": self._is_packed,
            **({} if zero_point is None else {"zero_point": zero_point}),
        }
        arrays = dict(zip(("data", "scale", "zero_point"), map(self._stored, self._arrays()), strict=False))
        return arrays | {"format": self._of_bytes(json.dumps(text, separators=(",", ":")).encode())}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, AnyArray]) -> Self:
        """The container that ``to_dict`` made it of.

        Raises:
            ValueError: a "format" that is none, or of a later version; arrays that do not fit it.
            TypeError: arrays of other dtypes.
        """
        try:
            text = json.loads(bytes([*arrays["format"].tolist()]))
            known = text["version"] == VERSION
            quant_dtype, shape, block_size, dtype = (text[key] for key in ("type", "shape", "block_size", "dtype"))
            data, scale = arrays["data"], arrays["scale"]
            if cls._name(scale) != text["scale_dtype"]:
                scale = cls._viewed(scale, text["scale_dtype"])
            if quant_dtype in PACKED and not text["packed"] and cls._name(data) == "uint8":
                data = cls._viewed(data, quant_dtype)
            zero_point = text["zero_point"] if "zero_point" in text else arrays["zero_point"]
        except MemoryError:
            raise
        except Exception as error:  # whatever JSON and foreign arrays think of it
            found = list(arrays) if isinstance(arrays, Mapping) else shown(arrays)
            raise ValueError(f"arrays must be those that to_dict gives, got {found}: {error!r}") from None
        if not known:
            raise ValueError(f"format must be of version {VERSION}, got {text['version']!r}")
        return cls(data, scale, zero_point, quant_dtype, shape, block_size, dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        pairs = zip(self._arrays(), other._arrays(), strict=False)
        return self._rest() == other._rest() and all(
            self._name(a) == self._name(b) and self._equal(a, b) for a, b in pairs
        )

    __hash__ = None  # type: ignore[assignment]  # as of all that holds arrays

    def _corner(self) -> Self:
        """The first values along each dimension."""
        rank = len(self.shape)
        most = (*(1,) * (rank - 2), *_CORNER[-rank:]) if rank else ()
        shape = tuple(map(min, self.shape, most))
        block_size = resolved_block_size(shape, self.block_size)
        stored = packed_shape(shape, BITS[DTYPE_ID[self.quant_dtype]]) if self._is_packed else shape
        data = self.data[tuple(map(slice, stored))]
        blocks = tuple(map(slice, grid_shape(shape, block_size)))
        zero_point = self.zero_point if isinstance(self.zero_point, int) else self.zero_point[blocks]
        return self._made(data, self.scale[blocks], zero_point, self.quant_dtype, shape, block_size, self.dtype)

    def _shown_values(self) -> str:
        corner = self._corner()
        more = "" if corner.shape == self.shape else f", of which the first {corner.shape}"
        try:
            return f"{more}:\n{corner.dequantize()}"
        except (TypeError, ValueError):  # nothing in memory, as within a compiler; parameters that are none
            return ""

    def __repr__(self) -> str:
        bits = 8 * self.nbytes / max(product(self.shape), 1)
        words = f"{self.quant_dtype}, shape {self.shape}, blocks of {self.block_size}, {bits:.4g} bits a value"
        values = self._shown_values() if self._has_values else ""
        return f"{type(self).__name__}({words}, {self._dtype_name(self.dtype)}{values})"


def _as_int(value: object, words: str) -> int:
    try:
        return int(index(value))  # type: ignore[arg-type]  # and not a bool, which arrays take as a mask
    except TypeError:
        raise TypeError(f"{words}, got {shown(value)}") from None


def refill(
    kind: type[Quantized[AnyArray]], out: Quantized[AnyArray] | None, scale_dtype: object
) -> tuple[tuple[AnyArray, AnyArray, AnyArray | int] | None, tuple[object, ...] | None, object]:
    """The arrays of a container to write to, what else it says of itself, and the dtype of its scales."""
    if out is None:
        return None, None, scale_dtype
    if not isinstance(out, kind):
        raise TypeError(f"out must be a {kind.__name__} or None, got {shown(out)}")
    told = out.quant_dtype, out.shape, out.block_size, out.dtype
    return (out.data, out.scale, out.zero_point), told, out.scale.dtype if scale_dtype is None else scale_dtype
