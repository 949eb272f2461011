"""The test cases that the ONNX standard gives for its operators, and the layout of its packed tensors.

ONNX divides by the scale where piquant multiplies with its reciprocal, so a quotient within rounding of a tie may go to
the other neighbour. Where the two roundings agree, nothing may differ.
"""

import importlib
from collections.abc import Iterator

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from onnx.backend.test.case import node

import model
import piquant

for operator in ("quantizelinear", "dequantizelinear", "dynamicquantizelinear"):
    importlib.import_module(f"onnx.backend.test.case.node.{operator}")

NARROW = ("uint4", "int4", "uint2", "int2")
CASES = {case.name: case for case in node._NodeTestCases}
# What the standard has for types that piquant has; should a later version rename its cases, this says so.
PER_TYPE = ("", "_axis", "_uint16", "_int16", "_uint4", "_int4", "_uint2", "_int2")
QUANTIZE = tuple(f"test_quantizelinear{kind}" for kind in (*PER_TYPE, "_blocked_asymmetric", "_blocked_symmetric"))
DEQUANTIZE = tuple(f"test_dequantizelinear{kind}" for kind in (*PER_TYPE, "_blocked"))
DYNAMIC = tuple(f"test_dynamicquantizelinear{kind}" for kind in ("", "_max_adjusted", "_min_adjusted"))


def test_no_case_of_the_standard_is_left_out():
    others = ("e4m3fn", "e5m2", "float4e2m1", "expanded")
    found = {name for name in CASES if not any(other in name for other in others)}
    assert found == {*QUANTIZE, *DEQUANTIZE, *DYNAMIC}


