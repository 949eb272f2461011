"""Threads, forks, other processes and the end of the interpreter."""

import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import weakref

import numpy as np
import pytest

import piquant
from workers import RIGHT, SOAK, X, default_context_is_right, in_child, is_right

ROUNDS = 200 if SOAK else 25  # tests/cpp has 200 of each


def forks_among_threads(test):
    """Where another thread holds the lock of coverage's tracer, or of an object, a child would wait for it for ever."""
    free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED") == 1
    return pytest.mark.no_cover(pytest.mark.skipif(free_threaded, reason="each object has a lock of Python's")(test))


@pytest.fixture
def context():
    """One whose every call uses several threads."""
    c = piquant.Context(4)
    c.serial_cutoff = 0
    return c


@pytest.fixture
def default_context():
    """The default context with several threads at work in every call, and as it was afterwards."""
    c = piquant.Context.get()
    before = c.num_threads, c.serial_cutoff
    assert default_context_is_right(0)
    yield c
    c.num_threads, c.serial_cutoff = before


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False,
        env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_forked_children_work_and_the_parent_goes_on(context):
    for _ in range(ROUNDS):
        assert is_right(context)
        assert in_child(lambda: is_right(context)) == 0
    assert is_right(context)


def test_children_of_children(context):
    for _ in range(ROUNDS):
        assert in_child(lambda: in_child(lambda: is_right(context)) == 0 and is_right(context)) == 0
    assert is_right(context)


@forks_among_threads
def test_fork_while_other_threads_are_in_calls(context):
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            piquant.numpy.quantize(X, **RIGHT, ctx=context)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        assert [in_child(lambda: is_right(context)) for _ in range(ROUNDS)] == [0] * ROUNDS
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert is_right(context)


@forks_among_threads
def test_fork_from_two_threads_at_once(context):
    statuses = []

    def fork():
        for _ in range(ROUNDS):
            statuses.append(in_child(lambda: is_right(context)))
            assert is_right(context)

    threads = [threading.Thread(target=fork) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert statuses == [0] * (2 * ROUNDS)


@pytest.mark.usefixtures("default_context")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method):
    """200 tasks; each in a process of its own when there is time."""
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=1 if SOAK else None) as pool:
        assert pool.map_async(default_context_is_right, range(200), chunksize=1).get(timeout=3600) == [True] * 200


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


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where a shell started this process in the background and told it to ignore that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupts_arrive_after_the_call(context):
    """Ctrl-C in the middle of a call, which only another thread can press, as the call has let go of the GIL."""
    x = np.zeros(4_000_000, np.float32)
    out = np.full(4_000_000, 9, np.int8)
    for _ in range(20):
        calling = threading.Event()
        pressed = []

        def press(calling=calling, pressed=pressed):
            calling.wait()
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=press)
        helper.start()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            calling.set()
            while True:
                out[-1] = 9
                piquant.numpy.quantize(x, **RIGHT, out=out, ctx=context)
        helper.join()
        assert pressed
        assert out[-1] in (0, 9)
        assert is_right(context)


def test_a_context_lives_while_a_call_uses_it():
    x, out = np.zeros(4_000_000, np.float32), np.full(4_000_000, 9, np.int8)
    for _ in range(20):
        context = piquant.Context(2)
        gone = weakref.ref(context)
        call = threading.Thread(target=piquant.numpy.quantize, args=(x,), kwargs=RIGHT | {"out": out, "ctx": context})
        call.start()
        del context
        call.join()
        assert not out.any()
        del call
        assert gone() is None
        out.fill(9)


EXIT = """
import array, atexit, threading, weakref, piquant
x = array.array("f", [1.0]) * 1_000_000
c = piquant.Context(3)
c.serial_cutoff = 0
call = lambda: piquant.quantize(x, scale=1.0, zero_point=0, dtype="uint8", ctx=c)
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
    assert [run(EXIT) for _ in range(100)] == [(0, "", "")] * 100


def test_exit_with_numpy_calls_in_progress():
    code = (
        EXIT.replace("import array", "import numpy, array")
        .replace("x = array", "x = numpy.array(array")
        .replace("* 1_000_000", "* 1_000_000)")
        .replace("piquant.quantize", "piquant.numpy.quantize")
    )
    rounds = 100 if SOAK else 10
    assert [run(code) for _ in range(rounds)] == [(0, "", "")] * rounds


def test_environment():
    ask = "import piquant; print(piquant.isa(), piquant.get_num_threads())"
    best = piquant.available_isas()
    assert run(ask, PIQUANT_NUM_THREADS="7")[:2] == (0, f"{piquant.isa()} 7\n")
    for name in ("scalar", "sse42", "avx2", "avx512"):
        lowered = name if name in best else best[0]
        assert run(ask, PIQUANT_ISA=name, PIQUANT_NUM_THREADS="1")[:2] == (0, f"{lowered} 1\n")
    for name, value in [
        ("NUM_THREADS", "0"), ("NUM_THREADS", "two"), ("ISA", "mmx"), ("ISA", "\udcff"), ("SERIAL_CUTOFF", "-1"),
    ]:  # fmt: skip
        status, _, error = run(ask, **{f"PIQUANT_{name}": value})
        assert status == 1
        assert "ValueError: an environment variable is invalid: PIQUANT_NUM_THREADS takes 1 to 1024" in error
        assert f"PIQUANT_{name}={value}".replace("\udcff", r"\xff") in error


def test_affinity_limits_the_threads():
    """A process under taskset, and the threads that a call of it then has."""
    count = """
import os, array, piquant
piquant.Context.get().serial_cutoff = 0
piquant.quantize(array.array("f", bytes(4_000_000)), scale=1.0, zero_point=0, dtype="uint8")
print(piquant.get_num_threads(), len(os.listdir("/proc/self/task")))
"""
    cpus = sorted(os.sched_getaffinity(0))
    environment = {k: v for k, v in os.environ.items() if k != "PIQUANT_NUM_THREADS"}
    for n in {1, len(cpus)}:
        done = subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, cpus[:n])), sys.executable, "-c", count],
            capture_output=True, text=True, timeout=600, check=True, env=environment,
        )  # fmt: skip
        threads, tasks = map(int, done.stdout.split())
        assert threads == tasks
        assert 1 <= threads <= n


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


@pytest.mark.parametrize("first", ["main", "other"])
def test_subinterpreters_are_refused_and_leave_the_main_one_alone(first):
    code = f"""
import sys
if {first == "main"}:
    import piquant
try:
    import _interpreters as interpreters  # from 3.13 on
    child = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    child = interpreters.create(isolated=False)
interpreters.run_string(child, {SUBINTERPRETER!r})
import piquant
print(piquant.Context(2).num_threads)
"""
    status, printed, errors = run(code)
    assert status == 0, errors
    refused, threads = printed.splitlines()
    # From 3.14 on Python raises an error of its own, and prints this one.
    assert "main interpreter" in (refused if sys.version_info < (3, 14) else errors)
    assert threads == "2"


SUBINTERPRETER = f"""
import sys
sys.path = {sys.path!r}
try:
    import piquant
except ImportError as error:
    print(error, flush=True)
"""
