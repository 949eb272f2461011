"""The least effort, on which a benchmark's parts can be seen to run."""

from __future__ import annotations

import piquant
from piquant_bench.timing import Effort

TINY = Effort(
    large=4096, medium=1024, small=64, rounds=1, idle_rounds=1, curve_top=4, curve_rounds=1, compilers=False, pause=0
)
VECTORS = [isa for isa in piquant.available_isas() if isa != "scalar"]
