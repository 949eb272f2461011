"""Arrays in any layout, as inputs and as outputs, give what contiguous ones give, on every face."""

import array
import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import model
import piquant
import piquant.numpy
import piquant.torch

RIGHT = {"scale": 0.1, "zero_point": 1}
PACKED = ("int2", "uint2", "int4", "uint4")
STOCHASTIC = {"round_mode": "stochastic", "seed": 7, "offset": 3}


def numbers(shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# What a layout makes of an array of at least two dimensions: a view of the same or of fewer elements.
LAYOUTS = {
    "row-major": lambda x: x,
    "transposed": lambda x: x.T,
    "every second row": lambda x: x[::2],
    "every second column": lambda x: x[..., ::2],
    "half of every row": lambda x: x[..., : x.shape[-1] // 2],
    "a window": lambda x: x[1:-1, ..., 1:-2],
    "rows backwards": lambda x: x[::-1],
    "columns backwards": lambda x: x[..., ::-1],
    "all backwards": lambda x: x.T[::-1, ..., ::-2],
    "one row": lambda x: x[2:3],
    "one column": lambda x: x[..., 3:4],
    "no rows": lambda x: x[2:2],
    "no columns": lambda x: x[..., 3:3],
    "an element": lambda x: x[(*(1,) * x.ndim, ...)],
    "permuted": lambda x: np.moveaxis(x, 0, 1),
    "with ones": lambda x: x[::2, None],
}
REPEATED = {
    "one row repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "one column repeated": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "one element repeated": lambda x: np.broadcast_to(x.reshape(-1)[0], x.shape),
    "repeated as a whole": lambda x: np.broadcast_to(x, (3, *x.shape)),
    "overlapping windows": lambda x: np.lib.stride_tricks.sliding_window_view(x[0], 2, -1),
}
SHAPES = ((6, 9), (5, 4, 7), (4, 3, 2, 5), (2,) * 8)

every_layout = pytest.mark.parametrize("layout", LAYOUTS | REPEATED)
writable_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def layout_of(name, x):
    return (LAYOUTS | REPEATED)[name](x)


def torch_has(x):
    return all(s >= 0 for s in x.strides)


def as_torch(x):
    """A tensor in the same memory."""
    base = torch.from_numpy(x if x.flags.writeable else x.copy())
    return base if x.flags.writeable else torch.as_strided(base, x.shape, base.stride())


def faces(x):
    """The same memory as each face takes it."""
    yield piquant.numpy, x
    if torch_has(x) and x.flags.writeable:
        yield piquant.torch, torch.from_numpy(x)
    if x.ndim:
        yield piquant, memoryview(x)


def to_numpy(result, shape, dtype):
    if isinstance(result, torch.Tensor):
        return result.numpy()
    if isinstance(result, np.ndarray):
        return result
    return np.frombuffer(result, dtype).reshape(shape)


def torch_dtype(face, name):
    return getattr(torch, name) if face is piquant.torch else name


@every_shape
@every_layout
def test_inputs(layout, shape):
    x = layout_of(layout, numbers(shape))
    whole = np.array(x, order="C")
    for (face, given), options in itertools.product(faces(x), ({}, STOCHASTIC)):
        for code in ("uint8", "int32", *PACKED):
            wanted = piquant.numpy.quantize(whole, **RIGHT, dtype=code, **options)
            got = to_numpy(face.quantize(given, **RIGHT, dtype=code, **options), wanted.shape, wanted.dtype)
            assert got.shape == wanted.shape
            assert np.array_equal(got, wanted), (face.__name__, code)
        got = face.quantize_dequantize(given, **RIGHT, dtype="int4", **options)
        wanted = piquant.numpy.quantize_dequantize(whole, **RIGHT, dtype="int4", **options)
        assert np.array_equal(to_numpy(got, x.shape, x.dtype), wanted), face.__name__
    for face, given in faces(x):
        if x.size:
            params = piquant.numpy.compute_quant_params(whole, dtype="int8")
            assert face.compute_quant_params(given, dtype="int8") == params
        else:
            with pytest.raises(ValueError, match="must have at least one element"):
                face.compute_quant_params(given, dtype="int8")


@every_shape
@every_layout
def test_codes(layout, shape):
    for dtype in ("int8", "uint16"):
        q = layout_of(layout, np.random.default_rng(1).integers(0, 127, shape).astype(dtype))
        wanted = piquant.numpy.dequantize(np.array(q, order="C"), **RIGHT, dtype="float32")
        for face, given in faces(q):
            got = face.dequantize(given, **RIGHT, dtype=torch_dtype(face, "float32"))
            assert np.array_equal(to_numpy(got, q.shape, "f4"), wanted), face.__name__
            if q.size:
                flat = face.dequantize(given, **RIGHT, dtype=torch_dtype(face, "float32"), shape=(q.size,))
                assert np.array_equal(to_numpy(flat, (q.size,), "f4"), wanted.reshape(-1)), face.__name__


@every_shape
@writable_layout
def test_outputs(layout, shape):
    x = numbers(layout_of(layout, np.empty(shape)).shape)
    for code in ("int8", "uint16"):
        wanted = piquant.numpy.quantize(x, **RIGHT, dtype=code, **STOCHASTIC)
        base = np.full(shape, 77, code)
        check_output(base, layout, wanted, "quantize", x, dtype=code, **STOCHASTIC)
    codes = np.random.default_rng(1).integers(-100, 100, x.shape).astype(np.int8)
    before = numbers(shape)
    for reduce_op in ("set", "add"):
        base = before.copy()
        wanted = layout_of(layout, before).copy()
        piquant.numpy.dequantize(codes, **RIGHT, dtype="float32", reduce_op=reduce_op, out=wanted)
        check_output(base, layout, wanted, "dequantize", codes, dtype="float32", reduce_op=reduce_op)
        wanted = layout_of(layout, before).copy()
        piquant.numpy.quantize_dequantize(x, **RIGHT, dtype="int4", reduce_op=reduce_op, out=wanted)
        check_output(base, layout, wanted, "quantize_dequantize", x, dtype="int4", reduce_op=reduce_op)


def as_given(face, x):
    return torch.from_numpy(x) if face is piquant.torch else x


def check_output(base, layout, wanted, function, x, **options):
    """Writes to a view of ``base``: the elements are those that are wanted, and others are untouched."""
    start = base.copy()
    for face in (piquant.numpy, piquant.torch, piquant):
        base[...] = start
        view = layout_of(layout, base)
        if (face is piquant.torch and not torch_has(view)) or (face is piquant and not view.ndim):
            continue
        out = {piquant.torch: torch.from_numpy, piquant: memoryview}.get(face, lambda v: v)(view)
        assert getattr(face, function)(as_given(face, x), **RIGHT, **options, out=out) is out
        expected = start.copy()
        layout_of(layout, expected)[...] = wanted
        assert np.array_equal(base, expected), face
    base[...] = start


@pytest.mark.parametrize("code", PACKED)
@pytest.mark.parametrize("n", range(1, 71))
def test_packed_rows_of_every_length(code, n):
    x = numbers((3, 2, n))
    right = RIGHT | {"zero_point": 0}
    codes = model.quantize(x, 0.1, 0, code, "nearest", 0, 0, None, None)
    wanted = np.array([[model.pack(row, code) for row in matrix] for matrix in codes])
    values = piquant.numpy.quantize_dequantize(x, **right, dtype=code)
    for strided in (False, True):
        wide = np.zeros((5, 2, 2 * n), np.float32)
        given = wide[1:-1, ::-1, ::2] if strided else wide[1:-1, :, n:]
        given[...] = x
        room = np.full((4, 5, wanted.shape[-1] + 2), 77, np.uint8)
        out = room[1:, 1:-1:2, 1:-1]
        for q in (
            piquant.numpy.quantize(given, **right, dtype=code),
            piquant.numpy.quantize(given, **right, dtype=code, out=out),
            piquant.torch.quantize(torch.tensor(given.copy()), **right, dtype=code, out=torch.from_numpy(out)).numpy(),
            np.frombuffer(piquant.quantize(memoryview(given), **right, dtype=code), np.uint8).reshape(wanted.shape),
        ):
            assert np.array_equal(q, wanted)
        room[1:, 1:-1:2, 1:-1] = 77
        assert (room == 77).all()
        out[...] = wanted
        total = np.ones((3, 4, n), np.float32)
        back = right | {"dtype": "float32", "source_dtype": code, "shape": x.shape}
        for face in (piquant.numpy, piquant.torch, piquant):
            to = {piquant.torch: torch.from_numpy, piquant: memoryview}.get(face, lambda v: v)
            y = to_numpy(face.dequantize(to(out), **back), x.shape, "f4")
            assert np.array_equal(y, values)
            total[...] = 1
            sink = to(total[:, 1::2])
            assert face.dequantize(to(out), **back, reduce_op="add", out=sink) is sink
            assert np.array_equal(total[:, 1::2], values + 1)
            assert (total[:, ::2] == 1).all()


def test_packed_bytes_that_are_not_side_by_side():
    x = numbers((4, 6))
    codes = piquant.numpy.quantize(x, **RIGHT, dtype="int4")
    values = piquant.numpy.dequantize(codes, **RIGHT, dtype="float32", source_dtype="int4")
    spread = np.zeros((4, 6), np.uint8)[:, ::2]
    spread[...] = codes
    for face, q in faces(spread):
        got = face.dequantize(q, **RIGHT, dtype="float32", source_dtype="int4")
        assert np.array_equal(to_numpy(got, x.shape, "f4"), values)
    for face, out in faces(spread):
        with pytest.raises(ValueError, match=r"out must hold the bytes of a row side by side, got strides \(6, 2\)"):
            face.quantize(as_given(face, x), **RIGHT, dtype="int4", out=out)
    assert np.array_equal(spread, codes)
    flat = np.zeros(24, np.uint8)[::2]
    flat[...] = codes.reshape(-1)
    got = piquant.numpy.dequantize(flat, **RIGHT, dtype="float32", source_dtype="int4", shape=(4, 6))
    assert np.array_equal(got, values)


@writable_layout
def test_ml_dtypes(layout):
    x = layout_of(layout, numbers((6, 9)).astype(ml_dtypes.bfloat16))
    whole = np.array(x, order="C")
    for dtype in (ml_dtypes.int4, ml_dtypes.uint2):
        wanted = piquant.numpy.quantize(whole, **RIGHT, dtype=dtype)
        got = piquant.numpy.quantize(x, **RIGHT, dtype=dtype)
        assert np.array_equal(got.view(np.uint8), wanted.view(np.uint8))
        out = layout_of(layout, np.full((6, 9), 1, dtype))
        piquant.numpy.quantize(x, **RIGHT, dtype=dtype, out=out)
        assert np.array_equal(out.astype(int), wanted.astype(int))
        values = piquant.numpy.dequantize(wanted, **RIGHT, dtype=ml_dtypes.bfloat16)
        total = layout_of(layout, np.ones((6, 9), ml_dtypes.bfloat16))
        piquant.numpy.dequantize(out, **RIGHT, dtype=ml_dtypes.bfloat16, reduce_op="add", out=total)
        assert np.array_equal(
            total, piquant.numpy.dequantize(
                wanted, **RIGHT, dtype=ml_dtypes.bfloat16, reduce_op="add", out=np.ones_like(values, order="C"))
        )  # fmt: skip


def test_bits_beyond_a_narrow_code_are_not_looked_at():
    q = np.array([0x05, 0xF5, 0xA5], np.uint8).view(ml_dtypes.uint4)
    assert piquant.numpy.dequantize(q, scale=1.0, zero_point=0, dtype="float32").tolist() == [5.0, 5.0, 5.0]


# ---------------------------------------------------------------------------------------------------------------------
# In which memory format results come
# ---------------------------------------------------------------------------------------------------------------------

DENSE = {
    "row-major": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
    "permuted": lambda x: x.permute(3, 0, 2, 1),
    "strided": lambda x: x[..., ::2],
    "strided and permuted": lambda x: x.permute(3, 1, 0, 2)[:, ::2],
    "expanded": lambda x: x[:, :1].expand_as(x),
    "scalar": lambda x: x[0, 0, 0, 0],
}


def same_format(got, like):
    assert got.stride() == torch.empty_like(like, dtype=got.dtype).stride()
    assert got.shape == like.shape


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (3, 64, 256, 200)], ids=["small", "large"])
@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_results_of_torch_keep_the_memory_format(make, size):
    x = make(torch.randn(size))
    for given in (x, torch.nn.Parameter(x)):
        q = piquant.torch.quantize(given, **RIGHT, dtype=torch.uint8)
        same_format(q, x)
        y = piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
        same_format(y, q)
        same_format(piquant.torch.quantize_dequantize(given, **RIGHT, dtype="int4"), x)
        assert y._base is None
        assert torch.equal(y, piquant.torch.quantize_dequantize(x.contiguous(), **RIGHT, dtype=torch.uint8))
    assert piquant.torch.quantize(x, **RIGHT, dtype="int4").is_contiguous()


