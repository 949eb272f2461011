"""Every argument of every public function, wrong in many ways: which exception, which words, and nothing changed."""

import array
import ctypes
import re

import numpy as np
import pytest
import torch

import piquant

TORCH, NUMPY, BUFFERS = piquant.torch, piquant.numpy, piquant

X = {
    TORCH: torch.linspace(-1, 1, 8),
    NUMPY: np.linspace(-1, 1, 8, dtype=np.float32),
    BUFFERS: array.array("f", [i / 4 - 1 for i in range(8)]),
}
Q = {
    TORCH: torch.arange(8, dtype=torch.uint8),
    NUMPY: np.arange(8, dtype=np.uint8),
    BUFFERS: array.array("B", range(8)),
}
U8 = {TORCH: torch.uint8, NUMPY: np.uint8, BUFFERS: "uint8"}
U64 = {TORCH: torch.uint64, NUMPY: np.uint64, BUFFERS: "uint64"}
F32 = {TORCH: torch.float32, NUMPY: np.float32, BUFFERS: "float32"}
F64 = {TORCH: torch.float64, NUMPY: np.float64, BUFFERS: "float64"}
FACES = pytest.mark.parametrize("face", [TORCH, NUMPY, BUFFERS], ids=["torch", "numpy", "buffers"])


def fresh_outputs(face):
    """Outputs of 8 elements with recognizable contents: for codes, for floats."""
    if face is TORCH:
        return torch.full((8,), 77, dtype=torch.uint8), torch.full((8,), 77.0)
    if face is NUMPY:
        return np.full(8, 77, np.uint8), np.full(8, 77, np.float32)
    return array.array("B", [77] * 8), array.array("f", [77] * 8)


def calls(face):
    """The four functions with arguments that are right, and the outputs of those that have one."""
    codes, floats = fresh_outputs(face)
    both = {"scale": 0.1, "zero_point": 5}
    yield face.quantize, X[face], both | {"dtype": U8[face], "out": codes}, codes
    yield face.dequantize, Q[face], both | {"dtype": F32[face], "out": floats}, floats
    yield face.quantize_dequantize, X[face], both | {"dtype": U8[face], "out": floats}, floats
    yield face.compute_quant_params, X[face], {"dtype": U8[face]}, None


# argument, wrong value, exception, words
SCALARS = [
    ("scale", 0.0, ValueError, r"scale must be finite and positive, from 1\.17549435e-38 to .* float32 data, got 0\.0"),
    ("scale", -1.0, ValueError, "scale must be .* got -1.0"),
    ("scale", float("nan"), ValueError, "scale must be .* got nan"),
    ("scale", float("inf"), ValueError, "scale must be .* got inf"),
    ("scale", 1e-39, ValueError, "scale must be .* got 1e-39"),
    ("scale", 1e39, ValueError, r"scale must be .* got 1e\+39"),
    ("scale", "0.1", TypeError, "scale must be a number, got '0.1'"),
    ("scale", None, TypeError, "scale must be a number, got None"),
    ("scale", 1j, TypeError, "scale must be a number, got 1j"),
    ("zero_point", -1, ValueError, r"zero_point must be in 0\.\.255 for uint8, got -1"),
    ("zero_point", 256, ValueError, r"zero_point must be in 0\.\.255 for uint8, got 256"),
    ("zero_point", 1 << 64, ValueError, r"zero_point must be in 0\.\.255 for uint8, got 18446744073709551616"),
    ("zero_point", 5.0, TypeError, "zero_point must be an int, got 5.0"),
    ("zero_point", "5", TypeError, "zero_point must be an int, got '5'"),
    ("zero_point", None, TypeError, "zero_point must be an int, got None"),
    ("round_mode", "up", ValueError, "round_mode must be 'nearest' or 'stochastic', got 'up'"),
    ("round_mode", [], TypeError, r"round_mode must be 'nearest' or 'stochastic', got \[\]"),
    ("reduce_op", "mul", ValueError, "reduce_op must be 'set' or 'add', got 'mul'"),
    ("seed", -1, ValueError, r"seed must be an int in 0\.\.2\*\*64 - 1, got -1"),
    ("seed", 1 << 64, ValueError, "seed must be .* got 18446744073709551616"),
    ("seed", 0.5, TypeError, "seed must be .* got 0.5"),
    ("offset", -1, ValueError, "offset must be .* got -1"),
    ("offset", None, TypeError, "offset must be .* got None"),
    ("quant_min", 255, ValueError, "0 <= quant_min < quant_max <= 255 for uint8, got quant_min=255, quant_max=None"),
    ("quant_min", -1, ValueError, "0 <= quant_min < quant_max <= 255 for uint8, got quant_min=-1"),
    ("quant_max", 256, ValueError, "0 <= quant_min < quant_max <= 255 for uint8, got quant_min=None, quant_max=256"),
    ("quant_max", "9", TypeError, "quant_max must be an int, got '9'"),
    ("ctx", 3, TypeError, "ctx must be a piquant.Context or None, got 3"),
    ("dtype", None, TypeError, "dtype must be one of .*, got None"),
    ("dtype", [], TypeError, r"dtype must be one of .*, got \[\]"),
    ("out", 3, TypeError, "out must .* got int"),
    # Found by fuzzing: arguments whose repr, truth or index raises something of its own.
    ("zero_point", np.array([1, 2]), TypeError, r"zero_point must be an int, got array\(\[1, 2\]\)"),
    ("zero_point", torch.tensor([1, 2]), TypeError, r"zero_point must be an int, got tensor\(\[1, 2\]\)"),
    ("round_mode", 10**5000, TypeError, "round_mode must be .* got a value of type int"),
    ("reduce_op", 10**5000, TypeError, "reduce_op must be .* got a value of type int"),
    ("dtype", 10**5000, TypeError, "dtype must be one of .* got a value of type int"),
    ("dtype", np.zeros(2), TypeError, r"dtype must be one of .* got array\("),
    ("ctx", "x" * 300, TypeError, r"ctx must be a piquant.Context or None, got 'x{199}\.\.\.$"),
]


