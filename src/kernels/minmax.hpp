// Smallest and largest element. Four accumulators, or a tree, hide the latency of min and max. float16 and bfloat16 need
// no conversion: as integers their NaNs lie beyond the infinities, where the final value shows them.
#pragma once

#include "core/float_formats.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {
namespace vectorized {

// Merges the elements that fill no whole block.
template <class F>
inline Extent merge_rest(Extent e, const unsigned char* in, size_t n) {
    if (n == 0) {
        return e;
    }
    const Extent rest = elementwise::minmax<F>(in, n);
    return {rest.lo < e.lo ? rest.lo : e.lo, rest.hi > e.hi ? rest.hi : e.hi, e.has_nan || rest.has_nan};
}

template <class F>
Extent minmax_floats(const unsigned char* in, size_t n) {
    using V = simd::vec<F>;
    constexpr size_t step = simd::lanes * F::bits / 8;
    constexpr size_t block = 4 * simd::lanes;
    V lo[4];
    V hi[4];
    simd::mask nans = simd::no_lanes();
    for (size_t k = 0; k < 4; ++k) {
        lo[k] = hi[k] = simd::load(F{}, in + k * step);
    }
    size_t i = 0;
    for (; i + block <= n; i += block, in += 4 * step) {
        V x[4];
        for (size_t k = 0; k < 4; ++k) {
            x[k] = simd::load(F{}, in + k * step);
            lo[k] = simd::lower(lo[k], x[k]);
            hi[k] = simd::upper(hi[k], x[k]);
        }
        nans = nans | simd::nan_in(x[0], x[1]) | simd::nan_in(x[2], x[3]);
    }
    unsigned char ends[2][simd::lanes * F::bits / 8 * 2];
    simd::store2<simd::Store::cached>(F{}, ends[0], simd::lower(lo[0], lo[1]), simd::lower(lo[2], lo[3]));
    simd::store2<simd::Store::cached>(F{}, ends[1], simd::upper(hi[0], hi[1]), simd::upper(hi[2], hi[3]));
    const Extent low = elementwise::minmax<F>(ends[0], 2 * simd::lanes);
    const Extent high = elementwise::minmax<F>(ends[1], 2 * simd::lanes);
    return merge_rest<F>({low.lo, high.hi, simd::any(nans) || low.has_nan || high.has_nan}, in, n - i);
}

// Patterns are sign and magnitude. As signed integers, the largest is the maximum unless all are negative; as unsigned
// integers, the largest is the minimum unless none is negative; and in those two cases the smallest unsigned one, the
// smallest magnitude, is the answer. Three instructions a vector, where mapping to one order takes five.
//
//   signed     8000 (-0) .. ff80 (-inf) .. ffff (NaN)   <   0000 (+0) .. 7f80 (+inf) .. 7fff (NaN)
//   unsigned   0000 (+0) .. 7f80 (+inf) .. 7fff (NaN)   <   8000 (-0) .. ff80 (-inf) .. ffff (NaN)
template <class F>
Extent minmax_halves(const unsigned char* in, size_t n) {
    using simd::max_i16, simd::max_u16, simd::min_u16;
    constexpr size_t block = 4 * 2 * simd::lanes;
    simd::bytes top = simd::load_bytes(in);
    simd::bytes bottom = top;
    simd::bytes nearest = top;
    size_t i = 0;
    for (; i + block <= n; i += block, in += 4 * simd::width) {
        simd::bytes x[4];
        for (size_t k = 0; k < 4; ++k) {
            x[k] = simd::load_bytes(in + k * simd::width);
        }
        // As a tree, so that only one step of each waits for the block before.
        top = max_i16(top, max_i16(max_i16(x[0], x[1]), max_i16(x[2], x[3])));
        bottom = max_u16(bottom, max_u16(max_u16(x[0], x[1]), max_u16(x[2], x[3])));
        nearest = min_u16(nearest, min_u16(min_u16(x[0], x[1]), min_u16(x[2], x[3])));
    }
    int16_t tops[2 * simd::lanes];
    uint16_t bottoms[2 * simd::lanes];
    uint16_t nearests[2 * simd::lanes];
    simd::put<simd::Store::cached>(tops, top);
    simd::put<simd::Store::cached>(bottoms, bottom);
    simd::put<simd::Store::cached>(nearests, nearest);
    for (size_t k = 1; k < 2 * simd::lanes; ++k) {
        tops[0] = tops[k] > tops[0] ? tops[k] : tops[0];
        bottoms[0] = bottoms[k] > bottoms[0] ? bottoms[k] : bottoms[0];
        nearests[0] = nearests[k] < nearests[0] ? nearests[k] : nearests[0];
    }
    const uint16_t ends[2] = {bottoms[0] >= 0x8000 ? bottoms[0] : nearests[0],
                              tops[0] >= 0 ? static_cast<uint16_t>(tops[0]) : nearests[0]};
    return merge_rest<F>(elementwise::minmax<F>(ends, 2), in, n - i);
}

template <class F>
Extent minmax(const void* in, size_t n) {
    const auto* p = static_cast<const unsigned char*>(in);
    if (n < 8 * simd::lanes) {
        return elementwise::minmax<F>(in, n);
    }
    if constexpr (F::bits == 16) {
        return minmax_halves<F>(p, n);
    } else {
        return minmax_floats<F>(p, n);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
