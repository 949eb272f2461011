"""DiLoCo on real processes: what an outer step computes, that all ranks agree, and what is left after failures."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist

import diloco_ranks as ranks
from diloco_ranks import EVERY, SHAPES, VICTIM, Walk, moves
from piquant.distributed import DiLoCo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pool import Pool

Values = dict[str, torch.Tensor]

OPTIONS = {
    "float32": {"dtype": None},
    "int8": {"dtype": "int8"},
    "int4": {},
    "int4, stochastic": {"error_feedback": False},
    "int2": {"dtype": "int2", "block_size": 64},
}


def same(a: Any, b: Any) -> bool:
    """Whether two structures are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)) if a.dim() else a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def all_same(values: Sequence[Any]) -> bool:
    return all(same(a, b) for a, b in pairwise(values))


def expected(world_size: int, rounds: int) -> Values:
    """Parameters after outer steps, in float64: Nesterov's momentum by its formula."""
    anchors = {name: param.detach().double() for name, param in Walk(0).params.items()}
    speeds = dict.fromkeys(SHAPES, torch.zeros((), dtype=torch.float64))
    for outer_step in range(rounds):
        for i, name in enumerate(SHAPES):
            steps = range(EVERY * outer_step, EVERY * (outer_step + 1))
            gradient = -sum(moves(rank, step)[i].double() for rank in range(world_size) for step in steps) / world_size
            speeds[name] = 0.9 * speeds[name] + gradient
            anchors[name] = anchors[name] - 0.7 * (gradient + 0.9 * speeds[name])
    return anchors


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_outer_step_is_that_of_the_outer_optimizer(pool: Pool, world_size: int, options: dict[str, Any]) -> None:
    results = pool.run(world_size, "diloco_ranks.walk", 0, torch.float32, 2 * EVERY + 1, options)
    for said, _, _, rounds in results:
        assert said == [False, False, True, False, False, True, False]
        assert rounds == 2
    # The last step was not exchanged: it is each rank's own.
    agreed = [
        {name: value - move for (name, value), move in zip(values.items(), moves(rank, 2 * EVERY), strict=True)}
        for rank, (_, values, _, _) in enumerate(results)
    ]
    right = expected(world_size, 2)
    for values in agreed:
        difference = torch.cat([(values[name] - right[name]).flatten() for name in SHAPES]).abs()
        exact = world_size == 1 or options.get("dtype", "int4") is None
        assert difference.max() < (1e-5 if exact else 8 * ranks.MOVE)
        assert exact or difference.mean() > 1e-6  # codes were sent


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_parameters_are_the_same_on_all_ranks(pool: Pool, dtype: torch.dtype, options: dict[str, Any]) -> None:
    results = pool.run(3, "diloco_ranks.walk", 0, dtype, 3 * EVERY, options)
    assert all_same([values for _, values, _, _ in results])


def test_what_was_not_sent_is_owed(pool: Pool) -> None:
    steps = 4 * EVERY
    results = pool.run(3, "diloco_ranks.plain_walk", steps)
    assert max(debt.abs().max() for _, debts in results for debt in debts.values() if debt.numel()) > ranks.MOVE / 10
    for i, name in enumerate(SHAPES):
        moved = sum(moves(rank, step)[i].double() for rank in range(3) for step in range(steps))
        arrived = 3 * (results[0][0][name].double() - Walk(0).params[name].detach().double())
        owed = sum(debts[name].double() for _, debts in results)
        assert torch.allclose(arrived - owed, moved, atol=1e-5)


@pytest.mark.parametrize("options", [OPTIONS["int4"], OPTIONS["int4, stochastic"], OPTIONS["float32"]])
def test_a_walk_goes_on_from_a_file(pool: Pool, options: dict[str, Any]) -> None:
    for whole, resumed in pool.run(2, "diloco_ranks.interrupted", 5 * EVERY, 2 * EVERY + 1, options):
        assert same(whole, resumed)


def test_a_rank_whose_parameters_are_not_finite(pool: Pool) -> None:
    results = pool.run(3, "diloco_ranks.diverged")
    for words, before, after, reset, _ in results:
        assert words == "FloatingPointError: parameters are not finite on ranks [1], in outer step 1"
        assert same(before, after)
        assert same(reset["params"], before["anchors"])
        assert same(reset["debts"], before["debts"])
    assert all_same([values for *_, values in results])


def test_a_rank_with_an_older_checkpoint(pool: Pool) -> None:
    results = pool.run(3, "diloco_ranks.apart")
    *others, behind = results
    for words, _, reset in results:
        assert words == (
            "DisagreementError: ranks must have the same, got outer steps: 2 on ranks 0, 1, 1 on rank 2; "
            "reset brings them together"
        )
        assert same(reset["params"], results[0][1]["params"])
        assert same(reset["momentum"], results[0][1]["momentum"])
        assert reset["rounds"] == 2
    for _, newest, reset in others:
        assert same(reset["debts"], newest["debts"])
    assert not any(debt.any() for debt in behind[2]["debts"])


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ([{}, {"every": 7}, {}], False, "every: 500 on ranks 0, 2, 7 on rank 1"),
        ([{}, {"dtype": "int8"}, {}], False, "dtype: int4 on ranks 0, 2, int8 on rank 1"),
        ([{}, {"error_feedback": False}, {}], False, "round_mode: nearest on ranks 0, 2, stochastic on rank 1"),
        ([{}, {}, {}], True, "elements: 5683 on ranks 0, 2, 5684 on rank 1"),
    ],
)
def test_ranks_that_disagree(pool: Pool, options: list[dict[str, Any]], shape: bool, words: str) -> None:
    for said in pool.run(3, "diloco_ranks.disagreeing", options, shape):
        assert said.startswith("DisagreementError: ")
        assert words in said


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


