"""Compiled and exported programs: one graph, whatever the backend, with the numbers of the plain calls."""

import io
import subprocess
import sys
import textwrap

import pytest
import torch

import piquant
from piquant.torch import compute_quant_params, dequantize, quantize, quantize_dequantize, quantize_dynamic

BACKENDS = ["eager", "aot_eager"]
X, SCALE = torch.randn(6, 8), torch.rand(6, 3) + 0.1
ZERO = torch.ones(6, 3, dtype=torch.int8)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


def compiled(f, backend="aot_eager", **options):
    return torch.compile(f, backend=backend, fullgraph=True, **options)


def every_function(x, scale, zero_point):
    x = x * 2
    params = {"scale": scale, "zero_point": zero_point, "block_size": 3}
    q = quantize(x, **params, dtype=torch.int4)
    told = {"source_dtype": "torch.int4", "shape": x.shape}
    added = dequantize(q, **params, **told, dtype=torch.float32, out=torch.ones_like(x), reduce_op=piquant.ReduceOp.ADD)
    numbers = quantize(
        x, scale=0.1, zero_point=3, dtype=piquant.DataType.UINT8, quant_max=200, seed=3, round_mode="stochastic"
    )
    one = quantize(x, scale=scale[:1, :1], zero_point=2, dtype="int8", round_mode=piquant.RoundMode.NEAREST)
    found = quantize_dynamic(x, dtype=torch.uint4, block_size=(2, -1), scale_dtype=torch.float16)
    into = quantize(x, scale=0.1, zero_point=3, dtype="uint8", out=torch.empty_like(numbers))
    return [
        q, added + 1, numbers, one, into, dequantize(numbers, scale=0.1, zero_point=3, dtype="bfloat16"),
        quantize_dequantize(x, **params, dtype="uint8", out=x.clone()), found.data, found.scale, found.dequantize(),
        *compute_quant_params(x, dtype="int8", block_size=-1), quantize_dequantize(x, scale=1, dtype="int2"),
        compute_quant_params(x, dtype="uint8", block_size=-1, symmetric=True)[0],
    ]  # fmt: skip


def equal(a, b):
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_graph(backend):
    assert equal(compiled(every_function, backend)(X, SCALE, ZERO), every_function(X, SCALE, ZERO))