def test_quantized_tensors_keep_the_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    q = piquant.torch.quantize(x, scale=0.1, zero_point=1, dtype=torch.quint8)
    assert q.stride() == torch.quantize_per_tensor(x, 0.1, 1, torch.quint8).stride()
    assert torch.equal(q.int_repr(), piquant.torch.quantize(x, **RIGHT, dtype=torch.uint8))
    y = piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
    assert torch.equal(y, q.dequantize())
    for dtype in (torch.quint4x2, torch.quint2x4):
        q = piquant.torch.quantize(x, **RIGHT, dtype=dtype)
        assert torch.equal(piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32), q.dequantize())
        assert torch.equal(q.dequantize(), piquant.torch.quantize(x.contiguous(), **RIGHT, dtype=dtype).dequantize())


@pytest.mark.parametrize("dtype", [torch.quint4x2, torch.quint2x4], ids=str)
@pytest.mark.parametrize("n", range(1, 13))
def test_rows_of_torchs_narrow_dtypes_run_on(dtype, n):
    x = torch.randn(5, 2 * n)[:, ::2]
    q = piquant.torch.quantize(x, **RIGHT, dtype=dtype)
    whole = piquant.torch.quantize(x.contiguous(), **RIGHT, dtype=dtype)
    assert torch.equal(q.dequantize(), whole.dequantize())
    out = torch.zeros(5, n, 2)[..., 0]
    right = RIGHT | {"dtype": torch.float32}
    if n * {torch.quint4x2: 4, torch.quint2x4: 2}[dtype] % 8 == 0:
        assert torch.equal(piquant.torch.dequantize(q, **right, out=out), whole.dequantize())
    else:
        with pytest.raises(ValueError, match="out must be contiguous for codes of which rows share bytes, got"):
            piquant.torch.dequantize(q, **right, out=out)


