"""A ring all-reduce of gradients that travel as int8: processes with shared memory stand for machines with a network.

    python examples/gradient_allreduce.py

Every rank holds a gradient; in the end all hold the same sum. A gradient is cut into as many parts as there are ranks.
First, parts go round the ring and grow: a rank quantizes its part to int8, and the next one adds it on arrival with
``dequantize(..., reduce_op="add")``. Then the finished parts go round once more, as they are. Rounding is stochastic,
so the errors of the hops average out instead of adding up. Needs numpy.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import shared_memory

import numpy as np

import piquant.numpy

RANKS = 4
ELEMENTS = 1_000_000  # a multiple of RANKS
PART = ELEMENTS // RANKS
HEADER = 16  # scale and zero point, float64 and int64
SLOT = HEADER + PART


def gradient_of(rank: int) -> np.ndarray:
    return np.random.default_rng(rank).normal(0, 1e-3, ELEMENTS).astype(np.float32)


class Wire:
    """A slot per rank to send to the next one."""

    def __init__(self, name: str, rank: int, barrier) -> None:
        self.memory = shared_memory.SharedMemory(name)
        self.slots = np.ndarray((RANKS, SLOT), np.uint8, self.memory.buf)
        self.rank, self.barrier = rank, barrier

    def exchange(self, message: np.ndarray) -> np.ndarray:
        """Sends to the next rank and returns what the previous one sent."""
        self.slots[self.rank] = message
        self.barrier.wait()
        received = self.slots[self.rank - 1].copy()
        self.barrier.wait()
        return received

    def close(self) -> None:
        del self.slots
        self.memory.close()


def pack(part: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """A part of a gradient as a message, and the scale, which bounds the error of an element."""
    scale, zero_point = piquant.numpy.compute_quant_params(part, dtype="int8", symmetric=True)
    message = np.empty(SLOT, np.uint8)
    message[:8].view(np.float64)[0] = scale
    message[8:HEADER].view(np.int64)[0] = zero_point
    piquant.numpy.quantize(
        part, scale=scale, zero_point=zero_point, dtype="int8", round_mode="stochastic", seed=seed,
        out=message[HEADER:].view(np.int8),
    )  # fmt: skip
    return message, scale


def unpack(message: np.ndarray, out: np.ndarray, reduce_op: str) -> None:
    piquant.numpy.dequantize(
        message[HEADER:].view(np.int8), scale=float(message[:8].view(np.float64)[0]),
        zero_point=int(message[8:HEADER].view(np.int64)[0]), dtype=np.float32, reduce_op=reduce_op, out=out,
    )  # fmt: skip


def run_rank(rank: int, wire_name: str, result_name: str, barrier) -> None:
    wire = Wire(wire_name, rank, barrier)
    gradient = gradient_of(rank)
    parts = gradient.reshape(RANKS, PART)
    bound = 0.0
    for step in range(RANKS - 1):
        message, scale = pack(parts[(rank - step) % RANKS], seed=rank * RANKS + step)
        bound += scale
        unpack(wire.exchange(message), parts[(rank - step - 1) % RANKS], "add")
    finished = (rank + 1) % RANKS
    message, scale = pack(parts[finished], seed=rank * RANKS + RANKS - 1)
    bound += scale
    unpack(message, parts[finished], "set")  # what the others will hold
    for step in range(RANKS - 1):
        message = wire.exchange(message)
        unpack(message, parts[(finished - step - 1) % RANKS], "set")
    wire.close()

    memory = shared_memory.SharedMemory(result_name)
    results = np.ndarray((RANKS, ELEMENTS + 1), np.float32, memory.buf)
    results[rank, 0], results[rank, 1:] = bound, gradient
    del results
    memory.close()


def main() -> int:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(RANKS, timeout=60)
    wire = shared_memory.SharedMemory(create=True, size=RANKS * SLOT)
    result = shared_memory.SharedMemory(create=True, size=RANKS * (ELEMENTS + 1) * 4)
    try:
        processes = [
            context.Process(target=run_rank, args=(rank, wire.name, result.name, barrier)) for rank in range(RANKS)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            return 1
        results = np.ndarray((RANKS, ELEMENTS + 1), np.float32, result.buf).copy()
    finally:
        for memory in (wire, result):
            memory.close()
            memory.unlink()

    bounds, sums = results[:, 0], results[:, 1:]
    exact = np.sum([gradient_of(rank).astype(np.float64) for rank in range(RANKS)], axis=0)
    errors = sums[0] - exact
    same = all(np.array_equal(sums[0], other) for other in sums[1:])
    bound = float(bounds.sum())  # of all scales; an element meets one of each rank
    ratio = 4 * PART / SLOT
    print(f"{RANKS} ranks, {ELEMENTS:,} float32 each, {ratio:.2f} times fewer bytes on the wire")
    print(f"every rank holds the same sum: {same}")
    print(f"worst error {abs(errors).max():.2e}, bound {bound:.2e}, mean error {errors.mean():+.1e}")
    print(f"error relative to the sum, root mean square: {np.sqrt(np.mean(errors**2) / np.mean(exact**2)):.4f}")
    return 0 if same and abs(errors).max() <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
