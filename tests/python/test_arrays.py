"""Arrays that are seen without Python: which ones, and that all others lead to the same results."""

import ml_dtypes
import numpy as np
import pytest

import piquant.numpy
from piquant import _arrays, _native
from piquant._dtypes import DTYPE_ID

X = np.linspace(-1, 1, 60, dtype=np.float32)
FLOATS = ("float16", "float32", "float64")
CODED = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
see = _arrays.FACE.see


def described(x, name):
    return x.__array_interface__["data"][0], DTYPE_ID[name], x.shape, x.strides


@pytest.mark.parametrize("name", FLOATS + CODED)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 5), (1, 4, 1)])
def test_arrays_are_seen(name, shape):
    a = np.zeros(shape, name)
    assert see(a) == see(a, True) == described(a, name)


def test_any_layout_is_seen():
    wide = np.zeros((4, 5, 6), np.float32)
    for view in (wide.T, wide[::2, ::-1], wide[:, 1:2], np.broadcast_to(wide[0], (3, 5, 6)), np.asfortranarray(wide)):
        assert see(view) == described(view, "float32")
    unaligned = np.frombuffer(bytearray(61), np.float32, 15, offset=1)
    assert not unaligned.flags.aligned
    assert see(unaligned) == described(unaligned, "float32")
    alias = np.zeros(60, np.dtype("longlong"))  # another dtype than int64, of the same integers
    assert see(alias) == described(alias, "int64")


def test_dtypes_of_ml_dtypes_are_seen_once_they_are_known():
    x = np.zeros(60, ml_dtypes.bfloat16)
    piquant.numpy.quantize(x, scale=1.0, zero_point=0, dtype=ml_dtypes.int4)
    assert see(x) == described(x, "bfloat16")
    q = np.zeros(60, ml_dtypes.int4)
    assert see(q) == described(q, "int4_unpacked")


class Subclass(np.ndarray):
    pass


