"""The random words: the documented function, and its statistics.

``words`` computes u(seed, index) anew from docs/numerics.md. The library never shows a word, but what it rounds up
tells whether u reached a threshold; with thresholds of every size, a wrong word would show.
"""

import numpy as np
import pytest

import piquant

MASK = 0xFFFFFFFF
N = 1 << 20
# Between elements whose words share one wheel, and two.
WHEEL_LAGS = (126, 128, 130, 252, 256, 260, 8064, 8190, 8320, 16128, 16380, 16640, 24960)
SIGMAS = 6.0  # among the few hundred comparisons below, chance alone passes 6 sigma about once in a million runs


def philox(c0, c1, k0, k1):
    """Two words of Philox4x32-10 with counter (c0, c1, 0, 0)."""
    c = [c0, c1, 0, 0]
    for r in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        keys = (k0 + r * 0x9E3779B9) & MASK, (k1 + r * 0xBB67AE85) & MASK
        c = [(b >> 32) ^ c[1] ^ keys[0], b & MASK, (a >> 32) ^ c[3] ^ keys[1], a & MASK]
    return c[0], c[1]


def words(seed, first, n):
    """u(seed, first), u(seed, first + 1), ..., indices modulo 2^64."""
    out = np.empty(n, np.uint16)
    done = 0
    while done < n:
        index = (first + done) % (1 << 64)
        block, j = index >> 16, index & 0xFFFF
        k0, k1 = philox(block & MASK, block >> 32, seed & MASK, seed >> 32)
        x = np.arange(64 + 65 + 63, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(k0)
        x ^= x >> 16
        x *= np.uint32(0x7FEB352D)
        x ^= (x >> 15) ^ np.uint32(k1)
        x *= np.uint32(0x846CA68B)
        x ^= x >> 16
        pair = np.arange(1 << 15)
        left, right, factor = x[pair % 64], x[64 + pair % 65], x[129 + pair % 63]
        x = (left ^ right) * (2 * factor + 1)
        x ^= x >> 16
        part = x.view("<u2")[j : j + n - done]
        out[done : done + len(part)] = part
        done += len(part)
    return out


@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("first", [0, 65533, (1 << 32) - 7, (1 << 48) - 70000, (1 << 63) - 5, (1 << 64) - 100_001])
def test_the_library_uses_these_words(seed, first):
    n = 200_003
    thresholds = np.random.default_rng(seed % 97).integers(0, 65537, n)
    x = (thresholds / 65536).astype(np.float32)
    expected = (thresholds + words(seed, first, n)) >> 16
    for isa in piquant.available_isas():
        for dtype in (np.uint8, np.uint16, np.int32, np.int64):
            context = piquant.Context(3)
            context.isa, context.serial_cutoff = isa, 0
            q = piquant.numpy.quantize(
                x, scale=1.0, zero_point=0, dtype=dtype, round_mode="stochastic", seed=seed, offset=first, ctx=context
            )
            assert np.array_equal(q, expected), (isa, dtype)


def test_unbiased():
    """64 fractions, 2^18 draws of each: every mean is right; so are the shares of 2^24 words above thresholds."""
    fractions = (np.arange(64) * 1021 + 37) % 65536 / 65536
    means = np.empty(64)
    for k, fraction in enumerate(fractions):
        x = np.full(1 << 18, fraction, np.float32)
        q = piquant.numpy.quantize(
            x, scale=1.0, zero_point=0, dtype=np.uint8, round_mode="stochastic", seed=11, offset=k << 18
        )
        means[k] = q.mean(dtype=np.float64)
    sigma = np.sqrt(fractions * (1 - fractions) / (1 << 18))
    assert np.all(np.abs(means - fractions) < SIGMAS * sigma + 2**-17)
    u = words(11, 0, 1 << 24).astype(np.float64)
    for t in (1, 100, 21845, 32768, 65000, 65535):
        share = np.count_nonzero(u >= 65536 - t) / len(u)
        p = t / 65536
        assert abs(share - p) < SIGMAS * np.sqrt(p * (1 - p) / len(u))


def test_all_values_and_bits_are_equally_likely():
    u = words(5, 0, 1 << 24)
    counts = np.bincount(u, minlength=65536)
    expected = len(u) / 65536
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 65535) < SIGMAS * np.sqrt(2 * 65535)
    for bit in range(16):
        ones = np.count_nonzero(u & (1 << bit))
        assert abs(ones - len(u) / 2) < SIGMAS * np.sqrt(len(u)) / 2


