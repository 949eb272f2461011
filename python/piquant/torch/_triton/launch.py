"""Kernels by what they were compiled for, and their launch.

Triton's own launcher looks at each argument of each call, which takes longer than the kernels do on little data. Here
all arguments are addresses and integers of 64 bits, on which no code depends. What a call depends on are constants; the
native module remembers the launch of each form of call, and calls the driver.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import numpy
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction, TensorHandle

from piquant import _native
from piquant._dtypes import CODES, DTYPE_ID, FLOATS, PACKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from piquant.torch._triton.tiles import Launch

_THREADS_OF_WARP: Final = 32
_OF_DTYPES: Final = ("FLOAT", "T", "SCALE", "ZERO", "INDEX")

NONE: Final = -1
DTYPES: Final[dict[int, Any]] = {NONE: None} | {
    DTYPE_ID[name]: getattr(tl, name) for name in (*FLOATS, *CODES) if name not in PACKED
}
"""Triton's dtypes by id."""


_POINTERS: Final = ("in_", "out", "scales", "zeros", "uppers", "lowers")


class _Address:
    """Stands for a tensor when a kernel is compiled."""

    dtype = torch.int8

    def __init__(self, aligned: bool) -> None:
        self._beyond = 0 if aligned else 1

    def data_ptr(self) -> int:
        return self._beyond


def _interpreted(name: str, argument: int) -> Any:
    """An argument as Triton's interpreter holds it, which would take fewer bits of small ones."""
    wrapped = (argument + (1 << 63)) % (1 << 64) - (1 << 63)
    kind = tl.pointer_type(tl.int8) if name in _POINTERS else tl.int64
    return tl.tensor(TensorHandle(numpy.array([wrapped], numpy.int64), kind), kind)


def kernel(function: Callable[..., None]) -> Kernel:
    return Kernel(function)


class Kernel:
    """A kernel in all its compiled forms."""

    def __init__(self, function: Callable[..., None]) -> None:
        names = inspect.signature(function).parameters
        self._arguments: Final = [name for name in names if name.islower()]
        self._constants: Final = [name for name in names if not name.islower()]
        self._jit: Final[Any] = triton.jit(
            function, do_not_specialize=[n for n in self._arguments if n not in _POINTERS]
        )
        self._compiled: Final[dict[tuple[Any, ...], tuple[int, int, int]]] = {}

    def launch(self, device: int, how: Launch, arguments: tuple[int, ...]) -> tuple[Any, ...] | None:
        """Queues it on the current stream of a device. Constants that are dtypes are given by their ids.

        Returns what a later launch needs: the function, programs, threads, bytes of shared memory, and the last of the
        arguments. Nothing where kernels are interpreted.
        """
        if isinstance(self._jit, InterpretedFunction):
            self._jit[(how.programs,)](*map(_interpreted, self._arguments, arguments), **self._named(how.constants))
            return None
        key = (device, how.warps, how.constants)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(device, how.warps, arguments, how.constants)
        stream = torch._C._cuda_getCurrentRawStream(device)
        _native.launch(device, compiled[0], how.programs, compiled[1], compiled[2], stream, arguments)
        return compiled[0], how.programs, compiled[1], compiled[2], how.arguments

    def _named(self, constants: tuple[Any, ...]) -> dict[str, Any]:
        named = dict(zip(self._constants, constants, strict=True))
        return {name: DTYPES[value] if name in _OF_DTYPES else value for name, value in named.items()}

    def _compile(
        self, device: int, warps: int, arguments: tuple[int, ...], constants: tuple[Any, ...]
    ) -> tuple[int, int, int]:
        """The function's handle, threads of a program, and bytes of shared memory."""
        named = self._named(constants)
        aligned = {"in_": named.get("IN_ALIGNED"), "out": named.get("OUT_ALIGNED")}
        given = [
            _Address(bool(aligned.get(name))) if name in _POINTERS else value
            for name, value in zip(self._arguments, arguments, strict=True)
        ]
        with torch.cuda.device(device):
            made = self._jit.warmup(*given, **named, grid=(1,), num_warps=warps, enable_fp_fusion=False)
            made._init_handles()
        return made.function, warps * _THREADS_OF_WARP, made.metadata.shared