def test_dynamic_shapes():
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    f = compiled(every_function, counter, dynamic=True)
    for rows, columns in ((6, 8), (9, 11), (20, 7)):
        grid = rows, -(-columns // 3)
        args = torch.randn(rows, columns), torch.rand(grid) + 0.1, torch.ones(grid, dtype=torch.int8)
        assert equal(f(*args), every_function(*args))
    assert counter.frame_count <= 2


def test_inductor():
    def f(x):
        q = quantize_dynamic(x * 2 + 1, dtype="int4", block_size=4)
        drawn = [quantize(x, scale=1.0, dtype="int8", round_mode="stochastic") for _ in range(2)]
        out = torch.zeros_like(x)
        return (
            q.dequantize(out=out, reduce_op="add") + 1,
            (quantize_dequantize(x, scale=0.5, dtype="int8") ** 2).sum(),
            *drawn,
        )

    g = compiled(f, "inductor")
    p, r = (X.clone().requires_grad_() for _ in range(2))
    got, want = g(p), f(r)
    assert equal(got[:2], want[:2])
    got[1].backward()
    want[1].backward()
    assert torch.equal(p.grad, r.grad)
    assert not torch.equal(got[2], got[3])


def test_backward():
    def f(x, scale):
        return (quantize_dequantize(x * 1, scale=scale, dtype="int4", block_size=3) ** 2).sum()

    for backend in BACKENDS:
        p, r = (X.clone().requires_grad_() for _ in range(2))
        compiled(f, backend)(p, SCALE).backward()
        f(r, SCALE).backward()
        assert torch.equal(p.grad, r.grad)
        assert 0 < p.grad.count_nonzero() < p.numel()


def test_draws():
    def f(x):
        return [quantize(x, scale=1.0, dtype="int8", round_mode="stochastic") for _ in range(2)]

    x = torch.full((500,), 0.5)
    g = compiled(f)
    torch.manual_seed(1)
    a, b = g(x), g(x)
    torch.manual_seed(1)
    again = g(x)
    plain = (torch.manual_seed(1), f(x))[1]
    assert equal(a, again)
    assert equal(a, plain)
    assert len({t.numpy().tobytes() for t in (*a, *b)}) == 4


def test_seeds_do_not_compile_again():
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    def f(x, seed):
        return quantize(x, scale=0.1, dtype="int8", round_mode="stochastic", seed=seed)

    g = compiled(f, counter)
    for seed in range(2, 8):
        assert torch.equal(g(X, seed), f(X, seed))
    assert counter.frame_count <= 2


def test_containers():
    made = compiled(lambda x: quantize_dynamic(x, dtype="int4", block_size=3))
    read = compiled(lambda q: q.dequantize() + 1)
    refilled = compiled(lambda x, q: quantize_dynamic(x, dtype="int8", block_size=3, out=q).dequantize())
    for x in (X, torch.randn(7, 5), torch.randn(9, 4)):
        q = quantize_dynamic(x, dtype="int4", block_size=3)
        assert made(x) == q
        assert torch.equal(read(q), q.dequantize() + 1)
        out = quantize_dynamic(x + 1, dtype="int8", block_size=3)
        want = quantize_dynamic(x, dtype="int8", block_size=3)
        assert torch.equal(refilled(x, out), want.dequantize())
        assert out == want


def test_what_breaks_graphs():
    """Numbers that are found in data, and tensors that carry parameters: such calls run between graphs."""

    def f(x):
        scale, zero_point = compute_quant_params(x * 2, dtype=torch.quint8)
        return quantize(x * 2, scale=scale, zero_point=zero_point, dtype=torch.quint8).dequantize() + 1

    assert torch.equal(torch.compile(f, backend="eager")(X), f(X))
    for g in (f, lambda x: quantize(x, scale=1.0, dtype=torch.qint8), lambda x: compute_quant_params(x, dtype="int8")):
        with pytest.raises(torch._dynamo.exc.Unsupported):
            compiled(g)(X)


@pytest.mark.parametrize("backend", BACKENDS)
def test_func_grad(backend):
    """Within the compiled function, of numbers and of blocks."""
    for right in ({"scale": 0.1}, {"scale": SCALE, "block_size": 3}):

        def loss(x, right=right):
            return quantize_dequantize(x, dtype="int4", **right).square().sum()

        leaf = X.clone().requires_grad_()
        loss(leaf).backward()
        assert torch.equal(compiled(torch.func.grad(loss), backend)(X), leaf.grad)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q = quantize_dynamic(torch.linspace(-1, 1, 64).reshape(8, 8), dtype="int4", block_size=4)

    def forward(self, x):
        q = quantize_dynamic(x, dtype="int8", block_size=3)
        y = quantize_dequantize(x, scale=0.1, dtype="uint8", zero_point=9)
        drawn = quantize(x, scale=1.0, dtype="int8", round_mode="stochastic", seed=2**64 - 1)
        return q.dequantize() @ self.q.dequantize(), y, drawn, quantize(x, scale=0.25, dtype="int4")


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict, tmp_path):
    """With a dynamic dimension, saved, and run where nothing but piquant.torch was imported."""
    model, x = Model(), torch.linspace(-2, 2, 80).reshape(10, 8)
    shapes = ({0: torch.export.Dim("n", min=2)},)
    program = torch.export.export(model, (torch.randn(6, 8),), dynamic_shapes=shapes, strict=strict)
    assert equal(program.module()(x), model(x))
    if strict:
        return  # what follows is the same
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((x, model(x)), tmp_path / "wanted.pt")
    code = f"""
        import torch, piquant.torch
        x, wanted = torch.load({str(tmp_path / "wanted.pt")!r})
        got = torch.export.load({str(tmp_path / "program.pt2")!r}).module()(x)
        assert all(map(torch.equal, got, wanted))
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # torch's own
def test_aot_inductor(tmp_path):
    """A package of compiled C++ calls the operators, where Python has imported them."""

    class Small(torch.nn.Module):
        def forward(self, x):
            q = quantize(x, scale=0.1, dtype="int4", quant_max=5)
            return dequantize(q, scale=0.1, dtype="float32", source_dtype="int4", shape=x.shape) + 1

    program = torch.export.export(Small(), (X,))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "small.pt2"))
    assert torch.equal(torch._inductor.aoti_load_package(package)(X), Small()(X))


def test_exported_containers():
    """As an argument and as a result."""

    class Through(torch.nn.Module):
        def forward(self, q):
            return quantize_dynamic(q.dequantize() * 2, dtype="int8", block_size=4)

    q = quantize_dynamic(X, dtype="int4", block_size=4, symmetric=True)
    file = io.BytesIO()
    torch.export.save(torch.export.export(Through(), (q,)), file)
    file.seek(0)
    assert torch.export.load(file).module()(q) == Through()(q)
