"""Mistakes with blocks are errors that name the argument, what it was and what is allowed, and write nothing."""

from __future__ import annotations

from array import array
from collections import deque

import ml_dtypes
import numpy as np
import pytest
import torch

import piquant
from blocked import FACES, Face, module

X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10)
SCALE = np.full((4, 3), 0.5, np.float32)  # groups of 4, the last of 2
ZERO = np.full((4, 3), 1, np.int8)
RIGHT = {"scale": SCALE, "zero_point": ZERO, "block_size": 4}
WHAT = r"(x|tensor)"


def changed(a: np.ndarray, index: tuple[int, ...], value: object) -> np.ndarray:
    b = a.copy()
    b[index] = value
    return b


def attempt(face: str, **wrong: object) -> None:
    """All functions that are told parameters refuse them, before a byte of out is written."""
    f = Face(face)
    arguments = RIGHT | wrong
    arguments |= f.scales(arguments["scale"])
    given = {name: f.given(value) for name, value in arguments.items()}
    codes, floats = np.full((4, 10), 77, np.int8), np.full((4, 10), 77, np.float32)
    calls = [
        lambda: f.module.quantize(f.given(X), **given, dtype="int8", out=f.given(codes)),
        lambda: f.module.quantize(f.given(X), **given, dtype="int8"),
        lambda: f.module.dequantize(f.given(codes), **given, dtype="float32", out=f.given(floats)),
        lambda: f.module.quantize_dequantize(f.given(X), **given, dtype="int8", out=f.given(floats)),
    ]
    raised = []
    for call in calls:
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        raised.append(caught.value)
    assert (codes == 77).all()
    assert (floats == 77).all()
    assert len({type(error) for error in raised}) == 1, raised
    raise raised[0]


SHAPES = [
    ({"scale": SCALE[:, :2]},
     rf"scale must have shape \(4, 3\) for {WHAT} of shape \(4, 10\) in blocks of \(4,\), got \(4, 2\)"),
    ({"scale": SCALE.T}, r"scale must have shape \(4, 3\) .* got \(3, 4\)"),
    ({"scale": SCALE[None]}, r"scale must have shape \(4, 3\) .* got \(1, 4, 3\)"),
    ({"scale": 0.5}, r"scale must have shape \(4, 3\) .* got \(\)"),
    ({"scale": 1}, r"scale must have shape \(4, 3\) .* got \(\)"),
    ({"zero_point": ZERO[:, :1]}, r"zero_point must have shape \(4, 3\) .* got \(4, 1\)"),
    ({"zero_point": ZERO[:1, :1]}, r"zero_point must have shape \(4, 3\) .* got \(1, 1\)"),
    ({"block_size": None},
     rf"scale must have a size of 1 or that of {WHAT} along .* got \(4, 3\); block_size tells blocks of other sizes"),
    ({"block_size": None, "scale": SCALE[:, 0].copy()},
     r"got \(4,\); scale\[:, None\] is one for each row, scale\[None, :\] one for each column"),
    ({"block_size": (1, 2, 3)},
     rf"block_size must have at most as many sizes as {WHAT} has dimensions, 2, got \(1, 2, 3\)"),
    ({"block_size": 0}, r"block_size must be an int, or a tuple .* -1 or at least 1, .* got 0"),
    ({"block_size": -2}, r"block_size must be .* got -2"),
    ({"block_size": (4, 0)}, r"block_size must be .* got \(4, 0\)"),
    ({"block_size": 1 << 70}, r"block_size must be .* got 1180591620717411303424"),
    ({"block_size": (1,) * 9}, r"block_size must be .* of at most 8 dimensions, got \(1, 1,"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), SHAPES, ids=[words[-30:] for _, words in SHAPES])
@pytest.mark.parametrize("face", FACES)
def test_shapes(face, wrong, words):
    wrong = {name: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for name, v in wrong.items()}
    with pytest.raises(ValueError, match=words):
        attempt(face, **wrong)


