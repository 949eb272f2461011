"""The container of piquant.torch."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch.utils import _pytree

from piquant._dtypes import BITS, DTYPE_ID, FLOATS, PACKED, refuse, shown
from piquant._quantized import Quantized
from piquant.torch import _traced
from piquant.torch._tensors import DTYPES, FACE


class QuantizedTensor(Quantized[torch.Tensor]):
    """Codes with the scales and zero points of their blocks, as one value; ``quantize_dynamic`` makes it.

    It is no tensor: ``dequantize`` gives one. Its fields cannot be assigned. Containers are equal (``==``) if all of
    them are, bit for bit. ``pickle``, ``copy`` and ``torch.save`` take them, ``torch.load`` also with ``weights_only``;
    ``to_dict`` gives tensors for safetensors. ``container[rows]`` are rows along the first dimension, by an int or a
    slice, if a block has one element along it. To ``torch.utils._pytree``, and so to ``torch.compile`` and
    ``torch.export``, it is a node with its tensors as leaves.

    Attributes:
        data: the codes, as ``quantize`` returns them.
        scale: a scale for each block: a tensor of as many dimensions as the data has.
        zero_point: the same of integers, or an int for all blocks.
        quant_dtype: name of the type of the codes.
        shape: shape of the data.
        block_size: elements of a block along each dimension.
        dtype: dtype of the data.

    Raises:
        ValueError: shapes that do not fit each other; not the name of a type.
        TypeError: tensors of other dtypes.
    """

    __module__ = "piquant.torch"  # where users find it, and pickle looks
    _face = FACE
    _has_narrow = _has_backward = False

    @classmethod
    def _name(cls, array: object) -> str:
        if not isinstance(array, torch.Tensor):
            return type(array).__name__
        name = str(array.dtype).removeprefix("torch.")
        is_strided = array.layout is torch.strided and not array.is_nested
        return name if is_strided else f"{name} in a {'nested' if array.is_nested else array.layout} tensor"

    @staticmethod
    def _float_dtype(dtype: object) -> object:
        found = DTYPES.get(dtype) if isinstance(dtype, (str, torch.dtype)) else None
        if found is None or not found.is_float:
            refuse(f"dtype must be one of {', '.join(FLOATS)}, got {shown(dtype)}", dtype)
        return found.storage

    @staticmethod
    def _dtype_name(dtype: Any) -> str:
        return str(dtype).removeprefix("torch.")

    @staticmethod
    def _stored(array: torch.Tensor) -> torch.Tensor:
        return array.contiguous()

    @staticmethod
    def _viewed(array: torch.Tensor, name: str) -> torch.Tensor:
        if name not in PACKED:
            return array.view(getattr(torch, name))
        # One in each byte, as numpy's arrays have them and torch does not.
        bits = BITS[DTYPE_ID[name]]
        per_byte = 8 // bits
        codes = array.reshape(array.shape or (1,)) & (1 << bits) - 1
        rows = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % per_byte))
        fields = rows.reshape(*rows.shape[:-1], rows.shape[-1] // per_byte, per_byte)
        return (fields << torch.arange(0, 8, bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)

    @staticmethod
    def _of_bytes(memory: bytes) -> torch.Tensor:
        return torch.tensor(list(memory), dtype=torch.uint8)

    @staticmethod
    def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
        return torch.equal(a, b)

    @property
    def _has_values(self) -> bool:
        return not any(map(_traced.is_sharded, self._arrays()))

    def _floats(
        self, dtype: object, reduce_op: object, source_dtype: str | None, out: torch.Tensor | None
    ) -> torch.Tensor:
        if not _traced.takes_part():
            try:
                return super()._floats(dtype, reduce_op, source_dtype, out)
            except TypeError:
                if not _traced.stands_for_others(*self._arrays(), out):
                    raise
        params = self.scale, self.zero_point, dtype, self.block_size
        made: torch.Tensor = _traced.dequantize(self.data, *params, reduce_op, source_dtype, self.shape, out, None)
        return made


def _flatten(container: QuantizedTensor) -> tuple[list[Any], tuple[Any, ...]]:
    return container._arrays(), container._rest()


def _flatten_with_keys(container: QuantizedTensor) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
    names = ("data", "scale", "zero_point")
    return [
        (_pytree.GetAttrKey(name), a) for name, a in zip(names, container._arrays(), strict=False)
    ], container._rest()


def _unflatten(leaves: Any, context: tuple[Any, ...]) -> QuantizedTensor:
    return QuantizedTensor._joined(list(leaves), context)


def _from_dumped(text: str) -> tuple[Any, ...]:
    quant_dtype, shape, block_size, dtype, zero_point = json.loads(text)
    return quant_dtype, tuple(shape), tuple(block_size), dtype, zero_point


_pytree.register_pytree_node(
    QuantizedTensor,
    _flatten,
    _unflatten,
    serialized_type_name="piquant.torch.QuantizedTensor",
    to_dumpable_context=json.dumps,
    from_dumpable_context=_from_dumped,
    flatten_with_keys_fn=_flatten_with_keys,
)
torch.serialization.add_safe_globals([QuantizedTensor])
