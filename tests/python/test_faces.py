"""What the torch and numpy faces make of dtypes, shapes, layouts and outputs. Values are the model's business."""

import ml_dtypes
import numpy as np
import pytest
import torch

import piquant
from piquant import _native

RIGHT = {"scale": 0.1, "zero_point": 3}
PACKED = [("uint4", 4, 0, 15), ("int4", 4, -8, 7), ("uint2", 2, 0, 3), ("int2", 2, -2, 1)]
PLAIN = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def test_types_are_those_of_the_c_api():
    names = [name for name, _, _ in _native.dtypes()]
    assert [t.value for t in piquant.DataType] == [name for name in names if not name.endswith("_unpacked")]
    for name, bits, is_float in _native.dtypes()[: len(piquant.DataType)]:
        t = piquant.DataType(name)
        assert (t.bit_size, t.is_dequantized, t.is_quantized) == (bits, is_float, not is_float)


def unpack(rows, n, bits, signed):
    """Fields of packed rows, lowest bits first."""
    fields = np.stack([(rows >> s) & ((1 << bits) - 1) for s in range(0, 8, bits)], -1)
    fields = fields.reshape(*rows.shape[:-1], rows.shape[-1] * 8 // bits)
    assert not fields[..., n:].any(), "padding must be zero"
    fields = fields[..., :n].astype(np.int16)
    return np.where(fields >= 1 << (bits - 1), fields - (1 << bits), fields) if signed else fields


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4], ids=str)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (), (0,), (2, 0)], ids=str)
def test_torch_quantized_tensors_carry_their_parameters(dtype, shape):
    x = torch.randn(shape)
    zero_point = 0 if dtype == torch.quint2x4 else 1
    q = piquant.torch.quantize(x, scale=0.25, zero_point=zero_point, dtype=dtype)
    assert (q.dtype, q.shape, q.q_scale(), q.q_zero_point()) == (dtype, x.shape, 0.25, zero_point)
    back = piquant.torch.dequantize(q, scale=0.25, zero_point=zero_point, dtype=torch.float32)
    assert torch.equal(q.dequantize(), back)
    assert f"dtype={dtype}" in repr(q)
    if dtype not in (torch.quint4x2, torch.quint2x4):
        codes = {torch.quint8: torch.uint8, torch.qint8: torch.int8, torch.qint32: torch.int32}[dtype]
        assert torch.equal(q.int_repr(), piquant.torch.quantize(x, scale=0.25, zero_point=zero_point, dtype=codes))


def test_the_call_in_the_wild():
    t = torch.randn(1000)
    scale, zp = piquant.torch.compute_quant_params(t, dtype=torch.quint4x2)
    q = piquant.torch.quantize(t, scale=scale, zero_point=zp, dtype=torch.quint4x2)
    d = piquant.torch.dequantize(q, scale=scale, zero_point=zp, dtype=torch.bfloat16)
    assert d.dtype == torch.bfloat16
    assert d.shape == t.shape
    assert (d - t).abs().max() <= scale / 2 + 0.02


@pytest.mark.parametrize("name", PLAIN)
def test_plain_types(name):
    x = np.linspace(-3, 3, 60, dtype=np.float32).reshape(3, 4, 5)
    a = piquant.torch.quantize(torch.from_numpy(x), **RIGHT, dtype=getattr(torch, name))
    b = piquant.numpy.quantize(x, **RIGHT, dtype=name)
    assert a.dtype == getattr(torch, name)
    assert b.dtype == np.dtype(name)
    assert a.shape == b.shape == x.shape
    assert np.array_equal(a.numpy(), b)
    assert torch.equal(
        piquant.torch.dequantize(a, **RIGHT, dtype=torch.float32),
        torch.from_numpy(piquant.numpy.dequantize(b, **RIGHT, dtype=np.float32)),
    )