@pytest.mark.parametrize("size", [(6, 8, 10), (70, 500, 300)], ids=["small", "large"])
def test_results_of_numpy_keep_the_memory_format(size):
    x = numbers(size)
    repeated = np.broadcast_to(x[0], x.shape)
    for view in (x, x.T, x.transpose(1, 0, 2), x[:, ::2].T, np.asfortranarray(x), x[::-1], repeated):
        for dtype in ("int8", "int32"):
            q = piquant.numpy.quantize(view, **RIGHT, dtype=dtype)
            assert q.strides == np.empty_like(view, dtype=dtype).strides
            y = piquant.numpy.dequantize(q, **RIGHT, dtype="float32")
            assert y.strides == np.empty_like(q, dtype="float32").strides
            assert np.array_equal(y, piquant.numpy.quantize_dequantize(view, **RIGHT, dtype=dtype))
    assert piquant.numpy.quantize(x.T, **RIGHT, dtype="int4").flags.c_contiguous


# ---------------------------------------------------------------------------------------------------------------------
# In place, and outputs whose elements share memory
# ---------------------------------------------------------------------------------------------------------------------


@writable_layout
def test_exactly_in_place(layout):
    base = numbers((6, 9))
    for face in (piquant.numpy, piquant.torch, piquant):
        memory = base.copy()
        view = layout_of(layout, memory)
        if (face is piquant.torch and not torch_has(view)) or (face is piquant and not view.ndim):
            continue
        wanted = piquant.numpy.quantize_dequantize(view.copy(), **RIGHT, dtype="int4")
        given = {piquant.torch: torch.from_numpy, piquant: memoryview}.get(face, lambda v: v)(view)
        assert face.quantize_dequantize(given, **RIGHT, dtype="int4", out=given) is given
        expected = base.copy()
        layout_of(layout, expected)[...] = wanted
        assert np.array_equal(memory, expected)


