"""The short way for plain numpy arrays: which arrays take it, and that it leads to the same results as the long one."""

import ml_dtypes
import numpy as np
import pytest

import piquant.numpy
from piquant import _native
from piquant._dtypes import CODES

X = np.linspace(-1, 1, 60, dtype=np.float32)
FLOATS = ("float16", "float32", "float64")
CODED = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("name", FLOATS + CODED)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 5), (1, 4, 1)])
def test_plain_arrays_are_seen(name, shape):
    a = np.zeros(shape, name)
    b = np.zeros(shape, np.uint8)
    assert _native.plain_arrays(a, b) == (address(a), CODES[name], address(b), CODES["uint8"], 1, a.size)
    assert _native.plain_arrays(b, a) == (address(b), CODES["uint8"], address(a), CODES[name], 1, a.size)


def test_offsets_unaligned_elements_and_idle_strides_are_plain():
    part = X[7:22]
    assert _native.plain_arrays(part, part.copy())[0] == address(X) + 28
    unaligned = np.frombuffer(bytearray(61), np.float32, 15, offset=1)
    assert not unaligned.flags.aligned
    assert _native.plain_arrays(unaligned, unaligned)[4:] == (1, 15)
    column = np.zeros((4, 9))[:1].T
    assert _native.plain_arrays(column, np.zeros((9, 1)))[4:] == (1, 9)
    alias = np.zeros(60, np.dtype("longlong"))  # another dtype than int64, of the same integers
    assert _native.plain_arrays(X, alias)[3] == CODES["int64"]


class Subclass(np.ndarray):
    pass


