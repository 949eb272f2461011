"""Calls on DTensors: of each rank's part by itself, where no block and no byte has elements on several ranks.

Parameters are cut as the data is. Only theirs may move between ranks, if they are DTensors of other placements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

import piquant.torch as face
from piquant._dtypes import BITS, DTYPE_ID, PACKED
from piquant._shapes import check_grid, grid_shape, inferred_block_size, packed_shape, resolved_block_size

if TYPE_CHECKING:
    from piquant._shapes import Shape

_WHOLE: Final = "redistribute it first, or give its to_local()"


class Parts:
    """How a DTensor lies on the ranks."""

    argument = "tensor"

    def __init__(self, tensor: Any, shape: Shape | None = None) -> None:
        """``shape`` is that of what packed codes stand for."""
        self.tensor, self.mesh, self.placements = tensor, tensor.device_mesh, tuple(tensor.placements)
        self.shape = tuple(tensor.shape) if shape is None else shape
        self.ways = [1] * len(self.shape)  # parts along each dimension
        for placement, n in zip(self.placements, self.mesh.shape, strict=True):
            if type(placement) not in (Shard, Replicate):
                raise TypeError(
                    f"{self.argument} must be a DTensor of shards and replicas, got {self.placements}; {_WHOLE}"
                )
            if type(placement) is Shard:
                self.ways[placement.dim] *= n

    def _ends_at(self, d: int, size: int) -> bool:
        """Whether parts along a dimension end where runs of so many elements do."""
        n, ways = self.shape[d], self.ways[d]
        return ways == 1 or size == 1 or (n % ways == 0 and n // ways % size == 0)

    def check_blocks(self, sizes: Shape) -> None:
        for d, size in enumerate(resolved_block_size(self.shape, sizes)):
            if not self._ends_at(d, size):
                raise ValueError(
                    f"{self.argument} must not be cut within blocks, got {self.placements}: dimension {d} of "
                    f"{self.shape[d]} in {self.ways[d]} parts, and blocks of {size}; {_WHOLE}"
                )

    def check_bytes(self, dtype: str) -> None:
        d, per_byte = len(self.shape) - 1, 8 // BITS[DTYPE_ID[dtype]]
        if dtype in PACKED and d >= 0 and not self._ends_at(d, per_byte):
            raise ValueError(
                f"{self.argument} must not be cut within bytes, got {self.placements}: rows of {self.shape[d]} in "
                f"{self.ways[d]} parts, and {per_byte} codes of {dtype} in a byte; {_WHOLE}"
            )

    def params(self, value: Any, argument: str, sizes: Any) -> Any:
        """The part of the parameters that belongs to the part of the data; without ``sizes`` there is one for all."""
        if not isinstance(value, torch.Tensor):
            return value
        one = sizes is None or value.dim() == 0
        if not one:  # on all ranks, or some would go on and wait for others
            check_grid(argument, tuple(value.shape), self.shape, sizes, self.argument)
        if not isinstance(value, DTensor):  # what each rank has whole
            value = DTensor.from_local(value, self.mesh, [Replicate()] * self.mesh.ndim, run_check=False)
        if value.device_mesh != self.mesh:
            raise ValueError(f"{argument} must be on the mesh of {self.argument}, {self.mesh}, got {value.device_mesh}")
        wanted = [Replicate()] * self.mesh.ndim if one else self.placements
        return value.detach().redistribute(self.mesh, wanted).to_local()

    def out(self, out: Any, shape: Shape) -> Any:
        """The part of a result that is written to, which is of this shape."""
        if out is None:
            return None
        if not isinstance(out, DTensor) or out.device_mesh != self.mesh or tuple(out.placements) != self.placements:
            kind = out.placements if isinstance(out, DTensor) else type(out).__name__
            raise TypeError(f"out must be a DTensor on the mesh and of the placements {self.placements}, got {kind}")
        if tuple(out.shape) != shape:
            raise ValueError(f"out must have shape {shape}, got {tuple(out.shape)}")
        if out.requires_grad and torch.is_grad_enabled():
            raise ValueError("out must not require a gradient while gradients are recorded, got one that does")
        with torch.no_grad():  # the very memory
            return out.to_local()

    def joined(self, part: torch.Tensor, shape: Shape) -> Any:
        """A DTensor of results: the parts of all ranks."""
        like = self.tensor if shape == tuple(self.tensor.shape) else torch.empty(shape, device="meta")
        strides = torch.empty_like(torch.empty_strided(shape, like.stride(), device="meta")).stride()
        return DTensor.from_local(
            part, self.mesh, self.placements, run_check=False, shape=torch.Size(shape), stride=strides
        )

    def params_of_blocks(self, sizes: Any, scale: Any, zero_point: Any) -> dict[str, Any]:
        """Parameters of a part, and its blocks."""
        one = sizes is None and (not isinstance(scale, torch.Tensor) or scale.numel() == 1)
        if sizes is None and not one:
            sizes = inferred_block_size(tuple(scale.shape), self.shape, self.argument)
        if sizes is not None:
            self.check_blocks(sizes)
        found = {
            "scale": self.params(scale, "scale", sizes),
            "zero_point": self.params(zero_point, "zero_point", sizes),
        }
        return found | ({} if sizes is None else {"block_size": sizes})

    def joined_params(self, found: Any, sizes: Shape) -> Any:
        """DTensors of parameters that parts have found; an int stays one."""
        grid = grid_shape(self.shape, sizes)
        return tuple(self.joined(x, grid) if isinstance(x, torch.Tensor) else x for x in found)


def _check_drawing(options: dict[str, Any]) -> None:
    if options["round_mode"] != "nearest":
        raise ValueError(
            f"round_mode must be 'nearest' for a DTensor, whose parts would get the same random words, got "
            f"{options['round_mode']!r}; give its to_local(), and the offset of the part"
        )


def _stored(shape: Shape, code: str) -> Shape:
    return packed_shape(shape, BITS[DTYPE_ID[code]]) if code in PACKED else shape


def quantize(tensor: Any, code: str, sizes: Any, scale: Any, zero_point: Any, out: Any, options: dict[str, Any]) -> Any:
    parts = Parts(tensor)
    parts.check_bytes(code)
    _check_drawing(options)
    params = parts.params_of_blocks(sizes, scale, zero_point)
    stored = _stored(parts.shape, code)
    made = face.quantize(tensor.to_local(), dtype=code, out=parts.out(out, stored), **params, **options)
    return parts.joined(made, stored) if out is None else out


def quantize_dequantize(
    tensor: Any, code: str, sizes: Any, scale: Any, zero_point: Any, out: Any, options: dict[str, Any]
) -> Any:
    parts = Parts(tensor)
    _check_drawing(options)
    params = parts.params_of_blocks(sizes, scale, zero_point)
    made = face.quantize_dequantize(tensor.to_local(), dtype=code, out=parts.out(out, parts.shape), **params, **options)
    return parts.joined(made, parts.shape) if out is None else out


def dequantize(
    tensor: Any, real: str, sizes: Any, scale: Any, zero_point: Any, out: Any, source: str | None, shape: Shape,
    reduce_op: Any,
) -> Any:  # fmt: skip
    """``shape`` is that of the result."""
    stored = tuple(tensor.shape)
    if shape[:-1] != stored[:-1] or (source not in PACKED and shape != stored):
        raise ValueError(f"shape must be that of tensor for a DTensor, {stored}, but for packed codes, got {shape}")
    parts, part = Parts(tensor, shape), tensor.to_local()
    params = parts.params_of_blocks(sizes, scale, zero_point)
    given: dict[str, Any] = {}
    if source in PACKED:
        parts.check_bytes(source)
        last = shape[-1:]
        if parts.ways[-1:] not in ([], [1]):
            last = (part.shape[-1] * 8 // BITS[DTYPE_ID[source]],)
        given = {"source_dtype": source, "shape": (*part.shape[:-1], *last)}
    made = face.dequantize(part, dtype=real, reduce_op=reduce_op, out=parts.out(out, shape), **params, **given)
    return parts.joined(made, shape) if out is None else out


def compute_quant_params(tensor: Any, code: str, sizes: Shape, options: dict[str, Any]) -> Any:
    parts = Parts(tensor)
    parts.check_blocks(sizes)
    found = face.compute_quant_params(tensor.to_local(), dtype=code, block_size=sizes, **options)
    return parts.joined_params(found, sizes)


def quantize_dynamic(tensor: Any, code: str, sizes: Shape, options: dict[str, Any]) -> face.QuantizedTensor:
    parts = Parts(tensor)
    parts.check_bytes(code)
    parts.check_blocks(sizes)
    _check_drawing(options)
    part = face.quantize_dynamic(tensor.to_local(), dtype=code, block_size=sizes, **options)
    return face.QuantizedTensor._made(
        parts.joined(part.data, _stored(parts.shape, code)), *parts.joined_params((part.scale, part.zero_point), sizes),
        code, parts.shape, resolved_block_size(parts.shape, sizes), tensor.dtype,
    )  # fmt: skip