def test_in_place_through_two_objects():
    x = torch.randn(4, 6)
    wanted = piquant.torch.quantize_dequantize(x, **RIGHT, dtype="int4")
    piquant.torch.quantize_dequantize(x, **RIGHT, dtype="int4", out=x.view(4, 6))
    assert torch.equal(x, wanted)
    parameter = torch.nn.Parameter(torch.randn(4, 6))
    wanted = piquant.torch.quantize_dequantize(parameter, **RIGHT, dtype="int4")
    with torch.no_grad():
        assert piquant.torch.quantize_dequantize(parameter, **RIGHT, dtype="int4", out=parameter) is parameter
    assert torch.equal(parameter, wanted)
    with pytest.raises(ValueError, match="out must not overlap the input"):
        piquant.torch.quantize_dequantize(x.view(-1)[:-1], **RIGHT, dtype="int4", out=x.view(-1)[1:])
    with pytest.raises(ValueError, match="out must not overlap the input"):
        piquant.torch.quantize_dequantize(x.t()[:4, :4], **RIGHT, dtype="int4", out=x[:4, :4])


def test_outputs_whose_elements_share_memory():
    x = numbers((4, 6))
    room = np.zeros(9, np.int8)
    for out, strides in (
        (np.lib.stride_tricks.as_strided(room, (4, 6), (1, 1)), r"\(1, 1\)"),
        (np.lib.stride_tricks.as_strided(room, (4, 6), (0, 1)), r"\(0, 1\)"),
        (np.lib.stride_tricks.as_strided(room[3:], (4, 6), (-1, 1)), r"\(-1, 1\)"),
    ):
        with pytest.raises(ValueError, match=f"out must have memory of its own .* got strides {strides}"):
            piquant.numpy.quantize(x, **RIGHT, dtype="int8", out=out)
    with pytest.raises(ValueError, match=r"out must have memory .* got strides \(0, 1\) for shape \(4, 6\)"):
        piquant.torch.quantize_dequantize(torch.from_numpy(x), **RIGHT, dtype="int8", out=torch.zeros(6).expand(4, 6))
    assert not room.any()
    once = torch.zeros(6).expand(1, 6)  # the stride of a single row does not matter
    assert piquant.torch.quantize_dequantize(torch.from_numpy(x[:1]), **RIGHT, dtype="int8", out=once) is once


def test_buffers_of_any_dimensions():
    x = array.array("f", [i / 7 for i in range(24)])
    cube = memoryview(x).cast("B").cast("f", (2, 3, 4))
    whole = piquant.quantize(x, **RIGHT, dtype="int8").tolist()
    assert np.array(piquant.quantize(cube, **RIGHT, dtype="int8")).reshape(-1).tolist() == whole
    backwards = np.array(whole).reshape(2, 3, 4)[::-1]
    assert piquant.quantize(cube[::-1], **RIGHT, dtype="int8").tolist() == backwards.tolist()
    room = bytearray(48)
    out = memoryview(room)[::2]
    assert piquant.quantize(x, **RIGHT, dtype="int8", out=out) is out
    assert list(room[::2]) == [code % 256 for code in whole]
    assert not any(room[1::2])
