"""Makes calls where there is little stack or little memory; confined_calls.py starts it and tells it which.

Each line of its input is a call, and each of its output what was wrong with the answer, if anything. A process of its
own, as a call that takes too much stack ends it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import json
import mmap
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

import piquant
import piquant.numpy
import piquant.torch

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
STACK = 128 << 10
PAINT = 0xC5
MOST_STACK = 24 << 10
"""So that a call has room on threads of 32 KiB. The interpreter takes 8 KiB of it, torch and the faces some."""
KEPT = 40 * MIB
"""A block of this size is kept for reuse, where a call has that."""
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10), "MALLOC_ARENA_MAX": "1"}
"""For glibc, so that what it has at hand is little and the same every time."""
# What the interpreter and glibc may have at hand; what they, and the working memory of a call, may want beside arrays.
AT_HAND = 2 * MIB
BESIDE = 8 * MIB
ARENA = 3 * MIB // 2
"""With less room the interpreter's own objects may have none, and what is kept is not theirs."""

CARRYING = {"quint8": "uint8", "qint8": "int8", "qint32": "int32", "quint4x2": "uint4", "quint2x4": "uint2"}
LIBC = ctypes.CDLL(None)
NUMBERS = {"scale": 0.1, "zero_point": 1}
TOLD = ("quantize", "dequantize", "quantize_dequantize")
BITS = {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)}


class Case(NamedTuple):
    """A call, and what it is confined to."""

    face: str
    function: str
    real: str
    code: str  # dtype of the codes, perhaps one of torch's that carry their parameters
    rows: int
    columns: int
    layout: str  # of LAYOUTS
    kind: str  # "plain", "negated", "swapped", "subclass", or "offers" (an array)
    has_out: bool
    add: bool
    stochastic: bool
    wrong: bool  # has a scale that is none
    block: int  # elements of a block along the last dimension; 0: one scale
    threads: int  # of a context; 0: of the face
    room: int  # bytes of memory that are left; -1: any number, and its stack is measured
    kept: bool  # memory for reuse is kept


