"""Sixteen threads at once, on contexts, arrays and memory that they share: every result against the model.

In a free-threaded CPython nothing keeps them apart but the library itself. Elsewhere the interpreter's lock does, but
in kernels and between the steps of Python.
"""

import array
import gc
import itertools
import pickle
import queue
import random
import subprocess
import sys
import sysconfig
import threading

import ml_dtypes
import numpy as np
import pytest

import model
import piquant
from piquant import _arrays, _native
from workers import SOAK, in_child, is_right

THREADS = 16
ROUNDS = 200 if SOAK else 8
IS_FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
MIB = 1 << 20

X = np.random.default_rng(1).normal(size=20_011).astype(np.float32)
MATRIX = np.random.default_rng(2).normal(size=(96, 130)).astype(np.float32)
BRAIN = X[:5000].astype(ml_dtypes.bfloat16)
SIZES = (1, 64)  # of the blocks of MATRIX
BUFFER = array.array("f", X[:3000].tolist())


def lock_is_off():
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def together(*bodies):
    """Runs each body in a thread, all from the same moment on; raises what one of them raised."""
    begin = threading.Barrier(len(bodies))
    errors = queue.SimpleQueue()

    def run(body):
        try:
            begin.wait()
            body()
        except BaseException as error:
            errors.put(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if not errors.empty():
        raise errors.get()
    assert lock_is_off() == IS_FREE


def same(got, wanted):
    return got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes()


def block_params():
    """Scales and zero points of the blocks of MATRIX, for uint8."""
    groups = [[row[i : i + SIZES[1]] for i in range(0, len(row), SIZES[1])] for row in MATRIX]
    found = np.array([[model.quant_params(block, "uint8") for block in row] for row in groups])
    return found[..., 0].astype(np.float32), found[..., 1].astype(np.uint8)


def jobs():
    """Calls, each with what the model says of it. They take a context and give an array."""
    codes = model.quantize(X, 0.05, 3, "int8")
    random_codes = model.quantize(X, 0.05, 3, "uint4", "stochastic", seed=7, offset=11)
    floats = model.dequantize(codes, 0.05, 3, "int8", "float32")
    across = np.asfortranarray(MATRIX)
    scale, zero_point = block_params()
    scales, zeros = (model.expanded(p, MATRIX.shape, SIZES) for p in (scale, zero_point))
    block_codes = model.quantize(MATRIX, scales, zeros, "uint8")
    block_floats = model.dequantize(block_codes, scales, zeros, "uint8", "float32")
    container = piquant.numpy.quantize_dynamic(MATRIX, dtype="uint8", block_size=64)
    right = {"scale": 0.05, "zero_point": 3}
    in_blocks = {"scale": scale, "zero_point": zero_point, "block_size": 64}
    numpy = piquant.numpy
    return [
        (lambda ctx: numpy.quantize(X, **right, dtype="int8", ctx=ctx), codes),
        (
            lambda ctx: numpy.quantize(
                X, **right, dtype="uint4", round_mode="stochastic", seed=7, offset=11, out=None, ctx=ctx
            ),
            model.pack(random_codes, "uint4"),
        ),
        (lambda ctx: numpy.quantize(across, **right, dtype="int8", ctx=ctx), model.quantize(across, 0.05, 3, "int8")),
        (lambda ctx: numpy.quantize(BRAIN, **right, dtype="int8", ctx=ctx), model.quantize(BRAIN, 0.05, 3, "int8")),
        (lambda ctx: numpy.dequantize(codes, **right, dtype="float32", ctx=ctx), floats),
        (
            lambda ctx: numpy.dequantize(
                codes, **right, dtype=np.float32, reduce_op="add", out=np.ones(X.size, np.float32), ctx=ctx
            ),
            model.dequantize(codes, 0.05, 3, "int8", "float32", before=np.ones(X.size, np.float32)),
        ),
        (lambda ctx: numpy.quantize_dequantize(X, **right, dtype="int8", ctx=ctx), floats),
        (
            lambda ctx: np.array(numpy.compute_quant_params(X, dtype="int8", ctx=ctx)),
            np.array(model.quant_params(X, "int8")),
        ),
        (
            lambda ctx: np.asarray(piquant.quantize(BUFFER, **right, dtype="uint8", ctx=ctx)),
            model.quantize(X[:3000], 0.05, 3, "uint8"),
        ),
        (lambda ctx: numpy.compute_quant_params(MATRIX, dtype="uint8", block_size=64, ctx=ctx)[0], scale),
        (lambda ctx: numpy.compute_quant_params(MATRIX, dtype="uint8", block_size=64, ctx=ctx)[1], zero_point),
        (lambda ctx: numpy.quantize(MATRIX, **in_blocks, dtype="uint8", ctx=ctx), block_codes),
        (lambda ctx: numpy.dequantize(block_codes, **in_blocks, dtype="float32", ctx=ctx), block_floats),
        (lambda ctx: numpy.quantize_dynamic(MATRIX, dtype="uint8", block_size=64, ctx=ctx).data, block_codes),
        (lambda _: container.dequantize(), block_floats),  # one container for all threads
        (lambda _: pickle.loads(pickle.dumps(container)).dequantize(), block_floats),
        (lambda _: container[10:20].dequantize(), block_floats[10:20]),
    ]


@pytest.fixture
def contexts():
    """The default one, and another one; both use several threads from the first byte on."""
    default = piquant.Context.get()
    before = default.num_threads, default.isa, default.serial_cutoff, default.stream_threshold
    other = piquant.Context(3)
    default.serial_cutoff = other.serial_cutoff = 0
    yield None, other
    default.num_threads, default.isa, default.serial_cutoff, default.stream_threshold = before


def test_the_lock_stays_off():
    """A module that does not say that it can do without turns it on, with a warning."""
    code = "import piquant, piquant.numpy, sys; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{not IS_FREE}\n", "")


