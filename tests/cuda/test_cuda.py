"""Calls on CUDA tensors: what only a card can show. scripts/test-cuda runs this."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import piquant.torch as pt

HERE = Path(__file__).parent
X = torch.randn(64, 300, generator=torch.Generator().manual_seed(1)) * 20


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.cpu().view(torch.uint8), b.cpu().view(torch.uint8))


PROCESSES = len(os.sched_getaffinity(0))
"""What takes long is compiling kernels."""


def expect_no_differences(script: str, arguments: Callable[[int], list[str]]) -> None:
    """Runs a script in several processes, by what it is told in each."""

    def run(i: int) -> str:
        command = [sys.executable, str(HERE / script), *arguments(i)]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    with ThreadPoolExecutor(PROCESSES) as pool:
        said = list(pool.map(run, range(PROCESSES)))
    bad = [line for text in said for line in text.splitlines() if not line.startswith("compared ")]
    assert not bad, "\n".join(bad[:20])
    print("\n".join(said))


def test_random_calls_give_what_the_cpu_gives(cuda_cases: int) -> None:
    expect_no_differences("battery.py", lambda i: [str(1000 * i), str(cuda_cases)])


def test_digests_are_the_committed_ones(all_digests: bool) -> None:
    expect_no_differences("digests.py", lambda i: [str(i), str(PROCESSES), *["some"][all_digests:]])


@pytest.mark.parametrize("rows", [3, 70])
@pytest.mark.parametrize(("length", "dtype"), [(9000, "int8"), (20_001, "int4")])
def test_long_blocks(rows: int, length: int, dtype: str) -> None:
    """Of which programs read one twice each or, of a few rows, share it."""
    x = torch.randn(rows, length, generator=torch.Generator().manual_seed(1)).bfloat16()
    told = {"dtype": dtype, "block_size": -1, "round_mode": "stochastic", "seed": 3, "offset": 65_000}
    for symmetric in (False, True):
        made, expected = (pt.quantize_dynamic(data, symmetric=symmetric, **told) for data in (x.cuda(), x))
        for name in ("data", "scale", "zero_point"):
            ours, theirs = getattr(made, name), getattr(expected, name)
            assert equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_beyond_2_to_the_31_elements(dtype: str) -> None:
    n = (1 << 31) + 12_345
    x = torch.full((n,), 0.3, device="cuda", dtype=torch.bfloat16)
    x[-5000:] = torch.linspace(-3, 3, 5000, device="cuda", dtype=torch.bfloat16)
    first = n - 5001 - (n - 5001) % 2
    q = pt.quantize(x, scale=0.1, dtype=dtype, round_mode="stochastic", seed=5)
    expected = pt.quantize(x[first:].cpu(), scale=0.1, dtype=dtype, round_mode="stochastic", seed=5, offset=first)
    assert equal(q[first // (2 if dtype == "int4" else 1) :], expected)
    source = {"source_dtype": dtype, "shape": (n,)} if dtype == "int4" else {}
    back = pt.dequantize(q, scale=0.1, dtype="bfloat16", **source)
    part = {"source_dtype": dtype, "shape": (n - first,)} if dtype == "int4" else {}
    assert equal(back[first:], pt.dequantize(expected, scale=0.1, dtype="bfloat16", **part))
    found = pt.compute_quant_params(x, dtype=dtype, symmetric=True)
    assert found == pt.compute_quant_params(x[first:].cpu(), dtype=dtype, symmetric=True)


def test_calls_are_queued_on_the_current_stream_and_captured_by_graphs() -> None:
    x, out = X.cuda(), torch.empty(64, 300, dtype=torch.int8, device="cuda")
    made = pt.quantize_dynamic(x, dtype="int8", block_size=-1)
    pt.quantize(x, scale=0.1, dtype="int8", out=out)
    pt.dequantize(out, scale=0.1, dtype="float32")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pt.quantize(x, scale=0.1, dtype="int8", out=out)
        back = pt.dequantize(out, scale=0.1, dtype="float32")
        pt.quantize_dynamic(x, dtype="int8", block_size=-1, out=made)
    x.copy_(X.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    assert equal(out, pt.quantize(X.flip(0), scale=0.1, dtype="int8"))
    assert equal(back, pt.dequantize(out.cpu(), scale=0.1, dtype="float32"))
    assert equal(made.data, pt.quantize_dynamic(X.flip(0), dtype="int8", block_size=-1).data)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.copy_(X, non_blocking=True)
        q = pt.quantize(x, scale=0.1, dtype="int8")
        assert not stream.query()  # nothing waited
    stream.synchronize()
    assert equal(q, pt.quantize(X, scale=0.1, dtype="int8"))


def test_compile_export_and_gradients() -> None:
    x, scale = X.cuda(), torch.rand(64, 1).cuda() + 0.1

    def f(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        found, zero_point = pt.compute_quant_params(x, dtype="int4", block_size=128)
        x = pt.quantize_dequantize(x, scale=found, zero_point=zero_point, dtype="int4", block_size=128)
        return pt.dequantize(pt.quantize(x, scale=scale, dtype="int8"), scale=scale, dtype="float32")

    assert torch.equal(torch.compile(f, fullgraph=True)(x, scale), f(x, scale))

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return pt.quantize(x, scale=scale, dtype="int8")

    file = io.BytesIO()
    torch.export.save(torch.export.export(Module(), (x, scale)), file)
    file.seek(0)
    assert equal(torch.export.load(file).module()(x, scale), Module()(X, scale.cpu()))
    weight = x.clone().requires_grad_()
    pt.quantize_dequantize(weight, scale=0.5, dtype="int4").sum().backward()
    same = X.clone().requires_grad_()
    pt.quantize_dequantize(same, scale=0.5, dtype="int4").sum().backward()
    assert equal(weight.grad, same.grad)
    assert torch.equal(
        torch.vmap(lambda t: pt.quantize(t, scale=0.1, dtype="int8"))(x).cpu(), pt.quantize(X, scale=0.1, dtype="int8")
    )
    checked = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.piquant.quantize.scalar, (x, 0.1, 0, "int8"), test_utils=checked)
    torch.library.opcheck(torch.ops.piquant.quantize_dynamic.default, (x, [1, 128], "int4"), test_utils=checked)
    given = Module()(x, scale), scale, None, 0, [1, -1], "float32"
    torch.library.opcheck(torch.ops.piquant.dequantize.default, given, test_utils=checked)


def test_containers_and_modules() -> None:
    q = pt.quantize_dynamic(X.cuda(), dtype="int4", block_size=32, scale_dtype=torch.float16)
    on_cpu = pt.quantize_dynamic(X, dtype="int4", block_size=32, scale_dtype=torch.float16)
    assert equal(q.dequantize(), on_cpu.dequantize())
    assert equal(q[3:5].dequantize(), on_cpu[3:5].dequantize())
    model = torch.nn.Sequential(torch.nn.Embedding(10, 32), torch.nn.Linear(32, 8)).cuda()
    copy = torch.nn.Sequential(torch.nn.Embedding(10, 32), torch.nn.Linear(32, 8))
    copy.load_state_dict(model.state_dict())
    pt.quantize_module(model, "int8", -1)
    pt.quantize_module(copy, "int8", -1)
    assert equal(model[1].weight, copy[1].weight)
    assert model(torch.tensor([1, 2], device="cuda")).is_cuda


def test_tensors_that_carry_their_parameters() -> None:
    q = pt.quantize(X.cuda(), scale=0.5, zero_point=3, dtype=torch.quint8)
    assert equal(q.int_repr(), pt.quantize(X, scale=0.5, zero_point=3, dtype=torch.uint8))
    assert equal(pt.dequantize(q, scale=0.5, zero_point=3, dtype="float32"), q.dequantize())


def test_what_is_refused_and_what_is_not_found() -> None:
    x = X.cuda()
    with pytest.raises(TypeError, match="out must be on device cuda:0, as the data is, got device cpu"):
        pt.quantize(x, scale=0.1, dtype="int8", out=torch.empty(64, 300, dtype=torch.int8))
    with pytest.raises(TypeError, match="scale must be on device cpu, as the data is, got device cuda:0"):
        pt.quantize(X, scale=torch.ones(64, 1).cuda(), dtype="int8")
    with pytest.raises(TypeError, match="scale must be on device cuda:0, as the data is, got device cpu"):
        pt.quantize(x, scale=torch.ones(64, 1), dtype="int8")
    with pytest.raises(ValueError, match="scale must be finite and positive"):
        pt.quantize(x, scale=0.0, dtype="int8")
    x[3, 7] = float("nan")
    with pytest.raises(ValueError, match="tensor must be finite"):
        pt.compute_quant_params(x, dtype="int8")
    made = pt.quantize_dynamic(x, dtype="int8", block_size=-1)
    assert made.scale.isnan().nonzero().tolist() == [[3, 0]]
    assert made.dequantize()[3].isnan().all()
    empty = pt.quantize(x[:0], scale=0.1, dtype="int4")
    assert empty.shape == (0, 150)
    assert empty.is_cuda


def test_threads_have_the_device() -> None:
    x = X.cuda()
    expected = pt.quantize(X, scale=0.1, dtype="int8")
    with ThreadPoolExecutor(8) as pool:
        assert all(equal(q, expected) for q in pool.map(lambda _: pt.quantize(x, scale=0.1, dtype="int8"), range(64)))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two devices")
def test_several_devices() -> None:
    x = X.to("cuda:1")
    assert equal(pt.quantize(x, scale=0.1, dtype="int8"), pt.quantize(X, scale=0.1, dtype="int8"))
    with pytest.raises(TypeError, match="out must be on device cuda:1"):
        pt.quantize(x, scale=0.1, dtype="int8", out=torch.empty(64, 300, dtype=torch.int8, device="cuda:0"))
