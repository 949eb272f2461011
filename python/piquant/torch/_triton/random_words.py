"""The random words of stochastic rounding, as ``core/random.hpp`` defines them.

A program's elements follow each other in row-major order and are at most 65,536, so their words come from the keys of
one key period, or of two. Keys are made once, of scalars.
"""

import triton
import triton.language as tl

from piquant.torch._triton.places import pairs_joined

PERIOD_BITS: tl.constexpr = tl.constexpr(16)
PERIOD_MASK: tl.constexpr = tl.constexpr(0xFFFF)
LAST_PERIOD: tl.constexpr = tl.constexpr((1 << 48) - 1)
LEFT: tl.constexpr = tl.constexpr(64)
RIGHT: tl.constexpr = tl.constexpr(65)
FACTOR: tl.constexpr = tl.constexpr(63)

# Whether there are words, and whether programs begin at even indices and stay within a key period.
NO_WORDS: tl.constexpr = tl.constexpr(0)
WITHIN_PERIOD: tl.constexpr = tl.constexpr(1)
ANYWHERE: tl.constexpr = tl.constexpr(2)


@triton.jit
def period_keys(seed, period):
    """The first two words of Philox4x32-10."""
    c0 = period.to(tl.uint32)
    c1 = (period >> 32).to(tl.uint32)
    c2 = c0 * 0
    c3 = c0 * 0
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        p0 = c0.to(tl.uint64) * 0xD2511F53
        p1 = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = p1.to(tl.uint32)
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p0.to(tl.uint32)
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1


@triton.jit
def entry(k0, k1, i):
    x = k0 + i * 0x9E3779B9
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15) ^ k1) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def word(left, right, factor):
    x = (left ^ right) * (2 * factor + 1)
    return x ^ (x >> 16)


@triton.jit
def words_of_pairs(k0, k1, pair):
    """32 bits for each pair of elements."""
    left = entry(k0, k1, pair % LEFT)
    right = entry(k0, k1, pair % RIGHT + LEFT)
    factor = entry(k0, k1, pair % FACTOR + (LEFT + RIGHT))
    return word(left, right, factor)


@triton.jit
def words_within_period(seed, start, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Words of ``ROWS * COLS`` elements from index ``start`` on, which is even, with one key period for all."""
    k0, k1 = period_keys(seed, start >> PERIOD_BITS)
    entries = entry(k0, k1, tl.arange(0, 256).to(tl.uint32))
    first = ((start & PERIOD_MASK) >> 1).to(tl.uint32)
    pair = first + tl.arange(0, ROWS * COLS // 2).to(tl.uint32)
    left = tl.gather(entries, (pair % LEFT).to(tl.int32), 0)
    right = tl.gather(entries, (pair % RIGHT + LEFT).to(tl.int32), 0)
    factor = tl.gather(entries, (pair % FACTOR + (LEFT + RIGHT)).to(tl.int32), 0)
    w = tl.reshape(word(left, right, factor), (ROWS, COLS // 2))
    return pairs_joined((w & 0xFFFF).to(tl.int32), (w >> 16).to(tl.int32), ROWS, COLS)


@triton.jit
def words_anywhere(seed, start, distance):
    """Words of elements at distances of less than 65,536 from index ``start``."""
    period = start >> PERIOD_BITS
    k0, k1 = period_keys(seed, period)
    after0, after1 = period_keys(seed, (period + 1) & LAST_PERIOD)
    j = (start & PERIOD_MASK).to(tl.uint32) + distance.to(tl.uint32)
    is_after = j > PERIOD_MASK
    w = words_of_pairs(tl.where(is_after, after0, k0), tl.where(is_after, after1, k1), (j & PERIOD_MASK) >> 1)
    return tl.where((j & 1) != 0, w >> 16, w & 0xFFFF).to(tl.int32)


@triton.jit
def words_of_tile(
    seed, offset, first, positions, WORDS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """``first`` is the position of the tile's first element in row-major order, ``positions`` those of its rows."""
    if WORDS == NO_WORDS:
        return 0
    else:
        word_of = seed.to(tl.int64).to(tl.uint64, bitcast=True)
        start = (offset.to(tl.int64) + first).to(tl.uint64, bitcast=True)
        if WORDS == WITHIN_PERIOD:
            return words_within_period(word_of, start, ROWS, COLS)
        else:
            return words_anywhere(
                word_of, start, (positions - first).to(tl.int32)[:, None] + tl.arange(0, COLS)[None, :]
            )