@FACES
@pytest.mark.parametrize(
    ("argument", "value", "exception", "words"),
    SCALARS,
    ids=lambda v: "huge" if isinstance(v, int) and v > 2**999 else str(v)[:20],
)
def test_each_argument(face, argument, value, exception, words):
    tried = 0
    for function, data, right, out in calls(face):
        if argument not in right and (argument in ("scale", "zero_point", "out") or not accepts(function, argument)):
            continue
        before = bytes(memoryview(out.numpy() if face is TORCH else out).cast("B")) if out is not None else b""
        with pytest.raises(exception) as caught:
            function(data, **(right | {argument: value}))
        assert re.search(words, str(caught.value)), str(caught.value)
        if out is not None:
            assert bytes(memoryview(out.numpy() if face is TORCH else out).cast("B")) == before
        tried += 1
    assert tried > 0


def accepts(function, argument):
    return argument in function.__kwdefaults__ or argument in function.__code__.co_varnames


@FACES
def test_wrong_element_types(face):
    for function, _, right, _ in calls(face):
        dequantizes = function is face.dequantize
        wrong = X[face] if dequantizes else Q[face]
        with pytest.raises(TypeError, match=r"(x|q|tensor) must|the dtype of (x|q) must"):
            function(wrong, **right)
        for junk in (None, 3, {1.0}, "text", *([[1.0]] if face is not NUMPY else [])):
            with pytest.raises(TypeError, match=r"must .* got"):
                function(junk, **right)
        x = Q[face] if dequantizes else X[face]
        other = U8[face] if dequantizes else F32[face]
        with pytest.raises(ValueError if isinstance(other, str) else TypeError, match="dtype must be one of"):
            function(x, **(right | {"dtype": other}))
        for name in ("uint3", "uint8" if dequantizes else "float32", ""):
            with pytest.raises(ValueError, match=f"dtype must be one of .*, got '{name}'"):
                function(x, **(right | {"dtype": name}))
        if dequantizes:
            with pytest.raises(ValueError, match=r"source_dtype must be one of .*, got 'int3'"):
                function(x, **(right | {"source_dtype": "int3"}))


@FACES
def test_limits_of_wide_types(face):
    right = {"scale": 1.0, "dtype": U64[face]}
    assert face.quantize(X[face], zero_point=(1 << 64) - 1, **right) is not None
    for zero_point in (-1, 1 << 64):
        with pytest.raises(ValueError, match=r"zero_point must be in 0\.\.18446744073709551615 for uint64, got"):
            face.quantize(X[face], zero_point=zero_point, **right)


