"""What type checkers say of calls: they accept what run time takes, and refuse what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ACCEPTED = """
from array import array
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch

import piquant
import piquant.numpy
import piquant.torch

t, a, b = torch.ones(3), np.ones(3, np.float32), array("f", [1.0])
for scale, zero in (
    (0.5, 3),
    (1, True),
    (Fraction(1, 2), np.int8(3)),
    (Decimal("0.5"), np.uint64(3)),
    (np.float32(0.5), torch.tensor(3)),
    (torch.tensor(0.5), np.array(3)),
):
    pass
piquant.torch.quantize(t, scale=torch.tensor(0.5), zero_point=torch.tensor(3), dtype=torch.uint8)
piquant.torch.quantize(t, scale=Fraction(1, 2), zero_point=np.int8(3), dtype="uint8", quant_max=np.int64(9))
piquant.numpy.quantize(a, scale=np.float32(0.5), zero_point=np.array(3), dtype=np.uint8, seed=np.uint64(1))
piquant.numpy.quantize([1.0, 2.0], scale=Decimal("0.5"), zero_point=True, dtype="uint8", offset=np.int64(5))
piquant.quantize(b, scale=Fraction(1, 2), zero_point=torch.tensor(3), dtype="uint8", round_mode="nearest")
piquant.dequantize(bytes(3), scale=torch.tensor(0.5), zero_point=np.int8(3), dtype="float32")
piquant.torch.quantize_dequantize(t, scale=np.float64(1), zero_point=np.int64(0), dtype="int8", out=t)
piquant.torch.dequantize(t.byte(), scale=1, zero_point=0, dtype=torch.float32, shape=t.shape, reduce_op="set")
for made in (
    piquant.torch.quantize_dynamic(t, dtype=torch.int8, block_size=1, scale_dtype=torch.float16),
    piquant.numpy.quantize_dynamic(a, dtype=np.int8, block_size=(np.int64(1),), scale_dtype=np.float16),
):
    made.dequantize(reduce_op="set")
    made[0:2].nbytes
scales, zeros = piquant.torch.compute_quant_params(t, dtype="int8", block_size=-1)
piquant.torch.quantize(t, scale=scales, zero_point=zeros, dtype="int8", block_size=(-1,))
number, whole = piquant.torch.compute_quant_params(t, dtype="int8")
piquant.torch.quantize(t, scale=number + 1.0, zero_point=whole + 1, dtype="int8")
piquant.numpy.quantize(a, scale=np.ones(3), zero_point=np.zeros(3, np.int8), dtype="int8")
piquant.quantize(b, scale=array("f", [1.0]), zero_point=array("b", [1]), dtype="int8", block_size=1)
settings = piquant.Context(np.int64(2))
settings.num_threads, settings.serial_cutoff, settings.stream_threshold = torch.tensor(3), np.uint32(4), True
settings.quantize_ptr(np.uint64(0), "float32", np.uint64(0), "uint8", np.int64(0), 0.5, 3, "nearest")
settings.dequantize_ptr(np.uint64(0), "uint8", np.uint64(0), "float32", np.int64(0), 0.5, 3, "set")
piquant.set_num_threads(np.int64(piquant.get_num_threads()))
piquant.error_bound(np.float32(0), torch.tensor(1.0), scale=Fraction(1, 3), round_mode=piquant.RoundMode.NEAREST)
"""

# Settings that are no integers, and what mypy calls the mistake.
SETTINGS = {
    "piquant.Context(0.5)": "arg-type",
    "piquant.set_num_threads(None)": "arg-type",
    "piquant.set_num_threads(2.0)": "arg-type",
    "settings.num_threads = 2.0": "assignment",
    'settings.serial_cutoff = "1"': "assignment",
    "settings.stream_threshold = None": "assignment",
}
# An argument, and the same.
REFUSED = {
    'scale="0.5", zero_point=0': "arg-type",
    "scale=None, zero_point=0": "arg-type",
    "scale=1.0, zero_point=0.5": "arg-type",
    'scale=1.0, zero_point=0, round_mode="nearset"': "arg-type",
    'scale=1.0, zero_point=0, round_mode="set"': "arg-type",
    "scale=1.0, zero_point=0, seed=0.5": "arg-type",
    "scale=1.0, zero_point=0, context=None": "call-arg",
    'scale=1.0, zero_point=0, block_size="rows"': "arg-type",
    "scale=1.0, zero_point=0, block_size=0.5": "arg-type",
}


def test_mypy(tmp_path):
    call = 'piquant.{}quantize({}, dtype="uint8", {})'
    codes = [*SETTINGS.values(), *(code for code in REFUSED.values() for _ in range(3))]
    refused = [
        *SETTINGS,
        *(
            call.format(face, array, wrong)
            for wrong in REFUSED
            for face, array in (("torch.", "t"), ("numpy.", "a"), ("", "b"))
        ),
    ]
    (tmp_path / "calls.py").write_text(ACCEPTED + "\n".join(refused) + "\n")
    first = ACCEPTED.count("\n") + 1
    rules = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *rules, "--hide-error-context", "calls.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=900,
    )  # fmt: skip
    found = {(int(line), code) for line, code in re.findall(r"calls\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout)}
    assert found == {(first + i, code) for i, code in enumerate(codes)}, done.stdout


def test_run_time_takes_the_same():
    for module in ("numpy", "torch"):
        pytest.importorskip(module)
    exec(compile(ACCEPTED, "calls.py", "exec"), {})
