"""Run with failing.cpp preloaded: whichever allocation or thread creation fails, a MemoryError or the right result."""

import _testcapi
import array
import ctypes
import itertools

import numpy as np

import piquant
import piquant.numpy
from workers import EXPECTED, RIGHT, X, is_right

B = array.array("f", X.tobytes())

control = ctypes.CDLL(None)
control.fail_after.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_long]
fail_after = control.fail_after
stop_failing = control.stop_failing
stop_failing.restype = ctypes.c_long


def parallel_context():
    c = piquant.Context(3)
    c.serial_cutoff = 0
    return c


# Calls and what they must give; comparing is for later, when nothing fails.
PARAMS = piquant.numpy.compute_quant_params(X, dtype=np.int8)
CALLS = {
    "create": (lambda _: piquant.Context(), lambda c: c.num_threads > 0),
    "quantize": (lambda c: piquant.numpy.quantize(X, **RIGHT, ctx=c), lambda q: np.array_equal(q, EXPECTED)),
    "buffers": (lambda c: piquant.quantize(B, **RIGHT | {"dtype": "int8"}, ctx=c), lambda q: q == EXPECTED.data),
    "params": (lambda c: piquant.numpy.compute_quant_params(X, dtype=np.int8, ctx=c), lambda p: p == PARAMS),
}


def succeeds(name, fail, stop):
    """Whether the call gave a result while ``fail`` was in force, and not a MemoryError."""
    call, is_good = CALLS[name]
    context = parallel_context()
    result = None
    fail()
    try:
        result = call(context)
    except MemoryError:
        pass
    finally:
        stop()
    assert result is None or is_good(result), name
    assert is_right(context), name
    return result is not None


def cpp_failures(name, one, threads):
    """How many allocations (thread creations) can fail: the k-th does, or it and all that follow."""
    for k in itertools.count():
        failures = []
        done = succeeds(
            name,
            lambda k=k: fail_after(-1 if threads else k, one, k if threads else -1),
            lambda failures=failures: failures.append(stop_failing()),
        )
        if failures == [0]:
            assert done, name
            return k
    raise AssertionError("never")


def python_failures(name):
    """The same for the interpreter's allocations."""
    for k in itertools.count():
        succeeds(name, lambda k=k: _testcapi.set_nomemory(k, k + 1), _testcapi.remove_mem_hooks)
        if succeeds(name, lambda k=k: _testcapi.set_nomemory(k, 0), _testcapi.remove_mem_hooks):
            return k
    raise AssertionError("never")


for name in CALLS:
    native, one_only = (cpp_failures(name, one, threads=False) for one in (0, 1))
    python = python_failures(name)
    assert native > 0
    assert one_only > 0
    assert python > 0 or name == "params"  # which needs none that the interpreter does not keep at hand
    print(f"{name}: {native} allocations of C++ can fail, {one_only} one by one, {python} of Python")
granted = cpp_failures("quantize", one=0, threads=True)
assert granted == 2, granted
