"""Derivatives and batches: autograd, torch.func, checkpoints, and vmap against a loop."""

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from piquant.torch import compute_quant_params, dequantize, quantize, quantize_dequantize, quantize_dynamic

X = torch.linspace(-3, 3, 60).reshape(5, 12)
SCALES = torch.linspace(0.05, 0.4, 20).reshape(5, 4)


def kept(x, scale, zero_point, low, high):
    """Where the code was not clamped, by torch's own functions."""
    codes = torch.round(x * (1 / scale)) + zero_point
    return (codes >= low) & (codes <= high)


RANGES = {"int4": (-8, 7), "uint2": (0, 3), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
RANGES |= {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1)}


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("real", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_straight_through(dtype, real):
    low, high = RANGES[dtype]
    scale = 6 / min(high - low, 60) / 2
    x = (torch.randn(400) * scale * (high - low) / 3).to(real)
    x[0], x[1], x[2] = float("nan"), float("inf"), -float("inf")
    zero_point = 1 if low == 0 else -2
    p = x.clone().requires_grad_()
    y = quantize_dequantize(p, scale=scale, zero_point=zero_point, dtype=dtype)
    assert torch.equal(y, quantize_dequantize(x, scale=scale, zero_point=zero_point, dtype=dtype))
    weight = torch.randn(400).to(real)
    (y * weight).nansum().backward()
    compute = x.double() if real == torch.float64 else x.float()
    wanted = kept(compute, torch.tensor(scale, dtype=compute.dtype), zero_point, low, high) & y.detach().isfinite()
    assert 20 < wanted.sum() < 380
    assert torch.equal(p.grad, torch.where(wanted, weight, 0))


@pytest.mark.parametrize("zeros", [None, torch.ones(5, 4, dtype=torch.int8)], ids=["int", "tensor"])
def test_blocks_and_ranges(zeros):
    right = {"scale": SCALES, "zero_point": 1 if zeros is None else zeros, "dtype": "int4", "block_size": 3}
    p, s = X.clone().requires_grad_(), SCALES.clone().requires_grad_()
    for given, low, high in (({}, -8, 7), ({"quant_min": -3, "quant_max": 5}, -3, 5)):
        y = quantize_dequantize(p, **right | given | {"scale": s})
        (grad,) = torch.autograd.grad(y.sum(), p)
        assert torch.equal(grad, kept(X, SCALES.repeat_interleave(3, 1), 1, low, high).float())
    stochastic = quantize_dequantize(p, **right, round_mode="stochastic", seed=1)
    (grad,) = torch.autograd.grad(stochastic.sum(), p)
    assert torch.equal(grad, kept(X, SCALES.repeat_interleave(3, 1), 1, -8, 7).float())


def loss(x, scale=SCALES, **options):
    return (quantize_dequantize(x, scale=scale, dtype="int4", block_size=3, **options) ** 2).sum()


def gradient():
    p = X.clone().requires_grad_()
    loss(p).backward()
    return p.grad


def test_func():
    want = gradient()
    assert torch.equal(torch.func.grad(loss)(X), want)
    assert torch.equal(torch.vmap(torch.func.grad(loss))(X, SCALES), want)
    assert torch.equal(torch.func.grad(lambda x: torch.vmap(loss)(x, SCALES).sum())(X), want)
    assert torch.equal(torch.func.jacrev(loss)(X), want)
    p = X.clone().requires_grad_()
    torch.vmap(loss)(p, SCALES).sum().backward()
    assert torch.equal(p.grad, want)


def test_second_derivatives():
    p = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(p), p, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), p)
    assert torch.equal(second, 2 * kept(X, SCALES.repeat_interleave(3, 1), 0, -8, 7))
    assert torch.equal(torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(X), second)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant):
    """What is computed again draws the same numbers again."""
    options = {"round_mode": "stochastic"}
    grads = []
    for way in (lambda f, x: f(x), lambda f, x: checkpoint(f, x, use_reentrant=reentrant)):
        p = X.clone().requires_grad_()
        torch.manual_seed(5)
        way(lambda x: loss(x * 1, **options), p).backward()
        grads.append(p.grad)
    assert torch.equal(*grads)
    assert grads[0].any()


def test_saved_tensor_hooks():
    saved = []
    p = X.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t.numpy().copy(), torch.tensor):
        total = quantize_dequantize(p * 1, scale=SCALES, dtype="int4", block_size=3).sum()
    assert X.shape in saved
    total.backward()
    assert torch.equal(p.grad, kept(X, SCALES.repeat_interleave(3, 1), 0, -8, 7).float())