PARAM = torch.nn.Parameter(torch.ones(3))
OTHER = torch.nn.Parameter(torch.ones(2))


def sgd(*params: torch.Tensor) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


@pytest.mark.parametrize(
    ("params", "optimizer", "options", "error", "words"),
    [
        ([], sgd(PARAM), {}, ValueError, "params must have elements, got none"),
        (PARAM, sgd(PARAM), {}, TypeError, "params must be an iterable of tensors, or of pairs of a name and a tensor"),
        ([3], sgd(PARAM), {}, TypeError, "params['0'] must be a torch.Tensor, got int"),
        ([(3, PARAM)], sgd(PARAM), {}, TypeError, "names of params must be str, got 3"),
        ([torch.ones(3, dtype=torch.int64)], sgd(PARAM), {}, TypeError, "params['0'] must be of torch.float16"),
        ([PARAM * 2], sgd(PARAM), {}, ValueError, "params['0'] must be a leaf, got the result of an operation"),
        ([PARAM, PARAM], sgd(PARAM), {}, ValueError, "params must not have a name or a tensor twice, got '1' again"),
        ([torch.ones(3, device="meta")], sgd(PARAM), {}, NotImplementedError, "params['0'] must be on"),
        ([PARAM, torch.ones(3, device="meta")], sgd(PARAM), {"dtype": None}, ValueError, "each of cpu, meta"),
        ([PARAM], None, {}, TypeError, "outer_optimizer must be a torch.optim.Optimizer, got None"),
        ([PARAM], sgd(OTHER), {}, ValueError, "got one with 1 others, and without 0"),
        ([PARAM], sgd(PARAM, OTHER), {}, ValueError, "got one with 1 others, and without none of them"),
        ([PARAM], sgd(PARAM), {"every": 0}, ValueError, "every must be an int of at least 1, got 0"),
        ([PARAM], sgd(PARAM), {"every": 1.5}, TypeError, "every must be an int of at least 1, got 1.5"),
        (
            [PARAM],
            sgd(PARAM),
            {"dtype": "int3"},
            ValueError,
            "dtype must be 'int8', 'int4', 'int2' or None, got 'int3'",
        ),
        ([PARAM], sgd(PARAM), {"block_size": 0}, ValueError, "block_size must be an int of at least 1, got 0"),
        ([PARAM], sgd(PARAM), {"seed": -1}, ValueError, "seed must be an int in 0..2**64 - 1"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_bad_arguments(
    params: Any, optimizer: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        DiLoCo(params, optimizer, **options)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "state must be of version 1, got 2"),
        ({"anchors": {}}, "state['anchors']['0'] must be of shape (3,), got absent"),
        ({"anchors": {"0": torch.ones(4)}}, "state['anchors']['0'] must be of shape (3,), got of shape (4,)"),
        ({"debts": {"0": torch.ones(3), "x": torch.ones(1)}}, "state['debts']['x'] must be absent, got of shape (1,)"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_states_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    outer = DiLoCo([PARAM], sgd(PARAM), every=1)
    outer.step()
    with pytest.raises(ValueError, match=re.escape(words)):
        outer.load_state_dict({**outer.state_dict(), "rounds": 7, **change})
    assert outer.rounds == 1


def test_a_closed_one_raises(pool: Pool) -> None:
    for words in pool.run(2, "diloco_ranks.closed"):
        assert words == "RuntimeError: the group was closed"


def test_a_rank_is_killed_in_an_outer_step_and_comes_again(fresh: Callable[..., Pool]) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    world = 3
    job, replacement = fresh(world), fresh(1)
    job.start(world, "diloco_ranks.one_is_killed", store.port)
    replacement.start(1, "diloco_ranks.newcomer", store.port, world)
    ends = job.results(range(world))
    assert isinstance(ends[VICTIM], EOFError)
    ends[VICTIM] = replacement.results([0])[0]

    for words, again, before, after, reset, *_ in (end for rank, end in enumerate(ends) if rank != VICTIM):
        assert words.startswith("RuntimeError: ")
        assert again.startswith("RuntimeError: the group is closed since an earlier call failed")
        assert same(before, after)
        assert same(reset["debts"], before["debts"])
        assert same(reset["anchors"], before["anchors"])
    resets, said, values = zip(*(end[-3:] for end in ends), strict=True)
    for reset in resets:
        assert reset["rounds"] == 1
        assert same(reset["params"], reset["anchors"])
    assert all_same([{**reset, "debts": None} for reset in resets])
    assert not any(debt.any() for debt in resets[VICTIM]["debts"])
    assert any(debt.any() for debt in resets[0]["debts"])
    assert all_same(said)
    assert all_same(values)
