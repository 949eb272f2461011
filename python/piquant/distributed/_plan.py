"""Plans: what a call exchanges, as data that all ranks must have alike. No tensors here, and no processes.

A flat tensor of n elements is cut into a *part* for each rank, and parts into *segments* of equal length, which travel
one after the other. A *message* is a segment of a part, quantized::

    n elements   | part of rank 0      | part of rank 1      | part of rank 2  |
    a part       | segment 0 | 1 | 2 ..|                       the last ones may be shorter, or empty
    a message    | digest u64, call u64 | float32 scales | zeros to 16 bytes | codes |      little-endian
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1
HEADER_BYTES: Final = 16
SEGMENT_BYTES: Final = (256 << 10, 8 << 20)
"""Least and most bytes of a segment that is chosen by the round trip time."""
BYTES_PER_SECOND: Final = 40e6
"""How many bytes a segment has for each second of round trip time."""

Kind = Literal["all_reduce", "reduce_scatter", "all_gather"]
Operator = Literal["sum", "avg"]

BITS: Final = {"int8": 8, "int4": 4, "int2": 2}
_KINDS: Final = ("all_reduce", "reduce_scatter", "all_gather")
_OPERATORS: Final = ("sum", "avg")
_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Options:
    """How floats become codes: of all that a caller says, what ranks must have alike.

    Attributes:
        dtype: "int8", "int4" or "int2"; ``None`` leaves the exchange to torch.
        block_size: elements that share a scale.
        stochastic: how quantization rounds; else to nearest.
        segment_bytes: of a segment's codes; ``None`` goes by the round trip time.
    """

    dtype: str | None = "int8"
    block_size: int = 256
    stochastic: bool = True
    segment_bytes: int | None = None


@dataclass(frozen=True)
class Part:
    """Elements ``begin`` to ``end`` of the flat tensor, of a part or of a segment of one."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Plan:
    """One call. ``n`` counts the elements of the flat tensor that all parts make up.

    Attributes:
        kind: which collective.
        n: elements of all parts together.
        world_size: ranks.
        dtype: name of the element type of the tensors.
        operator: what becomes of the sum.
        options: with ``segment_bytes`` settled. Their dtype is ``None`` where torch's collective does the work.
        layout: of how many tensors the flat one is made, and a hash of their sizes and types.
    """

    kind: Kind
    n: int
    world_size: int
    dtype: str
    operator: Operator
    options: Options
    layout: tuple[int, int] = (1, 0)

    @functools.cached_property
    def record(self) -> dict[str, int | str]:
        """What ranks must agree on, by names that messages of errors use."""
        o = self.options
        return {
            "collective": self.kind,
            "elements": self.n,
            "element type": self.dtype,
            "op": self.operator,
            "dtype": o.dtype or "None",
            "block_size": o.block_size,
            "round_mode": "stochastic" if o.stochastic else "nearest",
            "segment_bytes": o.segment_bytes or 0,
            "tensors": self.layout[0],
            "sizes of the tensors (a hash)": self.layout[1],
            "version": VERSION,
        }

    @functools.cached_property
    def digest(self) -> int:
        """64 bits of the record, which head every message."""
        words = repr(sorted(self.record.items())).encode()
        return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little")

    @functools.cached_property
    def part_length(self) -> int:
        """Elements of a part. An all-reduce cuts between blocks, which therefore do not depend on the ranks."""
        b = self.options.block_size if self.kind == "all_reduce" else 1
        return b * -(-self.n // (self.world_size * b))

    @functools.cached_property
    def segment_length(self) -> int:
        """Elements of a segment: whole blocks."""
        blocks = max(1, -(-self.part_length // self.options.block_size))
        code_bytes = self.part_length * self.bits // 8
        pieces = min(blocks, max(1, -(-code_bytes // (self.options.segment_bytes or SEGMENT_BYTES[0]))))
        return self.options.block_size * -(-blocks // pieces)

    @functools.cached_property
    def segments(self) -> int:
        return -(-self.part_length // self.segment_length)

    @property
    def bits(self) -> int:
        return BITS[self.options.dtype or "int8"]

    def part(self, rank: int) -> Part:
        begin = min(rank * self.part_length, self.n)
        return Part(begin, min(begin + self.part_length, self.n))

    def segment(self, rank: int, k: int) -> Part:
        """Segment k of a part. Those beyond its end are empty."""
        part = self.part(rank)
        begin = min(part.begin + k * self.segment_length, part.end)
        return Part(begin, min(begin + self.segment_length, part.end))

    def longest(self, k: int) -> int:
        """Elements of segment k of the first part, which is the longest."""
        return self.segment(0, k).length

    def message_bytes(self, n: int) -> int:
        return layout_of_message(n, self.options.block_size, self.bits).end


class Layout(NamedTuple):
    """Where in a message its scales end, and its codes begin and end. Scales begin after the header."""

    scales_end: int
    codes: int
    end: int


@functools.lru_cache(maxsize=1024)
def layout_of_message(n: int, block_size: int, bits: int) -> Layout:
    """The layout of a message of n elements."""
    scales_end = HEADER_BYTES + 4 * -(-n // block_size)
    codes = -(-scales_end // 16) * 16
    return Layout(scales_end, codes, codes + -(-n * bits // 8))


@functools.lru_cache(maxsize=1024)
def make_plan(
    kind: Kind,
    n: int,
    world_size: int,
    dtype: str,
    operator: Operator,
    options: Options,
    layout: tuple[int, int] = (1, 0),
) -> Plan:
    """The plan of a call. Calls that are alike share one, with what was computed for it."""
    return Plan(kind, n, world_size, dtype, operator, options, layout)


def layout_of(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[int, int]:
    """What a plan says of several tensors: how many, and a hash of their element types and shapes."""
    return len(tensors), int.from_bytes(hashlib.blake2b(repr(tensors).encode(), digest_size=7).digest(), "little")


def segment_bytes_for(round_trip: float) -> int:
    """Bytes of a segment for a round trip time in seconds."""
    lowest, highest = SEGMENT_BYTES
    return int(min(max(round_trip * BYTES_PER_SECOND, lowest), highest))


def shorter_segments(segment_bytes: int, part_bytes: int) -> int:
    """At most half of a part, but for small ones: while one segment travels, the other is made and summed.

    More segments than that wait for a round trip each, of which two are under way at a time.
    """
    return min(segment_bytes, max(SEGMENT_BYTES[0], part_bytes // 2))


def mix(*words: int) -> int:
    """One seed of several numbers, each of which changes it everywhere: SplitMix64 after each."""
    mixed = 0
    for word in words:
        z = ((mixed ^ word & _WORD) + 0x9E3779B97F4A7C15) & _WORD
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _WORD
        mixed = z ^ z >> 31
    return mixed


def disagreement(records: Sequence[dict[str, int | str]]) -> str | None:
    """What ranks do not have alike, in words that name ranks and values; None where there is nothing."""
    words = []
    for name in records[0]:
        ranks: dict[int | str, list[int]] = {}
        for rank, record in enumerate(records):
            ranks.setdefault(record[name], []).append(rank)
        if len(ranks) > 1:
            values = (f"{value} on rank{'s' * (len(of) > 1)} {_listed(of)}" for value, of in ranks.items())
            words.append(f"{name}: {', '.join(values)}")
    return "; ".join(words) or None


def _listed(ranks: list[int]) -> str:
    most = 8
    return ", ".join(map(str, ranks[:most])) + f" and {len(ranks) - most} more" * (len(ranks) > most)
