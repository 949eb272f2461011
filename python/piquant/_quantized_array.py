"""The container of piquant.numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from piquant._arrays import DTYPES, FACE, find_dtype
from piquant._quantized import Quantized

if TYPE_CHECKING:
    from piquant._arrays import Array


class QuantizedArray(Quantized["Array"]):
    """Codes with the scales and zero points of their blocks, as one value; ``quantize_dynamic`` makes it.

    Its fields cannot be assigned. Containers are equal (``==``) if all of them are, bit for bit. ``pickle`` and
    ``copy`` take them; ``to_dict`` gives arrays for ``numpy.savez``. ``container[rows]`` are rows along the first
    dimension, by an int or a slice, if a block has one element along it.

    Attributes:
        data: the codes, as ``quantize`` returns them.
        scale: a scale for each block: an array of as many dimensions as the data has.
        zero_point: the same of integers, or an int for all blocks.
        quant_dtype: name of the type of the codes.
        shape: shape of the data.
        block_size: elements of a block along each dimension.
        dtype: dtype of the data.

    Raises:
        ValueError: shapes that do not fit each other; not the name of a type.
        TypeError: arrays of other dtypes.
    """

    __module__ = "piquant.numpy"  # where users find it, and pickle looks
    _face = FACE
    _has_narrow = _has_backward = True

    @classmethod
    def _name(cls, array: object) -> str:
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            return type(array).__name__
        return str(array.dtype.name)

    @staticmethod
    def _float_dtype(dtype: object) -> object:
        found = DTYPES.get(dtype) if isinstance(dtype, (str, type, np.dtype)) else None
        return (found if found is not None and found.is_float else find_dtype(dtype, "dtype", True)).storage

    @staticmethod
    def _dtype_name(dtype: Any) -> str:
        return str(dtype.name)

    @staticmethod
    def _stored(array: Array) -> Array:
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        registered = array.dtype.isbuiltin == 2  # by ml_dtypes
        return array.view(f"u{array.dtype.itemsize}") if registered else array

    @staticmethod
    def _viewed(array: Array, name: str) -> Array:
        import ml_dtypes  # noqa: PLC0415  the only one to have these dtypes

        return array.view(getattr(ml_dtypes, name))

    @staticmethod
    def _of_bytes(memory: bytes) -> Array:
        return np.frombuffer(memory, np.uint8)

    @staticmethod
    def _equal(a: Array, b: Array) -> bool:
        return np.array_equal(a, b)
