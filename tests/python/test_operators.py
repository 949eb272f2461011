"""Operators of torch: what torch.library checks of them, and calls that reach them."""

from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

import piquant.torch
from piquant.torch import compute_quant_params, dequantize, quantize, quantize_dequantize, quantize_dynamic

OP = torch.ops.piquant
STOCHASTIC = {"stochastic": [7, -3]}  # the offset, and the seed 2**64 - 3, as operators count it
# Shape of the data, of its blocks along each dimension, of the parameters.
BLOCKS = [
    ((5, 8), (1, 3), (5, 3)),
    ((3, 7), (-1, 2), (1, 4)),
    ((4, 0), (2, -1), (2, 0)),
    ((9,), (-1,), (1,)),
    ((), (), ()),
]


def params_of(grid, zeros):
    scale = torch.rand(grid) + 0.1
    return scale, torch.ones(grid, dtype=torch.int8) if zeros else None, 0 if zeros else 1


def calls():
    """An operator, its arguments, and options, of each form and many shapes."""
    for i, (shape, size, grid) in enumerate(BLOCKS):
        x = torch.randn(shape).to([torch.float32, torch.bfloat16, torch.float64][i % 3])
        dtype = ["int4", "uint8", "int2", "int16"][i % 4]
        options = STOCHASTIC if i % 2 else {"limits": [-1, 1]}
        for name, params in (("default", (*params_of(grid, i % 2), size)), ("scalar", (0.25, 1))):
            leaf = x.clone().requires_grad_(i in (0, 3))
            q = getattr(OP.quantize, name)(x, *params, dtype)
            source = {"source_dtype": dtype, "shape": shape} if dtype in ("int4", "int2") else {}
            yield getattr(OP.quantize, name), (x, *params, dtype), options
            yield getattr(OP.quantize_into, name), (x, *params, dtype, torch.zeros_like(q)), options
            yield getattr(OP.dequantize, name), (q, *params, "float32"), source
            out = torch.ones(shape)
            yield getattr(OP.dequantize_into, name), (q, *params, "float32", out), source | {"reduce_op": "add"}
            yield getattr(OP.quantize_dequantize, name), (leaf, *params, dtype), options
            yield getattr(OP.quantize_dequantize_into, name), (x, *params, dtype, torch.zeros_like(x)), options
            given = (leaf.detach().clone().requires_grad_(leaf.requires_grad), x, *params, dtype)
            yield getattr(OP.quantize_dequantize_backward, name), given, {}
        kept = {"scale_dtype": "float16"} if i % 2 else {}
        yield OP.compute_quant_params.default, (x, size, dtype), kept
        yield OP.compute_quant_params_symmetric.default, (x, size, dtype), kept
        yield OP.quantize_dynamic.default, (x, size, dtype), options | kept
        yield OP.quantize_dynamic_symmetric.default, (x, size, dtype), options | kept


CALLS = list(calls())
LIGHT = ("test_schema", "test_autograd_registration", "test_faketensor")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
@pytest.mark.parametrize("i", range(len(CALLS)), ids=lambda i: f"{CALLS[i][0]}-{i}")
def test_opcheck(i):
    operator, args, options = CALLS[i]
    # The last check compiles. It runs for some of each operator.
    opcheck(operator, args, options, test_utils=LIGHT if i % 3 else (*LIGHT, "test_aot_dispatch_dynamic"))


def test_unseeded_operators_are_tagged():
    for name in ("quantize", "quantize_into", "quantize_dequantize", "quantize_dequantize_into"):
        for overload in ("default", "scalar"):
            assert torch.Tag.nondeterministic_seeded in getattr(getattr(OP, name), overload).tags
    assert torch.Tag.nondeterministic_seeded in OP.quantize_dynamic.default.tags
    assert torch.Tag.nondeterministic_seeded not in OP.dequantize.default.tags


