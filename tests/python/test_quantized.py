"""Containers: frozen, printed, compared, sliced, and brought back from wherever they were put."""

from __future__ import annotations

import copy
import io
import itertools
import json
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch.utils import _pytree

import piquant
import piquant.numpy
import piquant.torch
from piquant.numpy import QuantizedArray
from piquant.torch import QuantizedTensor

FIELDS = ("data", "scale", "zero_point", "quant_dtype", "shape", "block_size", "dtype")
KINDS = pytest.mark.parametrize("face", [piquant.torch, piquant.numpy], ids=["torch", "numpy"])


def data(face, shape=(6, 50), real="float32"):
    x = np.random.default_rng(1).normal(size=shape)
    if face is piquant.torch:
        return torch.tensor(x).to(getattr(torch, real))
    return x.astype(ml_dtypes.bfloat16 if real == "bfloat16" else real)


def many(face):
    """Containers of every kind: packed and not, with zero points and without, of every dtype of scales."""
    cases = itertools.product(("int8", "uint4", "int2", "uint16"), (False, True), (None, "float16", "bfloat16"))
    for i, (dtype, symmetric, scale_dtype) in enumerate(cases):
        real = ("float32", "bfloat16", "float64", "float16")[i % 4]
        shape, block_size = [((6, 50), 16), ((6, 51), (1, -1)), ((6, 7), (4, 3)), ((2, 3, 5), None), ((9,), 4)][i % 5]
        x = data(face, shape, real)
        yield face.quantize_dynamic(x, dtype=dtype, symmetric=symmetric, scale_dtype=scale_dtype, block_size=block_size)
    if face is piquant.numpy:
        yield face.quantize_dynamic(data(face), dtype=ml_dtypes.int4, block_size=16)


def described(q):
    return q.quant_dtype, q.shape, q.block_size, q.dtype


@KINDS
def test_fields(face):
    q = face.quantize_dynamic(data(face), dtype="int4", block_size=-1, scale_dtype="float16")
    assert described(q) == ("int4", (6, 50), (1, 50), data(face).dtype)
    assert tuple(q.data.shape) == (6, 25)
    assert tuple(q.scale.shape) == tuple(q.zero_point.shape) == (6, 1)
    assert str(q.zero_point.dtype).removeprefix("torch.") == "int8"
    assert q.nbytes == 6 * (25 + 2 + 1)
    assert face.quantize_dynamic(data(face), dtype="uint4", symmetric=True).zero_point == 8
    for name in (*FIELDS, "other"):
        with pytest.raises(AttributeError, match=f"cannot assign to {name} of a Quantized"):
            setattr(q, name, None)
        with pytest.raises(AttributeError, match=f"cannot delete {name} of a Quantized"):
            delattr(q, name)
    with pytest.raises(TypeError, match="unhashable"):
        hash(q)


@KINDS
def test_dequantize(face):
    x = data(face)
    for q in many(face):
        y = q.dequantize()
        assert tuple(y.shape) == q.shape
        assert y.dtype == q.dtype
        double = q.dequantize("float64")
        assert str(double.dtype).endswith("float64")
        out = double + 1
        assert q.dequantize(out=out, reduce_op="add") is out
        assert bool((out == double + 1 + double).all())
    q = face.quantize_dynamic(x, dtype="int8", block_size=10)
    right = {"scale": q.scale, "zero_point": q.zero_point, "block_size": 10, "dtype": "float32"}
    assert bool((q.dequantize() == face.dequantize(q.data, **right)).all())
    with pytest.raises(ValueError, match="reduce_op='add' needs out"):
        q.dequantize(reduce_op="add")
    with pytest.raises(ValueError, match=r"out must have shape \(6, 50\)"):
        q.dequantize(out=x[:5])
    with pytest.raises(TypeError, match=r"out must be a .* or None, got list"):
        q.dequantize(out=[0.5])


@KINDS
def test_equality(face):
    every = list(many(face))
    for (i, a), (j, b) in itertools.product(enumerate(every), repeat=2):
        assert (a == b) == (i == j)
        assert (a != b) == (i != j)
    q = every[0]
    assert q != "something else"
    fields = {name: getattr(q, name) for name in FIELDS}
    assert type(q)(**fields) == q
    for name in ("data", "scale", "zero_point"):
        other = copy.deepcopy(fields[name])
        other[-1, -1] += 1
        assert type(q)(**fields | {name: other}) != q
    assert type(q)(**fields | {"zero_point": 0}) != q
    assert type(q)(**fields | {"scale": q.scale.astype("f8") if face is piquant.numpy else q.scale.double()}) != q
    assert type(q)(**fields | {"dtype": "float64"}) != q


