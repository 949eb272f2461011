"""Section: what other libraries take for codes and scales of blocks.

Each quantizes as it is made to: what is compared with it has blocks of its size, and zero points if it has an offset.
Each call of theirs allocates its result, ours is given one.
"""

from __future__ import annotations

import logging
import statistics
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import piquant
from piquant_bench._native import Call, Session
from piquant_bench.blocks import ALL, Cut, Parameters
from piquant_bench.cells import Cell
from piquant_bench.libraries import OURS, Data, Setup, open_all, require_compiler
from piquant_bench.timing import interleaved, is_noise, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from piquant_bench.timing import Effort


class Task(NamedTuple):
    """What is compared: parameters and codes at once, or floats from them, of a matrix whose rows are blocks."""

    operation: str  # "symmetric", "asymmetric", "dequantize"
    code: str
    block: int

    @property
    def cell(self) -> Cell:
        """The same with one scale, but for the parameters."""
        return Cell("dequantize" if self.operation == "dequantize" else "quantize", "float32", self.code)

    def __str__(self) -> str:
        dynamic = "" if self.operation == "dequantize" else f", dynamic {self.operation}"
        return f"{self.cell}{dynamic}, blocks of {self.block}"


ROWS_8: Final = Task("asymmetric", "uint8", 256)
ROWS_4: Final = Task("asymmetric", "uint4", 256)
GROUPS: Final = Task("asymmetric", "uint8", 128)
BLOCKS_256: Final = Task("symmetric", "uint8", 256)
BLOCKS_32: Final = Task("symmetric", "uint8", 32)
FROM_GROUPS: Final = Task("dequantize", "uint8", 128)
FROM_256: Final = Task("dequantize", "uint8", 256)
TASKS: Final = (ROWS_8, ROWS_4, GROUPS, BLOCKS_256, BLOCKS_32, FROM_GROUPS, FROM_256)

if TYPE_CHECKING:
    Calls = dict[Task, Callable[[], object]]
    Prepare = Callable[[Data], Calls]


