"""The kernels for CUDA devices give what the CPU gives. Here Triton's interpreter runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import piquant.torch
from piquant.distributed._codec import CudaCodec
from piquant.distributed._plan import BITS, Options, layout_of_message
from piquant.torch import _tensors

HERE = Path(__file__).parent
CASES = 30
"""Of each of two processes, of six calls each."""
SOAK = "PIQUANT_SOAK" in os.environ  # all digests, which takes a quarter of an hour


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        cwd=HERE,
        text=True,
        capture_output=True,
        check=False,
    )


def expect_silence(*arguments: str, **environment: str) -> None:
    done = run(*arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr[-2000:]) == (0, "", "")


@pytest.mark.parametrize("first", [0, CASES])
def test_interpreted_kernels_give_what_the_cpu_gives(first: int) -> None:
    expect_silence("interpreted.py", "cases", str(first), str(CASES), TRITON_INTERPRET="1")


@pytest.mark.parametrize("what", ["messages", "shapes"])
def test_interpreted_kernels_give_what_the_cpu_gives_too(what: str) -> None:
    expect_silence("interpreted.py", what, TRITON_INTERPRET="1")


@pytest.mark.parametrize("first", [0, 1])
def test_interpreted_kernels_give_the_committed_digests(first: int) -> None:
    expect_silence("interpreted.py", "digests" if SOAK else "some-digests", str(first), "2", TRITON_INTERPRET="1")


def test_kernels_are_compiled_as_they_are_written(tmp_path: Path) -> None:
    """For a device that need not be there."""
    expect_silence("compiled.py", TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize(("dtype", "highest"), [("int8", 127), ("int4", 7), ("int2", 1)])
def test_codes_of_messages_are_as_many_below_zero_as_above(
    dtype: str, highest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No data show it: the quotient by the scale is beyond the highest code by half of a 65,536th at most."""
    seen: list[tuple[Any, ...]] = []
    face = _tensors.make_face(runs_all=True, run=lambda _, plan: seen.append(plan))
    monkeypatch.setattr(_tensors, "FACE", face)
    message = torch.zeros(layout_of_message(5, 2, BITS[dtype]).end, dtype=torch.uint8)
    codec = CudaCodec(Options(dtype, 2, True), torch.device("cpu"), by_host=True)
    codec.encode(torch.ones(5), message, (1, 2), 3, 4)
    codec.decode(message, torch.ones(5), add=True)
    # Rounding, sum, symmetry, the range, seed and offset, and whether NaNs are scales, as device.cpp has them.
    encoded, decoded = (plan[14:22] for plan in seen)
    assert encoded == (1, 0, 1, -highest, highest, 3, 4, 1)
    assert (decoded[1], decoded[-1]) == (1, 1)


def test_triton_is_not_imported_for_tensors_of_the_cpu() -> None:
    program = "import sys, torch, piquant.torch as p; p.quantize(torch.ones(3), scale=1.0, dtype='int8')"
    done = run("-c", f"{program}; print(any(name.startswith('piquant.torch._triton') for name in sys.modules))")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_without_triton_the_words_say_what_is_missing() -> None:
    program = """
import sys
sys.modules["triton"] = None
from piquant.torch import _tensors
import torch, piquant.torch
piquant.torch._FACE = _tensors.make_face(runs_all=True)
try:
    piquant.torch.quantize(torch.ones(3), scale=1.0, dtype="int8")
except ModuleNotFoundError as error:
    print(error)
"""
    done = run("-c", program)
    assert "CUDA tensors need Triton" in done.stdout, done.stderr


def test_an_error_of_a_device_is_the_callers() -> None:
    program = """
from piquant.torch import _tensors
import torch, piquant.torch
def refuse(device, plan):
    raise KeyError("of the device")
piquant.torch._FACE = _tensors.make_face(runs_all=True, run=refuse)
out = torch.full((3,), 7, dtype=torch.int8)
try:
    piquant.torch.quantize(torch.ones(3), scale=1.0, dtype="int8", out=out)
except KeyError as error:
    print(error, out.tolist())
"""
    done = run("-c", program)
    assert done.stdout == "'of the device' [7, 7, 7]\n", done.stderr


def test_operators_are_there_for_cuda() -> None:
    for name in ("quantize", "dequantize", "quantize_dequantize", "quantize_dynamic", "compute_quant_params"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"piquant::{name}", "CUDA")
    assert piquant.torch.quantize(torch.ones(1), scale=1.0, dtype="int8").tolist() == [1]