def test_integers_of_64_bits():
    x, most = torch.full((3,), 2.0**63), 2**64 - 1
    for zero_point, low in ((most - 5, 2**63 + 1), (0, 0)):
        right = {"scale": 1.0, "zero_point": zero_point, "dtype": "uint64", "quant_min": low, "quant_max": most - 1}
        want = quantize(-x, **right)
        assert torch.equal(make_fx(partial(quantize, **right))(-x)(-x), want)
        back = {"scale": 1.0, "zero_point": zero_point, "dtype": "float32"}
        assert torch.equal(make_fx(partial(dequantize, **back))(want)(want), dequantize(want, **back))
    seeded = {"scale": 1.0, "dtype": "int8", "round_mode": "stochastic", "seed": most, "offset": 2**63}
    y = torch.rand(1000)
    assert torch.equal(make_fx(partial(quantize, **seeded))(y)(y), quantize(y, **seeded))


def every_function(x, scale, out=None):
    """Results of all functions, as plain values."""
    q = quantize(x, scale=scale, dtype="int4", block_size=3)
    y = dequantize(q, scale=scale, dtype=x.dtype, block_size=3, source_dtype="int4", shape=x.shape)
    found = quantize_dynamic(x, dtype="uint8", block_size=-1)
    made = [
        q, y, quantize_dequantize(x, scale=0.5, dtype="int8"), *compute_quant_params(x, dtype="int8", block_size=3),
        found.data, found.scale, found.zero_point, found.dequantize(),
        quantize_dynamic(x, dtype="int2", symmetric=True).dequantize(torch.float64),
    ]  # fmt: skip
    if out is not None:
        made.append(
            dequantize(q, scale=scale, dtype=x.dtype, block_size=3, source_dtype="int4", shape=x.shape, out=out)
        )
        made.append(quantize_dequantize(x, scale=0.5, dtype="int8", out=out, reduce_op="add"))
    return made


X, SCALE = torch.randn(5, 8), torch.rand(5, 3) + 0.1


def equal(a, b):
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode):
    graph = make_fx(lambda x, s: every_function(x, s), tracing_mode=mode)(X, SCALE)  # noqa: PLW0108  as it takes two
    other = torch.randn(5, 8)
    assert equal(graph(other, SCALE), every_function(other, SCALE))
    if mode == "symbolic":
        other, scale = torch.randn(7, 11), torch.rand(7, 4) + 0.1
        assert equal(graph(other, scale), every_function(other, scale))


@pytest.mark.parametrize("kind", ["meta", "fake", "fake within its mode"])
def test_tensors_without_elements(kind):
    mode = FakeTensorMode()
    given = [t.to("meta") if kind == "meta" else mode.from_tensor(t) for t in (X, SCALE, torch.zeros(5, 8))]
    want = every_function(X, SCALE, torch.zeros(5, 8))
    with mode if kind == "fake within its mode" else torch.no_grad():
        got = every_function(*given)
        for found, real in zip(got, want, strict=True):
            assert type(found) is type(given[0])
            assert (found.shape, found.dtype, found.stride()) == (real.shape, real.dtype, real.stride())
        with pytest.raises(TypeError, match=r"block_size=.* finds tensors|must have its elements in memory"):
            compute_quant_params(given[0], dtype="int8")
        with pytest.raises(TypeError, match="dtype must be a plain dtype"):
            quantize(given[0], scale=1.0, dtype=torch.qint8)
        for wrong in ({"scale": given[1]}, {"scale": given[1], "block_size": 2}, {"scale": given[0][0]}):
            with pytest.raises(ValueError, match="scale must have"):
                quantize(given[0], **wrong, dtype="int8")
        with pytest.raises(ValueError, match="out must have shape"):
            quantize_dequantize(given[0], scale=1.0, dtype="int8", out=given[2][1:])
        with pytest.raises(TypeError, match="out must be of"):
            quantize(given[0], scale=1.0, dtype="int8", out=given[2])


