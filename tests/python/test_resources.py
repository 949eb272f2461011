"""Memory, descriptors and threads: refused to us, and not wasted by us."""

import array
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import piquant

HERE = pathlib.Path(__file__).parent


def test_whichever_allocation_or_thread_fails(tmp_path):
    library = tmp_path / "failing.so"
    subprocess.run(
        [os.environ.get("CXX", "c++"), "-std=c++17", "-shared", "-fPIC", "-O1", "-o", library, HERE / "failing.cpp"],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, HERE / "failing.py"], capture_output=True, text=True, timeout=600, check=False,
        env=os.environ | {"LD_PRELOAD": str(library)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done
    print(done.stdout)  # how many


X = array.array("f", range(16))
NUMPY = np.arange(16, dtype=np.float32)
TORCH = torch.arange(16, dtype=torch.float32)
RIGHT = {"scale": 1.0, "zero_point": 0}
ALONE = piquant.Context(1)


def wrong():
    with pytest.raises(ValueError, match="zero_point must be in"):
        piquant.quantize(X, scale=1.0, zero_point=256, dtype="uint8")


CALLS = {
    "buffers": (lambda: piquant.quantize(X, **RIGHT, dtype="uint8"), 400_000),
    "fused": (
        lambda: piquant.quantize_dequantize(X, **RIGHT, dtype="uint4", round_mode="stochastic", ctx=ALONE),
        100_000,
    ),
    "numpy": (lambda: piquant.numpy.quantize(NUMPY, **RIGHT, dtype=np.uint8), 200_000),
    "params": (lambda: piquant.numpy.compute_quant_params(NUMPY, dtype=np.uint8), 200_000),
    "torch": (lambda: piquant.torch.quantize(TORCH, **RIGHT, dtype=torch.uint8), 100_000),
    "errors": (wrong, 20_000),
    "contexts": (lambda: piquant.Context(2), 20_000),
}


def resources():
    resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


@pytest.mark.no_cover  # counting lines makes them take three times as long
@pytest.mark.parametrize("name", CALLS)
def test_a_million_calls_take_nothing(name):
    call, count = CALLS[name]
    taken = []
    for _ in range(3):
        before = resources()
        for _ in range(count // 2):
            call()
        after = resources()
        taken.append(after[0] - before[0])
        assert after[1:] == before[1:]
    # A leak takes something every time. What the heap does once, in gaps that aligned memory of torch leaves, is none.
    assert min(taken) < 256 << 10, taken  # bytes