OTHERS = {
    "strided": lambda: np.zeros(120, np.float32)[::2],
    "reversed": lambda: X[::-1],
    "broadcast": lambda: np.broadcast_to(np.float32(0), 60),
    "another shape": lambda: np.zeros((6, 10)),
    "another rank": lambda: np.zeros((60, 1)),
    "fewer elements": lambda: np.zeros(59),
    "swapped": lambda: np.zeros(60, ">f4"),
    "subclass": lambda: np.zeros(60).view(Subclass),
    "masked": lambda: np.ma.zeros(60),
    "bfloat16": lambda: np.zeros(60, ml_dtypes.bfloat16),
    "int4": lambda: np.zeros(60, ml_dtypes.int4),
    "float8": lambda: np.zeros(60, ml_dtypes.float8_e4m3fn),
    "complex": lambda: np.zeros(60, np.complex64),
    "longdouble": lambda: np.zeros(60, np.longdouble),
    "bool": lambda: np.zeros(60, bool),
    "object": lambda: np.zeros(60, object),
    "dates": lambda: np.zeros(60, "M8[s]"),
    "text": lambda: np.zeros(60, "U1"),
    "bytes": lambda: np.zeros(60, "S1"),
    "void": lambda: np.zeros(60, "V2"),
    "record": lambda: np.zeros(60, [("a", "f4")]),
    # Letter and size of the item in one number: 'V' * 256 + 4100 == 'U' * 256 + 4356 == 'f' * 256 + 4, a float32.
    "void of 4,100 bytes": lambda: np.zeros(60, "V4100"),
    "text of 4,356 bytes": lambda: np.zeros(60, "U1089"),
    "scalar": lambda: np.float32(0),
    "a list": lambda: [0.0] * 60,
    "None": lambda: None,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_others_are_left_to_the_long_way(make):
    assert _native.plain_arrays(X, X.copy()) is not None
    assert _native.plain_arrays(make(), X) is None
    assert _native.plain_arrays(X, make()) is None


def test_only_an_output_must_be_writeable():
    fixed = X.copy()
    fixed.flags.writeable = False
    assert _native.plain_arrays(fixed, X) is not None
    assert _native.plain_arrays(X, fixed) is None


def both_ways(monkeypatch, call):
    short = call()
    with monkeypatch.context() as m:
        m.setattr(piquant.numpy, "_plain_arrays", lambda *_: None)
        return short, call()


def packed(rows, n, per_byte):
    return np.zeros((rows, -(-n // per_byte)), np.uint8)


@pytest.mark.parametrize("per_byte", [2, 4])
def test_packed_arrays_are_seen(per_byte):
    for rows, n in ((3, 8), (3, 7), (0, 3), (2, 0), (1, 1)):
        x, q = np.zeros((rows, n), np.float32), packed(rows, n, per_byte)
        assert _native.plain_arrays(x, q, per_byte) == (
            address(x),
            CODES["float32"],
            address(q),
            CODES["uint8"],
            rows,
            n,
        )
        assert _native.plain_arrays(q, x, per_byte) == (
            address(q),
            CODES["uint8"],
            address(x),
            CODES["float32"],
            rows,
            n,
        )
    x = np.zeros((3, 8), np.float32)
    for q in (
        packed(3, 9, per_byte),
        packed(2, 8, per_byte),
        packed(3, 8, per_byte)[0],
        packed(3, 8, per_byte).view("i1"),
    ):
        assert _native.plain_arrays(x, q, per_byte) is None
        assert _native.plain_arrays(q, x, per_byte) is None
    assert _native.plain_arrays(np.float32(1).reshape(()), np.zeros(1, np.uint8), per_byte) is None
    assert _native.plain_arrays(x, x, per_byte) is None


@pytest.mark.parametrize("code", ["uint4", "int4", "uint2", "int2"])
@pytest.mark.parametrize("n", [8, 7])
def test_both_ways_give_the_same_packed(monkeypatch, code, n):
    x = X[: 5 * n].reshape(5, n)
    params = {"scale": 0.25, "zero_point": 1}
    per_byte = 8 // int(code[-1])
    for out in (None, packed(5, n, per_byte)):
        short, codes = both_ways(
            monkeypatch, lambda out=out: piquant.numpy.quantize(x, dtype=code, out=out, **params).copy()
        )
        assert np.array_equal(short, codes)
        assert short.any()
    back = params | {"dtype": "float32", "source_dtype": code, "out": np.zeros((5, n), np.float32)}
    for shape in (None, (5, n)):
        if shape is None and n % per_byte != 0:
            with pytest.raises(ValueError, match="out must have shape"):
                piquant.numpy.dequantize(codes, **back)
            continue
        short, long = both_ways(
            monkeypatch, lambda shape=shape: piquant.numpy.dequantize(codes, shape=shape, **back).copy()
        )
        assert np.array_equal(short, long)
        assert short.any()


def test_small_results_are_the_same_on_both_ways(monkeypatch):
    params = {"scale": 0.25, "zero_point": 1}
    for act in (
        lambda: piquant.numpy.quantize(X.reshape(3, 20), dtype="int16", **params),
        lambda: piquant.numpy.quantize(X.astype(ml_dtypes.bfloat16), dtype="int8", **params),
        lambda: piquant.numpy.dequantize(np.arange(60, dtype=np.int8), dtype="float16", **params),
        lambda: piquant.numpy.quantize(X[::2], dtype="int8", **params),
    ):
        short, long = both_ways(monkeypatch, act)
        assert short.dtype == long.dtype
        assert np.array_equal(short, long)


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize("code", CODED)
def test_both_ways_give_the_same(monkeypatch, real, code):
    x = (X * 40).astype(real)
    params = {"scale": 0.5, "zero_point": 30}

    def quantized():
        out = np.zeros(60, code)
        options = {"round_mode": "stochastic", "seed": 5, "offset": 3}
        assert piquant.numpy.quantize(x, dtype=code, out=out, **options, **params) is out
        return out

    codes, long = both_ways(monkeypatch, quantized)
    assert np.array_equal(codes, long)
    assert codes.any()

    def dequantized():
        out = x.copy()
        assert piquant.numpy.dequantize(codes, dtype=real, reduce_op="add", out=out, **params) is out
        return out

    short, long = both_ways(monkeypatch, dequantized)
    assert np.array_equal(short, long)
    assert not np.array_equal(short, x)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"scale": -1.0}, ValueError, "scale"),
        ({"zero_point": 256}, ValueError, "zero_point"),
        ({"round_mode": "up"}, ValueError, "round_mode"),
        ({"dtype": "int8"}, TypeError, "out must be of int8"),
        ({"dtype": "uint4"}, ValueError, "out must have shape"),
        ({"dtype": ml_dtypes.uint4}, TypeError, "out must be of uint4"),
        ({"ctx": 3}, TypeError, "ctx"),
        ({"quant_min": 9, "quant_max": 3}, ValueError, "quant_m"),
    ],
)
def test_errors_are_the_same_on_both_ways(monkeypatch, bad, error, words):
    out = np.full(60, 77, np.uint8)
    arguments = {"scale": 0.1, "zero_point": 9, "dtype": "uint8", "out": out} | bad

    def message():
        with pytest.raises(error, match=words) as caught:
            piquant.numpy.quantize(X, **arguments)
        return str(caught.value)

    short, long = both_ways(monkeypatch, message)
    assert short == long
    assert (out == 77).all()


def test_overlap_is_an_error_on_both_ways(monkeypatch):
    memory = np.full(240, 77, np.uint8)
    x, out = memory.view(np.float32), memory[180:]

    def message():
        with pytest.raises(ValueError, match="overlap") as caught:
            piquant.numpy.quantize(x, scale=0.1, zero_point=9, dtype="uint8", out=out)
        return str(caught.value)

    short, long = both_ways(monkeypatch, message)
    assert short == long
    assert (memory == 77).all()


@pytest.mark.parametrize("spelling", ["float32", np.float32, np.dtype("float32"), "f4", ">f4", "single"])
def test_every_spelling_of_a_float_dtype_is_the_same(spelling):
    q = np.arange(60, dtype=np.uint8)
    got = piquant.numpy.dequantize(q, scale=0.5, zero_point=7, dtype=spelling)
    assert got.dtype == np.dtype("float32")
    assert got.dtype.isnative
    assert np.array_equal(got, (q.astype(np.float32) - 7) / 2)
