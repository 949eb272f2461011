// The random words of stochastic rounding: a pure function of (seed, index).
//
//   index (64 bits)     b = index >> 16          the key period
//                       j = index & 0xffff       the element within the period
//   keys of a period    (k0, k1, -, -) = Philox4x32-10(counter = (b & 0xffffffff, b >> 32, 0, 0),
//                                                      key     = (seed & 0xffffffff, seed >> 32))
//   entries of a period e(i) = mix(k0 + i * 0x9e3779b9)         i = 0 .. 191, 32 bits each
//   word of a pair      p = j >> 1                              32 bits, for elements j and j ^ 1
//                       x = (e(p % 64) ^ e(64 + p % 65)) * (2 e(129 + p % 63) + 1)
//                       w = x ^ (x >> 16)
//   u(seed, index)      = j even ? w & 0xffff : w >> 16
//
// so the words of a period, laid out little-endian, are the u of its elements in order. Philox (Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3", SC11) decorrelates seeds and periods, and mix, a hash with two
// multiplications, makes 192 entries of its keys, once in 65,536 elements. The entries are three wheels of 64, 65 and
// 63 positions, lengths without a common divisor, so that no two of the 32,768 pairs of a period find them in the same
// position. A word then costs a multiplication, two exclusive ors and a shift. A random odd factor is universal hashing
// by multiplication (Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem", J.
// Algorithms 25, 1997); what is weak about it, the lowest bits of x, reaches one half of w together with its upper
// bits. Counters of entries advance by 2^32 divided by the golden ratio: by one instead, their upper halves would stay
// the same, and the first step of mix would do nothing.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

constexpr int key_period_bits = 16;
constexpr size_t key_period = size_t{1} << key_period_bits;  // elements
constexpr uint32_t left_wheel = 64;
constexpr uint32_t right_wheel = 65;
constexpr uint32_t factor_wheel = 63;
constexpr uint32_t wheel_entries = left_wheel + right_wheel + factor_wheel;
constexpr uint32_t counter_step = 0x9e3779b9;
constexpr uint32_t mix_multiplier1 = 0x7feb352d;
constexpr uint32_t mix_multiplier2 = 0x846ca68b;

struct PeriodKeys {
    uint32_t k0;
    uint32_t k1;
};

inline PeriodKeys period_keys(uint64_t seed, uint64_t period) {
    uint32_t c0 = static_cast<uint32_t>(period);
    uint32_t c1 = static_cast<uint32_t>(period >> 32);
    uint32_t c2 = 0;
    uint32_t c3 = 0;
    uint32_t key0 = static_cast<uint32_t>(seed);
    uint32_t key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xd2511f53} * c0;
        const uint64_t p1 = uint64_t{0xcd9e8d57} * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key0;
        c1 = static_cast<uint32_t>(p1);
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key1;
        c3 = static_cast<uint32_t>(p0);
        key0 += 0x9e3779b9;
        key1 += 0xbb67ae85;
    }
    return {c0, c1};
}

inline uint32_t mix(uint32_t x, uint32_t key) {
    x ^= x >> 16;
    x *= mix_multiplier1;
    x ^= (x >> 15) ^ key;
    x *= mix_multiplier2;
    x ^= x >> 16;
    return x;
}

// u(seed, first), u(seed, first + 1), ... of which n are asked for.
class WordSequence {
public:
    WordSequence(uint64_t seed, uint64_t first, uint64_t n = UINT64_MAX) : seed_(seed), index_(first), end_(first + n) {
        if (index_ % key_period != 0) {
            begin_period();
            word_ = word();
        }
    }

    uint16_t next() {
        const bool odd = index_ % 2 != 0;
        if (!odd) {
            if (index_ % key_period == 0) {
                begin_period();
            }
            word_ = word();
        }
        ++index_;
        return static_cast<uint16_t>(odd ? word_ >> 16 : word_);
    }

private:
    // Makes the entries that the rest of the words of this period need.
    void begin_period() {
        const PeriodKeys keys = period_keys(seed_, index_ >> key_period_bits);
        const uint64_t n = end_ - index_;
        const uint32_t pairs = n < key_period ? static_cast<uint32_t>(n) / 2 + 1 : wheel_entries;
        fill(keys, 0, left_wheel, pairs);
        fill(keys, left_wheel, right_wheel, pairs);
        fill(keys, left_wheel + right_wheel, factor_wheel, pairs);
    }
    void fill(const PeriodKeys& keys, uint32_t first, uint32_t size, uint32_t pairs) {
        const uint32_t begin = pair() % size;
        const uint32_t end = begin + (pairs < size ? pairs : size);
        make(keys, first + begin, first + (end < size ? end : size));
        make(keys, first, first + (end < size ? 0 : end - size));
    }
    void make(const PeriodKeys& keys, uint32_t i, uint32_t end) {
        for (; i < end; ++i) {
            entries_[i] = mix(keys.k0 + i * counter_step, keys.k1);
        }
    }

    uint32_t pair() const { return static_cast<uint32_t>(index_ % key_period) >> 1; }

    uint32_t word() const {
        const uint32_t left = entries_[pair() % left_wheel];
        const uint32_t right = entries_[left_wheel + pair() % right_wheel];
        const uint32_t factor = entries_[left_wheel + right_wheel + pair() % factor_wheel];
        const uint32_t x = (left ^ right) * (2 * factor + 1);
        return x ^ (x >> 16);
    }

    uint64_t seed_;
    uint64_t index_;
    uint64_t end_;
    uint32_t word_ = 0;
    uint32_t entries_[wheel_entries];
};

// For what rounds without them: a WordSequence that nobody reads is not free with every compiler.
struct ZeroWords {
    ZeroWords(uint64_t, uint64_t, uint64_t) {}
    uint16_t next() { return 0; }
};

}  // namespace
}  // namespace piquant
