"""Modules of torch that hold quantized weights, and what puts them into a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import piquant.torch as face
from piquant._dtypes import PACKED, shown
from piquant._shapes import product
from piquant.torch._quantized_tensor import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from piquant._dtypes import BlockSize

_ARRAYS = ("data", "scale", "zero_point", "format")


class _Quantized(nn.Module):
    """A matrix of weights in buffers, of which its module dequantizes what it needs.

    The buffers are what ``QuantizedTensor.to_dict`` gives: tensors that every file takes. The module knows the format
    without reading that buffer, which has no content on the meta device.
    """

    weight_data: torch.Tensor
    weight_scale: torch.Tensor
    weight_zero_point: torch.Tensor | None
    weight_format: torch.Tensor

    def __init__(self, weight: QuantizedTensor) -> None:
        if not isinstance(weight, QuantizedTensor):
            raise TypeError(f"weight must be a QuantizedTensor, got {shown(weight)}")
        if len(weight.shape) != 2:
            raise ValueError(f"weight must have 2 dimensions, got shape {weight.shape}")
        super().__init__()
        self.quant_dtype, self.block_size, self.dtype = weight.quant_dtype, weight.block_size, weight.dtype
        self._shape = weight.shape
        self._zero_point = weight.zero_point if isinstance(weight.zero_point, int) else 0
        arrays = weight.to_dict()
        for name in _ARRAYS:
            array = arrays.get(name)
            self.register_buffer(f"weight_{name}", None if array is None else array.to(weight.data.device))

    @property
    def quantized_weight(self) -> QuantizedTensor:
        """The weights as a container, which shares the memory of the buffers."""
        zero_point = self._zero_point if self.weight_zero_point is None else self.weight_zero_point
        rest = self.quant_dtype, self._shape, self.block_size, self.dtype
        return QuantizedTensor(self.weight_data, self.weight_scale, zero_point, *rest)

    @property
    def weight(self) -> torch.Tensor:
        """The weights, dequantized anew each time, for code that reads them. They carry no gradient."""
        return self._values(self.weight_data, self.weight_scale, self.weight_zero_point, self.block_size)

    def _values(
        self,
        data: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor | None,
        block_size: tuple[int, ...],
    ) -> torch.Tensor:
        """What rows of codes stand for."""
        packed = self.quant_dtype in PACKED
        return face.dequantize(
            data,
            scale=scale,
            zero_point=self._zero_point if zero_point is None else zero_point,
            dtype=self.dtype,
            block_size=block_size,
            source_dtype=self.quant_dtype if packed else None,
            shape=(data.shape[0], self._shape[1]) if packed else None,
        )

    def _write_format(self) -> None:
        self.weight_format = self.quantized_weight.to_dict()["format"].to(self.weight_data.device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Moves all; a dtype is that of what weights become, as other scales would make other weights of the codes."""
        dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight_data.device)).dtype
        QuantizedTensor._float_dtype(dtype)
        before = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            moved = getattr(self, name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        if dtype != self.dtype or self.weight_format is not before["weight_format"]:  # to_empty leaves no content
            self.dtype = dtype
            self._write_format()
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Takes codes of the format that this module has, or nothing."""
        given = {name: state_dict[key] for name in _ARRAYS if (key := f"{prefix}weight_{name}") in state_dict}
        if f"{prefix}weight" in state_dict:
            error_msgs.append(f"{prefix}weight holds floats: load them before quantize_module")
            return
        if given:
            try:
                loaded = QuantizedTensor.from_dict(given)
                wanted = self._told(self.quantized_weight)
                if self._told(loaded) != wanted:
                    raise ValueError(f"format must be {wanted}, got {self._told(loaded)}")
            except (ValueError, TypeError) as error:
                error_msgs.append(f"{prefix}weight_*: {error}")
                return
            if local_metadata.get("assign_to_params_buffers", False):
                self.dtype = loaded.dtype
                self._write_format()
            arrays = QuantizedTensor._joined(loaded._arrays(), self.quantized_weight._rest()).to_dict()
            given = {f"{prefix}weight_{name}": array for name, array in arrays.items()}
        super()._load_from_state_dict(
            {**state_dict, **given}, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    @staticmethod
    def _told(weight: QuantizedTensor) -> str:
        """What must be the same of weights that take each other's place: all but the dtype that they become."""
        zero_point = weight.zero_point if isinstance(weight.zero_point, int) else str(weight.zero_point.dtype)
        words = f"{weight.quant_dtype} of shape {weight.shape} in blocks of {weight.block_size}"
        return f"{words}, scales of {weight.scale.dtype}, zero points {zero_point}"

    def extra_repr(self) -> str:
        bits = self.quantized_weight.nbytes * 8 / max(product(self._shape), 1)
        return f"{self.quant_dtype} in blocks of {self.block_size}, {bits:.4g} bits a weight, {self.dtype}"


class QuantizedLinear(_Quantized):
    """``nn.Linear`` with quantized weights; ``quantize_module`` makes it.

    Each call dequantizes all weights, and multiplies by them. The result is that of ``nn.Linear`` with those weights.
    Gradients reach the input and the bias; the weights have none.

    The weights are plain buffers: ``weight_data``, ``weight_scale``, ``weight_zero_point`` (None, if it is an int) and
    ``weight_format``, as ``QuantizedTensor.to_dict`` gives them. ``load_state_dict`` takes those of the same format.
    ``.to(dtype)``, ``.half()`` and their like tell what weights become, and change no codes and no scales.

    Attributes:
        in_features, out_features, bias: as of ``nn.Linear``.
        quant_dtype: name of the type of the codes.
        block_size: elements of a block along each dimension of the weights.
        dtype: dtype that weights become, which input and bias must have.

    Args:
        weight: the weights, of 2 dimensions; their memory is shared.
        bias: a parameter, or None.

    Raises:
        ValueError: weights of other dimensions.
        TypeError: not a ``QuantizedTensor``; not a parameter.
    """

    __module__ = "piquant.torch"  # where users find it, and pickle looks

    bias: nn.Parameter | None

    def __init__(self, weight: QuantizedTensor, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight)
        self.out_features, self.in_features = weight.shape
        self.register_parameter("bias", bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  the name that it has in nn.Linear
        return nn.functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        own = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{own}, {super().extra_repr()}"


class QuantizedEmbedding(_Quantized):
    """``nn.Embedding`` with quantized weights; ``quantize_module`` makes it.

    Each call dequantizes the rows that it is asked for, and no others. Buffers, state dicts and dtypes are as of
    ``QuantizedLinear``. The weights have no gradient, and so ``padding_idx`` is only told.

    Attributes:
        num_embeddings, embedding_dim, padding_idx: as of ``nn.Embedding``.
        quant_dtype: name of the type of the codes.
        block_size: elements of a block along each dimension of the weights.
        dtype: dtype of the result.

    Args:
        weight: the weights, of 2 dimensions; their memory is shared.
        padding_idx: a row that stands for nothing, or None.

    Raises:
        ValueError: weights of other dimensions.
        TypeError: not a ``QuantizedTensor``.
    """

    __module__ = "piquant.torch"

    def __init__(self, weight: QuantizedTensor, padding_idx: int | None = None) -> None:
        super().__init__(weight)
        self.num_embeddings, self.embedding_dim = weight.shape
        self.padding_idx = padding_idx

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  the name that it has in nn.Embedding
        rows = torch.reshape(input, (-1,))
        data = self.weight_data.index_select(0, rows)
        lines, width = self.block_size
        blocks = rows if lines == 1 else rows // lines
        scale = self.weight_scale.index_select(0, blocks)
        zero_point = self.weight_zero_point
        if zero_point is not None:
            zero_point = zero_point.index_select(0, blocks)
        return self._values(data, scale, zero_point, (1, width)).reshape(*input.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, {super().extra_repr()}"


def _is_hooked(module: nn.Module) -> bool:
    """Whether a call does more than ``forward``, as with weight and spectral norm and pruning, too."""
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return any(getattr(module, kind) for kind in kinds)


def _check(name: str, module: nn.Linear | nn.Embedding) -> None:
    """Refuses what a quantized module cannot take over."""
    words = None
    if _is_hooked(module):
        words = "hooks, which would be lost"
    elif isinstance(module, nn.Embedding) and module.max_norm is not None:
        words = f"max_norm={module.max_norm}, which changes weights when they are read"
    if words is not None:
        raise ValueError(
            f"model must be of modules that can be replaced, got {name!r} with {words}; filter leaves it out"
        )


def quantize_module(
    model: nn.Module,
    dtype: torch.dtype | str,
    block_size: BlockSize | None = None,
    filter: Callable[[nn.Module, str], bool] | None = None,  # noqa: A002
    *,
    symmetric: bool = False,
    scale_dtype: torch.dtype | str | None = None,
) -> nn.Module:
    """Replaces each ``nn.Linear`` and ``nn.Embedding`` of a model by one with quantized weights.

    Biases, and all other modules, stay as they are: the same objects. So do subclasses, whose ``forward`` may be
    another. Weights that modules share are quantized once, and the memory of their codes is shared.

    Args:
        model: the model, which is changed. On the meta device the result waits for ``load_state_dict(assign=True)``.
        dtype, block_size, symmetric, scale_dtype: of the weights, as in ``quantize_dynamic``.
        filter: told a module and its name, says whether to replace it. By default all are replaced.

    Returns:
        ``model``; if it is an ``nn.Linear`` or ``nn.Embedding`` itself, what replaces it.

    Raises:
        ValueError: nothing to replace; weights that are not finite (the words name them and the block); a module with
            hooks, or with ``max_norm``; a weight shared with what is not replaced; bad dtype name or block size. The
            model is then as it was.
        TypeError: not a module; weights without memory here; not a quantized dtype; a filter that cannot be called.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)}")
    if filter is not None and not callable(filter):
        raise TypeError(f"filter must be a function of a module and its name, or None, got {shown(filter)}")
    taken: dict[str, nn.Linear | nn.Embedding] = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) in (nn.Linear, nn.Embedding) and (filter is None or filter(module, name))
    }
    if not taken:
        words = "" if filter is None else " that filter takes"
        raise ValueError(f"model must hold a torch.nn.Linear or torch.nn.Embedding{words}, got {type(model).__name__}")
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    replaced = {f"{name}.weight".removeprefix(".") for name in taken}
    weights: dict[int, QuantizedTensor] = {}
    for name, module in taken.items():
        _check(name, module)
        shared = names[id(module.weight)]
        left = [other for other in shared if other not in replaced]
        if left:
            raise ValueError(
                f"filter must take all or none of what shares a weight, got {shared}, of which it leaves {left}"
            )
        if id(module.weight) in weights:
            continue
        try:
            weights[id(module.weight)] = face.quantize_dynamic(
                module.weight.detach(), dtype=dtype, block_size=block_size, symmetric=symmetric, scale_dtype=scale_dtype
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{shared[0]}: {error}") from None
    made: dict[int, QuantizedLinear | QuantizedEmbedding] = {}
    for name, module in taken.items():
        if id(module) not in made:
            weight = weights[id(module.weight)]
            new = (
                QuantizedEmbedding(weight, module.padding_idx)
                if isinstance(module, nn.Embedding)
                else QuantizedLinear(weight, module.bias)
            )
            made[id(module)] = new.train(module.training)
        if name:
            model.set_submodule(name, made[id(module)])
    return model if "" not in taken else made[id(model)]
