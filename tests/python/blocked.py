"""Blocks as the contract has them: the functions for one scale, applied to each block by itself."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch

import model
import piquant

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shape = tuple[int, ...]

FACES = ("torch", "numpy", "buffers")

# What people call it, the shape of the data, block_size, the shape of the parameters.
TABLE = [
    ("a scale a row", (5, 37), -1, (5, 1)),
    ("groups of 128", (3, 300), 128, (3, 3)),
    ("groups of 32", (3, 300), 32, (3, 10)),
    ("channels of a convolution", (6, 4, 3, 3), (1, -1, -1, -1), (6, 1, 1, 1)),
    ("channels of the last axis", (7, 33), (-1, 1), (1, 33)),
    ("squares of 128", (130, 300), (128, 128), (2, 3)),
    ("keys per channel over 32 tokens", (2, 3, 70, 20), (32, 1), (2, 3, 3, 20)),
    ("values per token in groups of 64", (2, 3, 7, 150), 64, (2, 3, 7, 3)),
    ("one scale as an array", (7, 33), (-1, -1), (1, 1)),
    ("axis 1, block_size 4", (3, 10, 5), (1, 4, 1), (3, 3, 5)),
    ("axis 1", (3, 10, 5), (-1, 1, -1), (1, 10, 1)),
]


def sizes(shape: Shape, block_size: int | Shape | None) -> Shape:
    """Elements of a block along each dimension."""
    if block_size is None:
        return tuple(max(n, 1) for n in shape)
    given = (block_size,) if isinstance(block_size, int) else tuple(block_size)
    whole = (1,) * (len(shape) - len(given)) + given
    return tuple(max(n, 1) if b == -1 else b for n, b in zip(shape, whole, strict=True))


def grid(shape: Shape, block_size: int | Shape | None) -> Shape:
    return tuple(math.ceil(n / b) for n, b in zip(shape, sizes(shape, block_size), strict=True))


def blocks(shape: Shape, block_size: int | Shape | None) -> Iterator[tuple[Shape, tuple[slice, ...]]]:
    """The index of each block among the parameters, and where its elements are."""
    size = sizes(shape, block_size)
    for index in itertools.product(*map(range, grid(shape, block_size))):
        yield index, tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, size, strict=True))


def storage(dtype: str) -> dict[str, Any]:
    """Arguments for codes of a type, one in each byte where they are narrow."""
    t = model.QUANTIZED[dtype]
    return {"dtype": t.storage} if t.bits >= 8 else {"dtype": t.storage, "quant_min": t.low, "quant_max": t.high}


def params(
    x: np.ndarray, dtype: str, block_size: int | Shape | None, scale_dtype: str | None = None, symmetric: bool = False
) -> tuple[np.ndarray, np.ndarray | int]:
    t = model.QUANTIZED[dtype]
    kind = model.FLOATS[scale_dtype] if scale_dtype else np.dtype(model.compute_type(model.name_of(x.dtype)))
    scale = np.empty(grid(x.shape, block_size), kind)
    zero_point = np.empty(scale.shape, t.storage)
    for index, where in blocks(x.shape, block_size):
        block = np.ascontiguousarray(x[where])
        exact, zero_point[index] = piquant.numpy.compute_quant_params(block, dtype=dtype, symmetric=symmetric)
        if not block.astype(np.float64).any():
            exact = 1.0
        scale[index] = model.rounded_up(exact, kind)
        if float(scale[index]) != exact and not symmetric:
            lo = min(0.0, float(block.astype(np.float64).min()))
            zero_point[index] = min(max(model.round_half_even_sum(t.low, -lo / float(scale[index])), t.low), t.high)
    if symmetric:
        return scale, 0 if t.signed else 2 ** (t.bits - 1)
    return scale, zero_point


def number(value: Any, index: Shape) -> int:
    return int(value[index]) if isinstance(value, np.ndarray) else int(value)


def codes(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: Any,
    dtype: str,
    block_size: Any,
    seed: int | None = None,
    offset: int = 0,
) -> np.ndarray:
    """One code in each element; rounded stochastically with a seed."""
    result = np.empty(x.shape, model.QUANTIZED[dtype].storage)
    position = np.arange(x.size).reshape(x.shape)
    for index, where in blocks(x.shape, block_size):
        right = {"scale": float(scale[index]), "zero_point": number(zero_point, index), **storage(dtype)}
        block = np.ascontiguousarray(x[where])
        if seed is None:
            result[where] = piquant.numpy.quantize(block, **right)
            continue
        lines = block.reshape(-1, block.shape[-1])
        first = position[where].reshape(lines.shape)[:, 0]
        right |= {"round_mode": "stochastic", "seed": seed}
        made = [
            piquant.numpy.quantize(line, **right, offset=(offset + int(at)) % 2**64)
            for line, at in zip(lines, first, strict=True)
        ]
        result[where] = np.stack(made).reshape(block.shape)
    return result


def packed(q: np.ndarray, dtype: str) -> np.ndarray:
    """Codes as they are stored: each row of the last dimension packed by itself."""
    bits = model.QUANTIZED[dtype].bits
    if bits >= 8:
        return q
    rows = [model.pack(row, dtype) for row in q.reshape(-1, q.shape[-1])]
    return (
        np.stack(rows).reshape(*q.shape[:-1], -1) if rows else np.zeros((*q.shape[:-1], q.shape[-1] * bits // 8), "u1")
    )


def floats(
    q: np.ndarray, scale: np.ndarray, zero_point: Any, real: str, block_size: Any, before: np.ndarray | None = None
) -> np.ndarray:
    """The values of codes, one in each element; added to ``before`` if that is given."""
    result = np.empty(q.shape, model.FLOATS[real]) if before is None else before.copy()
    for index, where in blocks(q.shape, block_size):
        out = np.ascontiguousarray(result[where])
        piquant.numpy.dequantize(
            np.ascontiguousarray(q[where]),
            scale=float(scale[index]),
            zero_point=number(zero_point, index),
            dtype=real,
            reduce_op="set" if before is None else "add",
            out=out,
        )
        result[where] = out
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Faces: arrays of numpy in, arrays of numpy out
# ---------------------------------------------------------------------------------------------------------------------


def module(face: str) -> Any:
    return {"torch": piquant.torch, "numpy": piquant.numpy, "buffers": piquant}[face]


def tensor(a: np.ndarray) -> torch.Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def array(a: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """An array of what a face gives; of bytes, those of a dtype."""
    if isinstance(a, torch.Tensor):
        return a.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if a.dtype == torch.bfloat16 else a.numpy()
    if isinstance(a, bytearray) and dtype is not None:
        return np.frombuffer(a, dtype)
    return np.asarray(a)


class Face:
    """One of the faces, called with numpy's arrays and names of types."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = module(name)

    def given(self, a: Any) -> Any:
        if not isinstance(a, np.ndarray):
            return a
        if self.name == "torch":
            return tensor(a)
        if self.name == "buffers":
            return a.view(np.uint16) if a.dtype == ml_dtypes.bfloat16 else memoryview(a)
        return a

    def told(self, a: np.ndarray) -> dict[str, str]:
        """What buffers must be told of floats that have no item format."""
        told = self.name == "buffers" and a.dtype == ml_dtypes.bfloat16
        return {"source_dtype": "bfloat16"} if told else {}

    def scales(self, scale: Any) -> dict[str, str]:
        told = self.name == "buffers" and isinstance(scale, np.ndarray) and scale.dtype == ml_dtypes.bfloat16
        return {"scale_dtype": "bfloat16"} if told else {}

    def params(self, x: np.ndarray, dtype: str, block_size: Any, **arguments: Any) -> tuple[np.ndarray, Any]:
        found = self.module.compute_quant_params(
            self.given(x), dtype=dtype, block_size=block_size, **self.told(x), **arguments
        )
        return self.as_params(found, x, block_size, arguments.get("scale_dtype"))

    def as_params(self, found: Any, x: np.ndarray, block_size: Any, scale_dtype: str | None) -> tuple[np.ndarray, Any]:
        scale, zero_point = found
        kind = model.FLOATS[scale_dtype] if scale_dtype else None
        scale = array(scale, kind).reshape(grid(x.shape, block_size)) if kind else array(scale)
        return scale, zero_point if isinstance(zero_point, int) else array(zero_point)

    def quantize(self, x: np.ndarray, scale: Any, zero_point: Any, dtype: str, **arguments: Any) -> np.ndarray:
        q = self.module.quantize(
            self.given(x), scale=self.given(scale), zero_point=self.given(zero_point), dtype=dtype,
            **self.told(x), **self.scales(scale), **arguments,
        )  # fmt: skip
        return self.as_codes(q, x.shape, dtype)

    def as_codes(self, q: Any, shape: Shape, dtype: str) -> np.ndarray:
        bits = model.QUANTIZED[dtype].bits
        q = array(q, np.dtype(np.uint8))
        return q.reshape(*shape[:-1], -(-shape[-1] * bits // 8)) if bits < 8 and self.name == "buffers" else q

    def dequantize(
        self, q: np.ndarray, scale: Any, zero_point: Any, dtype: str, real: str, shape: Shape, **arguments: Any
    ) -> np.ndarray:
        if model.QUANTIZED[dtype].bits < 8:
            arguments |= {"source_dtype": dtype, "shape": shape}
        if "out" in arguments:
            arguments["out"] = self.given(arguments["out"])
        y = self.module.dequantize(
            self.given(q), scale=self.given(scale), zero_point=self.given(zero_point), dtype=real,
            **self.scales(scale), **arguments,
        )  # fmt: skip
        return array(y, model.FLOATS[real]).view(model.FLOATS[real]).reshape(shape)
