"""What one would write in torch in place of a call, for torch.compile to make a kernel of: scale 0.02, zero point 1."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE: Final = 0.02
ZERO_POINT: Final = 1
_INVERSE: Final = 50.0  # float32 of 1 / SCALE


class Expression(NamedTuple):
    """One kind of work, from a type to another one."""

    source: str
    target: str
    adds: bool
    function: Callable[..., torch.Tensor]  # of the source and, where it adds, of what is there

    @property
    def name(self) -> str:
        """As the benchmark says it."""
        return f"{self.source} -> {self.target}{', add' * self.adds}"


def _codes(x: torch.Tensor, lowest: int, highest: int) -> torch.Tensor:
    return torch.clamp(torch.round(x.float() * _INVERSE) + ZERO_POINT, lowest, highest).to(torch.int8)


def to_int8(x: torch.Tensor) -> torch.Tensor:
    """Codes of 8 bits."""
    return _codes(x, -128, 127)


def to_int4(x: torch.Tensor) -> torch.Tensor:
    """Codes of 4 bits, two in a byte."""
    codes = _codes(x, -8, 7).view(torch.uint8).view(-1, 2)
    return (codes[:, 0] & 15) | (codes[:, 1] << 4)


def of_int8(q: torch.Tensor) -> torch.Tensor:
    """What codes of 8 bits stand for."""
    return (q.float() - ZERO_POINT) * SCALE


def of_int4(q: torch.Tensor) -> torch.Tensor:
    """What codes of 4 bits stand for."""
    fields = torch.stack((q & 15, q >> 4), dim=1).view(-1)
    return ((fields ^ 8).float() - (8 + ZERO_POINT)) * SCALE


def _set(values_of: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype, q: torch.Tensor) -> torch.Tensor:
    return values_of(q).to(dtype)


def _add(values_of: Callable[[torch.Tensor], torch.Tensor], q: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return (before.float() + values_of(q)).to(before.dtype)


def all_of(real: str) -> list[Expression]:
    """Those from and to a type of floats."""
    found = []
    for code, codes_of, values_of in (("int8", to_int8, of_int8), ("int4", to_int4, of_int4)):
        back = partial(_set, values_of, getattr(torch, real))
        found += [
            Expression(real, code, False, codes_of),
            Expression(code, real, False, back),
            Expression(code, real, True, partial(_add, values_of)),
        ]
    return found
