// Random words into memory, for what draws them from blocks that the walk of kernels/walk.hpp does not know.
#pragma once

#include "kernels/random_words.hpp"

namespace piquant {
namespace {
namespace vectorized {

inline void fill_words(uint64_t seed, uint64_t index, size_t n, uint16_t* words) {
    constexpr size_t step = 2 * simd::lanes;
    while (n != 0) {
        const size_t left = key_period - static_cast<size_t>(index % key_period);
        const size_t run = n < left ? n : left;
        // Whole steps of them, so that no entry is read that was not made.
        const Wheels wheels(seed, index, (run + step - 1) / step * step);
        WordStream<false> stream(wheels);
        size_t i = 0;
        for (; i + step <= run; i += step) {
            simd::put_words(words + i, stream.take());
        }
        if (i != run) {
            uint16_t last[step];
            simd::put_words(last, stream.take());
            __builtin_memcpy(words + i, last, (run - i) * sizeof last[0]);
        }
        index += run;
        words += run;
        n -= run;
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
