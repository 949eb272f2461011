"""python digests.py first step [some]: every step-th row of the tables that tests/cpp commits, from this on, on a card.

``some``: of those that CI has time for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import digest_calls


def main() -> None:
    first, step = map(int, sys.argv[1:3])
    rows = digest_calls.rows_of_tables()
    if sys.argv[3:]:
        rows = [row for row in rows if digest_calls.is_in_ci(row)]
    for row in rows[first::step]:
        for words in digest_calls.differing_digests(row, torch.device("cuda", 0)):
            print(words)
    print(f"compared {len(rows[first::step])} rows of digests")


if __name__ == "__main__":
    main()
