"""Where the gradients of parameters lie in a bucket of DDP, and what the parameters are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel

from piquant._shapes import product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch._C._distributed_c10d import GradBucket

    from piquant._shapes import Shape

_NUMBERED: Final = "#"  # begins the names of parameters that no model has named


class Piece(NamedTuple):
    """Where the gradient of a parameter lies in a bucket: densely, with the strides of the parameter."""

    name: str
    begin: int
    shape: Shape
    stride: Shape

    @property
    def numel(self) -> int:
        return int(product(self.shape))

    def span(self, flat: torch.Tensor) -> torch.Tensor:
        """Its elements of a flat tensor, in the order of memory."""
        return flat[self.begin : self.begin + self.numel]

    def view(self, flat: torch.Tensor) -> torch.Tensor:
        """The same in the shape of the parameter."""
        return flat.as_strided(self.shape, self.stride, self.begin)


class Names:
    """What parameters are called: as their model says, else by numbers, in the order in which they first came.

    A bucket has the parameters themselves, so numbers stay when buckets are rebuilt. Another process numbers alike if
    its first buckets are alike.
    """

    def __init__(self) -> None:
        self._names: dict[torch.Tensor, str] = {}
        self._shapes: dict[str, Shape] = {}
        self._model = False

    def bind(self, model: torch.nn.Module, owed: Mapping[str, Shape]) -> dict[str, str]:
        """Takes the names of a model. Returns which of the names so far become which, for what is ``owed``."""
        if isinstance(model, DistributedDataParallel):
            model = model.module
        bound = Names()
        bound._model = True
        for name, parameter in model.named_parameters():
            bound._names[parameter] = name
            bound._shapes[name] = tuple(parameter.shape)
        renamed = {
            name: bound._names[parameter] for parameter, name in self._names.items() if parameter in bound._names
        }
        if misfit := bound.misfit({renamed.get(name, name): shape for name, shape in owed.items()}):
            raise ValueError(misfit)
        self.__dict__.update(bound.__dict__)
        return renamed

    def __len__(self) -> int:
        return len(self._names)

    def pieces(self, bucket: GradBucket) -> list[Piece]:
        begin = bucket.buffer().storage_offset()
        pieces = []
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            shape = tuple(parameter.shape)
            if self._model and parameter not in self._names:
                raise ValueError(f"bind was given another model: it has no parameter of a gradient of shape {shape}")
            name = self._names.setdefault(parameter, f"{_NUMBERED}{len(self._names)}")
            self._shapes.setdefault(name, shape)
            pieces.append(Piece(name, int(gradient.storage_offset() - begin), shape, _stride(parameter)))
        return pieces

    def misfit(self, owed: Mapping[str, Shape]) -> str | None:
        """Why debts are not those of these parameters, as far as one can tell."""
        for name, shape in owed.items():
            if name in self._shapes and self._shapes[name] != shape:
                return f"debt[{name!r}] must have the shape {self._shapes[name]} of the parameter, got {shape}"
            if name not in self._shapes and self._model:
                return f"debt must be of parameters that the bound model has, got {name!r}"
            if name not in self._shapes and not name.startswith(_NUMBERED):
                return f"debt[{name!r}] is of a parameter with a name: bind(model) says which parameter that is"
        return None


def _stride(parameter: torch.Tensor) -> Shape:
    """How DDP lays out a gradient: as its parameter if that is dense, else in order. The bucket does not tell."""
    alike = torch.empty_like(parameter, device="meta")  # keeps the strides of what is dense, and of nothing else
    if alike.stride() == parameter.stride():
        return parameter.stride()
    return torch.empty_like(alike, memory_format=torch.contiguous_format).stride()
