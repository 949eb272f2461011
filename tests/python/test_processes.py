"""Threads, forks, other processes and the end of the interpreter."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import piquant

X = np.random.default_rng(0).normal(size=300_000).astype(np.float32)
RIGHT = {"scale": 0.05, "zero_point": 0, "dtype": np.int8}


@pytest.fixture
def context():
    """One whose every call uses several threads."""
    c = piquant.Context(4)
    c.serial_cutoff = 0
    return c


def is_right(context):
    expected = np.clip(np.rint(X * np.float32(1 / 0.05)), -128, 127).astype(np.int8)
    return np.array_equal(piquant.numpy.quantize(X, **RIGHT, ctx=context), expected)


def in_child(body):
    """Exit status of a forked child that runs ``body``; one that hangs dies of SIGALRM."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if body() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_forked_children_work_and_the_parent_goes_on(context):
    for _ in range(20):
        assert is_right(context)
        assert in_child(lambda: is_right(context)) == 0
    assert in_child(lambda: in_child(lambda: is_right(context)) == 0 and is_right(context)) == 0
    assert is_right(context)


def test_fork_while_other_threads_are_in_calls(context):
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            piquant.numpy.quantize(X, **RIGHT, ctx=context)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        assert [in_child(lambda: is_right(context)) for _ in range(20)] == [0] * 20
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert is_right(context)


def child_of_multiprocessing(_):
    return is_right(piquant.Context.get())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method):
    assert is_right(piquant.Context.get())
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(child_of_multiprocessing, range(4)).get(timeout=120) == [True] * 4


class Codes(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return piquant.torch.quantize(torch.full((100_000,), float(i)), scale=1.0, zero_point=0, dtype=torch.uint8)


def test_torch_data_loader():
    assert is_right(piquant.Context.get())
    loader = torch.utils.data.DataLoader(Codes(), batch_size=4, num_workers=2, timeout=120)
    assert [batch[:, -1].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_one_context_in_many_threads(context):
    results = []
    threads = [threading.Thread(target=lambda: results.append(is_right(context))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 8


def test_other_python_threads_run_meanwhile():
    x, out = np.zeros(20_000_000, np.float64), np.zeros(20_000_000, np.int64)
    ticks, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            ticks[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        alone = piquant.Context(1)
        gained = []
        for _ in range(5):
            before = ticks[0]
            piquant.numpy.quantize(x, scale=1.0, zero_point=0, dtype=np.int64, out=out, ctx=alone)
            gained.append(ticks[0] - before)
    finally:
        stop.set()
        counter.join()
    assert min(gained) > 0  # with the GIL held, most calls would see none


def test_interrupts_arrive_after_the_call(context):
    def interrupted():
        signal.raise_signal(signal.SIGINT)
        piquant.numpy.quantize(X, **RIGHT, ctx=context)
        return "not interrupted"

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert is_right(context)


EXIT = """
import atexit, threading, weakref, numpy as np, piquant
x = np.ones(3_000_000, np.float32)
c = piquant.Context(3)
c.serial_cutoff = 0
call = lambda: piquant.numpy.quantize(x, scale=1.0, zero_point=0, dtype=np.uint8, ctx=c)
class Thing: pass
thing = Thing()
atexit.register(call)
weakref.finalize(thing, call)
begun = threading.Event()
def forever():
    while True:
        call()
        begun.set()
threading.Thread(target=forever, daemon=True).start()
begun.wait()
"""


def test_exit_with_calls_in_progress():
    assert [run(EXIT) for _ in range(20)] == [(0, "", "")] * 20


def test_environment():
    ask = "import piquant; print(piquant.isa(), piquant.get_num_threads())"
    best = piquant.available_isas()
    assert run(ask, PIQUANT_NUM_THREADS="7")[:2] == (0, f"{piquant.isa()} 7\n")
    for name in ("scalar", "sse42", "avx2", "avx512"):
        lowered = name if name in best else best[0]
        assert run(ask, PIQUANT_ISA=name, PIQUANT_NUM_THREADS="1")[:2] == (0, f"{lowered} 1\n")
    for name, value in [("NUM_THREADS", "0"), ("NUM_THREADS", "two"), ("ISA", "mmx"), ("SERIAL_CUTOFF", "-1")]:
        status, _, error = run(ask, **{f"PIQUANT_{name}": value})
        assert status == 1
        assert "ValueError: an environment variable is invalid: PIQUANT_NUM_THREADS takes 1 to 1024" in error
        assert f"PIQUANT_{name}={value}" in error


def test_thread_counts_take_effect():
    before = piquant.get_num_threads()
    try:
        piquant.set_num_threads(3)
        assert piquant.get_num_threads() == piquant.Context.get().num_threads == 3
        assert is_right(None)
    finally:
        piquant.set_num_threads(before)
    assert piquant.Context.get() is piquant.Context.get()


def test_pointers_take_pi_quants_arguments():
    context = piquant.Context(2)
    x = X[:1000].copy()
    codes, back = np.zeros(500, np.uint8), np.zeros(1000, np.float32)
    f32, u4 = piquant.DataType.F32, piquant.DataType.UINT4
    scale, zero = context.compute_quant_params_ptr_float32(x.ctypes.data, u4, 1000)
    assert (scale, zero) == piquant.numpy.compute_quant_params(x, dtype="uint4")
    context.quantize_ptr(x.ctypes.data, f32, codes.ctypes.data, u4, 1000, scale, zero, piquant.RoundMode.NEAREST)
    assert np.array_equal(codes, piquant.numpy.quantize(x, scale=scale, zero_point=zero, dtype="uint4"))
    context.dequantize_ptr(
        ptr_in=codes.ctypes.data, dtype_in=u4, ptr_out=back.ctypes.data, dtype_out=f32, numel=1000,
        scale=scale, zero_point=zero, reduce_op=piquant.ReduceOp.SET,
    )  # fmt: skip
    assert np.abs(back - x).max() <= scale / 2 * 1.001
    brain = (x.view(np.uint32) >> 16).astype(np.uint16)
    assert context.compute_quant_params_ptr_bfloat16(brain.ctypes.data, u4, 1000)[0] > 0
    for wrong in ({"ptr_in": 0}, {"ptr_in": -1}, {"numel": -1}, {"dtype_in": u4}, {"dtype_out": f32}):
        arguments = {
            "ptr_in": x.ctypes.data, "dtype_in": f32, "ptr_out": codes.ctypes.data, "dtype_out": u4, "numel": 1000,
            "scale": scale, "zero_point": zero, "round_mode": "nearest",
        }  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            context.quantize_ptr(**(arguments | wrong))


def test_names():
    assert piquant.DataType.F32 is piquant.DataType.FLOAT32 == "float32"
    assert piquant.DataType("bfloat16") is piquant.DataType.BF16
    assert [t.bit_size for t in (piquant.DataType.F16, piquant.DataType.UINT4)] == [16, 4]
    assert piquant.DataType.UINT2.is_quantized
    assert piquant.DataType.F64.is_dequantized
    assert piquant.RoundMode.NEAREST == "nearest"
    assert f"{piquant.ReduceOp.ADD}" == "add"
