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
piquant.error_bound(np.float32(0), torch.tensor(1.0), scale=Fraction(1, 3), round_mode=piquant.RoundMode.NEAREST)
"""

# An argument, and what mypy calls the mistake.
REFUSED = {
    'scale="0.5", zero_point=0': "arg-type",
    "scale=None, zero_point=0": "arg-type",
    "scale=1.0, zero_point=0.5": "arg-type",
    'scale=1.0, zero_point=0, round_mode="nearset"': "arg-type",
    'scale=1.0, zero_point=0, round_mode="set"': "arg-type",
    "scale=1.0, zero_point=0, seed=0.5": "arg-type",
    "scale=1.0, zero_point=0, context=None": "call-arg",
}


def test_mypy(tmp_path):
    call = 'piquant.{}quantize({}, dtype="uint8", {})'
    refused = [
        call.format(face, array, wrong)
        for wrong in REFUSED
        for face, array in (("torch.", "t"), ("numpy.", "a"), ("", "b"))
    ]
    (tmp_path / "calls.py").write_text(ACCEPTED + "\n".join(refused) + "\n")
    first = ACCEPTED.count("\n") + 1
    rules = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *rules, "--hide-error-context", "calls.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=900,
    )  # fmt: skip
    found = {(int(line), code) for line, code in re.findall(r"calls\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout)}
    codes = list(REFUSED.values())
    assert found == {(first + i, codes[i // 3]) for i in range(len(refused))}, done.stdout


def test_run_time_takes_the_same():
    for module in ("numpy", "torch"):
        pytest.importorskip(module)
    exec(compile(ACCEPTED, "calls.py", "exec"), {})
