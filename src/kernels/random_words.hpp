// Random words for consecutive elements: the vector form of WordSequence in core/random.hpp.
//
// A register of mixed counters holds the words of 2 * lanes consecutive elements, two in each lane, and never leaves the
// registers: computing words and waiting for memory overlap. Lanes count in the order in which the kernel's pairs of
// vectors hold their elements (pair_counters), so that spreading words over them costs one instruction a vector.
#pragma once

#include "core/random.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {

constexpr size_t random_block = size_t{1} << random_block_bits;  // elements

// What operations without random words are given.
struct NoWords {
    NoWords(uint64_t, uint64_t) {}
};

// The words of elements index, index + 1, ... within one block of 65,536.
template <bool Interleaved>
class WordStream {
public:
    WordStream(uint64_t seed, uint64_t index)
        : WordStream(block_keys(seed, index >> random_block_bits), static_cast<uint32_t>(index % random_block)) {}

    // Of the next 2 * lanes elements. An odd start takes the upper word of one counter and the lower word of the next, at
    // twice the cost.
    PIQUANT_INLINE simd::words next() {
        using namespace simd;
        const i32 x = mixed(counter_);
        const i32 upper = shift_right_logical<16>(x);
        words found = xor_words(x, upper);
        if (odd_) {
            const i32 following = mixed(counter_ + splat_i32(static_cast<int32_t>(counter_step)));
            found = xor_words(upper, shift_left<16>(following ^ shift_right_logical<16>(following)));
        }
        counter_ = counter_ + advance_;
        return found;
    }

private:
    WordStream(BlockKeys keys, uint32_t j)
        : counter_(simd::mul_low(simd::pair_counters<Interleaved>() + simd::splat_i32(static_cast<int32_t>(j >> 1)),
                                 simd::splat_i32(static_cast<int32_t>(counter_step))) +
                   simd::splat_i32(static_cast<int32_t>(keys.k0))),
          key_(simd::splat_i32(static_cast<int32_t>(keys.k1))),
          advance_(simd::splat_i32(static_cast<int32_t>(counter_step * static_cast<uint32_t>(simd::lanes)))),
          odd_((j & 1) != 0) {}

    // mix() of core/random.hpp but for its last step, x ^ (x >> 16), which leaves the upper word alone.
    PIQUANT_INLINE simd::i32 mixed(simd::i32 counter) const {
        using namespace simd;
        const i32 x =
            mul_low(counter ^ shift_right_logical<16>(counter), splat_i32(static_cast<int32_t>(mix_multiplier1)));
        return mul_low(xor3(x, shift_right_logical<15>(x), key_), splat_i32(static_cast<int32_t>(mix_multiplier2)));
    }

    simd::i32 counter_;
    simd::i32 key_;
    simd::i32 advance_;
    bool odd_;
};

}  // namespace
}  // namespace piquant
