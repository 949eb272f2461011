"""Memory of outputs that the library allocates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from piquant import _native

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ADVISED_FROM: Final = 4 << 20
"""Bytes from which an output is advised onto huge pages, of 2 MiB each; below, the advice costs more than it saves."""

KEPT_FROM: Final = 32 << 20
"""Bytes from which the memory of an output is kept for the next one; glibc keeps what is smaller."""


def allocated(make: Callable[[], T]) -> T:
    """``make()``, and once more without the memory that is kept, should there be too little."""
    try:
        return make()
    except MemoryError:
        if release_memory() == 0:
            raise
        return make()


def release_memory() -> int:
    """Gives the memory that is kept for fresh outputs back to the system.

    The functions of ``piquant.torch`` and ``piquant.numpy`` allocate their result where ``out`` is not given. From
    32 MiB on, unless it is a tensor that carries its scale and zero point, its memory is kept for the next such
    result once nothing refers to it any more, at most 1 GiB in all, because the system takes several times as long to
    provide new memory as it takes to dequantize into it. The system may have these pages back (``MADV_FREE``), and
    takes them when memory is short; until then they count as this process's. Such results cannot be resized in place.
    On other systems than Linux nothing is kept.

    Returns:
        How many bytes were kept.
    """
    return _native.release_memory()
