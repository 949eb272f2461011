"""What tests run in other processes. Imports little, for processes that start anew."""

import os
import signal

import numpy as np

import piquant
import piquant.numpy

SOAK = "PIQUANT_SOAK" in os.environ  # rounds that take minutes

X = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
RIGHT = {"scale": 0.05, "zero_point": 0, "dtype": np.int8}
EXPECTED = np.clip(np.rint(X * np.float32(1 / 0.05)), -128, 127).astype(np.int8)


def is_right(context):
    return np.array_equal(piquant.numpy.quantize(X, **RIGHT, ctx=context), EXPECTED)


def default_context_is_right(_):
    """By several threads at once, whatever the size and the number of CPUs."""
    context = piquant.Context.get()
    context.num_threads, context.serial_cutoff = 3, 0
    return is_right(context)


def in_child(body):
    """Exit status of a forked child that runs ``body``; one that hangs dies of SIGALRM."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # a frozen machine is not a hang
        os._exit(0 if body() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
