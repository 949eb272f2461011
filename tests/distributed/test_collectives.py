"""The collectives against a model that has no messages, bit for bit: any sizes, ranks, types, bits, modes, segments."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import exchange_model
from exchange_model import Case
from pool import WORLDS

if TYPE_CHECKING:
    from pool import Pool

MANY = [world for world in WORLDS if world > 1]
FACTORS: dict[str, list[Any]] = {
    "kind": ["all_reduce", "all_reduce", "reduce_scatter", "all_gather"],
    "world": MANY,
    "size": ["0", "1", "block - 1", "block", "world * block + 1", "1009", "10007", "5 * world * block"],
    "real": ["float16", "bfloat16", "float32", "float64"],
    "bits": [8, 4, 2],
    "block": [256, 64, 100, 7],
    "op": ["sum", "avg"],
    "mode": ["stochastic", "nearest"],
    "segment_bytes": [None, 1, 300],
    "data": ["normal", "wild"],
    "has_debt": [False, True],
}


def pairwise(factors: dict[str, list[Any]], rng: random.Random) -> list[dict[str, Any]]:
    """Choices in which each two values of two factors meet: the best of a few random ones, until none is left."""
    names = list(factors)
    left = {(a, x, b, y) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]}
    chosen = []
    while left:
        a, x, b, y = min(left, key=repr)
        tried = [{name: rng.choice(values) for name, values in factors.items()} | {a: x, b: y} for _ in range(20)]

        def met(choice: dict[str, Any]) -> set[tuple[str, Any, str, Any]]:
            return {(p, choice[p], q, choice[q]) for p, q in itertools.combinations(names, 2)}

        best = max(tried, key=lambda choice: len(met(choice) & left))
        left -= met(best)
        chosen.append(best)
    return chosen


def case_of(choice: dict[str, Any]) -> Case:
    told = dict(choice)
    n = eval(told.pop("size"), {"block": choice["block"], "world": choice["world"]})
    if told["kind"] == "reduce_scatter":
        n -= n % told["world"]
    if told["kind"] == "all_gather":
        told |= {"op": "sum", "has_debt": False}
    return Case(n=n, **told)


RANDOM = random.Random(1)
# And some more, for three factors that meet.
CHOICES = pairwise(FACTORS, RANDOM) + [
    {name: RANDOM.choice(values) for name, values in FACTORS.items()} for _ in range(80)
]
CASES = [case_of(choice) for choice in CHOICES] + [
    Case(n=1_000_000, world=3, data="heavy"),
    Case(n=70_000, world=2, kind="reduce_scatter", segment_bytes=1000, has_debt=True, mode="nearest"),
]


@pytest.mark.parametrize("world", MANY)
def test_results_and_debts(pool: Pool, world: int) -> None:
    cases = [case for case in CASES if case.world == world]
    assert len({(case.kind, case.bits) for case in cases}) >= 7
    answers = pool.run(world, "exchanges", cases)
    for i, case in enumerate(cases):
        calls, sums, shown, debts = zip(*(answer[i] for answer in answers), strict=True)
        assert len(set(calls)) == 1
        if case.kind != "reduce_scatter":
            assert len(set(sums)) == 1, f"ranks differ: {case}"
        before = None
        if case.has_debt:
            before = [exchange_model.data(case, rank, 1).astype(case.wide) for rank in range(world)]
        results, after = exchange_model.expected(case, calls[0], case.inputs(), before)
        for rank, result in enumerate(results):
            if case.kind == "reduce_scatter" or rank == 0:
                expect_bits(np.frombuffer(shown[rank], result.dtype), result, f"rank {rank} of {case}")
            if case.has_debt:
                found = np.frombuffer(debts[rank], case.wide)
                expect_bits(found + 0, after[rank] + 0, f"debt of rank {rank} of {case}")


def expect_bits(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Equal. All NaNs are the negative one without payload, whatever arithmetic makes them."""
    assert found.shape == expected.shape, what
    default = {"float64": 0xFFF8 << 48, "float32": 0xFFC00000, "float16": 0xFE00, "bfloat16": 0xFFC0}
    patterns, wanted = (x.view(f"u{x.itemsize}") for x in (found, expected))
    wanted = np.where(np.isnan(expected), wanted.dtype.type(default[expected.dtype.name]), wanted)
    wrong = np.flatnonzero(patterns != wanted)
    assert wrong.size == 0, f"{what}: {wrong.size} differ, first {wrong[0]}: {found[wrong[0]]}, {expected[wrong[0]]}"


def test_layouts(pool: Pool) -> None:
    pool.run(3, "sums_of_layouts")


def test_coalesced(pool: Pool) -> None:
    assert len(set(pool.run(4, "coalesced", Case(world=4, n=9000)))) == 1


def test_parts(pool: Pool) -> None:
    pool.run(3, "parts")


def test_one_rank(pool: Pool) -> None:
    pool.run(1, "alone")


def test_many_calls_in_flight(pool: Pool) -> None:
    found = pool.run(5, "many_in_flight", 12)
    assert found == [found[0]] * 5
