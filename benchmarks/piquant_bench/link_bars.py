"""What all-reduces over links are held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from piquant_bench import wire
from piquant_bench.check import Verdict
from piquant_bench.report import Row, groups, link_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAST_SHARE: Final = 0.90  # of the wire, for int8
_LEAST_GAIN: Final = 1.7  # int4 over int8
_MOST_OFF: Final = 0.02  # bytes, of the model
# Of the sum, relative root mean square on normal data: a method that sums nothing is fast.
MOST_ERROR: Final = {"float16": 1e-3, "bfloat16": 1e-2, wire.TORCH_HOOK: 0.03, "int8": 0.03, "int4": 0.4}
_LEAST_BYTES: Final = 10**6  # below which headers count
_WIRE_LIMITS: Final = 10**9  # bits per second up to which the wire sets the pace of ranks with a core each


def judge(rows: list[Row], tolerance: float = 0.0) -> list[Verdict]:
    """All bars that apply to rows. The tolerance is a part of those of time, by which they may be missed."""
    points = groups(rows, "ranks", "delay", "rate", "elements").values()
    return [verdict for of_point in points for verdict in _judge({row["method"]: row for row in of_point}, tolerance)]


def _judge(methods: dict[str, Row], tolerance: float) -> Iterator[Verdict]:
    """Of one point."""
    for method, row in methods.items():
        if row["model"] >= _LEAST_BYTES:
            ratio = row["sent"] / row["model"]
            yield _verdict(row, "bytes / model", ratio, abs(ratio - 1) <= _MOST_OFF, f"1 within {_MOST_OFF}")
        if method in MOST_ERROR:
            yield _most(row, "error", row["error"], MOST_ERROR[method])
        if method in wire.OURS and row["rate"] is not None:
            yield _most(row, "time / float32's", row["ratio"], 1 + tolerance)
    if "int8" not in methods or not _wire_limits(methods["int8"]):
        return
    yield _least(methods["int8"], "share of the wire", methods["int8"]["share"], _LEAST_SHARE * (1 - tolerance))
    if "int4" in methods:
        gain = methods["int8"]["seconds"] / methods["int4"]["seconds"]
        yield _least(methods["int4"], "times as fast as int8", gain, _LEAST_GAIN * (1 - tolerance))


def _wire_limits(row: Row) -> bool:
    return bool(row["rate"] and row["rate"] <= _WIRE_LIMITS and not row["delay"] and row["ranks"] <= row["cores"])


def _least(row: Row, what: str, value: float, least: float) -> Verdict:
    return _verdict(row, what, value, value >= least, f"at least {least:.3g}")


def _most(row: Row, what: str, value: float, most: float) -> Verdict:
    return _verdict(row, what, value, value <= most, f"at most {most:g}")


def _verdict(row: Row, what: str, value: float, passed: bool, limit: str) -> Verdict:
    return Verdict(f"{row['method']}, {link_of(row)}: {what}", limit, (value,), passed)
