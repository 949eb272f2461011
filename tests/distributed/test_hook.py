"""DDP with the hook: every bucket against a model without processes, and what training asks of a hook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import exchange_model
import model
from exchange_model import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from hook_ranks import Bucket
    from pool import Pool

WORLD = 3


def spans(bucket: Bucket) -> dict[str, slice]:
    begin, found = 0, {}
    for name, shape in bucket.pieces:
        found[name] = slice(begin, begin + math.prod(shape))
        begin += math.prod(shape)
    return found


def is_exempt(shape: tuple[int, ...], exempt: int) -> bool:
    return exempt > 0 and (len(shape) < 2 or math.prod(shape) < exempt)


def check_buckets(told: list[list[Bucket]], case: dict[str, Any], exempt: int, has_debt: bool) -> None:
    """Every bucket of every step, in the order of calls, from the gradients of all ranks."""
    real = model.FLOATS[case["real"]]
    debts: list[dict[str, np.ndarray]] = [{} for _ in told]
    for call, ranks in enumerate(zip(*told, strict=True), 1):
        shapes = dict(ranks[0].pieces)
        where = spans(ranks[0])
        exact = {name for name, shape in shapes.items() if is_exempt(shape, exempt)}
        inputs = [bucket.gradients.astype(real) for bucket in ranks]
        mean = np.mean([bucket.gradients for bucket in ranks], 0)
        owed = [np.zeros(mean.size, np.float32) for _ in ranks]
        for name, span in where.items():
            for rank, flat in enumerate(owed):
                flat[span] = debts[rank].get(name, 0)
                if name in exact:
                    inputs[rank][span] = 0
        wanted = Case(world=WORLD, n=mean.size, op="avg", **case)
        if exact != set(where):
            results, after = exchange_model.expected(wanted, call, inputs, owed if has_debt else None)
        for name, span in where.items():
            for rank, bucket in enumerate(ranks):
                if name in exact:
                    np.testing.assert_allclose(bucket.result[span], mean[span], rtol=2.0**-7, atol=1e-7)
                else:
                    np.testing.assert_array_equal(bucket.result[span].astype(real), results[rank][span])
                    debts[rank][name] = after[rank][span]


@pytest.mark.parametrize(
    ("options", "ddp_options", "real"),
    [
        ({"seed": 9}, {}, "float32"),
        ({"dtype": "int4", "block_size": 64}, {"bucket_cap_mb": 0.05, "gradient_as_bucket_view": True}, "float32"),
        ({"dtype": "int4", "error_feedback": True}, {"bucket_cap_mb": 0.05}, "float32"),
        ({"dtype": "int2", "error_feedback": True, "exempt": 0}, {"static_graph": True}, "float32"),
        ({"round_mode": "nearest", "exempt": 5000}, {"find_unused_parameters": True}, "bfloat16"),
        ({"dtype": "int4", "error_feedback": True, "segment_bytes": 900}, {}, "float16"),
    ],
)
def test_buckets_are_those_of_the_model(pool: Pool, options: Any, ddp_options: Any, real: str) -> None:
    told = pool.run(WORLD, "hook_ranks.train", options, ddp_options, real)
    buckets, parameters, _, _, stats = zip(*told, strict=True)
    has_debt = options.get("error_feedback", False)
    case = {
        "bits": int(options.get("dtype", "int8")[3:]),
        "block": options.get("block_size", 256),
        "mode": options.get("round_mode", "nearest" if has_debt else "stochastic"),
        "seed": options.get("seed", 0),
        "real": real,
    }
    exempt = options.get("exempt", 1024)
    check_buckets(list(buckets), case, exempt, has_debt)
    for other in parameters[1:]:
        for name, value in parameters[0].items():
            np.testing.assert_array_equal(value, other[name])
    assert len(buckets[0]) >= (5 if "bucket_cap_mb" in ddp_options else 3)  # more of them from the second step on
    sizes = [dict(bucket.pieces) for bucket in buckets[0]]
    left_out = sum(math.prod(s) for pieces in sizes for s in pieces.values() if is_exempt(s, exempt))
    elements = sum(bucket.result.size for bucket in buckets[0])
    for each in stats:
        assert (each["buckets"], each["elements"], each["exempt_elements"]) == (len(sizes), elements, left_out)
        assert (
            0.8
            < each["sent_bytes"] / (2 * (WORLD - 1) / WORLD * elements * (case["bits"] / 8 + 4 / case["block"]))
            < 1.4
        )


def test_without_a_dtype_gradients_are_those_of_torch(pool: Pool) -> None:
    told = pool.run(WORLD, "hook_ranks.train", {"dtype": None}, {})
    for bucket, others in zip(told[0][0], zip(*(rank[0] for rank in told), strict=True), strict=True):
        mean = np.mean([other.gradients for other in others], 0)
        np.testing.assert_allclose(bucket.result, mean, rtol=1e-5, atol=1e-8)
    assert told[0][4]["sent_bytes"] == 0


def test_one_rank_keeps_its_gradients(pool: Pool) -> None:
    ((buckets, *_),) = pool.run(1, "hook_ranks.train", {"dtype": "int2"}, {})
    for bucket in buckets:
        np.testing.assert_array_equal(bucket.result, bucket.gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_skip_the_step_on_every_rank(pool: Pool, value: float) -> None:
    told = pool.run(WORLD, "hook_ranks.scale_loss", 1, value)
    for steps, finite_debts, parameters in told:
        assert steps == [(True, 8.0), (False, 4.0), (True, 4.0)]
        assert finite_debts
        for name, array in parameters.items():
            assert np.isfinite(array).all()
            np.testing.assert_array_equal(array, told[0][2][name])


def test_buckets_in_flight_between_other_collectives(pool: Pool) -> None:
    told = pool.run(WORLD, "hook_ranks.many_buckets", 1)
    for buckets, sums, parameters in told:
        assert buckets >= 1 + 2 * 12  # DDP begins with one large bucket
        assert sums == [sum(range(WORLD))] * len(sums)
        assert len(sums) == 3 * 14
        for name, array in parameters.items():
            np.testing.assert_array_equal(array, told[0][2][name])


def test_ranks_that_disagree_all_raise(pool: Pool) -> None:
    for told in pool.run(WORLD, "hook_ranks.disagree"):
        assert "ranks must call with the same sizes, types and options" in told
        assert "sizes of the tensors" in told


def test_a_rank_that_dies_ends_the_backward_pass_of_the_others(fresh: Callable[..., Pool]) -> None:
    ranks = fresh(WORLD)
    ranks.start(WORLD, "hook_ranks.die_in_backward", 1)
    *told, dead = ranks.results([0, 2, 1])
    assert isinstance(dead, EOFError)
    for words, later in told:
        assert words
        assert "the group is closed since an earlier call failed" in later


def test_ranks_that_end_early_join_the_others(pool: Pool) -> None:
    told = pool.run(WORLD, "hook_ranks.drop_out")
    for parameters, _ in told:
        for name, array in parameters.items():
            np.testing.assert_array_equal(array, told[0][0][name])


def test_misuse(pool: Pool) -> None:
    (told, _) = pool.run(2, "hook_ranks.misuse")
    for words, (kind, message) in zip(MISUSE, told, strict=True):
        assert kind == "ValueError"
        assert words in message


MISUSE = [
    "error_feedback must be False where dtype is None",
    'round_mode must be "nearest" or None with error_feedback',
    "dtype must be 'int8', 'int4', 'int2' or None, got 'uint8'",
    "block_size must be an int of at least 1, got 0",
    "exempt must be an int of at least 0, got -1",
    "seed must be an int in 0..2**64 - 1",
    "state must be what state_dict or consolidate returned, got none of version, call",
    "state must have version 1, got 2",
    "state must be of 2 ranks, as this group is, got one of 9",
    "state must have an empty debt where error_feedback is False",
    "debt['0.weight'] must have the shape (48, 4, 3, 3) of the parameter, got (3,)",
    "debt must be of parameters that the bound model has, got '0.weight'",
]