def correlation(a, b):
    """In standard deviations."""
    a, b = a.astype(np.float64) - 32767.5, b.astype(np.float64) - 32767.5
    return np.dot(a, b) / (65536**2 / 12) / np.sqrt(len(a))


@pytest.mark.parametrize("seed", [0, 123456789])
def test_no_correlation_at_lags(seed):
    u = words(seed, 0, N + 65536)
    for lag in (*range(1, 71), *WHEEL_LAGS, 1024, 4096, 65536):
        assert abs(correlation(u[:N], u[lag : N + lag])) < SIGMAS, lag
        # Lowest bits, where weak generators are weakest. Those of the halves of one word, from even elements on, are as
        # often equal as not, but vary more than independent bits do (docs/random_words.md).
        first = slice(1, N, 2) if lag == 1 else slice(N)
        parity = (u[:N] ^ u[lag : N + lag])[first] & 1
        assert abs(parity.sum() - len(parity) / 2) < SIGMAS * np.sqrt(len(parity)) / 2, lag


@pytest.mark.parametrize("seed", [0, 7])
def test_differences_at_lags_are_uniform(seed):
    """u[i] - u[i + lag] takes every value equally often, though a multiplicative hash tends to favour some."""
    n = 1 << 22
    u = words(seed, 0, n + 65536)
    for lag in (*range(1, 17), 32, 64, *WHEEL_LAGS, 512, 4096, 57344):
        counts = np.bincount(u[:n] - u[lag : n + lag], minlength=65536)
        chi_square = ((counts - n / 65536) ** 2).sum() / (n / 65536)
        assert abs(chi_square - 65535) < SIGMAS * np.sqrt(2 * 65535), lag


def test_sums_vary_as_those_of_independent_words():
    """Numbers of elements that go up, neighbours or at the distance of a wheel, have the variance of binomial ones."""
    up = (words(8, 0, 1 << 24) >= 40000).reshape(-1, 65536)
    p = 1 - 40000 / 65536
    for step in (1, *WHEEL_LAGS[:3]):
        for count in (2, 16, 64, 504):
            rows = 65536 // (step * count)
            sums = up[:, : rows * count * step].reshape(-1, rows, count, step).sum(axis=2, dtype=np.int64)
            variance = ((sums - count * p) ** 2).mean() / (count * p * (1 - p))
            kurtosis = 3 + (1 - 6 * p * (1 - p)) / (count * p * (1 - p))
            assert abs(variance - 1) < SIGMAS * np.sqrt((kurtosis - 1) / sums.size), (step, count)


def test_neighbours_are_independent():
    """All pairs of the upper bytes of two neighbours are equally likely, and so are those of the lower bytes."""
    u = words(21, 0, 1 << 24)
    for first in (0, 1):
        a, b = u[first : first + (1 << 24) - 2 : 2], u[first + 1 :: 2]
        for pairs in ((a & 0xFF00) + (b[: len(a)] >> 8), ((a & 0xFF) << 8) + (b[: len(a)] & 0xFF)):
            counts = np.bincount(pairs, minlength=65536)
            chi_square = ((counts - len(a) / 65536) ** 2).sum() / (len(a) / 65536)
            assert abs(chi_square - 65535) < SIGMAS * np.sqrt(2 * 65535), first


def test_no_correlation_between_seeds_and_blocks():
    first = words(1000, 0, N)
    for other in (999, 1001, 1002, 1000 ^ (1 << 31), 1000 ^ (1 << 32), 1000 ^ (1 << 63)):
        assert abs(correlation(first, words(other, 0, N))) < SIGMAS, other
    blocks = first.reshape(-1, 65536)
    for a in range(len(blocks)):
        for b in range(a):
            assert abs(correlation(blocks[a], blocks[b])) < SIGMAS, (a, b)
    # One element of many seeds, and of many blocks.
    for column in (
        np.array([words(seed, 77, 1)[0] for seed in range(2000)]),
        np.array([words(3, 77 + (block << 16), 1)[0] for block in range(2000)]),
    ):
        for lag in (1, 2, 3, 4, 8):
            assert abs(correlation(column[:-lag], column[lag:])) < SIGMAS
        assert abs(column.mean() - 32767.5) < SIGMAS * 65536 / np.sqrt(12 * len(column))
