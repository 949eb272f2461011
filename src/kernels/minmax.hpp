// The extent of data together with zero: lo = min(0, min x), hi = max(0, max x).
//
// Float patterns are sign and magnitude, and zero is always included, so two integer maxima tell everything:
//
//   signed     ff.. (NaN) 8000 (-0) .. < 0000 (+0) .. 7f80 (+inf) .. 7fff (NaN)   the largest is hi, if any is positive
//   unsigned   0000 (+0) .. 7fff < 8000 (-0) .. ff80 (-inf) .. ffff (NaN)         the largest is lo, if any is negative
//
// NaNs lie beyond the infinities and show in the result. Two instructions a vector; where a set has no maxima of 64-bit
// integers, float64 are compared as floats, and x86 looks for NaNs, with one instruction more.
#pragma once

#include "kernels/elementwise.hpp"
#include "kernels/table.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <int Bits>
struct Patterns;
template <>
struct Patterns<16> {
    using Unsigned = uint16_t;
    using Signed = int16_t;
};
template <>
struct Patterns<32> {
    using Unsigned = uint32_t;
    using Signed = int32_t;
};
template <>
struct Patterns<64> {
    using Unsigned = uint64_t;
    using Signed = int64_t;
};

// Largest patterns of 4 * quarter registers, lane by lane. Four places are read at a time: prefetchers follow a stream
// to the end of its 4 KiB page only, and four streams reach that end at other times (up to 10% from memory, none from
// huge pages). Apart from its caller, whose arrays would keep the accumulators in memory.
template <int Bits>
__attribute__((noinline)) void largest(const unsigned char* p, size_t quarter, void* tops, void* bottoms) {
    using simd::higher, simd::lower, simd::keep_nans;
    const size_t stride = quarter * simd::width;
    simd::bytes top = simd::splat_pattern(0);
    simd::bytes bottom = top;
    simd::bytes nans = top;
    for (size_t i = 0; i < quarter; ++i, p += simd::width) {
        const simd::bytes x0 = simd::load_bytes(p);
        const simd::bytes x1 = simd::load_bytes(p + stride);
        const simd::bytes x2 = simd::load_bytes(p + 2 * stride);
        const simd::bytes x3 = simd::load_bytes(p + 3 * stride);
        // As trees, so that only one step waits for the step before.
        top = higher<Bits>(higher<Bits>(higher<Bits>(x0, x1), higher<Bits>(x2, x3)), top);
        bottom = lower<Bits>(lower<Bits>(lower<Bits>(x0, x1), lower<Bits>(x2, x3)), bottom);
        nans = keep_nans<Bits>(keep_nans<Bits>(nans, x0, x1), x2, x3);
    }
    bottom = keep_nans<Bits>(bottom, nans, nans);
    simd::put<simd::Store::cached>(tops, top);
    simd::put<simd::Store::cached>(bottoms, bottom);
}

template <class Float>
Extent minmax(const void* in, size_t n) {
    using Unsigned = typename Patterns<Float::bits>::Unsigned;
    using Signed = typename Patterns<Float::bits>::Signed;
    constexpr size_t per_register = simd::width * 8 / Float::bits;
    const size_t steps = n / (4 * per_register);
    const auto* rest = static_cast<const unsigned char*>(in) + steps * 4 * simd::width;
    Signed tops[per_register];
    Unsigned bottoms[per_register];
    largest<Float::bits>(static_cast<const unsigned char*>(in), steps, tops, bottoms);
    // What either maximum did not meet is the zero that it started from.
    unsigned char ends[2 * sizeof(Unsigned)];
    for (size_t k = 0; k < per_register; ++k) {
        const auto unsigned_top = static_cast<Unsigned>(tops[k]);  // a NaN among the tops may be negative
        bottoms[0] = unsigned_top > bottoms[0] ? unsigned_top : bottoms[0];
        bottoms[0] = bottoms[k] > bottoms[0] ? bottoms[k] : bottoms[0];
        tops[0] = tops[k] > tops[0] ? tops[k] : tops[0];
    }
    const Unsigned lo = bottoms[0] >> (Float::bits - 1) != 0 ? bottoms[0] : Unsigned{0};
    __builtin_memcpy(ends, &lo, sizeof lo);
    __builtin_memcpy(ends + sizeof lo, &tops[0], sizeof lo);
    return merge(elementwise::minmax<Float>(ends, 2), elementwise::minmax<Float>(rest, n - steps * 4 * per_register));
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