@KINDS
def test_copies(face):
    for q in many(face):
        if face is piquant.torch and q.quant_dtype == "uint16":  # which torch pickles, and cannot read back
            continue
        for made in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), copy.copy(q), type(q).from_dict(q.to_dict())):
            assert type(made) is type(q)
            assert made == q
            assert described(made) == described(q)
            assert bool((made.dequantize() == q.dequantize()).all())
        assert copy.deepcopy(q).data is not q.data


def test_files_of_torch():
    for q in many(piquant.torch):
        file = io.BytesIO()
        torch.save({"layer": q}, file)
        file.seek(0)
        assert torch.load(file, weights_only=True)["layer"] == q
        tensors = safetensors.torch.load(safetensors.torch.save(q.to_dict()))
        assert QuantizedTensor.from_dict(tensors) == q
        assert all(isinstance(t, torch.Tensor) for t in q.to_dict().values())


def test_files_of_numpy():
    for q in many(piquant.numpy):
        file = io.BytesIO()
        np.savez(file, **q.to_dict())
        file.seek(0)
        assert QuantizedArray.from_dict(np.load(file)) == q
        assert QuantizedArray.from_dict(safetensors.numpy.load(safetensors.numpy.save(q.to_dict()))) == q


def test_a_file_of_one_is_read_by_the_other():
    made = [as_tensors(a) for a in many(piquant.numpy)]
    for a, b in zip(made, many(piquant.torch), strict=False):
        assert described(a)[:3] == described(b)[:3]
    for a, b in zip(many(piquant.numpy), made, strict=True):
        assert np.array_equal(b.dequantize(torch.float64).numpy(), a.dequantize("float64"))


def as_tensors(q):
    return QuantizedTensor.from_dict({name: torch.tensor(array) for name, array in q.to_dict().items()})


