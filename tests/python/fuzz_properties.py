"""Searches for input that breaks a property of properties.py, for as long as it is told, and says how much it tried.

python tests/python/fuzz_properties.py --seconds 3600
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import functools
import itertools
import sys
import time
import traceback
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from properties import CHECKS, PROPERTIES

# New examples every time. Findings are kept, and tried first the next time.
FUZZ = settings(
    max_examples=200, deadline=None, database=DirectoryBasedExampleDatabase("build/fuzz/hypothesis"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink], print_blob=True, suppress_health_check=CHECKS,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    given_arguments = parser.parse_args()
    faulthandler.enable()  # says where, should the process be brought down
    properties = [FUZZ(holds) for holds in PROPERTIES]
    end = time.monotonic() + given_arguments.seconds
    counts: collections.Counter[str] = collections.Counter()
    failed: dict[str, str] = {}
    for holds in itertools.cycle(properties):
        if time.monotonic() >= end or len(failed) == len(properties):
            break
        if holds.__name__ in failed:
            continue
        inner = holds.hypothesis.inner_test

        def counted(inner: Any = inner, name: str = holds.__name__, **drawn: Any) -> None:
            counts[name] += 1
            inner(**drawn)

        holds.hypothesis.inner_test = functools.wraps(inner)(counted)
        try:
            with np.errstate(all="ignore"):
                holds()
        except BaseException:
            failed[holds.__name__] = traceback.format_exc()
        holds.hypothesis.inner_test = inner
    for name, words in failed.items():
        print(f"\nBROKEN PROPERTY: {name}\n{words}")
    for name, count in counts.items():
        print(f"{count:9} examples of {name}{'  BROKEN' if name in failed else ''}")
    print(f"{counts.total():9} examples in all; findings: {len(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
