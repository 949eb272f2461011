"""The command of ``scripts/links``: seconds and bytes of all-reduces over links of given speeds and delays.

It builds networks in the namespace it runs in, which the script makes. Ranks are processes with one thread of torch and
one of piquant each. Methods take turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from piquant_bench import link_bars, machine, pictures, report, wire
from piquant_bench.network import LinkError, rate_of
from piquant_bench.ranks import joined
from piquant_bench.timing import is_noise, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
N = TypeVar("N", int, float)

_WARM_UP: Final = 16  # the part of the elements with which connections find their speed
_SLOWEST: Final = 20  # times the time of float32 at the speed of the wire: who takes longer hangs


@dataclass(frozen=True)
class Point:
    """Ranks, and the links between them."""

    ranks: int
    delay: float  # milliseconds of a round trip, beside those of the machine
    rate: int | None  # bits per second; None: no limit
    elements: int


@dataclass(frozen=True)
class LinkTime:
    """One method at one point."""

    ranks: int
    delay: float
    delayed_by: str
    rate: int | None
    elements: int
    method: str
    repetitions: int
    seconds: float  # median over repetitions, of the slowest rank
    ratio: float  # median of times over those of float32, in the same turns
    noisy: bool
    sent: float  # bytes, median over repetitions, of the rank that sent most
    model: float  # the bytes there should be
    ideal: float | None  # seconds that those take on the wire alone
    share: float | None  # of the wire that is used: 1 is its speed
    error: float  # of the sum, relative root mean square
    cores: int


def measure(points: Sequence[Point], methods: Sequence[str], repetitions: int, seconds: float) -> list[LinkTime]:
    """All methods at each point, as often as asked, or until the seconds for a point are over."""
    results: list[LinkTime] = []
    for ranks, delay in dict.fromkeys((point.ranks, point.delay) for point in points):
        of_both = [point for point in points if (point.ranks, point.delay) == (ranks, delay)]
        timeout = max(map(patience, of_both))
        with joined(ranks, delay, timeout) as (group, network):
            for point in progress(of_both, f"{ranks} ranks, {delay:g} ms"):
                network.limit(point.rate)
                turns = take_turns(group, point, methods, repetitions, seconds, timeout)
                results += [link_time(point, network.delayed_by, method, turns) for method in methods]
    return results


def patience(point: Point) -> float:
    """Seconds after which a call hangs."""
    sent = wire.bytes_sent(wire.FLOAT32, point.ranks, point.elements)
    return 30 + _SLOWEST * wire.predicted(sent, point.rate, point.delay / 1000, sent / 1e8)


class Orders(Protocol):
    """Ranks, or what else carries out orders."""

    def all(self, timeout: float, **order: Any) -> list[Any]:
        """Tells all of them, and waits for their answers."""


Turns: TypeAlias = dict[str, list[list[dict[str, float]]]]  # by method: of each turn, what each rank said


def take_turns(
    ranks: Orders, point: Point, methods: Sequence[str], repetitions: int, seconds: float, timeout: float
) -> Turns:
    begin = time.monotonic()
    turns: Turns = {method: [] for method in methods}
    for elements, rounds in ((point.elements // _WARM_UP, 1), (point.elements, repetitions)):
        for method in methods:
            turns[method].clear()
        for done in range(rounds):
            if done and (time.monotonic() - begin) * (done + 1) / done > seconds:
                break
            for method in methods:
                ranks.all(timeout, prepare=elements)
                turns[method].append(ranks.all(timeout, call=method))
    return turns


def link_time(point: Point, delayed_by: str, method: str, turns: Turns) -> LinkTime:
    times = [max(rank["seconds"] for rank in turn) for turn in turns[method]]
    floats = [max(rank["seconds"] for rank in turn) for turn in turns[wire.FLOAT32]]
    seconds = statistics.median(times)
    model = wire.bytes_sent(method, point.ranks, point.elements)
    ideal = model * 8 / point.rate if point.rate else None
    return LinkTime(
        **asdict(point),
        delayed_by=delayed_by,
        method=method,
        repetitions=len(times),
        seconds=seconds,
        ratio=statistics.median(a / b for a, b in zip(times, floats, strict=True)),
        noisy=is_noise(times, floats),
        sent=statistics.median(max(rank["sent"] for rank in turn) for turn in turns[method]),
        model=model,
        ideal=ideal,
        share=ideal / seconds if ideal else None,
        error=turns[method][0][0]["error"],
        cores=len(machine.usable_processors()),
    )


QUICK: Final = (Point(2, 0, None, 1 << 20), Point(2, 0, 10**8, 1 << 21))
_QUICK_REPETITIONS: Final = 3
_QUICK_TOLERANCE: Final = 0.1  # of a bar: other work may share the machine
_ATTEMPTS: Final = 3
_MOST_ELEMENTS: Final = 10**9


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, draws, and returns the exit code."""
    given = _parser().parse_args(arguments)
    methods = [method for method in wire.METHODS if method in {wire.FLOAT32, *given.methods}]
    try:
        if given.quick:
            return _quick()
        points = [
            Point(ranks, delay, rate, given.elements)
            for ranks, delay, rate in product(given.ranks, given.delays, given.rates)
        ]
        rows = [asdict(row) for row in measure(points, methods, given.repetitions, given.seconds)]
    except LinkError as error:
        print(f"scripts/links: {error}", file=sys.stderr)
        return 1
    print(report.links_text(machine.describe() | {"links": rows}))
    print()
    _say_bars(rows)
    if given.json is not None:
        rows = _add(given.json, rows)
    if given.plot is not None:
        pictures.draw_links(rows, given.plot)
        print(f"wrote {given.plot}")
    return 0