def test_real_and_meta_tensors_do_not_mix():
    for call in (
        lambda: quantize(X, scale=SCALE.to("meta"), block_size=3, dtype="int8"),
        lambda: quantize(X.to("meta"), scale=SCALE, block_size=3, dtype="int8"),
        lambda: quantize_dequantize(X, scale=1.0, dtype="int8", out=X.to("meta")),
    ):
        with pytest.raises(TypeError, match="must be on device"):
            call()


def test_real_and_fake_tensors_do_not_mix():
    mode = FakeTensorMode()
    x, scale = mode.from_tensor(X), mode.from_tensor(SCALE)
    out, held = torch.zeros(5, 8), quantize_dynamic(X, dtype="int8", block_size=3)
    right = {"block_size": 3, "dtype": "int8"}
    for within in (False, True):
        for call in (
            lambda: quantize(X, scale=scale, **right),
            lambda: quantize(x, scale=SCALE, **right),
            lambda: quantize_dequantize(x, scale=1.0, dtype="int8", out=out),
            *(
                lambda: quantize(X, scale=1.0, dtype="int8"),
                lambda: quantize_dynamic(X, **right),
                lambda: compute_quant_params(X, **right),
                held.dequantize,
            )[: 4 * within],
        ):
            with (
                mode if within else torch.no_grad(),
                pytest.raises(TypeError, match=r"all be Fake.*from_tensor"),
            ):
                call()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert quantize(X, scale=1.0, dtype="int8").shape == X.shape
        assert held.dequantize().shape == X.shape


def test_functionalize():
    assert equal(torch.func.functionalize(every_function)(X, SCALE), every_function(X, SCALE))
    with pytest.raises(RuntimeError, match="alias annotations"):  # of no operator outside torch
        torch.func.functionalize(every_function)(X, SCALE, X.clone())