TYPES = [
    ({"block_size": 4.0}, r"block_size must be an int, or a tuple of as many ints .* got 4\.0"),
    ({"block_size": "rows"}, r"block_size must be .* got 'rows'"),
    ({"block_size": (4, None)}, r"block_size must be .* got \(4, None\)"),
    ({"zero_point": ZERO.astype(np.float32)},
     r"zero_point must hold integers, got .*float32; .* tinygemm and HQQ .* belong to another formula"),
    ({"zero_point": ZERO.astype(np.float16)}, r"zero_point must hold integers, got .*float16; zero points in floats"),
    ({"zero_point": 0.5}, r"zero_point must be an int, got 0\.5"),
    ({"zero_point": None}, "zero_point must be an int, got None"),
    ({"scale": SCALE.astype(np.int32)}, "scale must .*"),
    ({"scale": "0.5"}, "scale must .*"),
    ({"scale": None}, "scale must .*"),
    ({"scale": deque([0.5])}, "scale must .*"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), TYPES, ids=[words[:40] for _, words in TYPES])
@pytest.mark.parametrize("face", FACES)
def test_types(face, wrong, words):
    with pytest.raises(TypeError, match=words):
        attempt(face, **wrong)


VALUES = [
    ({"scale": changed(SCALE, (2, 1), 0)},
     r"scale must be finite and positive, from 1\.17549435e-38 to .* float32 data, got 0\.0 in block \(2, 1\)"),
    ({"scale": changed(SCALE, (3, 2), -1)}, r"scale must be .* got -1\.0 in block \(3, 2\)"),
    ({"scale": changed(changed(SCALE, (3, 2), np.nan), (1, 0), np.inf)}, r"scale must be .* got inf in block \(1, 0\)"),
    ({"scale": changed(SCALE, (0, 2), 1e-39)}, r"scale must be .* got 1\.00000\d*e-39 in block \(0, 2\)"),
    ({"scale": changed(SCALE.astype(np.float64), (0, 0), 1e300)}, r"scale must be .* got 1e\+300 in block \(0, 0\)"),
    ({"scale": changed(SCALE.astype(np.float16), (1, 1), 0)}, r"scale must be .* got 0\.0 in block \(1, 1\)"),
    ({"scale": changed(SCALE.astype(ml_dtypes.bfloat16), (1, 1), np.nan)},
     r"scale must be .* got nan in block \(1, 1\)"),
    ({"zero_point": changed(ZERO.astype(np.int32), (2, 2), 128)},
     r"zero_point must be in -128\.\.127 for int8, got 128 in block \(2, 2\)"),
    ({"zero_point": changed(ZERO.astype(np.uint64), (2, 2), 2**64 - 1)},
     r"zero_point must be in -128\.\.127 for int8, got 18446744073709551615 in block \(2, 2\)"),
    ({"zero_point": changed(ZERO.astype(np.int64), (0, 1), -(2**63))},
     r"zero_point must be .* got -9223372036854775808 in block \(0, 1\)"),
    ({"zero_point": 128}, r"zero_point must be in -128\.\.127 for int8, got 128$"),
    ({"zero_point": 1 << 70}, r"zero_point must be in -128\.\.127 for int8, got 1180591620717411303424$"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), VALUES, ids=[words[-40:] for _, words in VALUES])
@pytest.mark.parametrize("face", FACES)
def test_values(face, wrong, words):
    """The words name the first bad block in row-major order, and what it holds."""
    with pytest.raises(ValueError, match=words):
        attempt(face, **wrong)


@pytest.mark.parametrize("face", FACES)
def test_data_that_is_not_finite(face):
    f = Face(face)
    name = "tensor" if face == "torch" else "x"
    ctx = piquant.Context(3)
    ctx.serial_cutoff = 0
    for value in (np.nan, np.inf, -np.inf):
        x = np.ones((300, 64), np.float32)
        x[299, 3] = x[123, 33] = x[123, 63] = value
        given = f.given(x)
        for call in (f.module.compute_quant_params, f.module.quantize_dynamic):
            words = rf"{name} must be finite to compute parameters from, but holds NaN or infinity in block \(123, 2\)"
            with pytest.raises(ValueError, match=words):
                call(given, dtype="int8", block_size=16, ctx=ctx)
            with pytest.raises(ValueError, match=r"in block \(0, 0\)"):
                call(given, dtype="int8", block_size=(-1, -1), ctx=ctx)
    big = np.full((2, 4), 3e38, np.float32)
    with pytest.raises(ValueError, match=r"steps of the largest scale that fits float16 in block \(0, 0\)"):
        f.module.quantize_dynamic(f.given(big), dtype="int8", block_size=2, scale_dtype="float16")


