"""python battery.py first count: as many cases of device_cases.py on a card, from this seed on."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import device_cases


def main() -> None:
    warnings.simplefilter("ignore")
    first, count = map(int, sys.argv[1:])
    side = device_cases.Side(lambda x: x.cuda())
    elements = 0
    for seed in range(first, first + count):
        case = device_cases.Case(seed, 200_000)
        elements += case.data().numel()
        for words in device_cases.differences(case, side):
            print(words)
    print(f"compared {count} calls of six functions, {elements:,} elements each")


if __name__ == "__main__":
    main()
