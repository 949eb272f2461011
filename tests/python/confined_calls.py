"""Calls give the same answer where there is little stack or memory, or a MemoryError: part of properties.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from confined import ALLOCATOR, ARENA, BITS, CARRYING, LAYOUTS, MIB, TOLD, Case


class Process:
    """confined.py at work; started when it is first needed, and again after a call has ended it."""

    def __init__(self) -> None:
        self.running: subprocess.Popen[str] | None = None

    def complaint(self, case: Case) -> str | None:
        if self.running is None:
            self.running = subprocess.Popen(
                [sys.executable, "-W", "ignore", Path(__file__).with_name("confined.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR,
            )  # fmt: skip
        process = self.running
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(case) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            told: str | None = json.loads(answer)
            return told
        self.running = None
        process.stdin.close()
        process.stdout.close()
        return f"the process ended, with code {process.wait()}"


PROCESS = Process()


@st.composite
def cases(draw: Any, sizes: st.SearchStrategy[tuple[int, int]], rooms: st.SearchStrategy[int]) -> Case:
    # Most that can go wrong is torch's and in results of its own quantized dtypes.
    face = draw(st.sampled_from(["torch", "torch", "numpy", "buffers"]))
    function = draw(st.sampled_from(["quantize", *TOLD, "compute_quant_params", "quantize_dynamic"]))
    block = draw(st.sampled_from([0, 0, 1, 32, 700]))
    codes = tuple(BITS)
    if face == "torch" and function in ("quantize", "dequantize") and draw(st.booleans()):
        codes = tuple(CARRYING)
    kinds = {"torch": ["plain", "subclass", "negated"], "numpy": ["plain", "subclass", "swapped", "offers"]}
    rows, columns = draw(sizes)
    has_out = function != "compute_quant_params" and draw(st.integers(0, 2)) == 0
    return Case(
        face, function,
        real=draw(st.sampled_from(["float32", "float64", "float16", *["bfloat16"] * (face == "torch")])),
        code=draw(st.sampled_from(codes)),
        rows=rows, columns=columns,
        layout=draw(st.sampled_from(tuple(LAYOUTS))),
        kind=draw(st.sampled_from(kinds.get(face, ["plain"]))),
        has_out=has_out, add=has_out and draw(st.booleans()), stochastic=draw(st.booleans()),
        wrong=draw(st.integers(0, 9)) == 0, block=block,
        threads=draw(st.sampled_from([0, 1, 3])),
        room=draw(rooms), kept=draw(st.booleans()),
    )  # fmt: skip


FEW = st.tuples(st.integers(1, 70), st.integers(1, 70))
SOME = st.tuples(st.integers(100, 400), st.integers(100, 400))  # for several threads
MANY = st.tuples(st.sampled_from([1, 256, 1024, 3072, 6144, 6144]), st.integers(1000, 1024))


@given(cases(st.one_of(FEW, SOME), st.just(-1)))
def little_stack_changes_nothing(case: Case) -> None:
    """On a thread of which the stack is measured."""
    event(f"{case.face} {case.function}")
    complaint = PROCESS.complaint(case)
    assert complaint is None, complaint


CARRYING_RESULT = Case(
    "torch", "quantize", "float32", "quint8", 6144, 1024, "dense", "plain", has_out=False, add=False, stochastic=False,
    wrong=False, block=0, threads=1, room=MIB // 4, kept=False,
)  # fmt: skip


@example(CARRYING_RESULT)
@given(cases(MANY, st.sampled_from([MIB // 4, ARENA, 4 * MIB, 16 * MIB])))
def little_memory_is_enough_or_a_memory_error(case: Case) -> None:
    """And memory that the package keeps for reuse does not make it less."""
    event(f"{case.face} {case.function}")
    complaint = PROCESS.complaint(case)
    assert complaint is None, complaint
