"""What the collectives compute, a second time: numpy, and the model of the numerics; no messages, no processes."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes  # noqa: F401, numpy knows bfloat16 by it
import numpy as np

import model

WORD = 2**64 - 1


@dataclass(frozen=True)
class Case:
    """A call, alike on all ranks but for its data."""

    kind: str = "all_reduce"
    world: int = 2
    n: int = 1000  # elements of a rank's input
    real: str = "float32"
    bits: int = 8
    block: int = 256
    op: str = "sum"
    mode: str = "stochastic"
    segment_bytes: int | None = None
    seed: int = 1
    data: str = "normal"
    has_debt: bool = False

    @property
    def reach(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @property
    def wide(self) -> str:
        return "float64" if self.real == "float64" else "float32"

    def inputs(self) -> list[np.ndarray]:
        return [data(self, rank) for rank in range(self.world)]


def data(case: Case, rank: int, salt: int = 0) -> np.ndarray:
    """What a rank has."""
    random = np.random.default_rng([rank, case.n, salt])
    x = random.standard_normal(case.n)
    if case.data == "heavy":
        x = x * np.exp(3 * random.standard_normal(case.n))
    elif case.data == "wild":  # blocks of zeros, of tiny numbers, of what is not finite
        x[: case.n // 5] = 0
        x[case.n // 4 : case.n // 3] *= 1e-42
        if rank % 2 == 1:
            x[case.n // 2 :: 1001] = [np.nan, np.inf, -np.inf][rank % 3]
    return x.astype(model.FLOATS[case.real])


def mix(*words: int) -> int:
    mixed = 0
    for word in words:
        z = ((mixed ^ word) + 0x9E3779B97F4A7C15) & WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        mixed = z ^ (z >> 31)
    return mixed


def scales(case: Case, x: np.ndarray) -> np.ndarray:
    """Of each block, the smallest float32 that is not below max|x| / reach; a NaN of what is not finite."""
    t = np.dtype(model.compute_type(model.name_of(x.dtype)))
    blocks = np.zeros(-(-x.size // case.block) * case.block)
    blocks[: x.size] = x
    largest = np.abs(blocks.reshape(-1, case.block)).max(1, initial=0)
    with np.errstate(all="ignore"):
        exact = np.maximum((largest / case.reach).astype(t), np.finfo(t).smallest_normal)
        exact = np.where(largest == 0, 1, exact)
        narrow = exact.astype(np.float32)
        narrow = np.where(narrow < exact, np.nextafter(narrow, np.float32(np.inf)), narrow)
    return np.where(np.isfinite(largest) & np.isfinite(narrow), narrow, np.float32(np.nan))


def codes(case: Case, x: np.ndarray, each: np.ndarray, seed: int, first: int) -> np.ndarray:
    """Of scales of each element; words go by the index in the flat tensor. 0 where there is no scale."""
    given = np.where(np.isnan(each), 0, x).astype(x.dtype)
    finite = np.where(np.isnan(each), 1, each)
    return model.quantize(given, finite, 0, f"int{case.bits}", case.mode, seed, first, -case.reach, case.reach)


def arrives(case: Case, x: np.ndarray, real: str, words: tuple[int, int, int], first: int) -> np.ndarray:
    """What a message of x stands for, as a float type: `words` are number of the call, rank and phase."""
    each = np.repeat(scales(case, x), case.block)[: x.size]
    quantized = codes(case, x, each, mix(case.seed, *words), first)
    return model.dequantize(quantized, each, 0, f"int{case.bits}", real)


def expected(
    case: Case, call: int, inputs: list[np.ndarray], debts: list[np.ndarray] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each rank, the result and the debt."""
    w, wide = case.world, np.dtype(case.wide)
    n = case.n * w if case.kind == "all_gather" else case.n
    unit = case.block if case.kind == "all_reduce" else 1
    c = unit * -(-n // (w * unit))
    parts = [slice(min(r * c, n), min((r + 1) * c, n)) for r in range(w)]
    owed = inputs if debts is None else [x.astype(wide) + debt for x, debt in zip(inputs, debts, strict=True)]
    after = [np.zeros(case.n, wide) for _ in range(w)]
    whole = np.zeros(n, inputs[0].dtype)
    sums = []
    with np.errstate(all="ignore"):
        for r, part in enumerate(parts):
            total = owed[r][part] if case.kind != "all_gather" else inputs[r]
            for q in range(w):
                if q != r and case.kind != "all_gather":
                    sent = arrives(case, owed[q][part], case.wide, (call, q, 0), part.start)
                    after[q][part] = owed[q][part].astype(wide) - sent
                    total = total.astype(wide) + sent
            mean = total / wide.type(w) if case.op == "avg" else total
            sums.append(mean.astype(case.wide).astype(inputs[0].dtype))
            if case.kind != "reduce_scatter":
                whole[part] = arrives(case, mean, case.real, (call, r, 1), part.start)
                result = arrives(case, mean, case.wide, (call, r, 1), part.start)
                if case.kind == "all_reduce":
                    after[r][part] = total.astype(wide) - (result * wide.type(w) if case.op == "avg" else result)
    after = [np.where(np.isfinite(debt), debt, 0) for debt in after]
    return sums if case.kind == "reduce_scatter" else [whole] * w, after
