"""The ranks that tests share: started once, as soon as the first test wants them."""

from collections.abc import Callable, Iterator

import pytest

from pool import WORLDS, Pool


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Seven ranks, and groups of the first 1, 2, 3, 4 and 5 of them."""
    made = Pool(WORLDS[-1], WORLDS[:-1])
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Callable[..., Pool]]:
    """Makes ranks for what these do not survive."""
    pools: list[Pool] = []

    def make(world: int, timeout: float = 60) -> Pool:
        pools.append(Pool(world, timeout=timeout))
        return pools[-1]

    yield make
    for made in pools:
        made.close()
