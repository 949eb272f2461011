"""What quantized gradients owe: debts add up, whatever becomes of buckets, processes and ranks."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch


def unpaid(lost: list[dict[str, np.ndarray]], debts: list[dict[str, np.ndarray]]) -> float:
    """What was lost, of all steps and ranks, and is not owed: the largest part of it, relative to the debts."""
    worst = 0.0
    for name in lost[0]:
        owed = [debt[name] for debt in debts if name in debt]
        size = max((np.abs(debt).max() for debt in owed), default=0) or 0.01
        worst = max(worst, float(np.abs(sum(book[name] for book in lost) - sum(owed)).max() / size))
    return worst


@pytest.mark.parametrize(
    ("dtype", "ddp_options"),
    [
        ("int8", {}),
        ("int4", {"bucket_cap_mb": 0.05, "gradient_as_bucket_view": True}),
        ("int2", {"static_graph": True}),
    ],
)
def test_debts_telescope(pool, dtype, ddp_options):
    """DDP rebuilds its buckets after the first step, in the order in which gradients came."""
    told = pool.run(3, "hook_ranks.train", {"dtype": dtype, "error_feedback": True}, ddp_options)
    _, _, lost, debts, _ = zip(*told, strict=True)
    assert unpaid(lost, debts) < 1e-4
    assert {name for debt in debts for name in debt} == {"0.weight", "3.weight", "5.weight"}
    assert unpaid(lost, []) > 0.01  # which is what makes them telescope


def test_debts_go_on_after_an_accumulated_gradient(pool):
    counts, lost, debts = zip(*pool.run(3, "hook_ranks.accumulate"), strict=True)
    assert counts[0] == [0, 1, 1, 2]  # no_sync calls no hook
    assert unpaid(lost, debts) < 1e-4


def test_debts_of_parameters_that_are_not_used_wait(pool):
    """DDP drops what it gets for parameters that no rank used."""
    lost, debts, is_dropped = zip(*pool.run(3, "hook_ranks.branch"), strict=True)
    assert unpaid(lost, debts) < 1e-4
    assert all(is_dropped)


@pytest.mark.parametrize("place", ["messages", "sum"])
def test_debts_after_a_failure(pool, place):
    """Nothing is lost of the steps before and after it."""
    for (first, second), is_kept, _, _ in (told := pool.run(3, "hook_ranks.fail", place)):
        assert "RuntimeError: a broken message" in first
        assert "closed since an earlier call failed: a broken message" in second
        assert is_kept
    lost = list(chain.from_iterable(books for _, _, books, _ in told))
    assert unpaid(lost, [debts for *_, debts in told]) < 1e-4


def test_a_checkpoint_goes_on_with_the_same_bits(pool):
    """With stochastic rounding and with debts, in a state of the same process, and in one that was pickled."""
    assert pool.run(3, "hook_ranks.resume") == [[True] * 4] * 3


NAMES = [f"{layer}.{parameter}" for layer in (0, 3, 4, 5) for parameter in ("weight", "bias")]
NUMBERED = {f"#{number}": name for number, name in enumerate(NAMES)}


def owed(saved):
    """By the names of the model, whatever those in the checkpoint are."""
    return {NUMBERED.get(name, name): debt.double().numpy() for name, debt in saved["debt"].items()}


@pytest.mark.parametrize("is_bound", [True, False])
@pytest.mark.parametrize("worlds", [(3, 2), (2, 4)])
def test_debts_for_another_number_of_ranks(pool, worlds, is_bound):
    """Parameters that no model has named go by numbers."""
    before, after = worlds
    first = pool.run(before, "hook_ranks.go_on", None, is_bound)
    together = first[0][2]
    assert all(torch.equal(debt, other[2]["debt"][name]) for other in first for name, debt in together["debt"].items())
    assert set(together["debt"]) == ({"0.weight", "3.weight", "5.weight"} if is_bound else {"#0", "#2", "#6"})
    second = pool.run(after, "hook_ranks.go_on", together, is_bound)
    assert unpaid([told[0] for told in [*first, *second]], [owed(told[1]) for told in second]) < 1e-4


def test_debts_with_other_buckets(pool):
    """Those of a checkpoint are for parameters, not for buckets."""
    first = pool.run(3, "hook_ranks.go_on", None, True)
    second = pool.run(3, "hook_ranks.go_on", first[0][2], True, {"bucket_cap_mb": 0.02})
    assert unpaid([told[0] for told in [*first, *second]], [owed(told[1]) for told in second]) < 1e-4