@FACES
def test_add_needs_out(face):
    for function, data, dtype in ((face.dequantize, Q[face], F32), (face.quantize_dequantize, X[face], U8)):
        with pytest.raises(ValueError, match="reduce_op='add' needs out"):
            function(data, scale=1.0, zero_point=0, dtype=dtype[face], reduce_op="add")


@FACES
def test_parameters_of_impossible_data(face):
    make = {
        TORCH: lambda v: torch.tensor(v, dtype=torch.float64),
        NUMPY: lambda v: np.array(v, np.float64),
        BUFFERS: lambda v: array.array("d", v),
    }[face]
    for bad in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match=r"(x|tensor) must be finite .* holds NaN or infinity"):
            face.compute_quant_params(make([1.0] * 500 + [bad] + [2.0] * 70), dtype=U8[face])
    with pytest.raises(ValueError, match=r"(x|tensor) must have at least one element"):
        face.compute_quant_params(make([]), dtype=U8[face])
    with pytest.raises(ValueError, match=r"(x|tensor) spans more than"):
        face.compute_quant_params(make([-1.7e308, 1.7e308]), dtype=U8[face], quant_min=0, quant_max=1)
    with pytest.raises(
        ValueError, match=r"symmetric parameters of uint8 .* quant_min < 128 < quant_max, got .*=None, quant_max=100"
    ):
        face.compute_quant_params(make([1.0]), dtype=U8[face], symmetric=True, quant_max=100)


def test_outputs_torch():
    x = torch.ones(4, 6)
    right = {"scale": 1.0, "zero_point": 0, "dtype": torch.uint8}
    for out, exception, words in [
        (torch.zeros(4, 6), TypeError, "out must be of torch.uint8, got torch.float32"),
        (torch.zeros(6, 4, dtype=torch.uint8), ValueError, r"out must have shape \(4, 6\), got \(6, 4\)"),
        (
            torch.zeros(1, 6, dtype=torch.uint8).expand(4, 6),
            ValueError,
            r"out must have memory of its own for each element, got strides \(0, 1\) for shape \(4, 6\)",
        ),
        (
            torch.zeros(9, dtype=torch.uint8).unfold(0, 6, 1),
            ValueError,
            r"out must have memory of its own for each element, got strides \(1, 1\) for shape \(4, 6\)",
        ),
        (
            torch.zeros(4, 6, dtype=torch.uint8, device="meta"),
            TypeError,
            "out must be on device cpu, as the data is, got device meta",
        ),
        (x.view(torch.uint8).flatten()[:24].view(4, 6), ValueError, "out must not overlap"),
    ]:
        with pytest.raises(exception, match=words):
            piquant.torch.quantize(x, out=out, **right)
    assert x.eq(1).all()
    with pytest.raises(TypeError, match=r"layout torch.sparse_coo"):
        piquant.torch.quantize(x.to_sparse(), **right)
    with pytest.raises(ValueError, match="out must not require a gradient"):
        piquant.torch.quantize_dequantize(x, out=torch.zeros(4, 6, requires_grad=True), **right)


def test_outputs_numpy():
    x = np.ones((4, 6), np.float32)
    right = {"scale": 1.0, "zero_point": 0, "dtype": np.uint8}
    read_only = np.zeros((4, 6), np.uint8)
    read_only.flags.writeable = False
    for out, exception, words in [
        (np.zeros((4, 6), np.int8), TypeError, "out must be of uint8"),
        (np.zeros((6, 4), np.uint8), ValueError, r"out must have shape \(4, 6\), got \(6, 4\)"),
        (
            np.lib.stride_tricks.as_strided(np.zeros(9, np.uint8), (4, 6), (-1, 1)),
            ValueError,
            r"out must have memory of its own for each element, got strides \(-1, 1\) for shape \(4, 6\)",
        ),
        (read_only, ValueError, "out must be writeable"),
        (x.view(np.uint8).reshape(-1)[3:27].reshape(4, 6), ValueError, "out must not overlap"),
    ]:
        with pytest.raises(exception, match=words):
            piquant.numpy.quantize(x, out=out, **right)
    assert (x == 1).all()


