"""The short way for plain tensors: which tensors take it, and that it leads to the same results as the long one."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import piquant.torch
from piquant import _native
from piquant._dtypes import CODES

X = torch.linspace(-1, 1, 60)
FLOATS = ("float16", "bfloat16", "float32", "float64")
CODED = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("name", FLOATS + CODED)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 5), (1, 4, 1)])
def test_plain_tensors_are_seen(name, shape):
    a = torch.zeros(shape, dtype=getattr(torch, name))
    b = torch.zeros(shape, dtype=torch.uint8)
    assert _native.plain_tensors(a, b) == (a.data_ptr(), CODES[name], b.data_ptr(), CODES["uint8"], a.numel())
    assert _native.plain_tensors(b, a) == (b.data_ptr(), CODES["uint8"], a.data_ptr(), CODES[name], a.numel())


def test_offsets_and_idle_strides_are_plain():
    part = X[7:22]
    assert _native.plain_tensors(part, part.clone())[0] == X.data_ptr() + 28
    one = torch.zeros(4, 9)[:, :1].t()  # 1 x 4 with strides 1 and 9
    assert not one.is_contiguous()
    assert _native.plain_tensors(one, torch.zeros(1, 4)) is None
    column = torch.zeros(4, 9)[:1].t()[:9]  # 9 x 1 with strides 1 and 9
    assert column.is_contiguous()
    assert _native.plain_tensors(column, torch.zeros(9, 1))[4] == 9


class Subclass(torch.Tensor):
    pass


OTHERS = {
    "strided": lambda: torch.zeros(120)[::2],
    "expanded": lambda: torch.zeros(1).expand(60),
    "another shape": lambda: torch.zeros(6, 10),
    "another rank": lambda: torch.zeros(60, 1),
    "fewer elements": lambda: torch.zeros(59),
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
    "quantized": lambda: torch._empty_affine_quantized((60,), scale=1.0, zero_point=0, dtype=torch.quint8),
    "fake": lambda: FakeTensorMode().from_tensor(torch.zeros(60)),
    "a list": lambda: [0.0] * 60,
    "numpy": lambda: torch.zeros(60).numpy(),
    "None": lambda: None,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_others_are_left_to_the_long_way(make):
    assert _native.plain_tensors(X, X.clone()) is not None
    assert _native.plain_tensors(make(), X) is None
    assert _native.plain_tensors(X, make()) is None


def test_tensors_within_transforms_are_left_to_the_long_way():
    seen = []

    def look(x):
        seen.append(_native.plain_tensors(x, torch.zeros(3)))
        return x

    torch.vmap(look)(torch.zeros(2, 3))
    torch.func.grad(lambda x: look(x).sum())(torch.zeros(3))
    assert seen == [None, None]


def test_only_an_output_must_not_require_a_gradient():
    leaf = torch.zeros(60, requires_grad=True)
    assert _native.plain_tensors(leaf, X) is not None
    assert _native.plain_tensors(X, leaf) is None


def both_ways(monkeypatch, call):
    short = call()
    with monkeypatch.context() as m:
        m.setattr(piquant.torch, "_plain_tensors", lambda *_: None)
        return short, call()


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize("code", CODED)
def test_both_ways_give_the_same(monkeypatch, real, code):
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

    short, long = both_ways(monkeypatch, quantized)
    assert torch.equal(short.to(torch.int64), long.to(torch.int64))

    def dequantized():
        out = x.clone()
        version = out._version
        got = piquant.torch.dequantize(short, dtype=x.dtype, reduce_op="add", out=out, **params)
        assert got is out
        assert out._version == version + 1
        return out

    short, long = both_ways(monkeypatch, dequantized)
    assert torch.equal(short, long)
    assert not torch.equal(short, x)


def test_seeds_come_from_torch_on_both_ways(monkeypatch):
    def draw():
        torch.manual_seed(7)
        out = torch.zeros(60, dtype=torch.uint8)
        return piquant.torch.quantize(X, scale=0.1, zero_point=9, dtype="uint8", round_mode="stochastic", out=out)

    short, long = both_ways(monkeypatch, draw)
    assert torch.equal(short, long)


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
def test_errors_are_the_same_on_both_ways(monkeypatch, bad, error, words):
    out = torch.full((60,), 77, dtype=torch.uint8)
    arguments = {"scale": 0.1, "zero_point": 9, "dtype": torch.uint8, "out": out} | bad

    def message():
        with pytest.raises(error, match=words) as caught:
            piquant.torch.quantize(X, **arguments)
        return str(caught.value)

    short, long = both_ways(monkeypatch, message)
    assert short == long
    assert bool((out == 77).all())


def test_a_torch_without_the_exchange_interface_is_left_to_the_long_way():
    _native.use_tensor_type(object)  # has no such attribute, and changes nothing
    assert _native.plain_tensors(X, X.clone()) is not None
