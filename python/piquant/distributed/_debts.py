"""What a rank still owes: of each gradient the part that rounding kept back, by the name of its parameter.

The debts of a bucket lie in a flat tensor, in the order of its gradients, and the debt of a parameter is a view of it.
So nothing is copied while buckets stay as they are. Buckets that are rebuilt, or those of another process, gather their
debts anew, by name. Debts are in units of the sum: they add up, whoever owes them, whatever the number of ranks.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from piquant._shapes import Shape
    from piquant.distributed._buckets import Piece

_PEEK: Final = 64  # elements that show of nearly every gradient that it is not zero throughout


class Debts:
    """Debts by name, each of the shape of its parameter."""

    def __init__(self) -> None:
        self._owed: dict[str, torch.Tensor] = {}

    def shapes(self) -> dict[str, Shape]:
        return {name: tuple(debt.shape) for name, debt in self._owed.items()}

    def copies(self) -> dict[str, torch.Tensor]:
        """By names in an order that is the same on every rank."""
        return {name: self._owed[name].clone(memory_format=torch.contiguous_format) for name in sorted(self._owed)}

    def replace(self, debts: Mapping[str, torch.Tensor], share: float) -> None:
        """Takes ``share`` of each of these debts, and forgets its own."""
        self._owed = {name: debt.detach().to(_wide(debt), copy=True).mul_(share) for name, debt in debts.items()}

    def rename(self, names: Mapping[str, str]) -> None:
        """New names by old ones."""
        self._owed = {names.get(name, name): debt for name, debt in self._owed.items()}

    def flat(self, pieces: Sequence[Piece], bucket: torch.Tensor) -> torch.Tensor:
        """The debts of these pieces in the order of their bucket; zeros where nothing is owed."""
        first = self._owed.get(pieces[0].name)
        flat = None if first is None else first._base
        if flat is not None and flat.numel() == bucket.numel() and all(self._lies_in(flat, piece) for piece in pieces):
            return flat
        flat = torch.zeros(bucket.numel(), dtype=_wide(bucket), device=bucket.device)
        for piece in pieces:
            debt = piece.view(flat)
            if piece.name in self._owed:
                debt.copy_(self._owed[piece.name])
            self._owed[piece.name] = debt
        return flat

    def _lies_in(self, flat: torch.Tensor, piece: Piece) -> bool:
        debt = self._owed.get(piece.name)
        if debt is None or debt._base is not flat:
            return False
        return (debt.storage_offset(), tuple(debt.shape), debt.stride()) == (piece.begin, piece.shape, piece.stride)

    @contextmanager
    def lend(self, pieces: Sequence[Piece], bucket: torch.Tensor) -> Iterator[torch.Tensor]:
        """The debts of a bucket, for an exchange that pays them and leaves what is owed then.

        A gradient that is zero throughout may be of a parameter that no rank used. DDP drops the sum of such a
        parameter, and with it a debt that the sum contains. So this debt stays behind and waits for another step.
        """
        flat = self.flat(pieces, bucket)
        idle = [piece.span(flat) for piece in pieces if _is_zero(piece.span(bucket))]
        kept = [debt.clone() for debt in idle]
        for debt in idle:
            debt.zero_()
        try:
            yield flat
        finally:
            for debt, before in zip(idle, kept, strict=True):
                debt.add_(before)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _is_zero(gradient: torch.Tensor) -> bool:
    return not gradient[:_PEEK].any() and not gradient.any()