def array(value) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def groups(case, x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> Iterator[tuple[np.ndarray, float, int]]:
    """The elements that share a scale, as a mask, with the scale and zero point."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if block:
        scale, zero_point = np.repeat(scale, block, axis), np.repeat(zero_point, block, axis)
    elif scale.ndim:
        scale, zero_point = (a.reshape([-1 if d == axis else 1 for d in range(x.ndim)]) for a in (scale, zero_point))
    pairs = np.broadcast_arrays(scale, zero_point, x)[:2]
    for s, z in sorted(set(zip(pairs[0].ravel().tolist(), pairs[1].astype(int).ravel().tolist(), strict=True))):
        yield (pairs[0] == s) & (pairs[1].astype(int) == z), s, z


def by_both(function: str, x: np.ndarray, torch_dtype: object, numpy_dtype: object, **arguments) -> np.ndarray:
    """Through the torch and the numpy face, which must agree."""
    a = getattr(piquant.numpy, function)(x, dtype=numpy_dtype, **arguments)
    b = getattr(piquant.torch, function)(torch.tensor(x), dtype=torch_dtype, **arguments)
    assert np.array_equal(a, b.numpy())
    return a


def differing(x: np.ndarray, scale: float, got: np.ndarray, wanted: np.ndarray) -> int:
    """How many codes differ: at ties, where the quotient and the product round to two integers, and there by one."""
    differs = got.astype(int) != wanted.astype(int)
    tie = np.rint(x / np.float32(scale)) != np.rint(x * np.float32(1 / scale))
    assert not (differs & ~tie).any()
    assert np.abs(got.astype(int) - wanted.astype(int)).max(initial=0) <= 1
    return int(differs.sum())


@pytest.mark.parametrize("name", QUANTIZE)
def test_quantize(name):
    case = CASES[name]
    (x, scale, *zero_points), (wanted,) = case.data_sets[0]
    wanted = array(wanted)
    dtype = wanted.dtype.name
    zero_point = array(zero_points[0]) if zero_points else np.zeros(scale.shape, wanted.dtype)
    compared = 0
    for mask, s, z in groups(case, x, scale, zero_point):
        n = int(mask.sum())
        got = by_both("quantize", x[mask], dtype, dtype, scale=s, zero_point=z)
        if dtype in NARROW:
            assert got.tobytes() == model.pack(wanted[mask], dtype).tobytes()
            got = by_both(
                "dequantize", got, torch.float32, np.float32, scale=1.0, zero_point=0, source_dtype=dtype, shape=(n,)
            )
        assert differing(x[mask], s, got, wanted[mask]) == 0
        compared += n
    assert compared == x.size


@pytest.mark.parametrize("name", DEQUANTIZE)
def test_dequantize(name):
    case = CASES[name]
    (q, scale, *zero_points), (wanted,) = case.data_sets[0]
    codes = array(q)
    dtype = codes.dtype.name
    zero_point = array(zero_points[0]) if zero_points else np.zeros(scale.shape, codes.dtype)
    for mask, s, z in groups(case, codes, scale, zero_point):
        n, stored = int(mask.sum()), codes[mask]
        if dtype in NARROW:
            stored = model.pack(stored, dtype)
        arguments = {"source_dtype": dtype, "shape": (n,)} if dtype in NARROW else {}
        got = by_both("dequantize", stored, torch.float32, np.float32, scale=s, zero_point=z, **arguments)
        assert np.array_equal(got, wanted[mask])


def as_blocks(case, x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> dict:
    """A case's parameters as those of blocks: one along the axis and the whole of others, or block_size along it."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if block:
        return {
            "block_size": tuple(block if d == axis else 1 for d in range(x.ndim)),
            "scale": scale,
            "zero_point": zero_point,
        }
    grid = [-1 if d == axis and scale.ndim else 1 for d in range(x.ndim)]
    size = tuple(1 if n == -1 else -1 for n in grid)
    return {"block_size": size, "scale": scale.reshape(grid), "zero_point": zero_point.reshape(grid)}


@pytest.mark.parametrize("name", [*QUANTIZE, *DEQUANTIZE])
def test_in_one_call(name):
    """axis and block_size of ONNX are block sizes here, and the shape of blocked scales is the same."""
    case = CASES[name]
    (x, scale, *zero_points), (wanted,) = case.data_sets[0]
    x, wanted = array(x), array(wanted)
    dtype = (wanted if name in QUANTIZE else x).dtype.name
    storage = model.QUANTIZED[dtype].storage
    zero_point = array(zero_points[0]).astype(storage) if zero_points else np.zeros(scale.shape, storage)
    right = as_blocks(case, x, scale, zero_point)
    if name in QUANTIZE:
        q = piquant.numpy.quantize(x, **right, dtype=dtype)
        x = wanted
    if dtype in NARROW:
        rows = x.astype(storage).reshape(-1, x.shape[-1])
        packed = np.stack([model.pack(row, dtype) for row in rows]).reshape(*x.shape[:-1], -1)
    else:
        packed = x
    if name in QUANTIZE:
        assert np.array_equal(q, packed)
    else:
        told = {"source_dtype": dtype, "shape": x.shape} if dtype in NARROW else {}
        assert np.array_equal(piquant.numpy.dequantize(packed, **right, dtype="float32", **told), wanted)


@pytest.mark.parametrize("name", DYNAMIC)
def test_parameters(name):
    """DynamicQuantizeLinear computes its parameters as compute_quant_params does."""
    (x,), (codes, scale, zero_point) = CASES[name].data_sets[0]
    s, z = piquant.numpy.compute_quant_params(x, dtype="uint8")
    assert (np.float32(s), z) == (scale, zero_point)
    got = piquant.numpy.quantize(x, scale=s, zero_point=z, dtype="uint8")
    # -2.5 / 0.019607844 is a tie but for its rounding.
    assert differing(x, s, got, codes) == (name == "test_dynamicquantizelinear")


@pytest.mark.parametrize("name", [n for n in (*QUANTIZE, *DEQUANTIZE) if n.endswith(NARROW)])
def test_bytes_of_packed_tensors(name):
    """A packed tensor of ONNX is our packed row, byte for byte: a file's bytes can be dequantized as they are."""
    inputs, outputs = CASES[name].data_sets[0]
    tensors = [t for t in (*inputs, *outputs) if isinstance(t, onnx.TensorProto)]
    assert tensors
    for tensor in tensors:
        values = onnx.numpy_helper.to_array(tensor)
        dtype = values.dtype.name
        memory = bytes(b & 0xFF for b in tensor.int32_data)
        row = values.astype(np.float32).reshape(-1)
        assert piquant.numpy.quantize(row, scale=1.0, zero_point=0, dtype=dtype).tobytes() == memory
        back = piquant.dequantize(
            memory, scale=1.0, zero_point=0, dtype="float32", source_dtype=dtype, shape=(values.size,)
        )
        assert np.array_equal(np.asarray(back), row)