def test_results_while_settings_change(contexts):
    """Some threads compute; one changes the contexts, makes others, and collects garbage."""
    todo = jobs()
    done = threading.Event()
    left = itertools.count(THREADS - 2, -1)

    def compute(thread):
        choose = random.Random(thread)
        for _ in range(ROUNDS):
            for call, expected in choose.sample(todo, len(todo)):
                got = call(choose.choice(contexts))
                assert same(got, expected), (got, expected)
        if next(left) == 0:
            done.set()

    def change():
        choose = random.Random(-1)
        isas = piquant.available_isas()
        while not done.is_set():
            for context in (piquant.Context.get(), contexts[1]):
                context.num_threads = choose.randint(1, 4)
                context.isa = choose.choice(isas)
                context.serial_cutoff = choose.choice([0, 1 << 17])
                context.stream_threshold = choose.choice([0, 1 << 40])
                assert context.isa in isas
            loop = [piquant.Context(2)]
            loop.append(loop)
            assert same(piquant.numpy.quantize(X, scale=0.05, zero_point=3, dtype="int8", ctx=loop[0]), todo[0][1])
            del loop
            gc.collect()

    together(change, *[lambda t=t: compute(t) for t in range(THREADS - 1)])


def test_words_of_errors(contexts):
    """Each thread is told of its own call."""

    def refuse(thread):
        for i in range(20 * ROUNDS):
            number = 1000 * thread + i
            with pytest.raises(ValueError, match=f"zero_point must be in -128..127 for int8, got {10**6 + number}$"):
                piquant.numpy.quantize(X, scale=1.0, zero_point=10**6 + number, dtype="int8", ctx=contexts[1])
            with pytest.raises(ValueError, match=f"got 'no. {number}'"):
                piquant.quantize(BUFFER, scale=1.0, zero_point=0, dtype=f"no. {number}")

    together(*[lambda t=t: refuse(t) for t in range(THREADS)])


def test_kept_memory_has_one_owner():
    """Each piece has a number of its own at both ends, from when it is made until it is given up."""
    numbers = itertools.count(1)
    sizes = (1, 2 * MIB, 3 * MIB)

    def make(thread):
        choose = random.Random(thread)
        for _ in range(800 * ROUNDS):
            number = next(numbers) % 251
            memory = _native.output_memory(choose.choice(sizes))
            memory[0] = memory[-1] = number
            other = _native.output_memory(1)
            other[0] = 251
            del other
            assert memory[0] == memory[-1] == number
            del memory

    together(*[lambda t=t: make(t) for t in range(THREADS)])
    piquant.release_memory()