@contextmanager
def _quietly() -> Iterator[None]:
    """Libraries say as they are imported what they lack of GPUs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _torch(setup: Setup) -> Any:
    import torch  # noqa: PLC0415

    torch.set_num_threads(setup.threads)
    return torch


def _ours(setup: Setup) -> Prepare:
    session = Session(setup.threads)

    def call(data: Data, task: Task) -> Callable[[], object]:
        reads, writes = data.arrays(task.cell)
        cut = Cut(1, ALL, task.block)
        parameters = Parameters(cut.count(data.n), task.code)
        made = Call(
            "dequantize" if task.operation == "dequantize" else "dynamic", reads.ctypes.data, task.cell.source,
            writes.ctypes.data, task.cell.target, data.n,
            blocks=parameters.blocks(cut, data.n, symmetric=task.operation == "symmetric"),
        )  # fmt: skip

        def run() -> object:
            session.run(made)
            return parameters  # which the call writes to

        return run

    return lambda data: {task: call(data, task) for task in TASKS}


def _fbgemm_in_torch(setup: Setup) -> Prepare:
    torch = _torch(setup)
    operators = torch.ops.quantized

    def prepare(data: Data) -> Calls:
        x = torch.from_numpy(data.x).view(-1, ROWS_8.block)
        return {
            ROWS_8: partial(operators.embedding_bag_byte_prepack, x),
            ROWS_4: partial(operators.embedding_bag_4bit_prepack, x),
        }

    return prepare


def _fbgemm(setup: Setup) -> Prepare:
    torch = _torch(setup)
    with _quietly():
        import fbgemm_gpu  # noqa: F401, PLC0415  registers operators
    operators = torch.ops.fbgemm

    def prepare(data: Data) -> Calls:
        x = torch.from_numpy(data.x).view(-1, ROWS_8.block)
        return {
            ROWS_8: partial(operators.FloatToFused8BitRowwiseQuantized, x),
            ROWS_4: partial(operators.FloatToFusedNBitRowwiseQuantizedSBHalf, x, 4),
        }

    return prepare


def _torchao(setup: Setup, *, compiled: bool = False) -> Prepare:
    if compiled:
        require_compiler(setup)
    torch = _torch(setup)
    with _quietly():
        from torchao.quantization import quant_primitives as primitives  # noqa: PLC0415
    block, code = (1, GROUPS.block), torch.uint8

    def quantize(x: Any) -> Any:
        scale, zero = primitives.choose_qparams_affine(x, primitives.MappingType.ASYMMETRIC, block, code)
        return primitives.quantize_affine(x, block, scale, zero, code), scale, zero

    def dequantize(q: Any, scale: Any, zero: Any) -> Any:
        return primitives.dequantize_affine(q, block, scale, zero, code)

    if compiled:
        quantize, dequantize = (torch.compile(f, dynamic=False) for f in (quantize, dequantize))
        with _quietly():
            quantize(torch.zeros(2, GROUPS.block))  # a compiler that does not work makes this library absent

    def prepare(data: Data) -> Calls:
        x, q = (torch.from_numpy(a).view(-1, GROUPS.block) for a in (data.x, data.codes))
        parameters = Parameters(len(x), GROUPS.code)
        scale, zero = torch.from_numpy(parameters.scale), torch.from_numpy(parameters.zero_point).int()
        return {GROUPS: partial(quantize, x), FROM_GROUPS: partial(dequantize, q, scale, zero)}

    return prepare


def _bitsandbytes(setup: Setup) -> Prepare:
    torch = _torch(setup)
    with _quietly():
        from bitsandbytes import functional  # noqa: PLC0415

    def prepare(data: Data) -> Calls:
        x = torch.from_numpy(data.x).view(-1, BLOCKS_256.block)
        q, state = functional.quantize_blockwise(x, blocksize=BLOCKS_256.block)
        return {
            BLOCKS_256: partial(functional.quantize_blockwise, x, blocksize=BLOCKS_256.block),
            FROM_256: partial(functional.dequantize_blockwise, q, state),
        }

    return prepare


def _gguf(_: Setup) -> Prepare:
    from gguf import GGMLQuantizationType, quants  # noqa: PLC0415

    def prepare(data: Data) -> Calls:
        x = data.x.reshape(-1, BLOCKS_32.block)
        return {BLOCKS_32: partial(quants.quantize, x, GGMLQuantizationType.Q8_0)}

    return prepare


LIBRARIES: Final[dict[str, Callable[[Setup], Prepare]]] = {
    OURS: _ours,
    "FBGEMM in torch": _fbgemm_in_torch,
    "FBGEMM": _fbgemm,
    "torchao, eager": _torchao,
    "torchao, compiled": partial(_torchao, compiled=True),
    "bitsandbytes": _bitsandbytes,
    "gguf": _gguf,
}

_QUANTIZE: Final = (ROWS_8, ROWS_4, GROUPS, BLOCKS_256, BLOCKS_32)
# The least that each takes over what we take, with many elements and with some.
_BARS: Final = {
    "FBGEMM in torch": (1.5, 1.0),
    "FBGEMM": (1.5, 1.0),
    "torchao, eager": (20.0, 6.0),
    "torchao, compiled": (4.0, 2.0),
    "bitsandbytes": (20.0, 20.0),
    "gguf": (20.0, 50.0),
}
_DEQUANTIZE_BAR: Final = (None, 3.0)


@dataclass(frozen=True)
class BlockPeerTime:
    """Median of one library at one task."""

    task: str
    elements: int
    library: str
    seconds: float
    ratio: float  # its time over ours
    bar: float | None  # the least of it
    met: bool | None  # None without a bar
    noisy: bool


def measure(effort: Effort) -> tuple[list[BlockPeerTime], dict[str, str]]:
    """All tasks at two sizes; and the libraries that are absent, with the reason."""
    present, absent = open_all(Setup(piquant.get_num_threads(), compilers=effort.compilers), LIBRARIES)
    results = []
    for size, n in enumerate((effort.large, 64 * effort.medium)):
        data = Data(n)
        prepared = {name: prepare(data) for name, prepare in present.items()}
        for task in progress(TASKS, f"peers, {n:,}"):
            calls = {name: tasks[task] for name, tasks in prepared.items() if task in tasks}
            samples = interleaved(calls, effort.rounds, effort.pause)
            results += [_time(task, n, size, name, s, samples[OURS]) for name, s in samples.items()]
    return results, absent


def _time(task: Task, n: int, size: int, name: str, samples: list[float], ours: list[float]) -> BlockPeerTime:
    bars: tuple[float | None, ...] = _BARS.get(name, (None, None)) if task in _QUANTIZE else _DEQUANTIZE_BAR
    bar = None if name == OURS else bars[size]
    ratio = statistics.median(samples) / statistics.median(ours)
    return BlockPeerTime(
        task=str(task),
        elements=n,
        library=name,
        seconds=statistics.median(samples),
        ratio=ratio,
        bar=bar,
        met=None if bar is None else ratio >= bar,
        noisy=is_noise(samples, ours),
    )
