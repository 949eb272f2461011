"""The libraries that are compared. Each is opened once, and then gives, for some data, the tasks that it can do.

The calls hold addresses: the data must outlive them.
Opening raises an exception whose text tells why the library is absent.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np

import piquant
import piquant.numpy
from piquant_bench._native import Call, Session
from piquant_bench.cells import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Opened = TypeVar("Opened")


class Task(NamedTuple):
    """What is compared: a cell, with the parameters that suit the data."""

    cell: Cell
    scale: float
    zero_point: int


QUANTIZE: Final = Task(Cell("quantize", "float32", "uint8"), 0.05, 128)
DEQUANTIZE: Final = Task(Cell("dequantize", "float32", "uint8"), 0.05, 128)
QUANTIZE_4: Final = Task(Cell("quantize", "float32", "uint4"), 0.5, 8)
QUANTIZE_2: Final = Task(Cell("quantize", "float32", "uint2"), 1.0, 2)
STOCHASTIC: Final = Task(Cell("stochastic", "float32", "uint8"), 0.05, 128)
STOCHASTIC_4: Final = Task(Cell("stochastic", "float32", "uint4"), 0.5, 8)
PARAMETERS: Final = Task(Cell("params", "float32", "uint8"), 0.05, 128)
TASKS: Final = (QUANTIZE, DEQUANTIZE, QUANTIZE_4, QUANTIZE_2, STOCHASTIC, STOCHASTIC_4, PARAMETERS)


class Data:
    """The same numbers for everyone, and room for results."""

    def __init__(self, n: int) -> None:
        normal = np.random.default_rng(0).standard_normal(min(n, 1 << 16))
        self.n = n
        self.x: NDArray[np.float32] = np.resize(normal, n).astype(np.float32)
        self.codes: NDArray[np.uint8] = np.resize(np.random.default_rng(1).integers(0, 256, 1 << 16, np.uint8), n)
        self.to_codes: NDArray[np.uint8] = np.zeros(n, np.uint8)
        self.to_floats: NDArray[np.float32] = np.zeros(n, np.float32)

    def packed(self, cell: Cell) -> NDArray[np.uint8]:
        """Room for the codes of a cell."""
        return self.to_codes[: (self.n * piquant.DataType(cell.code).bit_size + 7) // 8]

    def arrays(self, cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
        """What a cell reads and writes."""
        return (self.x, self.packed(cell)) if cell.reads_real else (self.codes, self.to_floats)


@dataclass(frozen=True)
class Setup:
    """What libraries are opened with."""

    threads: int
    pypiquant: str | None = None  # directory of an unpacked wheel, or "download"
    compilers: bool = True


if TYPE_CHECKING:
    Calls = dict[Task, Callable[[], object]]
    Prepare = Callable[[Data], Calls]

OURS: Final = "piquant"
MEMORY: Final = "memory (traffic twin)"


def _ours(setup: Setup, *, fresh: bool = False) -> Prepare:
    ctx = piquant.Context(setup.threads)

    def prepare(data: Data) -> Calls:
        calls: Calls = {}
        for task in TASKS:
            cell, scale, zero = task
            if cell.operation == "params":
                if not fresh:
                    calls[task] = partial(piquant.numpy.compute_quant_params, data.x, dtype="uint8", ctx=ctx)
                continue
            common: dict[str, Any] = {"scale": scale, "zero_point": zero, "ctx": ctx}
            if not fresh:
                common["out"] = data.packed(cell) if cell.reads_real else data.to_floats
            if cell.operation == "stochastic":
                common |= {"round_mode": "stochastic", "seed": 1}
            calls[task] = (
                partial(piquant.numpy.quantize, data.x, dtype=cell.code, **common)
                if cell.reads_real
                else partial(piquant.numpy.dequantize, data.codes, dtype=cell.real, **common)
            )
        return calls

    return prepare


def _memory(setup: Setup) -> Prepare:
    session = Session(setup.threads)

    def prepare(data: Data) -> Calls:
        calls: Calls = {}
        for task in TASKS:
            cell = task.cell
            reads, writes = data.arrays(cell)
            into = 0 if cell.operation == "params" else writes.ctypes.data
            call = Call(cell.operation, reads.ctypes.data, cell.source, into, cell.target, data.n)
            calls[task] = partial(session.move_traffic, call)
        return calls

    return prepare


_PYPIQUANT: Final = "4.1.0"
_PYPIQUANT_DTYPES: Final = {"float32": 0, "uint2": 2, "uint4": 3, "uint8": 4}


def _pypiquant(setup: Setup) -> Prepare:
    if setup.pypiquant is None:
        raise FileNotFoundError("give --pypiquant DIR, an unpacked wheel, or --pypiquant download")
    home = _download() if setup.pypiquant == "download" else Path(setup.pypiquant)
    # Both libraries export piquant_*: this one must find its own names first, and offer them to nobody.
    lib = ctypes.CDLL(str(home / "piquant" / "libpiquant.so"), mode=os.RTLD_LOCAL | os.RTLD_NOW | os.RTLD_DEEPBIND)
    p, i, size, f32, i64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_float, ctypes.c_int64
    lib.piquant_context_create.argtypes, lib.piquant_context_create.restype = [size], p
    for name in ("piquant_quantize", "piquant_dequantize"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [p, p, i, p, i, size, f32, i64, i], None
    params = lib.piquant_compute_quant_params_float32
    params.argtypes, params.restype = [p, p, size, i, ctypes.POINTER(f32), ctypes.POINTER(i64)], None
    context = lib.piquant_context_create(setup.threads)  # lives as long as the process

    def prepare(data: Data) -> Calls:
        calls: Calls = {}
        for task in TASKS:
            cell, s, z = task
            reads, writes = data.arrays(cell)
            n, real, code = data.n, _PYPIQUANT_DTYPES[cell.real], _PYPIQUANT_DTYPES[cell.code]
            source, target = reads.ctypes.data, writes.ctypes.data
            if cell.operation == "params":
                calls[task] = partial(params, context, source, n, code, ctypes.byref(f32()), ctypes.byref(i64()))
            elif cell.reads_real:
                stochastic = cell.operation == "stochastic"
                calls[task] = partial(
                    lib.piquant_quantize, context, source, real, target, code, n, s, z, int(stochastic)
                )
            else:
                calls[task] = partial(lib.piquant_dequantize, context, source, code, target, real, n, s, z, 0)
        return calls

    return prepare


def _download() -> Path:
    """Unpacks the wheel from the package index that pip is set to, next to nothing that is installed."""
    home = Path(tempfile.mkdtemp(prefix="piquant-bench-"))
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, f"pypiquant=={_PYPIQUANT}", "-d", str(home)], check=True, capture_output=True)
    with zipfile.ZipFile(next(home.glob("*.whl"))) as wheel:
        wheel.extractall(home)
    return home


def quiet_torch() -> None:
    """Torch announces the end of its quantized dtypes, which are compared here all the same."""
    warnings.filterwarnings("ignore", message=r"torch\.quantize_per_tensor")


def _torch(setup: Setup) -> Prepare:
    import torch  # noqa: PLC0415

    torch.set_num_threads(setup.threads)

    def prepare(data: Data) -> Calls:
        x = torch.from_numpy(data.x)
        _, scale, zero = DEQUANTIZE
        # Scale and zero point make the quantized tensor; its codes become those of the data.
        q = torch._make_per_tensor_quantized_tensor(torch.from_numpy(data.codes), scale, zero)
        types = {QUANTIZE: torch.quint8, QUANTIZE_4: torch.quint4x2, QUANTIZE_2: torch.quint2x4}
        calls: Calls = {t: partial(torch.quantize_per_tensor, x, *t[1:], dtype) for t, dtype in types.items()}
        return calls | {DEQUANTIZE: q.dequantize, PARAMETERS: partial(torch.aminmax, x)}

    return prepare


def _decomposed() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Quantizes and dequantizes by the operators that torch's FX graph mode inserts."""
    import torch  # noqa: PLC0415
    import torch.ao.quantization.fx._decomposed  # noqa: PLC0415  registers them

    operators = torch.ops.quantized_decomposed
    scale, zero = QUANTIZE[1:]
    return (
        lambda x: operators.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8),
        lambda q: operators.dequantize_per_tensor(q, scale, zero, 0, 255, torch.uint8),
    )