def _quick() -> int:
    """Judges one link, again if it fails, where only the time can be noise."""
    for attempt in range(_ATTEMPTS):
        points, methods = (QUICK, wire.METHODS) if attempt == 0 else (QUICK[1:], (wire.FLOAT32, *wire.OURS))
        rows = [asdict(row) for row in measure(points, methods, _QUICK_REPETITIONS, 10)]
        print(*report.link_tables(rows), sep="\n\n", end="\n\n")
        if _say_bars(rows, _QUICK_TOLERANCE):
            return 0
    return 1


def _say_bars(rows: list[dict[str, Any]], tolerance: float = 0.0) -> bool:
    """Prints the bars that were missed, and returns whether there were none."""
    verdicts = link_bars.judge(rows, tolerance)
    missed = [verdict for verdict in verdicts if not verdict.passed]
    print(f"bars: {len(verdicts) - len(missed)} of {len(verdicts)} met", *missed, sep="\n", flush=True)
    return not missed


def _add(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts rows beside those of a file, in place of those of the same point and method, and returns all."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["ranks"], row["delay"], row["rate"] or math.inf, row["elements"], wire.METHODS.index(row["method"])

    known = json.loads(path.read_text())["links"] if path.exists() else []
    every = {key(row): row for row in [*known, *rows]}
    ordered = [every[k] for k in sorted(every)]
    path.write_text(json.dumps(machine.describe() | {"links": ordered}, indent=1) + "\n")
    return ordered


def _list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Of an option: values with commas between them."""

    def read(text: str) -> list[T]:
        try:
            return [kind(word) for word in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _within(kind: Callable[[str], N], least: float, most: float) -> Callable[[str], N]:
    """Of an option: a number."""

    def read(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f'must be a number from {least:g} to {most:g}, got "{text}"')
        return value

    return read


def _method(text: str) -> str:
    if text not in wire.METHODS:
        raise ValueError(f'a method must be one of {", ".join(wire.METHODS)}; got "{text}"')
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/links", description="Seconds and bytes of all-reduces over links of given speeds and delays."
    )
    add = partial(parser.add_argument, metavar="X,...")
    add(
        "--rates", type=_list_of(rate_of), default=[10**8, 10**9, 25 * 10**8, 10**10],
        help="of links, each way, as tc writes them, or none for no limit (default: 100mbit,1gbit,2.5gbit,10gbit)",
    )  # fmt: skip
    add(
        "--delays", type=_list_of(_within(float, 0, 1000)), default=[0.0],
        help="milliseconds of a round trip (default: 0)",
    )  # fmt: skip
    add("--ranks", type=_list_of(_within(int, 2, 16)), default=[2, 4], help="(default: 2,4)")
    add(
        "--methods", type=_list_of(_method), default=list(wire.METHODS),
        help=f"beside float32 (default: {','.join(wire.METHODS)})",
    )  # fmt: skip
    add = partial(parser.add_argument, metavar="N")
    add(
        "--elements", type=_within(int, 4096, _MOST_ELEMENTS), default=25_165_824,
        help="of the float32 tensor (default: %(default)s)",
    )  # fmt: skip
    add("--repetitions", type=_within(int, 1, 1000), default=5, help="of each method (default: %(default)s)")
    add(
        "--seconds", type=_within(float, 1, 3600), default=60.0,
        help="after which a link gets no more repetitions; each gets one (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true",
        help="instead of all that: loopback and one link, judged by the bars, in some 15 seconds; for CI",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="adds the figures to those of this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draws them, and others of --json, as PNG or SVG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
