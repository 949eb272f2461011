"""How much is tried, and where what other tests share is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / name) for name in ("cuda", "python", "distributed")]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=20, help="cases of a process for each processor")
    parser.addoption("--all-digests", action="store_true", help="not only those that CI has time for")


@pytest.fixture
def cuda_cases(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--cases"))


@pytest.fixture
def all_digests(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-digests"))
