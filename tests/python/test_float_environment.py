"""Importing and calling leave the floating-point state of the thread alone, whatever it is."""

import os
import subprocess
import sys

import pytest

# The state of the C library's fegetenv: the control words of x86 (x87's 16 bits first, MXCSR last, its low six bits
# sticky flags) or of 64-bit Arm (FPCR first). A process of its own, where nothing has been imported yet.
STATE = """
import ctypes, platform

libm = ctypes.CDLL("libm.so.6")

def control():
    environment = (ctypes.c_uint32 * 16)()
    assert libm.fegetenv(environment) == 0
    if platform.machine() == "x86_64":
        return environment[0] & 0xFFFF, environment[7] & ~0x3F
    return environment[0], 0

def set_flush_and_round_down():
    environment = (ctypes.c_uint32 * 16)()
    assert libm.fegetenv(environment) == 0
    if platform.machine() == "x86_64":
        environment[7] |= 0x8040 | 0x2000
    else:
        environment[0] |= 1 << 24 | 2 << 22
    assert libm.fesetenv(environment) == 0
"""
USUAL = "before = control()\n"
UNUSUAL = "set_flush_and_round_down()\nbefore = control()\n"
UNCHANGED = "assert control() == before, (control(), before)\n"
IMPORTS = ["piquant", "piquant.numpy", "piquant.torch", "piquant, piquant.__main__"]
CALLS = """
import array
x = array.array("f", [i / 7 for i in range(1 << 18)])
for threads in (1, 3):
    context = piquant.Context(num_threads=threads)
    scale, zero_point = piquant.compute_quant_params(x, dtype="uint8", ctx=context)
    q = piquant.quantize(x, scale=scale, zero_point=zero_point, dtype="uint8", ctx=context)
    piquant.dequantize(q, scale=scale, zero_point=zero_point, dtype="float32", ctx=context)
    try:
        piquant.quantize(x, scale=0.0, zero_point=0, dtype="uint8", ctx=context)
    except ValueError:
        pass
    else:
        raise AssertionError
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", IMPORTS)
def test_import_leaves_the_usual_state(module: str) -> None:
    if module == "piquant.torch":
        pytest.importorskip("torch")
    # torch and numpy first: what they do is not ours.
    others = {"piquant.numpy": "import numpy\n", "piquant.torch": "import numpy, torch\n"}.get(module, "")
    run(f"{STATE}{others}{USUAL}import {module}\n{UNCHANGED}")


def test_import_and_calls_leave_an_unusual_state() -> None:
    run(f"{STATE}{UNUSUAL}import piquant\n{UNCHANGED}{CALLS}{UNCHANGED}")


def test_subnormal_arithmetic_survives() -> None:
    run(
        "import numpy as np\nimport piquant\n"
        + CALLS
        + "for t, smallest in ((np.float32, 1e-45), (np.float64, 5e-324)):\n"
        "    x = np.full(64, smallest, t)\n"
        "    assert (x + x > x).all() and (x * t(1) == x).all() and (x > 0).all()\n"
    )


def test_the_test_sees_a_change() -> None:
    with pytest.raises(AssertionError):
        run(f"{STATE}{USUAL}set_flush_and_round_down()\n{UNCHANGED}")