def _fx(setup: Setup) -> Prepare:
    import torch  # noqa: PLC0415

    torch.set_num_threads(setup.threads)
    quantize, dequantize = _decomposed()

    def prepare(data: Data) -> Calls:
        x, q = torch.from_numpy(data.x), torch.from_numpy(data.codes)
        return {QUANTIZE: partial(quantize, x), DEQUANTIZE: partial(dequantize, q)}

    return prepare


def require_compiler(setup: Setup) -> None:
    """Raises an exception that tells why torch.compile is left out."""
    if not setup.compilers:
        raise RuntimeError("left out by --quick")
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        raise RuntimeError("no C++ compiler")


def _compiled(setup: Setup) -> Prepare:
    require_compiler(setup)
    import torch  # noqa: PLC0415

    torch.set_num_threads(setup.threads)
    quantize, dequantize = (torch.compile(f, dynamic=False) for f in _decomposed())
    quantize(torch.zeros(64))  # a compiler that does not work makes this library absent, not the run fail

    def prepare(data: Data) -> Calls:
        x, q = torch.from_numpy(data.x), torch.from_numpy(data.codes)
        return {QUANTIZE: partial(quantize, x), DEQUANTIZE: partial(dequantize, q)}

    return prepare


def _onnxruntime(setup: Setup) -> Prepare:
    import onnxruntime  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.log_severity_level = 3

    def session(operator: str, source: int, target: int) -> Any:
        graph = helper.make_graph(
            [helper.make_node(operator, ["x", "scale", "zero"], ["y"])],
            operator,
            [helper.make_tensor_value_info("x", source, ["n"])],
            [helper.make_tensor_value_info("y", target, ["n"])],
            [
                helper.make_tensor("scale", TensorProto.FLOAT, [], [QUANTIZE.scale]),
                helper.make_tensor("zero", TensorProto.UINT8, [], [QUANTIZE.zero_point]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def bound(session: Any, x: NDArray[Any], y: NDArray[Any]) -> Callable[[], object]:
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        return partial(session.run_with_iobinding, binding)

    quantize = session("QuantizeLinear", TensorProto.FLOAT, TensorProto.UINT8)
    dequantize = session("DequantizeLinear", TensorProto.UINT8, TensorProto.FLOAT)
    return lambda data: {
        QUANTIZE: bound(quantize, data.x, data.to_codes),
        DEQUANTIZE: bound(dequantize, data.codes, data.to_floats),
    }


def _numpy(_: Setup) -> Prepare:
    def prepare(data: Data) -> Calls:
        _, scale, zero = QUANTIZE
        inverse, s, z = np.float32(1 / scale), np.float32(scale), np.float32(zero)
        return {
            QUANTIZE: lambda: np.clip(np.rint(data.x * inverse) + z, 0, 255).astype(np.uint8),
            DEQUANTIZE: lambda: (data.codes - z) * s,
            PARAMETERS: lambda: (data.x.min(), data.x.max()),
        }

    return prepare


LIBRARIES: Final[dict[str, Callable[[Setup], Prepare]]] = {
    OURS: _ours,
    "piquant, fresh output": lambda setup: _ours(setup, fresh=True),
    MEMORY: _memory,
    f"pypiquant {_PYPIQUANT}": _pypiquant,
    "torch built-in": _torch,
    "torch FX, eager": _fx,
    "torch FX, compiled": _compiled,
    "ONNX Runtime": _onnxruntime,
    "numpy expression": _numpy,
}


def open_all(
    setup: Setup, libraries: Mapping[str, Callable[[Setup], Opened]]
) -> tuple[dict[str, Opened], dict[str, str]]:
    """The libraries that are there, and for those that are not, why."""
    present, absent = {}, {}
    quiet_torch()
    for name, library in libraries.items():
        try:
            present[name] = library(setup)
        except Exception as error:  # whatever a library does when it cannot work here
            absent[name] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return present, absent