OTHERS = {
    "swapped": lambda: np.zeros(60, ">f4"),
    "subclass": lambda: np.zeros(60).view(Subclass),
    "masked": lambda: np.ma.zeros(60),
    "float8": lambda: np.zeros(60, ml_dtypes.float8_e4m3fn),
    "complex": lambda: np.zeros(60, np.complex64),
    **({} if np.longdouble(0).itemsize == 8 else {"longdouble": lambda: np.zeros(60, np.longdouble)}),  # else float64
    "bool": lambda: np.zeros(60, bool),
    "object": lambda: np.zeros(60, object),
    "dates": lambda: np.zeros(60, "M8[s]"),
    "text": lambda: np.zeros(60, "U1"),
    "bytes": lambda: np.zeros(60, "S1"),
    "void": lambda: np.zeros(60, "V2"),
    "record": lambda: np.zeros(60, [("a", "f4")]),
    "void of 4,100 bytes": lambda: np.zeros(60, "V4100"),
    "scalar": lambda: np.float32(0),
    "a list": lambda: [0.0] * 60,
    "None": lambda: None,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_others_are_left_to_python(make):
    assert see(make()) is None
    assert see(make(), True) is None


def test_only_an_output_must_be_writeable():
    fixed = X.copy()
    fixed.flags.writeable = False
    assert see(fixed) is not None
    assert see(fixed, True) is None


def test_another_layout_of_numpys_object_is_not_read():
    example = np.zeros((5, 7), np.uint8)
    address = example.__array_interface__["data"][0]
    right = [np.ndarray, example, address, example.shape, example.strides, True]
    for at, wrong in ((2, address + 1), (3, (5, 8)), (3, (5, 7, 1)), (4, (1, 7)), (5, False), (0, Subclass)):
        _native.use_arrays(*[wrong if i == at else value for i, value in enumerate(right)])
        assert see(X) is None
    _native.use_arrays(*right)
    assert see(X) is not None


def both_ways(call):
    """What a call gives for arrays that are seen, and for the same ones described by Python."""
    seen = call()
    try:
        _native.use_arrays(object, X.reshape(6, 10), 0, (), (), False)
        assert see(X) is None
        return seen, call()
    finally:
        _arrays.tell_native()


def packed(rows, n, per_byte):
    return np.zeros((rows, -(-n // per_byte)), np.uint8)


@pytest.mark.parametrize("code", ["uint4", "int4", "uint2", "int2"])
@pytest.mark.parametrize("n", [8, 7])
def test_both_ways_give_the_same_packed(code, n):
    x = X[: 5 * n].reshape(5, n)
    params = {"scale": 0.25, "zero_point": 1}
    per_byte = 8 // int(code[-1])
    for out in (None, packed(5, n, per_byte)):
        seen, codes = both_ways(lambda out=out: piquant.numpy.quantize(x, dtype=code, out=out, **params).copy())
        assert np.array_equal(seen, codes)
        assert seen.any()
    back = params | {"dtype": "float32", "source_dtype": code, "out": np.zeros((5, n), np.float32)}
    for shape in (None, (5, n)):
        if shape is None and n % per_byte != 0:
            with pytest.raises(ValueError, match="out must have shape"):
                piquant.numpy.dequantize(codes, **back)
            continue
        seen, long = both_ways(lambda shape=shape: piquant.numpy.dequantize(codes, shape=shape, **back).copy())
        assert np.array_equal(seen, long)
        assert seen.any()


def test_results_are_the_same_on_both_ways():
    params = {"scale": 0.25, "zero_point": 1}
    for act in (
        lambda: piquant.numpy.quantize(X.reshape(3, 20), dtype="int16", **params),
        lambda: piquant.numpy.quantize(X.astype(ml_dtypes.bfloat16), dtype="int8", **params),
        lambda: piquant.numpy.quantize(X, dtype=ml_dtypes.int4, **params),
        lambda: piquant.numpy.dequantize(np.arange(60, dtype=np.int8), dtype="float16", **params),
        lambda: piquant.numpy.quantize(X[::2], dtype="int8", **params),
        lambda: piquant.numpy.quantize_dequantize(X.reshape(3, 20).T, dtype="int8", **params),
    ):
        seen, long = both_ways(act)
        assert seen.dtype == long.dtype
        assert seen.strides == long.strides
        assert np.array_equal(seen, long)
    assert both_ways(lambda: piquant.numpy.compute_quant_params(X[::3], dtype="int8"))[0] == (
        piquant.numpy.compute_quant_params(X[::3].copy(), dtype="int8")
    )


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize("code", CODED)
def test_both_ways_give_the_same(real, code):
    x = (X * 40).astype(real)
    params = {"scale": 0.5, "zero_point": 30}

    def quantized():
        out = np.zeros(60, code)
        options = {"round_mode": "stochastic", "seed": 5, "offset": 3}
        assert piquant.numpy.quantize(x, dtype=code, out=out, **options, **params) is out
        return out

    codes, long = both_ways(quantized)
    assert np.array_equal(codes, long)
    assert codes.any()

    def dequantized():
        out = x.copy()
        assert piquant.numpy.dequantize(codes, dtype=real, reduce_op="add", out=out, **params) is out
        return out

    seen, long = both_ways(dequantized)
    assert np.array_equal(seen, long)
    assert not np.array_equal(seen, x)


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
def test_errors_are_the_same_on_both_ways(bad, error, words):
    out = np.full(60, 77, np.uint8)
    arguments = {"scale": 0.1, "zero_point": 9, "dtype": "uint8", "out": out} | bad

    def message():
        with pytest.raises(error, match=words) as caught:
            piquant.numpy.quantize(X, **arguments)
        return str(caught.value)

    seen, long = both_ways(message)
    assert seen == long
    assert (out == 77).all()


def test_overlap_is_an_error_on_both_ways():
    memory = np.full(240, 77, np.uint8)
    x, out = memory.view(np.float32), memory[180:]

    def message():
        with pytest.raises(ValueError, match="overlap") as caught:
            piquant.numpy.quantize(x, scale=0.1, zero_point=9, dtype="uint8", out=out)
        return str(caught.value)

    seen, long = both_ways(message)
    assert seen == long
    assert (memory == 77).all()


SPELLINGS = {
    "float32": ["float32", np.float32, np.dtype("float32"), "f4", ">f4", "<f4", "=f4", "f", "single", np.dtype(">f4")],
    "float64": ["float64", float, "float", "double", "d", np.float64],
    "int8": ["int8", "i1", "|i1", "b", "byte", np.int8],
    "uint16": ["uint16", "u2", "H", "ushort", np.dtype("<u2")],
    "int64": ["int64", "i8", "q", "longlong", np.longlong],
    np.dtype(int).name: [int],  # on Windows 32 bits before numpy 2
}


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, all_ in SPELLINGS.items() for s in all_], ids=str)
def test_every_spelling_of_a_dtype_is_the_same(name, spelling):
    if name.startswith("float"):
        q = np.arange(60, dtype=np.uint8)
        got = piquant.numpy.dequantize(q, scale=0.5, zero_point=7, dtype=spelling)
        assert np.array_equal(got, (q.astype(name) - 7) / 2)
    else:
        got = piquant.numpy.quantize(X, scale=0.5, zero_point=7, dtype=spelling)
    assert got.dtype == np.dtype(name)
    assert got.dtype.isnative
