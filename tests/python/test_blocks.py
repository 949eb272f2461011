"""Scales per block equal the functions for one scale, applied to each block by itself."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import blocked
import model
import piquant
from blocked import FACES, TABLE, Face
from cases import contexts, describe, differences, floats, same_bits

NARROW = [name for name, t in model.QUANTIZED.items() if t.bits < 8]


def finite(shape: tuple[int, ...], real: str, seed: int = 0) -> np.ndarray:
    """Data whose blocks differ in their extents by orders of magnitude."""
    random = np.random.default_rng(seed)
    x = random.normal(size=shape) * 10.0 ** random.integers(-3, 3, (*shape[:-1], 1) if shape else ())
    x = x.astype(model.FLOATS[real])
    if x.size > 4:
        x.reshape(-1)[:: max(x.size // 5, 2)] = 0
    return x


def check(got: np.ndarray, wanted: np.ndarray, words: object) -> None:
    assert same_bits(got, wanted), f"{words}: {differences(got, wanted)}"


# ---------------------------------------------------------------------------------------------------------------------
# Every meaning
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "block_size", "grid"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
@pytest.mark.parametrize("face", FACES)
def test_every_meaning(face, shape, block_size, grid):
    f = Face(face)
    x = finite(shape, "float32")
    for dtype, symmetric in itertools.product(("int8", "uint4"), (False, True)):
        scale, zero_point = f.params(x, dtype, block_size, symmetric=symmetric)
        wanted = blocked.params(x, dtype, block_size, symmetric=symmetric)
        assert scale.shape == grid == blocked.grid(shape, block_size)
        check(scale, wanted[0], dtype)
        if symmetric:
            assert zero_point == wanted[1] == (8 if dtype == "uint4" else 0)
            assert isinstance(zero_point, int)
        else:
            assert zero_point.dtype == model.QUANTIZED[dtype].storage
            check(zero_point, wanted[1], dtype)
        codes = blocked.codes(x, scale, zero_point, dtype, block_size)
        q = f.quantize(x, scale, zero_point, dtype, block_size=block_size)
        check(q, blocked.packed(codes, dtype), dtype)
        y = f.dequantize(q, scale, zero_point, dtype, "float32", shape, block_size=block_size)
        check(y, blocked.floats(codes, scale, zero_point, "float32", block_size), dtype)
        # Where a size of the parameters is 1 or that of the data, their shape says it all.
        if all(g in (1, n) for g, n in zip(grid, shape, strict=True)):
            check(f.quantize(x, scale, zero_point, dtype), q, dtype)
            check(f.dequantize(q, scale, zero_point, dtype, "float32", shape), y, dtype)


def test_broadcasting_as_it_is_written():
    x = torch.randn(5, 64)
    scale = x.abs().amax(-1, keepdim=True) / 127
    q = piquant.torch.quantize(x, scale=scale, dtype=torch.int8)
    assert torch.equal(q, (x / scale).round().clamp(-128, 127).to(torch.int8))
    assert torch.equal(piquant.torch.dequantize(q, scale=scale, dtype=torch.float32), q * scale)
    for n in (1, 5):  # square data, and blocks that are single elements and all of them at once
        square = torch.randn(n, n)
        rows = square.abs().amax(-1, keepdim=True) / 127
        wanted = torch.stack([piquant.torch.quantize(r, scale=s.item(), dtype="int8") for r, s in zip(square, rows)])  # noqa: B905
        assert torch.equal(piquant.torch.quantize(square, scale=rows, dtype="int8"), wanted)


@pytest.mark.parametrize("face", FACES)
def test_one_scale_in_any_form(face):
    f = Face(face)
    x = finite((4, 9), "float32")
    wanted = f.quantize(x, 0.25, 3, "int8")
    for rank in range(4):
        scale, zero_point = np.full((1,) * rank, 0.25, np.float32), np.full((1,) * rank, 3, np.int64)
        if rank or face != "buffers":  # which have no numbers among them
            check(f.quantize(x, scale, zero_point, "int8"), wanted, rank)
            check(f.quantize(x, scale, 3, "int8"), wanted, rank)


# ---------------------------------------------------------------------------------------------------------------------
# Every type, and blocks of every kind
# ---------------------------------------------------------------------------------------------------------------------

CUTS = [
    ((1,), 1), ((7,), 3), ((300,), 128), ((300,), 1), ((9,), 300),
    ((5, 33), 2), ((5, 33), (2, 1)), ((9, 40), (4, 7)), ((6, 50), (-1, 16)), ((300, 3), (128, 2)),
    ((3, 5, 17), (2, 3, 5)), ((4, 3, 9), (3, -1)), ((2, 3, 4, 9), (1, 2, 3, 4)), ((3, 1, 5, 48), (2, 1, 1, 48)),
]  # fmt: skip


def given_scales(shape: tuple[int, ...], block_size: object, dtype: str, seed: int) -> tuple:
    """Scales of one of the dtypes and zero points of one of theirs, the ends of the range among them."""
    random = np.random.default_rng(seed)
    t = model.QUANTIZED[dtype]
    kinds = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.float64)]
    grid = blocked.grid(shape, block_size)
    scale = (10.0 ** random.uniform(-3, 3, grid)).astype(kinds[seed % 4])
    wide = {2: "int32", 4: "uint16", 8: "int64"}.get(t.bits)
    kind = np.dtype(wide) if wide and seed % 3 == 1 else t.storage
    zero_point = random.integers(t.low, t.high, grid, dtype=t.storage, endpoint=True)
    zero_point.reshape(-1)[:2] = np.array([t.low, t.high], t.storage)[: zero_point.size]
    if t.low < 0 and kind.kind == "u":
        zero_point = abs(zero_point.astype(np.int64)) % (t.high + 1)
    return scale, 0 if seed % 7 == 3 else zero_point.astype(kind)


@pytest.mark.parametrize("dtype", model.QUANTIZED)
@pytest.mark.parametrize("real", model.FLOATS)
def test_given_scales(real, dtype):
    every = contexts(threads=(1, 3))
    for seed, (shape, block_size) in enumerate(CUTS):
        ctx = every[seed % len(every)]
        f = Face(FACES[seed % 3])
        scale, zero_point = given_scales(shape, block_size, dtype, seed)
        x = floats(real, float(scale.reshape(-1)[0]), dtype, int(np.prod(shape)), seed).reshape(shape)
        words = f"{f.name}, {describe(ctx)}, {shape}, {block_size}, {scale.dtype}"
        arguments = {"block_size": block_size, "ctx": ctx}
        codes = blocked.codes(x, scale, zero_point, dtype, block_size)
        check(f.quantize(x, scale, zero_point, dtype, **arguments), blocked.packed(codes, dtype), words)
        right = {"round_mode": "stochastic", "seed": 5 + seed, "offset": 2**64 - 20 if seed % 2 else 1000 * seed}
        random = blocked.codes(x, scale, zero_point, dtype, block_size, right["seed"], right["offset"])
        q = f.quantize(x, scale, zero_point, dtype, **right, **arguments)
        check(q, blocked.packed(random, dtype), f"{words}, stochastic")

        values = blocked.floats(random, scale, zero_point, real, block_size)
        check(f.dequantize(q, scale, zero_point, dtype, real, shape, **arguments), values, words)
        before = floats(real, 1.0, dtype, x.size, seed + 1).reshape(shape)
        out = before.copy()
        f.dequantize(q, scale, zero_point, dtype, real, shape, reduce_op="add", out=out, **arguments)
        check(out, blocked.floats(random, scale, zero_point, real, block_size, before), f"{words}, add")

        numpy = {"scale": scale, "zero_point": zero_point, "dtype": dtype, **right, **arguments}
        check(piquant.numpy.quantize_dequantize(x, **numpy), values, words)
        out = x.copy()
        assert piquant.numpy.quantize_dequantize(out, **numpy, out=out) is out
        check(out, values, f"{words}, in place")


@pytest.mark.parametrize("dtype", model.QUANTIZED)
@pytest.mark.parametrize("real", model.FLOATS)
def test_found_scales(real, dtype):
    """Parameters of blocks, and quantize_dynamic, which finds them and quantizes with what is stored of them."""
    every = contexts(threads=(1, 3))
    kinds = (None, "float16", "bfloat16", "float32", "float64")
    for seed, (shape, block_size) in enumerate(CUTS):
        ctx = every[seed % len(every)]
        f = Face(FACES[seed % 3])
        kind, symmetric = kinds[(seed + len(real)) % 5], seed % 4 == 1
        x = finite(shape, real, seed)
        words = f"{f.name}, {describe(ctx)}, {shape}, {block_size}, {kind}, symmetric={symmetric}"
        arguments = {"scale_dtype": kind, "symmetric": symmetric, "ctx": ctx}
        wanted = blocked.params(x, dtype, block_size, kind, symmetric)
        found = f.params(x, dtype, block_size, **arguments)
        for got, want in zip(found, wanted, strict=True):
            check(np.asarray(got), np.asarray(want), words)

        right = {"round_mode": "stochastic", "seed": seed, "offset": 7} if seed % 2 else {}
        codes = blocked.codes(x, *wanted, dtype, block_size, *((seed, 7) if right else ()))
        made = f.module.quantize_dynamic(
            f.given(x), dtype=dtype, block_size=block_size, **arguments, **right, **f.told(x)
        )
        parts = made if f.name == "buffers" else (made.data, made.scale, made.zero_point)
        check(f.as_codes(parts[0], shape, dtype), blocked.packed(codes, dtype), words)
        for got, want in zip(f.as_params(parts[1:], x, block_size, kind), wanted, strict=True):
            check(np.asarray(got), np.asarray(want), words)


@pytest.mark.parametrize("scale_dtype", [None, "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint2"])
def test_error_is_half_a_stored_scale(dtype, scale_dtype):
    x = finite((400, 128), "float32", 3)
    for symmetric in (False, True):
        q = piquant.numpy.quantize_dynamic(x, dtype=dtype, block_size=32, scale_dtype=scale_dtype, symmetric=symmetric)
        error = np.abs(q.dequantize("float64") - x.astype(np.float64)).reshape(400, 4, 32)
        steps = error / q.scale.astype(np.float64)[..., None]
        assert steps.max() <= 0.5 + 2**-14, steps.max()


@pytest.mark.parametrize("face", FACES)
def test_blocks_of_zeros_and_of_nothing(face):
    f = Face(face)
    x = np.zeros((3, 8), np.float32)
    for kind in (None, "bfloat16"):
        scale, zero_point = f.params(x, "uint8", 4, scale_dtype=kind)
        assert (scale.astype(np.float32) == 1).all()
        assert (zero_point == piquant.numpy.compute_quant_params(x, dtype="uint8")[1]).all()
    for shape, block_size, grid in [
        ((0, 5), -1, (0, 1)),
        ((5, 0), -1, (5, 0)),
        ((0,), 4, (0,)),
        ((2, 0, 3), 2, (2, 0, 2)),
    ]:
        empty = np.zeros(shape, np.float32)
        if face == "buffers":  # a memoryview of nothing has no shape
            continue
        scale, zero_point = f.params(empty, "int8", block_size)
        assert scale.shape == zero_point.shape == grid
        assert f.quantize(empty, scale, zero_point, "int8", block_size=block_size).shape == shape
        assert (
            f.module.quantize_dynamic(f.given(empty), dtype="int4", block_size=block_size).dequantize().shape == shape
        )


# ---------------------------------------------------------------------------------------------------------------------
# Layouts
# ---------------------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "transposed": lambda shape: np.empty(shape[::-1], np.float32).T,
    "reversed": lambda shape: np.empty(shape, np.float32)[::-1],
    "gaps": lambda shape: np.empty((2 * shape[0], shape[1] + 5), np.float32)[::2, 3 : 3 + shape[1]],
    "columns apart": lambda shape: np.empty((shape[0], 3 * shape[1]), np.float32)[:, ::3],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block_size", [-1, 5, (-1, 1), (4, 7), 64], ids=str)
def test_layouts(layout, block_size):
    shape = (12, 70)
    dense = finite(shape, "float32")
    x = LAYOUTS[layout](shape)
    x[...] = dense
    for dtype, ctx in itertools.product(("int8", "uint4", "int2"), contexts(threads=(2,))):
        made = piquant.numpy.quantize_dynamic(x, dtype=dtype, block_size=block_size, ctx=ctx)
        assert made == piquant.numpy.quantize_dynamic(dense, dtype=dtype, block_size=block_size)
        right = {"scale": made.scale, "zero_point": made.zero_point, "block_size": block_size, "ctx": ctx}
        check(piquant.numpy.quantize(x, **right, dtype=dtype), made.data, layout)
        out = LAYOUTS[layout](shape)
        out[...] = 1
        told = {"source_dtype": dtype, "shape": shape} if dtype in NARROW else {}
        piquant.numpy.dequantize(made.data, **right, dtype="float32", reduce_op="add", out=out, **told)
        wanted = (1 + made.dequantize()).astype(np.float32)
        check(np.ascontiguousarray(out), wanted, layout)


def test_layouts_of_torch():
    x = torch.randn(4, 6, 5, 3).to(memory_format=torch.channels_last)
    for t in (x, x.transpose(0, 3), x[:, ::2], x[:1].expand(4, 6, 5, 3)):
        for block_size in ((1, -1, -1, -1), (-1, 1, -1, -1), 2, (3, 2, 2, 2)):
            made = piquant.torch.quantize_dynamic(t, dtype=torch.int8, block_size=block_size)
            assert made == piquant.torch.quantize_dynamic(t.contiguous(), dtype=torch.int8, block_size=block_size)
            assert made.data.stride() == torch.empty_like(t).stride()
            # Parameters with gaps, and repeated ones.
            scale = torch.repeat_interleave(made.scale, 2, 0)[::2]
            q = piquant.torch.quantize(
                t, scale=scale, zero_point=made.zero_point.long(), dtype=torch.int8, block_size=block_size
            )
            assert torch.equal(q, made.data)
    q = piquant.torch.quantize(x, scale=torch.tensor(0.5).expand(4, 1, 1, 1), dtype=torch.int8)
    assert torch.equal(q, piquant.torch.quantize(x, scale=0.5, dtype=torch.int8))


def test_codes_one_in_each_byte():
    x = finite((6, 21), "float32")
    for name in NARROW:
        right = dict(zip(("scale", "zero_point"), blocked.params(x, name, 8), strict=True)) | {"block_size": 8}
        q = piquant.numpy.quantize(x, **right, dtype=getattr(ml_dtypes, name))
        packed = piquant.numpy.quantize(x, **right, dtype=name)
        check(blocked.packed(q.astype(np.int8).astype(model.QUANTIZED[name].storage), name), packed, name)
        check(
            piquant.numpy.dequantize(q, **right, dtype="float32"),
            piquant.numpy.dequantize(packed, **right, dtype="float32", source_dtype=name, shape=x.shape),
            name,
        )


def test_a_write_counts_as_a_change_in_place():
    x = torch.randn(4, 8)
    made = piquant.torch.quantize_dynamic(x, dtype=torch.int8, block_size=4)
    before = [t._version for t in (made.data, made.scale, made.zero_point)]
    assert piquant.torch.quantize_dynamic(2 * x, dtype=torch.int8, block_size=4, out=made) is made
    assert [t._version for t in (made.data, made.scale, made.zero_point)] == [v + 1 for v in before]
    assert made == piquant.torch.quantize_dynamic(2 * x, dtype=torch.int8, block_size=4)
    out = torch.zeros(4, 8)
    piquant.torch.dequantize(
        made.data, scale=made.scale, zero_point=made.zero_point, dtype=torch.float32, block_size=4, out=out
    )
    assert out._version == 1
    scale = made.scale.clone().requires_grad_()
    assert not piquant.torch.quantize(x, scale=scale, dtype=torch.int8, block_size=4).requires_grad


def test_buffers_of_bytes_are_told_what_they_hold():
    x = finite((3, 10), "float32")
    for kind in ("float16", "bfloat16"):
        data, scale, zero_point = piquant.quantize_dynamic(x, dtype="int4", block_size=4, scale_dtype=kind)
        assert isinstance(scale, bytearray)
        wanted = piquant.numpy.quantize_dynamic(x, dtype="int4", block_size=4, scale_dtype=kind)
        assert bytes(scale) == wanted.scale.tobytes()
        y = piquant.dequantize(
            data, scale=scale, zero_point=zero_point, dtype="float32", block_size=4, scale_dtype=kind,
            source_dtype="int4", shape=(3, 10),
        )  # fmt: skip
        check(np.asarray(y), wanted.dequantize(), kind)
        again = piquant.quantize_dynamic(
            -x, dtype="int4", block_size=4, scale_dtype=kind, out=(data, scale, zero_point)
        )
        assert again[0] is data
        assert again[1] is scale
        assert again[2] is zero_point
        assert (
            bytes(data)
            == piquant.numpy.quantize_dynamic(-x, dtype="int4", block_size=4, scale_dtype=kind).data.tobytes()
        )