def test_what_carries_no_gradient():
    p, s = X.clone().requires_grad_(), SCALES.clone().requires_grad_()
    q = quantize(p, scale=s, dtype="int8", block_size=3)
    for t in (
        q, dequantize(q, scale=s, dtype="float32", block_size=3), *compute_quant_params(p, dtype="int8", block_size=3),
        quantize_dynamic(p, dtype="int8").dequantize(), quantize_dequantize(p, scale=1.0, dtype="int8", out=X.clone()),
        quantize_dequantize(X, scale=s, dtype="int8", block_size=3),
        torch.no_grad()(quantize_dequantize)(p, scale=1.0, dtype="int8"),
    ):  # fmt: skip
        assert not t.requires_grad

    def both(x):
        params = {"scale": s, "block_size": 3}
        return dequantize(quantize(x, dtype="int8", **params), dtype="float32", **params).sum()

    assert not torch.func.grad(both)(X).any()


# ---------------------------------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------------------------------


def data(shape, dims):
    """A tensor with a batch of 4 where ``dims`` says, or without one."""
    torch.manual_seed(len(shape))
    return torch.rand(shape) if dims is None else torch.rand(*shape[:dims], 4, *shape[dims:])


def looped(f, dims, *args):
    results = [f(*(a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True))) for i in range(4)]
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


@pytest.mark.parametrize("shape", [(), (7,), (3, 7), (3, 0)], ids=str)
@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (0, 0, 0), (0, None, 0), (-1, 0, None)], ids=str)
def test_vmap(shape, dims):
    block = (2,) if shape else ()
    grid = (*shape[:-1], -(-shape[-1] // 2)) if shape else ()
    dims = tuple(len(shape) if d == -1 else d for d in dims)
    args = data(shape, dims[0]) * 4, data(grid, dims[1]) + 0.1, (data(grid, dims[2]) * 3).to(torch.int8)

    def f(x, scale, zero_point):
        right = {"scale": scale, "zero_point": zero_point, "block_size": block}
        q = [quantize(x, **right, dtype=dtype) for dtype in ("int4", "uint8")]
        y = dequantize(q[0], **right, dtype="float32", source_dtype="int4", shape=x.shape)
        seeded = quantize(x, **right, dtype="int8", round_mode="stochastic", seed=3)
        return *q, y, dequantize(q[1], **right, dtype="float16"), quantize_dequantize(x, **right, dtype="int8"), seeded

    for got, want in zip(torch.vmap(f, dims)(*args), looped(f, dims, *args), strict=True):
        assert torch.equal(got, want)


def test_vmap_of_numbers_and_of_what_is_found():
    x = torch.rand(4, 3, 7)
    for dtype, symmetric in itertools.product(("uint4", "int8"), (False, True)):

        def f(x, dtype=dtype, symmetric=symmetric):
            found = compute_quant_params(x, dtype=dtype, block_size=3, symmetric=symmetric)
            made = quantize_dynamic(x, dtype=dtype, block_size=3, symmetric=symmetric)
            run = dequantize(made.data.reshape(-1), scale=0.5, dtype="float32", source_dtype=dtype, shape=x.shape)
            return found[0], made.data, made.scale, made.dequantize(), run, quantize(x, scale=0.1, dtype=dtype)

        for got, want in zip(torch.vmap(f)(x), looped(f, (0,), x), strict=True):
            assert torch.equal(got, want)


def test_vmap_into():
    x, out = torch.rand(4, 3, 7), torch.zeros(4, 3, 7)
    right = {"scale": 0.1, "dtype": "int8"}
    torch.vmap(lambda x, out: quantize_dequantize(x, **right, out=out, reduce_op="add"))(x, out)
    assert torch.equal(out, quantize_dequantize(x, **right))
    with pytest.raises(ValueError, match="out must have a batch dimension"):
        torch.vmap(lambda x: quantize_dequantize(x, **right, out=out[0]))(x)


def test_vmap_draws():
    x = torch.full((4, 300), 0.5)

    def f(x):
        return quantize(x, scale=1.0, dtype="int8", round_mode="stochastic")

    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(f)(x)
    different, same = (torch.vmap(f, randomness=kind)(x) for kind in ("different", "same"))
    assert not torch.equal(different[0], different[1])
    assert torch.equal(same[0], same[1])
    assert 0 < same[0].float().mean() < 1
