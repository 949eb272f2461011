"""Data and contexts that the numeric tests share."""

from __future__ import annotations

import ml_dtypes
import numpy as np

import model
import piquant

HUGE = 2**62  # a threshold in bytes that no call reaches

# Scales that every compute type takes: round, not representable, small, and both ends of float32.
SCALES = (1.0, 0.1, 1 / 3, 7.25, 1e-20, 2.0**-126, 3e38)
SCALES64 = (*SCALES, 2.0**-1022, 1e-300, 1.7e308)


def scales(real: str) -> tuple[float, ...]:
    return SCALES64 if real == "float64" else SCALES


def contexts(threads: tuple[int, ...] = (1,), stream: tuple[int, ...] = (HUGE,)) -> list[piquant.Context]:
    """Every instruction set of this machine with every number of threads, used from the first byte on."""
    made = []
    for isa in piquant.available_isas():
        for n in threads:
            for threshold in stream:
                ctx = piquant.Context(n)
                ctx.isa = isa
                ctx.serial_cutoff = 0
                ctx.stream_threshold = threshold
                made.append(ctx)
    return made


def describe(ctx: piquant.Context) -> str:
    return f"{ctx.isa}, {ctx.num_threads} threads, stream_threshold={ctx.stream_threshold}"


def zero_points(dtype: str) -> list[int]:
    """Both ends of the type, their neighbours, the middle, and zero where it lies between."""
    t = model.QUANTIZED[dtype]
    return sorted({t.low, t.low + 1, (t.low + t.high) // 2, 0, t.high - 1, t.high})


def ranges(dtype: str) -> list[tuple[int | None, int | None]]:
    t = model.QUANTIZED[dtype]
    middle = (t.low + t.high) // 2
    return [(None, None), (t.low + 1, None), (None, t.high - 1), (middle, middle + 1), (t.low, t.low + 1)]


def floats(real: str, scale: float, dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """What rounding and clamping can get wrong, for a scale: ties, ends of the range, every magnitude, specials."""
    random = np.random.default_rng(seed)
    kind = model.FLOATS[real]
    t = model.QUANTIZED[dtype]
    reach = 2 * (t.high - t.low)
    parts = 4
    count = max(n // parts, 1)
    with np.errstate(all="ignore"):
        ties = (random.integers(-min(reach, 2**20), min(reach, 2**20), count) + 0.5) * scale
        inside = random.uniform(-reach, reach, count) * scale
        near_zero = random.uniform(-3, 3, count) * scale
        ends = (random.choice([t.low, t.high, -t.high, t.high - t.low, t.low - t.high, 2.0**31, -(2.0**31)], count)) * (
            scale * (1 + random.uniform(-1e-6, 1e-6, count))
        )
        values = np.concatenate([ties, inside, near_zero, ends]).astype(kind)
        bits = random.integers(0, 256, count * kind.itemsize, dtype=np.uint8).view(kind)  # any pattern there is
        largest, tiniest = ml_dtypes.finfo(kind).max, ml_dtypes.finfo(kind).smallest_subnormal
        normal = ml_dtypes.finfo(kind).smallest_normal
        specials = np.array([0, 1, 0.5, 0.5 + 2**-8, np.inf, np.nan]).astype(kind)
        specials = np.concatenate([specials, np.array([largest, tiniest, normal], kind)])
        specials = np.concatenate([specials, -specials])
    everything = np.concatenate([specials, random.permutation(np.concatenate([values, bits]))])
    return np.resize(everything, n)


def codes(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Random codes, the ends of the type among them."""
    t = model.QUANTIZED[dtype]
    q = np.random.default_rng(seed).integers(t.low, t.high, n, dtype=t.storage, endpoint=True)
    q[: min(n, 4)] = np.array([t.low, t.high, t.low + 1, t.high - 1], t.storage)[:n]
    return q


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, all NaNs being one."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.tobytes() == b.tobytes():
        return True
    if a.dtype not in model.FLOATS.values():
        return False
    nan = np.isnan(a)
    pattern = np.dtype(f"u{a.dtype.itemsize}")
    return bool(np.array_equal(nan, np.isnan(b)) and ((a.view(pattern) == b.view(pattern)) | nan).all())


def differences(got: np.ndarray, wanted: np.ndarray) -> str:
    """The first elements that differ, for the message of a failed assertion."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"{got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}"
    unequal = got != wanted
    if got.dtype in model.FLOATS.values():
        unequal &= ~(np.isnan(got) & np.isnan(wanted))
    if not unequal.any():
        return "only signs of zeros differ"
    at = np.flatnonzero(unequal)[:5]
    return f"{unequal.sum()} differ, first at {at}: {got.ravel()[at]} instead of {wanted.ravel()[at]}"