@pytest.mark.parametrize(
    "out",
    [
        np.array(["a", None], object),  # written to, it would crash when its elements are next looked at
        np.zeros(2, np.dtype([("n", "i4"), ("o", "i4")])),
        np.zeros(2, "S8"),
        np.zeros(2, "U2"),
        np.zeros(1, np.complex128),
        np.zeros(16, bool),
        (ctypes.py_object * 2)("a", None),
        (ctypes.c_void_p * 2)(),
        np.zeros(4, ">f4"),  # of another byte order: would read as other numbers
        array.array("d", [0, 0]),
    ],
    ids=lambda out: memoryview(out).format,
)
def test_outputs_of_other_things_than_numbers_are_refused(out):
    n = memoryview(out).nbytes
    before = memoryview(out).tobytes()
    for call in (
        lambda: piquant.quantize(bytes(4 * n), source_dtype="float32", scale=1.0, zero_point=9, dtype="uint8", out=out),
        lambda: piquant.dequantize(
            bytes(n // 4), source_dtype="uint8", scale=1.0, zero_point=9, dtype="float32", out=out
        ),
        lambda: piquant.quantize_dequantize(
            bytes(n), source_dtype="float32", scale=1.0, zero_point=9, dtype="uint8", out=out
        ),
    ):
        with pytest.raises(TypeError, match="out must hold bytes or items of"):
            call()
    assert memoryview(out).tobytes() == before


def test_outputs_buffers():
    right = {"scale": 1.0, "zero_point": 0, "dtype": "uint8"}
    for out, exception, words in [
        (bytes(8), BufferError, "out must be writable, got a read-only bytes"),
        (bytearray(7), ValueError, r"out must have 8 bytes for uint8 of shape \(8,\), got 7"),
        (memoryview(bytearray(32))[::4].cast, TypeError, "out must support the buffer protocol"),
        (memoryview(array.array("f", [0] * 8))[::-1], TypeError, "out must hold bytes or items of uint8"),
        (memoryview(bytearray(8)).cast("B", (4, 2))[::2], ValueError, "out must have 8 bytes .* got 4"),
        (
            memoryview(bytearray(32)).cast("B", (16, 2))[::4],
            BufferError,
            r"C-contiguous or have shape \(8,\), got strides",
        ),
        (memoryview(X[BUFFERS]).cast("B")[4:12], ValueError, "out must not overlap"),
    ]:
        with pytest.raises(exception, match=words):
            piquant.quantize(X[BUFFERS], out=out, **right)
    with pytest.raises(ValueError, match="must be a multiple of 4 bytes, the size of float32"):
        piquant.quantize(bytes(7), source_dtype="float32", **right)


@pytest.mark.parametrize("value", [0, -1, 1025, 1 << 70])
def test_thread_counts(value):
    for act in (piquant.Context, piquant.set_num_threads):
        with pytest.raises(ValueError, match=rf"num_threads must be an int in 1\.\.1024, got {value}"):
            act(value)


def test_settings():
    context = piquant.Context(1)
    for name, value, exception in [
        ("num_threads", "2", TypeError), ("isa", "mmx", ValueError), ("isa", 3, TypeError),
        ("isa", "\ud800", ValueError), ("isa", "scalar\0", ValueError), ("isa", None, TypeError),
        ("serial_cutoff", -1, ValueError), ("stream_threshold", 0.5, TypeError),
    ]:  # fmt: skip
        with pytest.raises(exception, match=f"{name} must be .* got"):
            setattr(context, name, value)
    with pytest.raises(AttributeError, match="num_thread"):
        context.num_thread = 2
    with pytest.raises(TypeError, match="threads"):
        piquant.Context(threads=2)


def test_copies_and_results_beyond_all_memory():
    """torch's allocator raises RuntimeError, numpy's ValueError where a size overflows; ours is MemoryError."""
    wide = torch.zeros(1).expand(1 << 60)
    right = {"scale": 1.0, "zero_point": 0, "dtype": torch.uint8}
    for function in (piquant.torch.quantize, piquant.torch.quantize_dequantize):
        with pytest.raises(MemoryError, match=r"the result of shape \(1152921504606846976,\) .* has no room"):
            function(wide, **right)
    assert piquant.torch.compute_quant_params(wide, dtype=torch.uint8) == (1.0, 0)  # nothing is copied
    with pytest.raises(MemoryError, match=r"tensor of shape .* has no room in memory as a copy"):
        piquant.torch.compute_quant_params(torch._neg_view(wide), dtype=torch.uint8)
    with pytest.raises(MemoryError, match=r"the result of shape .* has no room"):
        piquant.torch.dequantize(
            torch.zeros(1, dtype=torch.uint8).expand(1 << 60), **(right | {"dtype": torch.float32})
        )
    with pytest.raises(MemoryError):
        piquant.numpy.quantize(np.broadcast_to(np.float32(0), (1 << 50,)), **(right | {"dtype": np.uint8}))


@pytest.mark.parametrize("bad", [{"scale": -1.0}, {"zero_point": 16}])
def test_arguments_of_no_rows(bad):
    """Rows of packed codes that do not fill their bytes are handled one by one; without any, arguments are checked."""
    right = {"scale": 1.0, "zero_point": 0} | bad
    words = "|".join(bad)
    for shape in ((0, 3), (0, 4), (2, 0)):
        x = np.zeros(shape, np.float32)
        packed = np.zeros((shape[0], (shape[1] + 1) // 2), np.uint8)
        back = {"dtype": "float32", "source_dtype": "uint4", "shape": shape}
        for act in (
            lambda x=x: piquant.numpy.quantize(x, dtype="uint4", **right),
            lambda x=x, out=packed: piquant.numpy.quantize(x, dtype="uint4", out=out, **right),
            lambda x=x: piquant.torch.quantize(torch.from_numpy(x), dtype="uint4", **right),
            lambda q=packed, back=back: piquant.numpy.dequantize(q, **back, **right),
            lambda q=packed, back=back: piquant.torch.dequantize(torch.from_numpy(q), **back, **right),
        ):
            with pytest.raises(ValueError, match=words):
                act()


def test_outputs_that_overlap_an_input_that_is_copied():
    """The native module sees the copy only."""
    memory = np.full(240, 77, np.uint8)
    floats, codes = memory.view(np.float32), memory[:60]
    to_codes = {"scale": 1.0, "zero_point": 5, "dtype": "uint8"}
    to_floats = {"scale": 1.0, "zero_point": 5, "dtype": "float32"}
    for act in (
        lambda: piquant.numpy.quantize(floats[::2], out=codes[:30], **to_codes),
        lambda: piquant.numpy.quantize(floats[::-1], out=codes, **to_codes),
        lambda: piquant.numpy.dequantize(memory[::4], out=floats, **to_floats),
        lambda: piquant.numpy.quantize_dequantize(floats[::2], out=floats[:30], **to_codes),
        lambda: piquant.torch.quantize(torch.from_numpy(floats)[::2], out=torch.from_numpy(codes[:30]), **to_codes),
        lambda: piquant.torch.dequantize(torch.from_numpy(memory)[::4], out=torch.from_numpy(floats), **to_floats),
        lambda: piquant.torch.quantize_dequantize(
            torch.from_numpy(floats)[::2], out=torch.from_numpy(floats[:30]), **to_codes
        ),
        lambda: piquant.quantize(memoryview(floats)[::-2], out=memoryview(codes)[30:], **to_codes),
        lambda: piquant.dequantize(memoryview(memory)[::4], out=floats, **to_floats),
    ):
        with pytest.raises(ValueError, match="out must not overlap the input"):
            act()
    assert (memory == 77).all()
    beside = np.zeros(30, np.uint8)
    assert piquant.numpy.quantize(floats[::2], out=beside, **to_codes) is beside


class Interrupted:
    def __init__(self, error):
        self.error = error

    def __float__(self):
        raise self.error

    __index__ = __float__


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("argument", ["scale", "zero_point", "seed", "offset", "quant_min", "quant_max"])
def test_interrupts_are_no_bad_arguments(error, argument):
    arguments = {"scale": 1.0, "zero_point": 0, "dtype": "uint8", argument: Interrupted(error)}
    with pytest.raises(error):
        piquant.numpy.quantize(np.zeros(3, np.float32), **arguments)


def test_shapes_of_more_elements_than_can_be_counted():
    with pytest.raises(ValueError, match=r"shape must be of fewer than 2\*\*63 elements"):
        piquant.dequantize(
            b"", scale=1.0, zero_point=0, dtype="float32", source_dtype="uint4", shape=(1 << 62, 1 << 62, 0)
        )
