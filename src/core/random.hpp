// The random words of stochastic rounding: a pure function of (seed, index).
//
//   index (64 bits)     b = index >> 16          the block
//                       j = index & 0xffff       the element within the block
//   keys of a block     (k0, k1, -, -) = Philox4x32-10(counter = (b & 0xffffffff, b >> 32, 0, 0),
//                                                      key     = (seed & 0xffffffff, seed >> 32))
//   word of a pair      w = mix(k0 + (j >> 1) * 0x9e3779b9)     32 bits, for elements j and j ^ 1
//   u(seed, index)      = j even ? w & 0xffff : w >> 16
//
// so the words of a block, laid out little-endian, are the u of its elements in order. Philox (Salmon et al., "Parallel
// random numbers: as easy as 1, 2, 3", SC11) decorrelates seeds and blocks and is amortized over 65,536 elements; mix,
// a two-multiply hash, costs 9 vector instructions per vector of words. Counters advance by 2^32 divided by the golden
// ratio: by one instead, their upper halves would stay the same for a whole block, the first step of mix would do
// nothing, and words 6 elements apart would be visibly related. The key in the middle of mix keeps two blocks whose
// counters overlap from replaying each other.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

constexpr int random_block_bits = 16;
constexpr uint32_t counter_step = 0x9e3779b9;
constexpr uint32_t mix_multiplier1 = 0x7feb352d;
constexpr uint32_t mix_multiplier2 = 0x846ca68b;

struct BlockKeys {
    uint32_t k0;
    uint32_t k1;
};

inline BlockKeys block_keys(uint64_t seed, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block);
    uint32_t c1 = static_cast<uint32_t>(block >> 32);
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

inline uint32_t mix(uint32_t pair, BlockKeys keys) {
    uint32_t x = keys.k0 + pair * counter_step;
    x ^= x >> 16;
    x *= mix_multiplier1;
    x ^= (x >> 15) ^ keys.k1;
    x *= mix_multiplier2;
    x ^= x >> 16;
    return x;
}

// u(seed, first), u(seed, first + 1), ...
class WordSequence {
public:
    WordSequence(uint64_t seed, uint64_t first)
        : seed_(seed), index_(first), keys_(block_keys(seed, first >> random_block_bits)) {}

    uint16_t next() {
        const auto j = static_cast<uint32_t>(index_ & 0xffff);
        const uint32_t w = mix(j >> 1, keys_);
        if ((++index_ & 0xffff) == 0) {
            keys_ = block_keys(seed_, index_ >> random_block_bits);
        }
        return static_cast<uint16_t>((j & 1) != 0 ? w >> 16 : w);
    }

private:
    uint64_t seed_;
    uint64_t index_;
    BlockKeys keys_;
};

}  // namespace
}  // namespace piquant
