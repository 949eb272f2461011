"""Floating-point arrays to low-bit integers and back, on CPUs, at the speed of memory.

``piquant.torch`` and ``piquant.numpy`` work on tensors and arrays, ``piquant.distributed`` on tensors of several
processes; they are imported when first used. The functions here work on anything with the buffer protocol and need
nothing but Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from piquant import _native
from piquant._buffers import compute_quant_params, dequantize, quantize, quantize_dequantize, quantize_dynamic
from piquant._context import Context, available_isas, get_num_threads, isa, set_num_threads
from piquant._dtypes import DataType, ReduceOp, RoundMode
from piquant._error_bound import error_bound
from piquant._outputs import release_memory

if TYPE_CHECKING:
    from types import ModuleType

    from piquant import distributed as distributed
    from piquant import numpy as numpy
    from piquant import torch as torch

__all__ = [
    "Context",
    "DataType",
    "ReduceOp",
    "RoundMode",
    "available_isas",
    "compute_quant_params",
    "dequantize",
    "error_bound",
    "get_num_threads",
    "isa",
    "quantize",
    "quantize_dequantize",
    "quantize_dynamic",
    "release_memory",
    "set_num_threads",
]

__version__: str = _native.version()


_NEEDED = {"distributed": "torch", "numpy": "numpy", "torch": "torch"}
"""What each module that is imported when it is first used needs."""


def __getattr__(name: str) -> ModuleType:
    if name not in _NEEDED:
        raise AttributeError(f"module 'piquant' has no attribute {name!r}")
    try:
        return importlib.import_module(f"piquant.{name}")
    except ImportError as error:
        if error.name != _NEEDED[name]:  # that is there, and something is wrong with it
            raise
        raise AttributeError(f"module 'piquant' has no attribute {name!r}: {error}") from error
