"""Shapes of packed codes and of what they stand for.

Sizes may be symbolic (``torch.SymInt``): only arithmetic and comparisons are used, never ``int`` or ``index``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Shape = tuple[Any, ...]
"""Sizes: ints, or what computes like them."""


def packed_length(n: Any, bits: int) -> Any:
    """Bytes that a row of ``n`` codes of ``bits`` bits takes."""
    return (n * bits + 7) // 8


def packed_shape(shape: Shape, bits: int) -> Shape:
    """Shape of the bytes that hold codes of ``shape``: the last dimension is packed, each row by itself."""
    return (*shape[:-1], packed_length(shape[-1], bits)) if shape else (1,)


def unpacked_shape(stored: Shape, bits: int) -> Shape:
    """Shape of as many codes as bytes of shape ``stored`` can hold, row by row."""
    return (*stored[:-1], stored[-1] * (8 // bits)) if stored else (8 // bits,)


def product(shape: Iterable[Any]) -> Any:
    """How many elements an array has."""
    count: Any = 1
    for n in shape:
        count = count * n
    return count


def result_shape(stored: Shape, shape: Shape | None, bits: int, argument: str) -> Shape:
    """Shape of the codes that an array of shape ``stored`` holds, packed if ``bits``, their width, is below 8.

    Args:
        stored: shape of the array.
        shape: what the caller wants; ``None`` for as many codes as the array can hold.
        bits: width of a code, 8 for codes that do not share bytes.
        argument: name of the array, for the words of errors.

    Raises:
        ValueError: ``shape`` has another number of elements than the array; packed, its rows are not those of
            ``stored``, unless that is one run of bytes, as it comes from a file.
    """
    if shape is None:
        return unpacked_shape(stored, bits) if bits < 8 else stored
    if bits >= 8:
        if shape != stored and product(shape) != product(stored):
            raise ValueError(f"shape must have as many elements as {argument}, whose shape is {stored}, got {shape}")
        return shape
    packed = packed_shape(shape, bits)
    if packed != stored and not (len(stored) == 1 and product(packed) == stored[0]):
        raise ValueError(
            f"shape {shape} of {bits}-bit codes takes bytes of shape {packed}, but {argument} has shape {stored}"
        )
    return shape
