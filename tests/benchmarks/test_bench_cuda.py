"""What the benchmark of CUDA devices compares with, and its chart. A device itself has scripts/test-cuda."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import piquant.torch
from piquant_bench import cuda_chart, expressions

RUNS = Path(__file__).parents[2] / "docs" / "runs"
SCALE, ZERO_POINT = expressions.SCALE, expressions.ZERO_POINT


@pytest.mark.parametrize("real", ["float32", "bfloat16"])
def test_expressions_of_torch_do_the_same_work(real: str) -> None:
    x = torch.linspace(-4, 4, 20_000).to(getattr(torch, real))
    found = expressions.all_of(real)
    assert len({expression.name for expression in found}) == 6
    for expression in found:
        code = expression.source if expression.target == real else expression.target
        q = piquant.torch.quantize(x, scale=SCALE, zero_point=ZERO_POINT, dtype=code)
        if expression.target == code:
            assert torch.equal(expression.function(x), q)
            continue
        told = {"source_dtype": code, "shape": x.shape} if code == "int4" else {}
        expected, before = x.clone() if expression.adds else torch.empty_like(x), [x.clone()][: expression.adds]
        piquant.torch.dequantize(
            q,
            scale=SCALE,
            zero_point=ZERO_POINT,
            dtype=real,
            reduce_op="add" if before else "set",
            out=expected,
            **told,
        )
        assert torch.equal(expression.function(q, *before), expected)


def test_the_chart_of_the_recorded_run(tmp_path: Path) -> None:
    device, bars = cuda_chart.read((RUNS / "2026-11-30-test-cuda.md").read_text())
    assert device == "NVIDIA H200, 268,435,456 elements"
    assert (len(bars), bars[0].name, bars[0].of_copy) == (57, "copy", 1.0)
    assert sum(bar.is_torchs for bar in bars) == 16
    paths = [tmp_path / name for name in ("first.svg", "again.svg", "cuda.png")]
    for path in paths:
        cuda_chart.draw(device, bars, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_text_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no table of bandwidths"):
        cuda_chart.read("NVIDIA H200, 5 elements\nfloat32 -> int8   4.00   1.00\n")
