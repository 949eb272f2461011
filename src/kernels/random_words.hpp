// Random words for consecutive elements: the bulk form of WordSequence in core/random.hpp.
//
// A tile of words lies in L1 in element order, and kernels read it like a second input: that costs no more
// instructions than splitting registers of words would, and makes every start index equally fast.
#pragma once

#include "core/random.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {

class WordTile {
public:
    static constexpr size_t capacity = 2048;  // elements

    explicit WordTile(uint64_t seed) : seed_(seed) {}

    // The words of elements index .. index + n - 1, n <= capacity, valid until the next call. Computing them leaves the
    // memory idle, so the `bytes` at `next`, which the caller reads next, are fetched meanwhile.
    __attribute__((noinline)) const uint16_t* fill(uint64_t index, size_t n, const unsigned char* next, size_t bytes) {
        constexpr uint64_t step = 2 * simd::lanes;  // words in a register; divides a block of 65,536
        const auto skip = static_cast<size_t>(index % step);
        const size_t end = n + skip;
        uint64_t at = index - skip;
        for (size_t done = 0; done < end;) {
            load_keys(at >> random_block_bits);
            const size_t left_in_block = 65536 - static_cast<size_t>(at % 65536);
            const size_t stop = end - done < left_in_block ? end : done + left_in_block;
            const size_t fetched = bytes * done / end;
            done = fill_within_block(done, stop, static_cast<uint32_t>(at % 65536), next + fetched,
                                     bytes / (end / step + 1));
            at = index - skip + done;
        }
        return words_ + skip;
    }

private:
    // Whole registers of words for elements j, j + 1, ... of the current block, into words_[begin .. end).
    size_t fill_within_block(size_t begin, size_t end, uint32_t j, const unsigned char* next, size_t bytes_per_step) {
        using namespace simd;
        const i32 m1 = splat_i32(static_cast<int32_t>(mix_multiplier1));
        const i32 m2 = splat_i32(static_cast<int32_t>(mix_multiplier2));
        const i32 k1 = splat_i32(static_cast<int32_t>(keys_.k1));
        const i32 advance = splat_i32(static_cast<int32_t>(lanes));
        i32 counter = iota() + splat_i32(static_cast<int32_t>((j >> 1) + keys_.k0));
        size_t i = begin;
        for (; i < end; i += 2 * lanes) {
            i32 x = mul_low(counter ^ shift_right_logical<16>(counter), m1);
            x = mul_low(x ^ shift_right_logical<15>(x) ^ k1, m2);
            put<Store::cached>(words_ + i, x ^ shift_right_logical<16>(x));
            counter = counter + advance;
            for (size_t b = 0; b < bytes_per_step; b += 64) {
                __builtin_prefetch(next + b);
            }
            next += bytes_per_step;
        }
        return i;
    }

    void load_keys(uint64_t block) {
        if (!has_keys_ || block != block_) {
            keys_ = block_keys(seed_, block);
            block_ = block;
            has_keys_ = true;
        }
    }

    uint64_t seed_;
    uint64_t block_ = 0;
    BlockKeys keys_{};
    bool has_keys_ = false;
    alignas(64) uint16_t words_[capacity + 4 * simd::lanes];
};

}  // namespace
}  // namespace piquant