@pytest.mark.parametrize("shape", [(), (7,), (2, 5), (3, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("name", ["int2", "uint2", "int4", "uint4"])
def test_codes_one_in_each_byte_are_packed_for_torch(name, shape):
    x = data(piquant.numpy, shape)
    right = {"block_size": (-1,) * len(shape)}
    made = as_tensors(piquant.numpy.quantize_dynamic(x, dtype=getattr(ml_dtypes, name), **right))
    assert made == as_tensors(piquant.numpy.quantize_dynamic(x, dtype=name, **right))


def test_arrays_of_foreign_byte_order():
    q = piquant.numpy.quantize_dynamic(data(piquant.numpy), dtype="uint16", block_size=16)
    swapped = {name: array.astype(array.dtype.newbyteorder()) for name, array in list(vars(q).items())[:3]}
    made = QuantizedArray(**vars(q) | swapped)
    assert made == QuantizedArray.from_dict(made.to_dict()) == q
    assert np.array_equal(made.dequantize(), q.dequantize())


@KINDS
def test_zero_points_that_are_numbers(face):
    q = face.quantize_dynamic(data(face), dtype="int8", symmetric=True)
    for number in (0, False, np.int8(0), np.uint64(0)):
        made = type(q)(**vars(q) | {"zero_point": number})
        assert made == q
        assert type(made.zero_point) is int


def test_tensors_without_plain_elements():
    q = piquant.torch.quantize_dynamic(torch.randn(4, 8), dtype="uint4", block_size=4)
    jagged = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged)
    for name, wrong, words in [
        ("data", q.data.view(torch.uint4), "data must be of dtype uint8, got uint4"),
        ("scale", q.scale.to_sparse(), "scale must be of dtype .*, got float32 in a torch.sparse_coo tensor"),
        ("scale", jagged, "scale must be .*, got float32 in a nested tensor"),
    ]:
        with pytest.raises(TypeError, match=words):
            QuantizedTensor(**vars(q) | {name: wrong})
    p = piquant.numpy.quantize_dynamic(data(piquant.numpy), dtype="int8")
    masked = np.ma.masked_array(p.data, mask=True)
    with pytest.raises(TypeError, match="data must be of dtype int8, got MaskedArray"):
        QuantizedArray(**vars(p) | {"data": masked})


@KINDS
def test_parameters_that_are_none_can_be_printed(face):
    q = face.quantize_dynamic(data(face), dtype="int8", block_size=16)
    q.scale[0, 0] = float("nan")
    assert repr(q).startswith(f"{type(q).__name__}(int8, shape (6, 50), blocks of (1, 16)")
    with pytest.raises(ValueError, match=r"scale must be finite and positive.* got nan in block \(0, 0\)"):
        q.dequantize()


def test_to_load_with_weights_only_no_import_is_needed_but_ours(tmp_path):
    torch.save(piquant.torch.quantize_dynamic(torch.randn(4, 8), dtype="int4", block_size=4), tmp_path / "q.pt")
    program = f"import piquant.torch, torch; print(torch.load({str(tmp_path / 'q.pt')!r}, weights_only=True).shape)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(4, 8)\n"


@KINDS
def test_what_the_format_says(face):
    q = face.quantize_dynamic(data(face), dtype="uint4", block_size=16, scale_dtype="bfloat16", symmetric=True)
    text = json.loads(bytes(q.to_dict()["format"].tolist()))
    assert text == {
        "version": 1, "type": "uint4", "shape": [6, 50], "block_size": [1, 16], "dtype": "float32",
        "scale_dtype": "bfloat16", "packed": True, "zero_point": 8,
    }  # fmt: skip
    assert set(q.to_dict()) == {"data", "scale", "format"}


@KINDS
def test_dicts_that_are_none_of_ours(face):
    kind = QuantizedTensor if face is piquant.torch else QuantizedArray
    right = face.quantize_dynamic(data(face), dtype="int4", block_size=16).to_dict()

    def of_bytes(memory):
        return torch.tensor(list(memory), dtype=torch.uint8) if face is piquant.torch else np.frombuffer(memory, "u1")

    def formatted(**changes):
        text = json.loads(bytes(right["format"].tolist())) | changes
        return right | {"format": of_bytes(json.dumps(text).encode())}

    for name in right:
        with pytest.raises(ValueError, match="arrays must be those that to_dict gives, got"):
            kind.from_dict({key: value for key, value in right.items() if key != name})
    for wrong, words in [
        (right | {"format": right["format"][:-1]}, "arrays must be those that to_dict gives"),
        (formatted(version=2), "format must be of version 1, got 2"),
        (formatted(type="int5"), "quant_dtype must be one of int2, .*, got 'int5'"),
        (formatted(type="int2"), r"data must have shape \(6, 13\) for int2 of shape \(6, 50\), got \(6, 25\)"),
        (formatted(shape=[6, 60]), r"data must have shape \(6, 30\) for int4 of shape \(6, 60\)"),
        (formatted(shape=[6, -50]), r"shape must be a sequence of ints in 0\.\.2\*\*63 - 1, got \[6, -50\]"),
        (formatted(shape=[6]), r"block_size must be 1 to the whole of each dimension of shape \(6,\), got \(1, 16\)"),
        (formatted(block_size=[1, 0]), r"block_size must be 1 to the whole of each dimension"),
        (formatted(block_size=[1, -1]), r"block_size must be a sequence of ints in 0\.\.2\*\*63 - 1, got \[1, -1\]"),
        (formatted(block_size=[1, 32]), r"scale must have shape \(6, 2\) .* got \(6, 4\)"),
        (right | {"zero_point": right["zero_point"][:5]}, r"zero_point must have shape \(6, 4\) .* got \(5, 4\)"),
        (formatted(dtype="int8"), "dtype must be one of"),
        (formatted(packed=False), r"data must have shape \(6, 50\) for int4|data must have shape \(6, 25\) for int4"),
        (right | {"format": of_bytes(b"[" * 100_000)}, "arrays must be those that to_dict gives.* recursion"),
        (right | {"format": right["data"].sum() * 0 + 10**13}, "arrays must be those that to_dict gives"),
        (None, "arrays must be those that to_dict gives, got None"),
        (3, "arrays must be those that to_dict gives, got 3"),
    ]:
        with pytest.raises(ValueError, match=words):
            kind.from_dict(wrong)
    for wrong, words in [
        (right | {"zero_point": right["scale"]}, "zero_point must be of dtype int8 or .*, got float32"),
        (formatted(shape=5), "shape must be a sequence of ints, got 5"),
        (formatted(shape=[6.0, 50]), r"shape must be a sequence of ints, got \[6\.0, 50\]"),
        (formatted(block_size=16), "block_size must be a sequence of ints, got 16"),
        (formatted(zero_point=1.5), r"zero_point must be an int or an array of them, got 1\.5"),
    ]:
        with pytest.raises(TypeError, match=words):
            kind.from_dict(wrong)
    fields = {name: getattr(kind.from_dict(right), name) for name in FIELDS}
    for name, wrong in (("data", right["scale"]), ("scale", right["data"]), ("scale", 0.5), ("zero_point", 1.5)):
        with pytest.raises(TypeError, match=f"{name} must be (of dtype|an int)"):
            kind(**fields | {name: wrong})


@KINDS
def test_rows(face):
    for q in many(face):
        if q.block_size[0] != 1:
            with pytest.raises(ValueError, match=r"rows must have scales of their own, got block_size \(\d"):
                q[0]
            continue
        whole = q.dequantize()
        for rows in (0, 5, -1, slice(2, 4), slice(None), slice(1, None, 2), slice(4, 2), np.int64(3), True):
            part = q[rows]
            assert part.block_size == (q.block_size if isinstance(rows, slice) else q.block_size[1:])
            wanted = whole[1 if rows is True else rows]  # an array takes it for a mask
            assert tuple(part.shape) == tuple(wanted.shape)
            assert bool((part.dequantize() == wanted).all())
        q[2].data[...] = 0
        assert not bool(q.data[2].any())  # the same memory
        assert len(list(q)) == 6
        for wrong in (None, (0, 1), [0, 1], 0.5, "a"):
            with pytest.raises(TypeError, match="rows must be an int or a slice, got"):
                q[wrong]
        for wrong in (6, -7, 1 << 70):
            with pytest.raises(IndexError, match=r"rows must be in -6\.\.5 for shape \(6, .*, got"):
                q[wrong]
        with pytest.raises(TypeError, match="rows must be an int or a slice of ints, got slice"):
            q["a":]
        with pytest.raises(ValueError, match=r"rows must be an int or a slice of ints, got slice.*cannot be zero"):
            q[::0]
        if face is piquant.numpy:
            assert bool((q[::-1].dequantize() == q.dequantize()[::-1]).all())
        else:
            with pytest.raises(ValueError, match="rows must be a slice of a step of at least 1, as of tensors, got"):
                q[::-1]
    line = face.quantize_dynamic(data(face, (9,)), dtype="int8", block_size=1)
    assert line[3].shape == ()
    assert bool(line[3].dequantize() == line.dequantize()[3])
    with pytest.raises(ValueError, match="container with dimensions"):
        line[3][0]
    with pytest.raises(ValueError, match="rows must not share bytes, got int4 of one dimension"):
        face.quantize_dynamic(data(face, (9,)), dtype="int4", block_size=1)[3]


@KINDS
def test_printed(face):
    x = data(face, (1000, 384)) * 0 + 2
    q = face.quantize_dynamic(x, dtype="int4", block_size=128, symmetric=True)
    words = repr(q)
    assert words.startswith(
        f"{type(q).__name__}(int4, shape (1000, 384), blocks of (1, 128), 4.25 bits a value, float32,"
    )
    assert words.count("2.") == 3 * 6
    assert len(words) < 400
    for made in many(face):
        assert type(made).__name__ in repr(made)
        corner = made.dequantize()[tuple(slice(n) for n in (1,) * (len(made.shape) - 2) + (3, 6)[-len(made.shape) :])]
        assert str(corner) in repr(made)
    empty = face.quantize_dynamic(x[:0], dtype="int4", block_size=128)
    assert "shape (0, 384)" in repr(empty)


def test_pytree():
    for q in many(piquant.torch):
        leaves, spec = _pytree.tree_flatten({"q": [q]})
        assert len(leaves) == 2 + isinstance(q.zero_point, torch.Tensor)
        assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        assert _pytree.tree_unflatten(leaves, spec)["q"][0] == q
        assert _pytree.treespec_loads(_pytree.treespec_dumps(spec)) == spec
        doubled = _pytree.tree_map(lambda t: t.clone(), q)
        assert doubled == q
        assert doubled.data is not q.data
        keys = [_pytree.keystr(path) for path, _ in _pytree.tree_flatten_with_path(q)[0]]
        assert keys == [".data", ".scale", ".zero_point"][: len(leaves)]
    stand_ins = _pytree.tree_map(lambda _: None, piquant.torch.quantize_dynamic(torch.ones(4), dtype="int8"))
    assert stand_ins.scale is None


def test_compiled():
    q = piquant.torch.quantize_dynamic(torch.randn(4, 64), dtype="int8", block_size=16, symmetric=True)

    def product(container):
        scaled = container.data.reshape(4, 4, 16) * container.scale[..., None]
        return scaled.reshape(container.shape)

    torch._dynamo.reset()
    compiled = torch.compile(product, backend="eager", fullgraph=True)
    assert torch.equal(compiled(q), q.dequantize())
