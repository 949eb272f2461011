"""What goes wrong: every rank is told, nobody hangs or dies of it, and tensors are what they were."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pool import Pool


def test_ranks_that_disagree(pool: Pool) -> None:
    pool.run(3, "failure_ranks.disagree")


def test_a_rank_that_is_killed(fresh: Callable[..., Pool]) -> None:
    ranks = fresh(3)
    ranks.run(3, "failure_ranks.warm_up")
    ranks.start(3, "failure_ranks.vanish", signal.SIGKILL, 2)
    found = ranks.results(range(3))
    assert isinstance(found[2], EOFError)
    for first, is_untouched, later, _ in found[:2]:
        assert first.startswith("RuntimeError: ")
        assert is_untouched
        assert later == f"RuntimeError: the group is closed since an earlier call failed: {first[14:]}"
    ranks.processes[2].join()
    assert [process.exitcode for process in ranks.processes] == [None, None, -signal.SIGKILL]


def test_a_rank_that_stalls(fresh: Callable[..., Pool]) -> None:
    ranks = fresh(2, timeout=1.5)
    ranks.run(2, "failure_ranks.warm_up")
    ranks.start(2, "failure_ranks.vanish", signal.SIGSTOP, 1)
    first, is_untouched, later, took = ranks.results([0])[0]
    assert first.startswith("RuntimeError: ")
    assert is_untouched
    assert "the group is closed" in later
    assert took >= 1


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("field", [0, 1])
def test_messages_of_another_call(pool: Pool, field: int, phase: int) -> None:
    for said, is_untouched in pool.run(2, "failure_ranks.wrong_messages", field, phase):
        assert "sent a message of another call: plan" in said
        assert is_untouched


def test_beginning_anew(pool: Pool) -> None:
    pool.run(3, "failure_ranks.begin_anew")


def test_groups_that_are_dropped_at_once(pool: Pool) -> None:
    pool.run(7, "failure_ranks.drop_groups", 20)


def test_children_of_ranks(pool: Pool) -> None:
    words = (
        "this process was forked from process PID, to which the group belongs: its connections and threads are not here"
    )
    assert pool.run(2, "failure_ranks.fork") == [words] * 2


def test_errors_close_the_group(pool: Pool) -> None:
    words = "the group is closed since an earlier call failed: 'of a job'"
    assert pool.run(2, "failure_ranks.fail_in_a_job") == [words] * 2


def test_parts_that_do_not_fit(pool: Pool) -> None:
    pool.run(2, "failure_ranks.parts_that_do_not_fit")
