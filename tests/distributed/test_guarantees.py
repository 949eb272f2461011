"""What is promised of the results: equal bits, whatever computes them; errors bounded, and 0 on average; NaNs stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from torch.distributed import ReduceOp

from exchange_model import Case
from piquant.distributed import error_bound

if TYPE_CHECKING:
    from pool import Pool

SUM, AVG = ReduceOp.SUM, ReduceOp.AVG


@pytest.mark.parametrize("bits", [8, 4])
def test_bits_do_not_depend_on_what_computes_them(pool: Pool, bits: int) -> None:
    found = pool.run(3, "settings", Case(world=3, n=20_000, bits=bits))
    assert len(set.union(*found)) == 1


@pytest.mark.parametrize("mode", ["stochastic", "nearest"])
@pytest.mark.parametrize("op", ["sum", "avg"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_errors_are_bounded(pool: Pool, bits: int, op: str, mode: str) -> None:
    """Of heavy-tailed data. The bound is not much too large either."""
    case = Case(world=4, n=20_000, bits=bits, op=op, mode=mode, data="heavy")
    result = np.frombuffer(pool.run(4, "exchange", case)[0][2], np.float32)
    inputs = case.inputs()
    exact = np.sum(inputs, axis=0, dtype=np.float64) / (4 if op == "avg" else 1)
    used = []
    for first in range(0, case.n, case.block):
        block = slice(first, first + case.block)
        largest = [float(np.abs(x[block]).max()) for x in inputs]
        operator = {"sum": SUM, "avg": AVG}[op]
        bound = error_bound(largest, operator, dtype=f"int{bits}", round_mode=mode)
        used.append(np.abs(result[block] - exact[block]).max() / bound)
    assert max(used) <= 1
    assert max(used) > 0.2


def test_the_bound_is_that_of_the_steps() -> None:
    step, total = 1 / 127, 3 / 127
    assert error_bound([1, 1, 1]) == pytest.approx(2 * step + total + 2 * step / 127, rel=5e-3)
    assert error_bound([1, 1, 1], round_mode="nearest") == pytest.approx(step + total / 2 + step / 254, rel=5e-3)
    assert error_bound([1, 1, 1], AVG) == pytest.approx(error_bound([1, 1, 1]) / 3, rel=1e-6)
    assert error_bound([4], dtype="int2", source_dtype="float64") == pytest.approx(4, rel=1e-6)
    assert error_bound([1, 2], source_dtype="bfloat16") > error_bound([1, 2])
    for largest in ([], [-1], [float("nan")], [float("inf"), 1]):
        with pytest.raises(ValueError, match="largest must be finite magnitudes, one for each rank"):
            error_bound(largest)
    with pytest.raises(ValueError, match=r"op must be ReduceOp\.SUM or ReduceOp\.AVG"):
        error_bound([1], "max")


def fractions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the data of ``errors_of_seeds``: scale of each element's block, and how far it is above a code."""
    data = np.random.default_rng(5).standard_normal(n).astype(np.float32).astype(np.float64)
    scale = np.repeat(np.abs(data.reshape(-1, 50)).max(1) / 7, 50)
    return scale, data / scale % 1


def test_no_error_on_average(pool: Pool) -> None:
    """Of both quantizations. The deviation is that of the errors, but where these are too rare to tell."""
    n, seeds = 300, 2000
    sums, squares = pool.run(2, "errors_of_seeds", "all_reduce", n, seeds, False)[0]
    scale, fraction = fractions(n)
    found = (squares - sums**2 / seeds) / (seeds - 1) / seeds
    deviation = np.sqrt(np.maximum(found, fraction * (1 - fraction) * scale**2 / seeds))
    assert np.median(deviation) > 1e-3
    assert (np.abs(sums / seeds) - 5 * deviation - scale * 2.0**-16).max() <= 0  # words have 16 bits


@pytest.mark.parametrize("share", [False, True])
def test_errors_of_ranks_average(pool: Pool, share: bool) -> None:
    """The errors of ranks with words of their own cancel each other; with the same words they add up."""
    world, seeds = 3, 100
    found = pool.run(world, "errors_of_seeds", "reduce_scatter", 1500 * world, seeds, share)
    scale, fraction = fractions(1500 * world)
    deviation = np.sqrt((world - 1) * fraction * (1 - fraction) * seeds) * scale
    is_rounded = deviation > scale
    z = np.concatenate([sums for sums, _ in found])[is_rounded] / deviation[is_rounded]
    assert z.size > 4000
    is_right = bool(np.abs(z).max() < 5 and 0.9 < np.square(z).mean() < 1.1)
    assert is_right != share


def test_what_is_not_finite_stays_so_everywhere(pool: Pool) -> None:
    found = pool.run(5, "not_finite")
    assert found == [(found[0][0], [0, 1, 2, 3, 4])] * 5
