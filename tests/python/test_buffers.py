"""Plain buffers, with nothing but Python."""

import array
import ctypes
import mmap
import subprocess
import sys
import threading

import numpy as np
import pytest

import piquant

RIGHT = {"scale": 0.1, "zero_point": 3}
VALUES = [i / 7 - 2 for i in range(30)]
TYPED = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
}


@pytest.mark.parametrize("target", [t for t in piquant.DataType if t.is_quantized], ids=str)
@pytest.mark.parametrize("source", ["f", "d"])
def test_every_type_equals_the_numpy_face(target, source):
    x = array.array(source, VALUES)
    q = piquant.quantize(x, **RIGHT | {"zero_point": 1}, dtype=target)
    expected = piquant.numpy.quantize(np.array(x), **RIGHT | {"zero_point": 1}, dtype=str(target))
    assert np.array_equal(np.frombuffer(q, expected.dtype), expected)
    if target in TYPED:
        assert isinstance(q, memoryview)
        assert q.format == TYPED[target]
    else:
        assert isinstance(q, bytearray)
    y = piquant.dequantize(q, **RIGHT | {"zero_point": 1}, dtype="float64", source_dtype=target, shape=(30,))
    assert y.format == "d"
    assert y.tolist() == piquant.numpy.dequantize(
        expected, **RIGHT | {"zero_point": 1}, dtype=np.float64, source_dtype=str(target), shape=(30,)
    ).tolist()  # fmt: skip
    assert piquant.compute_quant_params(x, dtype=target) == piquant.numpy.compute_quant_params(
        np.array(x), dtype=str(target)
    )


def test_exporters():
    x = array.array("f", VALUES)
    expected = piquant.quantize(x, **RIGHT, dtype="int8").tolist()
    mapped = mmap.mmap(-1, len(x) * 4)
    mapped.write(x.tobytes())
    for exporter, told in [
        (x.tobytes(), "float32"), (bytearray(x.tobytes()), "float32"), (mapped, "float32"), (memoryview(x), None),
        (np.array(x), None), ((ctypes.c_float * len(x))(*x), None), ((ctypes.c_float * 5 * 6).from_buffer(x), None),
        (memoryview(array.array("f", [v for u in VALUES for v in (u, 9)]))[::2], None),
        (memoryview(array.array("f", VALUES[::-1]))[::-1], None),
    ]:  # fmt: skip
        q = piquant.quantize(exporter, **RIGHT, dtype="int8", source_dtype=told)
        assert np.array(q).reshape(-1).tolist() == expected
    rows = memoryview(x).cast("B").cast("f", (5, 6))
    assert piquant.quantize(rows, **RIGHT, dtype="int8").shape == (5, 6)
    packed = piquant.quantize(memoryview(x).cast("B").cast("f", (10, 3)), **RIGHT, dtype="uint2")
    assert len(packed) == 10
    back = piquant.dequantize(packed, **RIGHT, dtype="float32", source_dtype="uint2", shape=(10, 3))
    assert back.tolist() == np.array(piquant.quantize_dequantize(x, **RIGHT, dtype="uint2")).reshape(10, 3).tolist()


def test_16_bit_floats_travel_as_bytes():
    halves = np.array(VALUES, np.float16)
    q = piquant.quantize(halves.tobytes(), **RIGHT, dtype="int8", source_dtype="float16")
    y = piquant.dequantize(q, **RIGHT, dtype="float16")
    assert isinstance(y, bytearray)
    expected = piquant.numpy.quantize_dequantize(halves, **RIGHT, dtype="int8")
    assert np.frombuffer(y, np.float16).tolist() == expected.tolist()


def test_out_and_add():
    x = array.array("f", VALUES)
    q = piquant.quantize(x, **RIGHT, dtype="int8")
    total = array.array("f", [1.0] * 30)
    assert piquant.dequantize(q, **RIGHT, dtype="float32", reduce_op="add", out=total) is total
    fresh = np.array(piquant.dequantize(q, **RIGHT, dtype="float32"))
    assert np.array_equal(np.array(total), np.float32(1.0) + fresh)
    assert piquant.quantize(array.array("f"), **RIGHT, dtype="uint4") == bytearray()


def test_bytes_need_to_be_told():
    with pytest.raises(TypeError, match="source_dtype"):
        piquant.quantize(bytes(8), **RIGHT, dtype="int8")
    released = memoryview(bytearray(4))
    released.release()
    with pytest.raises(BufferError, match="x must give access to its memory"):
        piquant.quantize(released, **RIGHT, dtype="int8", source_dtype="float32")


def test_a_buffer_cannot_be_resized_while_a_call_holds_it():
    x = bytearray(4 * 8_000_000)
    out = bytearray(8_000_000)
    refused = 0
    while not refused:  # the main thread comes back to it until it meets a call in progress
        call = threading.Thread(
            target=lambda: piquant.quantize(x, **RIGHT, dtype="uint8", source_dtype="float32", out=out)
        )
        call.start()
        while call.is_alive() and not refused:
            try:
                x.extend(b"1234")
                del x[-4:]
            except BufferError:
                refused += 1
        call.join()


def test_nothing_else_is_needed():
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy", "ml_dtypes"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Block())
import array, os
threads = len(os.listdir("/proc/self/task"))  # an emulator may have some of its own
import piquant
assert len(os.listdir("/proc/self/task")) == threads, "import must start no thread"
q = piquant.quantize(array.array("f", [0.0, 1.0, 2.0]), scale=1.0, zero_point=0, dtype="uint4")
assert q == bytes([0x10, 0x02]), q
assert not any(hasattr(piquant, name) for name in ("torch", "numpy", "distributed"))
for name, needed in (("torch", "torch"), ("numpy", "numpy"), ("distributed", "torch")):
    try:
        __import__(f"piquant.{name}")
    except ModuleNotFoundError as error:
        assert error.name == needed
        print(error)
    try:
        getattr(piquant, name)
    except AttributeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "piquant.torch needs torch: pip install 'pypiquant[torch]'",
        "module 'piquant' has no attribute 'torch': piquant.torch needs torch: pip install 'pypiquant[torch]'",
        "piquant.numpy needs numpy: pip install 'pypiquant[numpy]'",
        "module 'piquant' has no attribute 'numpy': piquant.numpy needs numpy: pip install 'pypiquant[numpy]'",
        "piquant.distributed needs torch: pip install 'pypiquant[torch]'",
        "module 'piquant' has no attribute 'distributed': "
        "piquant.distributed needs torch: pip install 'pypiquant[torch]'",
    ]


def test_import_brings_neither_torch_nor_numpy():
    code = "import sys, piquant; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