def test_dtypes_that_carry_their_parameters():
    x, scale = torch.randn(4, 10), torch.tensor(SCALE)
    words = (
        r"dtype must be of a plain dtype where blocks have parameters, such as torch.uint8; a tensor of torch.quint8"
    )
    for call in (
        lambda: piquant.torch.quantize(x, scale=scale, dtype=torch.quint8, block_size=4),
        lambda: piquant.torch.quantize(x, scale=scale[:, :1], dtype=torch.quint8),
        lambda: piquant.torch.quantize_dynamic(x, dtype=torch.quint8, block_size=4),
        lambda: piquant.torch.compute_quant_params(x, dtype=torch.quint8, block_size=4),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    q = piquant.torch.quantize(x, scale=0.5, zero_point=3, dtype=torch.quint8)
    with pytest.raises(ValueError, match="tensor must be of a plain dtype where blocks have parameters"):
        piquant.torch.dequantize(q, scale=scale, dtype=torch.float32, block_size=4)
    # As before: a tensor of one element is a number, in whatever shape observers keep it.
    for shape in ((), (1,), (1, 1)):
        right = {"scale": torch.full(shape, 0.5), "zero_point": torch.full(shape, 3)}
        assert torch.equal(piquant.torch.quantize(x, **right, dtype=torch.quint8).int_repr(), q.int_repr())
        assert torch.equal(piquant.torch.dequantize(q, **right, dtype=torch.float32), q.dequantize())


@pytest.mark.parametrize("face", FACES)
def test_scale_dtype(face):
    f = Face(face)
    with pytest.raises(ValueError, match=r"scale_dtype must be None where the scale is a number, .* got 'float16'"):
        f.module.compute_quant_params(f.given(X), dtype="int8", scale_dtype="float16")
    with pytest.raises(ValueError, match=r"scale_dtype must be None where the scale is a number, .* got 'float16'"):
        piquant.quantize(X, scale=0.5, dtype="int8", scale_dtype="float16")
    for wrong, error in (("int8", ValueError), ("float8", ValueError), (3.5, TypeError)):
        for call in (f.module.compute_quant_params, f.module.quantize_dynamic):
            with pytest.raises(error, match="scale_dtype must be one of"):
                call(f.given(X), dtype="int8", block_size=4, scale_dtype=wrong)


@pytest.mark.parametrize("face", FACES)
def test_too_many_dimensions(face):
    f = Face(face)
    x = np.ones((1,) * 8 + (4,), np.float32)
    with pytest.raises(ValueError, match=r"must have at most 8 dimensions where blocks have parameters, got 9"):
        f.module.quantize_dynamic(f.given(x), dtype="int8", block_size=2)
    assert f.module.quantize_dynamic(f.given(x[0]), dtype="int8", block_size=2)


@pytest.mark.parametrize("face", ["torch", "numpy"])
def test_out_that_overlaps_parameters(face):
    f = Face(face)
    memory = np.zeros(400, np.uint8)
    scale = memory[:48].view(np.float32).reshape(4, 3)
    scale[...] = 0.5
    zero_point = memory[48:60].view(np.int8).reshape(4, 3)
    words = "out must not overlap the input, scale or zero_point"
    for start in (8, 55):
        out = memory[start : start + 40].view(np.int8).reshape(4, 10)
        with pytest.raises(ValueError, match=words):
            f.module.quantize(
                f.given(X),
                scale=f.given(scale),
                zero_point=f.given(zero_point),
                block_size=4,
                dtype="int8",
                out=f.given(out),
            )
    wide = np.full((4, 6), 0.5, np.float32)
    given = f.given(wide)[:, ::2]  # has gaps, so that a copy is read
    out = f.given(wide.view(np.int8).reshape(4, 24))[:, :10]
    with pytest.raises(ValueError, match=words):
        f.module.quantize(f.given(X), scale=given, block_size=4, dtype="int8", out=out)
    assert (wide == 0.5).all()


@pytest.mark.parametrize("face", ["torch", "numpy"])
def test_what_quantize_dynamic_refills(face):
    m = module(face)
    x = X if face == "numpy" else torch.tensor(X)
    right = {"dtype": "int4", "block_size": 4}
    made = m.quantize_dynamic(x, **right)
    kept = type(made).from_dict({name: a + 0 for name, a in made.to_dict().items()})
    double = x.astype(np.float64) if face == "numpy" else x.double()
    for wrong, words in [
        (
            {"dtype": "uint4"},
            r"out must be of the codes, shape, .* \('uint4', \(4, 10\), \(1, 4\), .*got one of \('int4', ",
        ),
        ({"block_size": 5}, r"out must be of .* \(1, 5\), .* got one of .* \(1, 4\)"),
        ({"x": x[:, :9]}, r"out must be of .* \(4, 9\), .* got one of .* \(4, 10\)"),
        ({"x": double}, r"out must be of .*float64.*, got one of .*float32"),
        ({"symmetric": True}, "out must have an int as its zero point for symmetric parameters"),
    ]:
        arguments = {"x": x, **right, **wrong}
        with pytest.raises(ValueError, match=words):
            m.quantize_dynamic(arguments.pop("x"), **arguments, out=made)
    symmetric = m.quantize_dynamic(x, **right, symmetric=True)
    with pytest.raises(
        ValueError, match="out must have zero points of blocks for parameters that are not symmetric, got 0"
    ):
        m.quantize_dynamic(x, **right, out=symmetric)
    with pytest.raises(TypeError, match=r"the scale of out must be of .*float16"):
        m.quantize_dynamic(x, **right, scale_dtype="float16", out=made)
    with pytest.raises(TypeError, match=rf"out must be a {type(made).__name__} or None, got"):
        m.quantize_dynamic(x, **right, out=made.data)
    with pytest.raises(ValueError, match=r"the scale of out must be contiguous, got strides"):
        m.quantize_dynamic(x[::2], **right, out=made[::2])
    assert made == kept


def test_buffers_to_refill():
    right = {"dtype": "int8", "block_size": 4}
    q, scale, zero_point = bytearray(40), array("f", [0] * 12), bytearray(12)
    made = piquant.quantize_dynamic(X, **right, out=(q, scale, zero_point))
    wanted = piquant.quantize_dynamic(X, **right)
    assert [bytes(a) for a in made] == [bytes(a) for a in wanted]
    for out in (q, [q, scale, zero_point], (q, scale)):
        with pytest.raises(TypeError, match="out must be a tuple of codes, scales and zero points, or None"):
            piquant.quantize_dynamic(X, **right, out=out)
    with pytest.raises(ValueError, match=r"the scale of out must have shape \(4, 3\), got \(11,\)"):
        piquant.quantize_dynamic(X, **right, out=(q, array("f", [0] * 11), zero_point))


def test_params_are_arrays_of_the_face():
    """Nothing of the caller's runs between the look at parameters and the call."""

    class Converted:
        ndim = 2

        def __array__(self, *_: object) -> np.ndarray:
            raise AssertionError

    for wrong in (Converted(), [[0.5]]):
        with pytest.raises(TypeError, match="scale must be"):
            piquant.numpy.quantize(X, scale=wrong, dtype="int8", block_size=4)
    with pytest.raises(TypeError, match=r"scale must be a torch.Tensor, got ndarray"):
        piquant.torch.quantize(torch.tensor(X), scale=SCALE, dtype="int8", block_size=4)


@pytest.mark.parametrize("asked", ["ndim", "numel"])
def test_what_only_looks_like_a_tensor(asked):
    """Its own errors do not come through, but for an interrupt and memory that ran out."""

    class Alike:
        def __len__(self) -> int:
            return 1

        @property
        def ndim(self) -> int:
            return self.answer("ndim")

        def numel(self) -> int:
            return self.answer("numel")

        def answer(self, name: str) -> int:
            if name == asked:
                raise raised("of the caller")
            return 2

    for raised, seen in ((RuntimeError, TypeError), (KeyboardInterrupt, KeyboardInterrupt), (MemoryError, MemoryError)):
        with pytest.raises(seen, match="of the caller" if seen is raised else "scale must be a"):
            piquant.torch.quantize(torch.tensor(X), scale=Alike(), dtype="int8")