@pytest.mark.parametrize(("name", "bits", "low", "high"), PACKED)
@pytest.mark.parametrize("shape", [(1,), (8,), (9,), (2, 3), (3, 2, 7), (4, 0), (0, 3), ()], ids=str)
def test_packed_types(name, bits, low, high, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    right = {"scale": 0.3, "zero_point": (low + high + 1) // 2}
    expected = np.asarray(piquant.numpy.quantize(x, **right, dtype=np.int8, quant_min=low, quant_max=high), np.int16)
    n = shape[-1] if shape else 1
    for q in (
        piquant.numpy.quantize(x, **right, dtype=name),
        piquant.torch.quantize(torch.tensor(x), **right, dtype=getattr(torch, name)).numpy(),
    ):
        assert q.dtype == np.uint8
        assert q.shape == (*shape[:-1], (n * bits + 7) // 8)
        assert np.array_equal(unpack(q, n, bits, low < 0).reshape(shape), expected)
        y = piquant.numpy.dequantize(q, **right, dtype=np.float32, source_dtype=name, shape=shape)
        z = piquant.torch.dequantize(
            torch.from_numpy(q), **right, dtype=torch.float32, source_dtype=getattr(torch, name), shape=shape
        )
        assert y.shape == shape
        assert np.array_equal(y, z.numpy())
        assert np.array_equal(y, piquant.numpy.quantize_dequantize(x, **right, dtype=name))
    one_each = piquant.numpy.quantize(x, **right, dtype=getattr(ml_dtypes, name))
    assert one_each.dtype == getattr(ml_dtypes, name)
    assert np.array_equal(one_each.astype(np.int16), expected)
    assert np.array_equal(piquant.numpy.dequantize(one_each, **right, dtype=np.float32), y)


def test_packed_shape_that_does_not_fit():
    q = torch.zeros(3, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"shape \(3, 5\) of 4-bit codes takes bytes of shape \(3, 3\), but tensor"):
        piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32, source_dtype=torch.uint4, shape=(3, 5))
    assert piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32, source_dtype=torch.uint2).shape == (3, 8)


@pytest.mark.parametrize("name", [*PLAIN, *(name for name, *_ in PACKED)])
def test_torch_dtypes_by_name(name):
    x = torch.randn(3, 5)
    right = RIGHT | {"zero_point": 1}
    dtype = getattr(torch, name)
    q = piquant.torch.quantize(x, **right, dtype=name)
    assert torch.equal(q, piquant.torch.quantize(x, **right, dtype=dtype))
    assert torch.equal(q, piquant.torch.quantize(x, **right, dtype=piquant.DataType(name)))
    back = piquant.torch.dequantize(q, **right, dtype="bfloat16", source_dtype=name, shape=(3, 5))
    assert torch.equal(
        back, piquant.torch.dequantize(q, **right, dtype=torch.bfloat16, source_dtype=dtype, shape=(3, 5))
    )
    assert torch.equal(back, piquant.torch.quantize_dequantize(x, **right, dtype=name).bfloat16())
    assert piquant.torch.compute_quant_params(x, dtype=name) == piquant.torch.compute_quant_params(x, dtype=dtype)


def dequantized_shape(face, q, source, shape):
    dtype = torch.float32 if face is piquant.torch else "float32"
    q = torch.from_numpy(q) if face is piquant.torch else q
    return tuple(face.dequantize(q, **RIGHT, dtype=dtype, source_dtype=source, shape=shape).shape)


@pytest.mark.parametrize("face", [piquant.torch, piquant.numpy, piquant], ids=["torch", "numpy", "buffers"])
def test_shape_of_as_many_elements(face):
    q = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for shape in ((3, 4), (12,), (2, 6), (2, 2, 3, 1), [4, 3]):
        assert dequantized_shape(face, q, "uint8", shape) == tuple(shape)
    for shape in ((11,), (), (3, 5), (0,)):
        with pytest.raises(ValueError, match=r"as many elements as (q|tensor), whose shape is \(3, 4\), got"):
            dequantized_shape(face, q, "uint8", shape)
    # Packed rows keep their bytes, unless q is one run of bytes.
    assert dequantized_shape(face, q, "uint4", (3, 7)) == (3, 7)
    assert dequantized_shape(face, q.reshape(-1), "uint4", (3, 7)) == (3, 7)
    assert dequantized_shape(face, q, "uint2", None) == (3, 16)
    for stored, shape in ((q, (4, 5)), (q, (24,)), (q.reshape(-1), (3, 9))):
        with pytest.raises(ValueError, match="of 4-bit codes takes bytes of shape"):
            dequantized_shape(face, stored, "uint4", shape)


LAYOUTS = {
    "transposed": lambda x: x.t(),
    "strided": lambda x: x[::2, 1::3],
    "offset": lambda x: x[1:, 2:],
    "expanded": lambda x: x[:1].expand(5, 12),
    "reversed": lambda x: x.flip(0),
    "channels_last": lambda x: x.view(1, 2, 3, 12).to(memory_format=torch.channels_last),
    "negated view": torch._neg_view,
    "imaginary part": lambda x: torch.complex(x, -x).conj().imag,
    "parameter": torch.nn.Parameter,
    "scalar": lambda x: x[0, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_torch_layouts(layout, dtype):
    x = torch.randn(6, 12).to(dtype)
    if layout == "imaginary part" and dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
        x = x.float()
    x = LAYOUTS[layout](x)
    whole = torch.tensor(x.tolist(), dtype=dtype)
    for target in (torch.uint8, torch.int4):
        q = piquant.torch.quantize(x, **RIGHT, dtype=target)
        assert torch.equal(q, piquant.torch.quantize(whole, **RIGHT, dtype=target))
    assert piquant.torch.compute_quant_params(x, dtype=torch.int8) == piquant.torch.compute_quant_params(
        whole, dtype=torch.int8
    )
    y = piquant.torch.quantize_dequantize(x, **RIGHT, dtype=torch.int8)
    assert (y.dtype, y.shape, y.requires_grad) == (dtype, x.shape, layout == "parameter")


def test_numpy_layouts():
    x = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    for view in (
        x.T,
        x[::-1],
        x[:, ::3],
        x[1:, 3:],
        np.asfortranarray(x),
        x.astype(">f4"),
        np.broadcast_to(x[0], (4, 8)),
    ):
        expected = piquant.numpy.quantize(np.ascontiguousarray(view, np.float32), **RIGHT, dtype=np.int8)
        assert np.array_equal(piquant.numpy.quantize(view, **RIGHT, dtype=np.int8), expected)
    brain = x.astype(ml_dtypes.bfloat16)
    a = piquant.numpy.quantize(brain, **RIGHT, dtype=np.int8)
    assert np.array_equal(a, piquant.numpy.quantize(brain.astype(np.float32), **RIGHT, dtype=np.int8))
    assert piquant.numpy.dequantize(a, **RIGHT, dtype="bfloat16").dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("reduce_op", ["set", "add", piquant.ReduceOp.ADD])
def test_out_is_written_in_place_and_returned(reduce_op):
    x = torch.randn(100)
    q = piquant.torch.quantize(x, **RIGHT, dtype=torch.int8)
    for out in (torch.full((100,), 2.0), torch.full((100,), 2.0, dtype=torch.bfloat16)):
        fresh = piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
        before = out.clone()
        given = piquant.torch.dequantize(q, **RIGHT, dtype=out.dtype, reduce_op=reduce_op, out=out)
        assert given is out
        assert torch.equal(out, (fresh if reduce_op == "set" else before.float() + fresh).to(out.dtype))
    a = out.numpy(force=True) if out.dtype != torch.bfloat16 else np.full(100, 2.0, np.float32)
    assert piquant.numpy.dequantize(q.numpy(), **RIGHT, dtype=np.float32, reduce_op=reduce_op, out=a) is a
    codes = torch.empty(100, dtype=torch.int8)
    assert piquant.torch.quantize(x, **RIGHT, dtype=torch.int8, out=codes) is codes
    assert torch.equal(codes, q)


def test_out_that_carries_other_parameters():
    x = torch.randn(8)
    out = piquant.torch.quantize(x, scale=0.5, zero_point=1, dtype=torch.quint8)
    assert piquant.torch.quantize(-x, scale=0.5, zero_point=1, dtype=torch.quint8, out=out) is out
    with pytest.raises(ValueError, match="out must carry the scale and zero_point that are given"):
        piquant.torch.quantize(x, scale=0.25, zero_point=1, dtype=torch.quint8, out=out)


def test_views_of_bit_packed_tensors_are_refused():
    q = piquant.torch.quantize(torch.randn(4, 8), **RIGHT, dtype=torch.quint4x2)
    with pytest.raises(ValueError, match=r"tensor of torch.quint4x2 must be whole and contiguous, got a view"):
        piquant.torch.dequantize(q[1:], **RIGHT, dtype=torch.float32)


def test_seeds():
    x = torch.full((4096,), 0.5)
    right = {"scale": 1.0, "zero_point": 0, "dtype": torch.uint8, "round_mode": piquant.RoundMode.STOCHASTIC}
    torch.manual_seed(3)
    a, b = piquant.torch.quantize(x, **right), piquant.torch.quantize(x, **right)
    torch.manual_seed(3)
    assert torch.equal(piquant.torch.quantize(x, **right), a)
    assert not torch.equal(a, b)
    whole = piquant.torch.quantize(x, **right, seed=1)
    assert torch.equal(piquant.torch.quantize(x[1001:], **right, seed=1, offset=1001), whole[1001:])
    assert not torch.equal(piquant.torch.quantize(x, **right, seed=2), whole)
    fresh = [piquant.numpy.quantize(x.numpy(), **(right | {"dtype": np.uint8})) for _ in range(2)]
    assert not np.array_equal(*fresh)