class Offers:
    """An array of another package, which is copied when it is asked for."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.x.copy()


def elements(case: Case) -> np.ndarray:
    """The data of a call, row-major; rows of packed codes as bytes."""
    if case.function != "dequantize":
        x = np.empty((case.rows, case.columns), "float32" if case.real == "bfloat16" else case.real)
        x[...] = np.linspace(-1, 1, case.columns)
        return x
    bits = BITS[case.code]
    if bits < 8:
        q = np.empty((case.rows, -(-case.columns * bits // 8)), np.uint8)
    else:
        q = np.empty((case.rows, case.columns), case.code)
    q[...] = np.arange(q.shape[1]) % 100
    return q


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda x: x, "transposed": lambda x: x.T, "columns": lambda x: x[:, ::2], "rows": lambda x: x[::2],
}  # fmt: skip


def given(case: Case) -> tuple[Any, int]:
    """The array that a call is given, and how many bytes of a copy it wants."""
    if case.face != "torch":
        x = LAYOUTS[case.layout](elements(case))
        if case.kind == "swapped":
            return x.astype(x.dtype.newbyteorder()), x.nbytes * (x.itemsize > 1)
        if case.kind == "offers":
            return Offers(x), x.nbytes
        return memoryview(x) if case.face == "buffers" else x.view(np.memmap) if case.kind == "subclass" else x, 0
    if case.function == "dequantize" and case.code in CARRYING:
        x = torch.from_numpy(elements(case._replace(function="quantize", real="float32")))
        return piquant.torch.quantize(x, **NUMBERS, dtype=case.code), 0
    t = torch.from_numpy(elements(case))
    if case.real == "bfloat16" and case.function != "dequantize":
        t = t.bfloat16()
    t = LAYOUTS[case.layout](t)
    if case.kind == "negated" and t.dtype not in (torch.uint16, torch.uint32, torch.uint64):
        return torch._neg_view(t), t.numel() * t.element_size()
    return torch.nn.Parameter(t, requires_grad=False) if case.kind == "subclass" else t, 0


@functools.cache
def context(threads: int) -> piquant.Context | None:
    if threads == 0:
        return None
    made = piquant.Context(threads)
    made.serial_cutoff = 0
    return made


def params_of(case: Case, x: Any) -> dict[str, Any]:
    """Scales and zero points of a call that is told them."""
    if case.block == 0:
        return NUMBERS
    rows, columns = x.shape
    if case.function == "dequantize" and case.code in BITS:
        columns = columns * 8 // min(BITS[case.code], 8)
    scale = np.full((rows, -(-columns // case.block)), 0.1, np.float32)
    params = {"scale": scale, "zero_point": np.ones(scale.shape, np.int8)}
    return {name: torch.from_numpy(a) for name, a in params.items()} if case.face == "torch" else params


def call_of(case: Case) -> tuple[Callable[..., Any], int]:
    """The call, which takes ``out``, and the bytes of the copy that it makes."""
    module = {"torch": piquant.torch, "numpy": piquant.numpy, "buffers": piquant}[case.face]
    x, copied = given(case)
    named: dict[str, Any] = {"dtype": case.real if case.function == "dequantize" else case.code}
    named["ctx"] = context(case.threads)
    if case.block:
        named["block_size"] = case.block
    if case.function in TOLD:
        named |= params_of(case, x.x if isinstance(x, Offers) else x)
    if case.wrong:
        named["scale" if "scale" in named else "quant_min"] = -(1 << 70)
    if case.function.startswith("quantize"):
        named |= {"round_mode": "stochastic" if case.stochastic else "nearest", "seed": 5}
    if case.function == "dequantize" and case.code in BITS and BITS[case.code] < 8:
        named["source_dtype"] = case.code
    function = getattr(module, case.function)

    def call(out: Any = None) -> Any:
        if out is None:
            return function(x, **named)
        if case.add and case.function.endswith("dequantize"):
            return function(x, **named, out=out, reduce_op="add")
        return function(x, **named, out=out)

    return call, copied


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def on_a_stack_of_its_own(call: Callable[[], Any]) -> tuple[Any, int]:
    """The outcome on a thread of its own, and how many bytes of its stack were written."""
    stack = np.frombuffer(mmap.mmap(-1, STACK), np.uint8)
    stack[...] = PAINT
    answers: list[Any] = []
    body = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: answers.append(outcome(call)))
    attributes, thread = ctypes.create_string_buffer(256), ctypes.c_ulong()
    LIBC.pthread_attr_init(attributes)
    LIBC.pthread_attr_setstack(attributes, ctypes.c_void_p(stack.ctypes.data), ctypes.c_size_t(STACK))
    assert LIBC.pthread_create(ctypes.byref(thread), attributes, body, None) == 0
    LIBC.pthread_join(thread, None)
    LIBC.pthread_attr_destroy(attributes)
    return answers[0], STACK - int(np.argmax(stack != PAINT))


def with_little_memory(call: Callable[[], Any], room: int) -> Any:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    try:
        return outcome(call)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def bytes_of(result: Any) -> np.ndarray:
    if not isinstance(result, torch.Tensor):
        return np.asarray(result)
    codes = CARRYING.get(str(result.dtype).removeprefix("torch."))
    bits = BITS[codes] if codes is not None else 8 * result.element_size()
    memory = torch.empty(0, dtype=torch.uint8).set_(result.untyped_storage()).numpy()
    return memory[: -(-result.numel() * bits // 8)]  # torch allocates more for some


def arrays_of(result: Any) -> list[Any]:
    """The arrays of a result; none of numbers and exceptions."""
    if isinstance(result, (piquant.numpy.QuantizedArray, piquant.torch.QuantizedTensor)):
        result = result.data, result.scale, result.zero_point
    several = result if isinstance(result, tuple) else (result,)
    return [part for part in several if not isinstance(part, (int, float, Exception))]


def equal(a: Any, b: Any) -> bool:
    arrays = arrays_of(a), arrays_of(b)
    if not arrays[0] or not arrays[1]:
        return repr(a) == repr(b)
    return [*map(type, arrays[0])] == [*map(type, arrays[1])] and all(
        np.array_equal(bytes_of(one), bytes_of(other)) for one, other in zip(*arrays, strict=True)
    )


def complaint(case: Case) -> str | None:
    """What is wrong with the answer of a confined call, by that of the same call before it."""
    call, copied = call_of(case)
    wanted, out = outcome(call), None
    needed = copied
    if case.has_out and not isinstance(wanted, Exception):
        out = call()
        wanted = call(wanted)
    else:
        needed += sum(bytes_of(array).nbytes for array in arrays_of(wanted))
    if case.room < 0:
        got, used = on_a_stack_of_its_own(lambda: call(out))
        if used > MOST_STACK:
            return f"{used} bytes of stack were used"
        return None if equal(got, wanted) else f"{got!r} on another thread than {wanted!r}"
    piquant.release_memory()
    if case.kept:
        del_me = piquant._native.output_memory(KEPT)
        del del_me
    got = with_little_memory(lambda: call(out), case.room)
    room = case.room + KEPT * case.kept
    words = f"{got!r} with {case.room} bytes of room and {KEPT * case.kept} kept, where {needed} are needed"
    if isinstance(got, MemoryError):
        sure = room if len(arrays_of(wanted)) < 2 else case.room  # one result may take all that is kept
        is_right = isinstance(wanted, Exception) or case.room < ARENA or sure < needed + BESIDE
    else:
        is_right = equal(got, wanted) and (isinstance(wanted, Exception) or room + AT_HAND >= needed)
    return None if is_right else words


def main() -> None:
    faulthandler.enable()  # says where, should a call end the process
    x = torch.zeros(1 << 20)
    for threads in (0, 1, 3):  # that workers and torch's team cannot be started later is not what is asked
        piquant.torch.quantize(x, **NUMBERS, dtype="uint8", ctx=context(threads))
    for line in sys.stdin:
        print(json.dumps(complaint(Case(*json.loads(line)))), flush=True)
        piquant.release_memory()


if __name__ == "__main__":
    main()
