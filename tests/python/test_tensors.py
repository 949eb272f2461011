"""Tensors that are seen without Python: which ones, and that all others lead to the same results."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import piquant.torch
from piquant import _native
from piquant._dtypes import DTYPE_ID
from piquant.torch import _tensors

X = torch.linspace(-1, 1, 60)
FLOATS = ("float16", "bfloat16", "float32", "float64")
CODED = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
see = _tensors.FACE.see


def described(x, name):
    return x.data_ptr(), DTYPE_ID[name], tuple(x.shape), tuple(s * x.element_size() for s in x.stride())


@pytest.mark.parametrize("name", FLOATS + CODED)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 5), (1, 4, 1)])
def test_tensors_are_seen(name, shape):
    a = torch.zeros(shape, dtype=getattr(torch, name))
    assert see(a) == see(a, True) == described(a, name)


def test_any_layout_is_seen():
    wide = torch.zeros(4, 5, 6)
    for view in (wide.mT, wide[1:, ::2], wide[:, :1], wide[0].expand(3, 5, 6), wide.permute(2, 0, 1), wide[:0]):
        assert see(view) == described(view, "float32")


def quantized(shape, dtype):
    return torch._empty_affine_quantized(shape, scale=0.25, zero_point=1, dtype=dtype)


@pytest.mark.parametrize("name", _tensors._QUANTIZED)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 5), (1, 4, 1)])
def test_whole_quantized_tensors_are_seen(name, shape):
    a = quantized(shape, getattr(torch, name))
    address, dtype, sizes, strides = described(a, _tensors._QUANTIZED[name])
    assert see(a) == see(a, True) == (address, dtype, sizes, row_major(sizes, a.element_size()))
    assert a.numel() == 0 or strides == row_major(sizes, a.element_size())


def row_major(shape, item):
    return tuple(item * math.prod(shape[d + 1 :]) for d in range(len(shape)))


class Subclass(torch.Tensor):
    pass


# Of a byte for each element, which nothing in torch computes with.
SHELLS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in range(1, 8)]

OTHERS = {
    "negated codes": lambda: torch.zeros(60, dtype=torch.int8)._neg_view(),
    **{str(d): lambda d=d: torch.zeros(60, dtype=torch.uint8).view(d) for d in SHELLS},
    "negated": lambda: torch.zeros(60, dtype=torch.complex64).conj().imag.contiguous()._neg_view(),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(60)),
    "subclass": lambda: torch.zeros(60).as_subclass(Subclass),
    "meta": lambda: torch.zeros(60, device="meta"),
    "sparse": lambda: torch.zeros(60).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(60)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.zeros(60)], layout=torch.jagged),
    "complex": lambda: torch.zeros(60, dtype=torch.complex64),
    "bool": lambda: torch.zeros(60, dtype=torch.bool),
    "float8": lambda: torch.zeros(60, dtype=torch.float8_e4m3fn),
    "part of a quantized": lambda: quantized((60,), torch.quint8)[1:],
    "transposed quantized": lambda: quantized((6, 10), torch.qint8).t(),
    "fake": lambda: FakeTensorMode().from_tensor(torch.zeros(60)),
    "a list": lambda: [0.0] * 60,
    "numpy": lambda: torch.zeros(60).numpy(),
    "None": lambda: None,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_others_are_left_to_python(make):
    assert see(X) is not None
    assert see(make()) is None
    assert see(make(), True) is None


def test_tensors_within_transforms_are_left_to_python():
    seen = []

    def look(x):
        seen.append(see(x))
        return x

    torch.vmap(look)(torch.zeros(2, 3))
    torch.func.grad(lambda x: look(x).sum())(torch.zeros(3))
    assert seen == [None, None]


def test_only_an_output_of_floats_must_not_require_a_gradient():
    leaf = torch.zeros(60, requires_grad=True)
    assert see(leaf) is not None
    assert see(leaf, True) is None
    with torch.no_grad():
        assert see(leaf, True) is not None


def both_ways(call):
    """What a call gives for tensors that are seen, and for the same ones described by Python."""
    seen = call()
    try:
        # As of a torch without the exchange interface.
        _native.use_tensors(object, torch.UntypedStorage, torch.is_grad_enabled)
        assert see(X) is None
        return seen, call()
    finally:
        _native.use_tensors(torch.Tensor, torch.UntypedStorage, torch.is_grad_enabled)
        assert see(X) is not None


def packed(rows, n, per_byte):
    return torch.zeros(rows, -(-n // per_byte), dtype=torch.uint8)


@pytest.mark.parametrize("code", ["uint4", "int4", "uint2", "int2"])
@pytest.mark.parametrize("n", [8, 7])
def test_both_ways_give_the_same_packed(code, n):
    x = X[: 5 * n].reshape(5, n)
    params = {"scale": 0.25, "zero_point": 1}
    per_byte = 8 // int(code[-1])
    for out in (None, packed(5, n, per_byte)):
        seen, codes = both_ways(lambda out=out: piquant.torch.quantize(x, dtype=code, out=out, **params).clone())
        assert torch.equal(seen, codes)
        assert bool(seen.any())
    back = params | {"dtype": torch.float32, "source_dtype": code, "out": torch.zeros(5, n)}
    for shape in (None, x.shape, tuple(x.shape), [5, n]):
        if shape is None and n % per_byte != 0:
            with pytest.raises(ValueError, match="out must have shape"):
                piquant.torch.dequantize(codes, **back)
            continue
        seen, long = both_ways(lambda shape=shape: piquant.torch.dequantize(codes, shape=shape, **back).clone())
        assert torch.equal(seen, long)
        assert bool(seen.any())
    with pytest.raises(TypeError, match="source_dtype 'int8' is stored as"):
        piquant.torch.dequantize(codes, **(back | {"source_dtype": "int8"}))


def test_results_are_the_same_on_both_ways():
    params = {"scale": 0.25, "zero_point": 1}
    wide = X.reshape(3, 20)
    images = X.reshape(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    whole = torch.quantize_per_tensor(wide, 0.25, 1, torch.qint8)
    for act in (
        lambda: piquant.torch.quantize(wide, dtype=torch.int16, **params),
        lambda: piquant.torch.quantize(wide.t(), dtype=torch.int8, **params),
        lambda: piquant.torch.quantize(torch.nn.Parameter(wide), dtype="int32", **params),
        lambda: piquant.torch.quantize(wide, dtype=torch.quint8, **params),
        lambda: piquant.torch.quantize(wide.t(), dtype=torch.qint32, **params),
        lambda: piquant.torch.quantize(images, dtype=torch.qint8, **params),
        lambda: piquant.torch.dequantize(whole, dtype=torch.float32, **params),
        lambda: piquant.torch.dequantize(whole[1:], dtype=torch.float16, **params),
        lambda: piquant.torch.dequantize(whole.t(), dtype=torch.float64, **params),
        lambda: piquant.torch.dequantize(torch.arange(60, dtype=torch.int8), dtype=torch.float16, **params),
        lambda: piquant.torch.quantize_dequantize(torch.nn.Parameter(wide).detach(), dtype="uint4", **params),
    ):
        seen, long = both_ways(act)
        assert type(seen) is type(long) is torch.Tensor
        assert seen.dtype == long.dtype
        assert not seen.requires_grad
        assert seen.stride() == long.stride()
        assert torch.equal(seen, long)
        assert not seen.is_quantized or (seen.q_scale(), seen.q_zero_point()) == (0.25, 1)


def test_results_are_on_the_cpu_whatever_the_default_device():
    x = torch.zeros(3)
    with torch.device("meta"):
        for dtype in (torch.uint8, "uint4", torch.quint8):
            assert piquant.torch.quantize(x, scale=0.25, zero_point=1, dtype=dtype).device.type == "cpu"


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize("code", CODED)
def test_both_ways_give_the_same(real, code):
    x = (X * 40).to(getattr(torch, real))
    dtype = getattr(torch, code)
    params = {"scale": 0.5, "zero_point": 30}

    def quantized():
        out = torch.zeros(60, dtype=dtype)
        version = out._version
        assert (
            piquant.torch.quantize(x, dtype=dtype, round_mode="stochastic", seed=5, offset=3, out=out, **params) is out
        )
        assert out._version == version + 1
        return out

    seen, long = both_ways(quantized)
    assert torch.equal(seen.to(torch.int64), long.to(torch.int64))

    def dequantized():
        out = x.clone()
        version = out._version
        got = piquant.torch.dequantize(seen, dtype=x.dtype, reduce_op="add", out=out, **params)
        assert got is out
        assert out._version == version + 1
        return out

    seen, long = both_ways(dequantized)
    assert torch.equal(seen, long)
    assert not torch.equal(seen, x)


def test_seeds_come_from_torch_on_both_ways():
    def draw():
        torch.manual_seed(7)
        out = torch.zeros(60, dtype=torch.uint8)
        return piquant.torch.quantize(X, scale=0.1, zero_point=9, dtype="uint8", round_mode="stochastic", out=out)

    seen, long = both_ways(draw)
    assert torch.equal(seen, long)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"scale": -1.0}, ValueError, "scale"),
        ({"zero_point": 256}, ValueError, "zero_point"),
        ({"round_mode": "up"}, ValueError, "round_mode"),
        ({"dtype": torch.int8}, TypeError, "out must be of torch.int8"),
        ({"dtype": torch.quint8}, TypeError, "out must be of torch.quint8"),
        ({"dtype": "uint4"}, ValueError, "out must have shape"),
        ({"ctx": 3}, TypeError, "ctx"),
        ({"quant_min": 9, "quant_max": 3}, ValueError, "quant_m"),
    ],
)
def test_errors_are_the_same_on_both_ways(bad, error, words):
    out = torch.full((60,), 77, dtype=torch.uint8)
    arguments = {"scale": 0.1, "zero_point": 9, "dtype": torch.uint8, "out": out} | bad

    def message():
        with pytest.raises(error, match=words) as caught:
            piquant.torch.quantize(X, **arguments)
        return str(caught.value)

    seen, long = both_ways(message)
    assert seen == long
    assert bool((out == 77).all())