class Wrapper(torch.Tensor):
    """Holds another tensor and has no elements itself."""

    seen: list = []  # noqa: RUF012

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function)
        unwrapped = torch.utils._pytree.tree_map_only(Wrapper, lambda t: t.inner, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(torch.Tensor, Wrapper, function(*unwrapped[0], **unwrapped[1]))


def test_wrapper_subclasses_go_through_the_operators():
    for view in (lambda t: t, lambda t: t.t().contiguous().t(), lambda t: t[:, 1:]):
        x = view(torch.randn(5, 9))
        scale = torch.rand(5, -(-x.shape[1] // 3)) + 0.1
        out, plain = Wrapper(torch.zeros(x.shape)), torch.zeros(x.shape)
        got = every_function(Wrapper(x), scale, out)
        assert all(isinstance(t, Wrapper) for t in got)
        assert equal([t.inner for t in got], every_function(x, scale, plain))
        assert torch.equal(out.inner, plain)
    assert OP.quantize_dequantize_into.scalar in Wrapper.seen
    with pytest.raises(TypeError, match="dtype must be a plain dtype"):
        quantize(Wrapper(X), scale=1.0, dtype=torch.qint8)


class Mode(TorchDispatchMode):
    """Takes part in everything, and changes nothing."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


def test_short_way():
    """Plain tensors are not told to torch, but for what is written to them."""
    with Mode() as mode:
        within = every_function(X, SCALE, X.clone())
    assert OP.quantize.default in mode.seen
    assert equal(within, every_function(X, SCALE, X.clone()))
    for names in (("quantize", "uint8"), ("quantize_dequantize", "float32")):
        out = torch.zeros(5, 8, dtype=getattr(torch, names[1]))
        for way in (torch.no_grad, Mode):
            before = out._version
            with way():
                getattr(piquant.torch, names[0])(X, scale=1.0, dtype="uint8", out=out)
            assert out._version == before + 1


@pytest.mark.parametrize(
    ("wrong", "exception", "words"),
    [
        ({"scale": "0.5"}, TypeError, "scale must be a number"),
        ({"scale": 0.5, "block_size": 2}, TypeError, "scale must be a torch.Tensor where block_size is given"),
        ({"scale": 0.5, "zero_point": 0.5}, TypeError, "zero_point must be an int"),
        ({"scale": 0.5, "zero_point": 2**70}, ValueError, "zero_point must be of 64 bits"),
        ({"scale": 0.5, "zero_point": 200}, ValueError, "zero_point must be"),
        ({"scale": 0.0}, ValueError, "scale must be"),
        ({"scale": 0.5, "dtype": "int3"}, ValueError, "dtype must be one of"),
        ({"scale": 0.5, "dtype": torch.float32}, TypeError, "dtype must be one of"),
        ({"scale": 0.5, "round_mode": "up"}, ValueError, "round_mode must be 'nearest' or 'stochastic'"),
        ({"scale": 0.5, "round_mode": None}, TypeError, "round_mode must be 'nearest' or 'stochastic'"),
        ({"scale": 0.5, "round_mode": "stochastic", "seed": -1}, ValueError, "seed must be an int in 0"),
        ({"scale": 0.5, "quant_min": 9, "quant_max": 8}, ValueError, "quant_m"),
        ({"scale": SCALE, "block_size": 0}, ValueError, "block_size must be"),
        ({"scale": SCALE, "block_size": (1, 1, 1)}, ValueError, "block_size must have at most"),
        ({"scale": SCALE, "block_size": 3, "zero_point": SCALE}, TypeError, "zero_point must hold integers"),
        ({"scale": 0.5, "out": [1]}, TypeError, "out must be a torch.Tensor"),
        ({"scale": 0.5, "out": torch.zeros(5, 8)[1:]}, ValueError, "out must have shape"),
        ({"scale": 0.5, "ctx": 3}, TypeError, "ctx must be a piquant.Context"),
    ],
)
def test_wrong_arguments(wrong, exception, words):
    call = quantize_dequantize if isinstance(wrong.get("out"), torch.Tensor) else quantize
    with Mode(), pytest.raises(exception, match=words):
        call(X, **{"dtype": "int8"} | wrong)


def test_wrong_tensors():
    with Mode():
        for wrong in (
            X.long(),
            X.to_sparse(),
            [0.0],
            torch.nn.UninitializedParameter(),
            X.requires_grad_().to(torch.complex64),
        ):
            for call in (quantize, quantize_dequantize):
                with pytest.raises(TypeError, match="tensor must be"):
                    call(wrong, scale=1.0, dtype="int8")
        for wrong, words in ((X, "codes"), (torch.zeros(3, dtype=torch.int16), "source_dtype")):
            with pytest.raises(TypeError, match=words):
                dequantize(wrong.detach(), scale=1.0, dtype="float32", source_dtype="int8")
        for call in (quantize_dynamic, partial(compute_quant_params, block_size=1), partial(quantize, scale=X[0, :1])):
            with pytest.raises(ValueError, match=r"tensor must have at most 8 dimensions .*, got 9"):
                call(torch.zeros((1,) * 9), dtype="int8")
        with pytest.raises(ValueError, match="reduce_op='add' needs out"):
            quantize_dequantize(X, scale=1.0, dtype="int8", reduce_op="add")
        with pytest.raises(ValueError, match="out must not require a gradient"):
            quantize_dequantize(X.detach(), scale=1.0, dtype="int8", out=X)
    X.requires_grad_(False)


def test_refilled():
    out = quantize_dynamic(X + 1, dtype="int8", block_size=3)
    want = quantize_dynamic(X, dtype="int8", block_size=3)

    with Mode():
        assert quantize_dynamic(X, dtype="int8", block_size=3, out=out) is out
    assert out == want
    with Mode(), pytest.raises(ValueError, match="out must be of the codes"):
        quantize_dynamic(X, dtype="int8", block_size=2, out=out)
