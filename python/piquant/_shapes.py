"""Shapes of packed codes and of what they stand for, and of blocks.

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


def full_block_size(block_size: Shape, rank: int, array: str) -> Shape:
    """Sizes of a block along all dimensions, -1 kept: those before the ones that were given are of one element.

    Raises:
        ValueError: more sizes than dimensions.
    """
    if len(block_size) > rank:
        raise ValueError(
            f"block_size must have at most as many sizes as {array} has dimensions, {rank}, got {block_size}"
        )
    return (*(1,) * (rank - len(block_size)), *block_size)


def resolved_block_size(shape: Shape, block_size: Shape) -> Shape:
    """Sizes of a block, -1 and what goes beyond a dimension being the whole of it."""
    return tuple(
        max(n, 1) if b == -1 or b > n else b
        for n, b in zip(shape, full_block_size(block_size, len(shape), "shape"), strict=True)
    )


def grid_shape(shape: Shape, block_size: Shape) -> Shape:
    """Shape of the parameters of blocks: how many there are along each dimension."""
    return tuple(
        n if b == 1 else (min(n, 1) if b == -1 else (n + b - 1) // b)
        for n, b in zip(shape, full_block_size(block_size, len(shape), "shape"), strict=True)
    )


def inferred_block_size(scale: Shape, shape: Shape, array: str) -> Shape:
    """Sizes of a block that the shape of the scales tells where none are given, by the rules of broadcasting.

    Raises:
        ValueError: scales of another rank, or of a size that is neither 1 nor that of the array.
    """
    if len(scale) == len(shape) and all(s in (1, n) for s, n in zip(scale, shape, strict=True)):
        return tuple(-1 if s == 1 else 1 for s in scale)
    words = f"scale must have a size of 1 or that of {array} along each dimension, whose shape is {shape}, got {scale}"
    if len(scale) == 1 and len(shape) == 2:
        raise ValueError(f"{words}; scale[:, None] is one for each row, scale[None, :] one for each column")
    raise ValueError(f"{words}; block_size tells blocks of other sizes")


def check_grid(argument: str, found: Shape, shape: Shape, block_size: Shape, array: str) -> None:
    """Refuses parameters of another shape than the blocks of an array have.

    Raises:
        ValueError: with the shape that is expected.
    """
    expected = grid_shape(shape, block_size)
    if found == expected:
        return
    words = f"{argument} must have shape {expected} for {array} of shape {shape} in blocks of {block_size}, got {found}"
    if len(found) == 1 and product(expected) == found[0]:
        column = len(expected) == 2 and expected[1] == 1
        row = len(expected) == 2 and expected[0] == 1
        form = "[:, None]" if column else "[None, :]" if row else f".reshape({expected})"
        words += f"; {argument}{form} has that"
    raise ValueError(words)
