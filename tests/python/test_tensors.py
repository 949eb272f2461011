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
    assert _native.plain_tensors(a, b) == (a.data_ptr(), CODES[name], b.data_ptr(), CODES["uint8"], 1, a.numel())
    assert _native.plain_tensors(b, a) == (b.data_ptr(), CODES["uint8"], a.data_ptr(), CODES[name], 1, a.numel())


def test_offsets_and_idle_strides_are_plain():
    part = X[7:22]
    assert _native.plain_tensors(part, part.clone())[0] == X.data_ptr() + 28
    one = torch.zeros(4, 9)[:, :1].t()  # 1 x 4 with strides 1 and 9
    assert not one.is_contiguous()
    assert _native.plain_tensors(one, torch.zeros(1, 4)) is None
    column = torch.zeros(4, 9)[:1].t()[:9]  # 9 x 1 with strides 1 and 9
    assert column.is_contiguous()
    assert _native.plain_tensors(column, torch.zeros(9, 1))[4:] == (1, 9)


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


def test_one_plain_tensor():
    for x in (X, X[7:22], X.reshape(3, 20), torch.zeros(0), torch.tensor(1, dtype=torch.int16)):
        assert _native.plain_tensor(x) == (x.data_ptr(), CODES[str(x.dtype)[6:]], x.numel())
    for x in (X[::2], torch.nn.Parameter(X), torch.zeros(1, device="meta"), [0.0], None):
        assert _native.plain_tensor(x) is None


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


def packed(rows, n, per_byte):
    return torch.zeros(rows, -(-n // per_byte), dtype=torch.uint8)


@pytest.mark.parametrize("per_byte", [2, 4])
def test_packed_tensors_are_seen(per_byte):
    for rows, n in ((3, 8), (3, 7), (0, 3), (2, 0), (1, 1)):
        x, q = torch.zeros(rows, n), packed(rows, n, per_byte)
        at_x, at_q = (x.data_ptr(), CODES["float32"]), (q.data_ptr(), CODES["uint8"])
        assert _native.plain_tensors(x, q, per_byte) == (*at_x, *at_q, rows, n)
        assert _native.plain_tensors(q, x, per_byte) == (*at_q, *at_x, rows, n)
    x = torch.zeros(3, 8)
    for q in (packed(3, 13, per_byte), packed(2, 8, per_byte), packed(3, 8, per_byte)[0]):
        assert _native.plain_tensors(x, q, per_byte) is None
        assert _native.plain_tensors(q, x, per_byte) is None
    assert _native.plain_tensors(torch.tensor(1.0), torch.zeros(1, dtype=torch.uint8), per_byte) is None


@pytest.mark.parametrize("code", ["uint4", "int4", "uint2", "int2"])
@pytest.mark.parametrize("n", [8, 7])
def test_both_ways_give_the_same_packed(monkeypatch, code, n):
    x = X[: 5 * n].reshape(5, n)
    params = {"scale": 0.25, "zero_point": 1}
    per_byte = 8 // int(code[-1])
    for out in (None, packed(5, n, per_byte)):
        short, codes = both_ways(
            monkeypatch, lambda out=out: piquant.torch.quantize(x, dtype=code, out=out, **params).clone()
        )
        assert torch.equal(short, codes)
        assert bool(short.any())
    back = params | {"dtype": torch.float32, "source_dtype": code, "out": torch.zeros(5, n)}
    for shape in (None, x.shape, tuple(x.shape), [5, n]):
        if shape is None and n % per_byte != 0:
            with pytest.raises(ValueError, match="out must have shape"):
                piquant.torch.dequantize(codes, **back)
            continue
        short, long = both_ways(
            monkeypatch, lambda shape=shape: piquant.torch.dequantize(codes, shape=shape, **back).clone()
        )
        assert torch.equal(short, long)
        assert bool(short.any())
    with pytest.raises(TypeError, match="source_dtype int8 is stored as"):
        piquant.torch.dequantize(codes, **(back | {"source_dtype": "int8"}))


def test_small_results_are_the_same_on_both_ways(monkeypatch):
    params = {"scale": 0.25, "zero_point": 1}
    wide = X.reshape(3, 20)
    for act in (
        lambda: piquant.torch.quantize(wide, dtype=torch.int16, **params),
        lambda: piquant.torch.quantize(wide.t(), dtype=torch.int8, **params),
        lambda: piquant.torch.quantize(torch.nn.Parameter(wide), dtype="int32", **params),
        lambda: piquant.torch.quantize(wide, dtype=torch.quint8, **params),
        lambda: piquant.torch.dequantize(torch.arange(60, dtype=torch.int8), dtype=torch.float16, **params),
        lambda: piquant.torch.quantize_dequantize(torch.nn.Parameter(wide), dtype="uint4", **params),
    ):
        short, long = both_ways(monkeypatch, act)
        assert type(short) is type(long) is torch.Tensor
        assert short.dtype == long.dtype
        assert not short.requires_grad
        assert short.is_contiguous()
        assert torch.equal(short, long)


def test_results_are_on_the_cpu_whatever_the_default_device():
    x = torch.zeros(3)
    with torch.device("meta"):
        for dtype in (torch.uint8, "uint4", torch.quint8):
            assert piquant.torch.quantize(x, scale=0.25, zero_point=1, dtype=dtype).device.type == "cpu"


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
