"""FSDP2 whose gradients and weights are quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pool import Pool

EXACT = ("2.weight", "2.bias")


def check_gradients(told: list[Any], steps: float, *, is_exact: bool = False) -> None:
    """Whole gradients are the same on all ranks, and miss the mean by at most so many steps of int8."""
    for step in range(2):
        own, reduced = [t[0][step][0] for t in told], [t[0][step][1] for t in told]
        for name in own[0]:
            mean = np.mean([gradient[name] for gradient in own], 0)
            error = np.abs(reduced[0][name] - mean).max()
            largest = max(np.abs(gradient[n]).max() for gradient in own for n in gradient if n[0] == name[0])
            assert error <= (1e-6 if name in EXACT or is_exact else steps * largest / 127)
            assert is_exact or name in EXACT or error > 0
            for other in reduced[1:]:
                np.testing.assert_array_equal(other[name], reduced[0][name])
    for _, parameters in told[1:]:
        for name, value in parameters.items():
            np.testing.assert_array_equal(value, told[0][1][name])


@pytest.mark.parametrize("world", [2, 3])
def test_gradients(pool: Pool, world: int) -> None:
    """Each part is a mean of what the others sent, and of what its owner has."""
    check_gradients(pool.run(world, "fsdp_ranks.train", "int8", None), (world - 1) / world)


def test_gradients_without_a_dtype_are_those_of_torch(pool: Pool) -> None:
    check_gradients(pool.run(3, "fsdp_ranks.train", None, None), 0, is_exact=True)


def test_gradients_and_weights(pool: Pool) -> None:
    """Both in 8 bits: all ranks have the same parameters, near those of plain training."""
    plain = pool.run(3, "fsdp_ranks.train", None, None)[0][1]
    told = pool.run(3, "fsdp_ranks.train", "int8", "int8")
    for _, parameters in told:
        for name, value in parameters.items():
            np.testing.assert_array_equal(value, told[0][1][name])
            assert np.abs(value - plain[name]).max() < 0.05 * np.abs(plain[name]).max()


def test_gradients_of_16_bits(pool: Pool) -> None:
    told = pool.run(3, "fsdp_ranks.train", "int8", "int8", True)
    for steps, parameters in told:
        assert all(np.isfinite(value).all() for value in parameters.values())
        for name, value in steps[0][1].items():
            np.testing.assert_array_equal(value, told[0][0][0][1][name])
            mean = np.mean([other[0][0][0][name] for other in told], 0)
            assert np.abs(value - mean).max() < 0.1 * np.abs(mean).max()


def test_replicas_average_in_the_same_bits(fresh: Any) -> None:
    """A shard loses once as without replicas, and again in an all-reduce of two."""
    ranks = fresh(4)
    check_gradients(ranks.run(4, "fsdp_ranks.train_hybrid", "int8"), 3)
    told, words = zip(*ranks.run(4, "fsdp_ranks.train_native_hybrid"), strict=True)
    check_gradients(list(told), 1)
    assert all("replicas must be None where FSDP averages over replicas itself" in each for each in words)


@pytest.mark.parametrize("is_async", [False, True])
def test_weights_are_rounded_once_for_both_passes(pool: Pool, is_async: bool) -> None:
    told = pool.run(3, "fsdp_ranks.gathered", is_async)
    for (forward, backward), shards in told:
        np.testing.assert_array_equal(forward, told[0][0][0])
        np.testing.assert_array_equal(backward, forward)
        error = np.abs(forward - shards).max()
        assert 0 < error <= 0.51 * np.abs(shards).max() / 7


def test_misuse_of_fsdp(pool: Pool) -> None:
    wanted = [
        "model must have a module that fully_shard was applied to, got none",
        "dtype must be 'int8', 'int4', 'int2' or None, got 'int3'",
        "dtype must be 'int8', 'int4', 'int2' or None, got 'int9'",
        "round_mode",
        "block_size must be an int of at least 1, got 0",
        "need the classes by which FSDP2 lets its communication be replaced",
    ]
    for words in pool.run(2, "fsdp_ranks.misuse"):
        assert len(words) == len(wanted)
        for said, want in zip(words, wanted, strict=True):
            assert want in said