def test_kept_memory_changes_hands():
    """Made by one thread and given up by another, while it is given back to the system."""
    handed = queue.SimpleQueue()
    numbers = itertools.count(1)

    def make(thread):
        choose = random.Random(thread)
        for i in range(10 * ROUNDS):
            number = next(numbers) % 251
            memory = _native.output_memory(choose.randint(1, 8 * MIB))
            memory[0] = memory[-1] = number
            handed.put((number, memory))
            if i % 3 != 0:
                number, memory = handed.get()
                assert memory[0] == memory[-1] == number
            del memory
            if thread == 0 and i % 16 == 0:
                piquant.release_memory()

    together(*[lambda t=t: make(t) for t in range(THREADS)])
    while not handed.empty():
        number, memory = handed.get()
        assert memory[0] == memory[-1] == number
        del memory
    piquant.release_memory()


def test_large_results():
    """Those whose memory is kept, of four threads."""
    codes = np.resize(np.arange(256, dtype=np.uint8), 9 * MIB)
    expected = model.dequantize(np.arange(256, dtype=np.uint8), 0.5, 3, "uint8", "float32")

    def make(seed):
        previous = None
        for _ in range(4):
            out = piquant.numpy.dequantize(codes, scale=0.5 * seed, zero_point=3, dtype="float32")
            assert np.array_equal(out.reshape(-1, 256)[:: 9 * 64], np.broadcast_to(expected * seed, (64, 256)))
            assert previous is None or np.array_equal(previous, expected * seed)
            previous = out[-256:]  # keeps all of it until the next one is there

    together(*[lambda s=s: make(s) for s in (1.0, 2.0, 4.0, 8.0)])
    gc.collect()
    piquant.release_memory()


# What a process does once, by many threads: the default context is found, dtypes of ml_dtypes are learned.
FIRST_CALLS = f"""
import sys, threading
import ml_dtypes, numpy as np
import piquant.numpy
x = np.full(1000, 0.25, ml_dtypes.bfloat16)
begin = threading.Barrier({THREADS})
right = []
def call(i):
    begin.wait()
    named = piquant.numpy.dequantize(np.ones(9, np.int8), scale=0.25, zero_point=0, dtype="bfloat16")
    codes = piquant.numpy.quantize(x, scale=0.25, zero_point=0, dtype=[ml_dtypes.int4, ml_dtypes.uint2][i % 2])
    right.append(bool((codes.astype(int) == 1).all()) and bool((named == x[0]).all()))
threads = [threading.Thread(target=call, args=(i,)) for i in range({THREADS})]
for t in threads: t.start()
for t in threads: t.join()
print(right == [True] * {THREADS}, piquant.get_num_threads())
"""


def test_first_calls():
    for _ in range(ROUNDS // 2):
        done = subprocess.run([sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"True {piquant.get_num_threads()}\n", "")


def test_a_dtype_is_learned_once():
    """By a second thread nothing changes: a call of the first refers to its entry, and does not keep it alive."""
    piquant.numpy.quantize(BRAIN, scale=1.0, zero_point=0, dtype="int8")
    before = dict(_arrays.DTYPES)
    _arrays._learn(BRAIN.dtype, before[BRAIN.dtype].id, "bfloat16")
    assert all(_arrays.DTYPES[spelling] is entry for spelling, entry in before.items())


@pytest.mark.no_cover  # coverage's tracer has a lock, too, which a child may find held for ever
def test_fork_while_threads_hold_what_they_can(contexts):
    """Children find no lock held: of kept memory, of the registry of pools, of a pool."""
    stop = threading.Event()

    def keep():
        while not stop.is_set():
            _native.output_memory(MIB)
            piquant.Context(2)

    def call():
        while not stop.is_set():
            assert is_right(contexts[1])

    def works():
        memory = [_native.output_memory(MIB) for _ in range(20)]
        del memory
        return piquant.release_memory() > 0 and all(map(is_right, (*contexts, piquant.Context(2))))

    def fork():
        try:
            assert [in_child(works) for _ in range(4 * ROUNDS)] == [0] * (4 * ROUNDS)
        finally:
            stop.set()

    together(fork, keep, keep, keep, call, call)
