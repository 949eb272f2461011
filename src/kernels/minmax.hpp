// Smallest and largest element. Four accumulators of each hide the latency of min and max. float16 and bfloat16 need
// no conversion: as ordered integers their NaNs lie beyond the infinities, where the final value shows them.
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
    const Extent e = {elementwise::minmax<F>(ends[0], 2 * simd::lanes).lo,
                      elementwise::minmax<F>(ends[1], 2 * simd::lanes).hi, simd::any(nans)};
    return merge_rest<F>(e, in, n - i);
}

template <class F>
Extent minmax_halves(const unsigned char* in, size_t n) {
    constexpr size_t block = 4 * 2 * simd::lanes;
    simd::bytes lo[4];
    simd::bytes hi[4];
    for (size_t k = 0; k < 4; ++k) {
        lo[k] = hi[k] = simd::ordered16(simd::load_bytes(in + k * simd::width));
    }
    size_t i = 0;
    for (; i + block <= n; i += block, in += 4 * simd::width) {
        for (size_t k = 0; k < 4; ++k) {
            const simd::bytes x = simd::ordered16(simd::load_bytes(in + k * simd::width));
            lo[k] = simd::min_i16(lo[k], x);
            hi[k] = simd::max_i16(hi[k], x);
        }
    }
    int16_t lows[2 * simd::lanes];
    int16_t highs[2 * simd::lanes];
    simd::put<simd::Store::cached>(lows, simd::min_i16(simd::min_i16(lo[0], lo[1]), simd::min_i16(lo[2], lo[3])));
    simd::put<simd::Store::cached>(highs, simd::max_i16(simd::max_i16(hi[0], hi[1]), simd::max_i16(hi[2], hi[3])));
    int16_t ends[2] = {lows[0], highs[0]};
    for (size_t k = 1; k < 2 * simd::lanes; ++k) {
        ends[0] = lows[k] < ends[0] ? lows[k] : ends[0];
        ends[1] = highs[k] > ends[1] ? highs[k] : ends[1];
    }
    for (int16_t& end : ends) {
        end = static_cast<int16_t>(end ^ ((end >> 15) & 0x7fff));  // back to a float pattern
    }
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
