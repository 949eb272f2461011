"""What an all-reduce must cost: bytes that each rank sends, and seconds by bandwidth, arithmetic and round trips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT32: Final = "float32"
OURS: Final = {"int8": 8, "int4": 4}  # bits of a code
TORCH_HOOK: Final = "torch hook"
_EXACT: Final = {FLOAT32: 32, "float16": 16, "bfloat16": 16}
METHODS: Final = (*_EXACT, TORCH_HOOK, *OURS)

_BLOCK: Final = 256  # elements that share a float32 scale
_STAGES: Final = 2  # what is gathered depends on what was scattered


def bytes_sent(method: str, ranks: int, elements: int) -> float:
    """By each rank, without the headers of messages and packets."""
    if method == TORCH_HOOK:
        return (ranks - 1) * elements  # all codes to all others
    each = OURS[method] / 8 + 4 / _BLOCK if method in OURS else _EXACT[method] / 8
    return 2 * (ranks - 1) / ranks * elements * each


def predicted(sent: float, rate: float | None, round_trip: float, unlimited: float) -> float:
    """Seconds of an all-reduce that takes so many over links without limit, where processors set the pace."""
    wire = sent * 8 / rate if rate else 0.0
    return max(wire, unlimited) + _STAGES * round_trip


def gains(method: str, rows: Sequence[dict[str, Any]], rates: Sequence[float]) -> list[float]:
    """How many times as fast as float32 a method should be, by rates, among the ranks that the rows are about.

    Nothing where the rows do not say what both take without a limit.
    """
    ranks, elements = rows[0]["ranks"], rows[0]["elements"]
    per_element = {row["method"]: row["seconds"] / row["elements"] for row in rows if row["rate"] is None}
    if not {FLOAT32, method} <= set(per_element):
        return []

    def seconds(of: str, rate: float) -> float:
        return predicted(bytes_sent(of, ranks, elements), rate, 0, elements * per_element[of])

    return [seconds(FLOAT32, rate) / seconds(method, rate) for rate in rates]
