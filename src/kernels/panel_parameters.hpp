// Parameters of blocks from their extents: core/parameters.hpp by vectors.
#pragma once

#include <float.h>

#include "kernels/elementwise_panels.hpp"
#include "kernels/panel_walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <class Float, bool Symmetric>
class ParametersStep {
public:
    explicit ParametersStep(const ParametersArgs& a)
        : codes_(simd::splat(static_cast<double>(a.codes))),
          codes32_(simd::splat(static_cast<float>(a.codes))),
          start_(simd::splat_i32(a.start)) {}

    // Of 2 * lanes blocks, of which those from `valid` on do not count.
    PIQUANT_INLINE void run(const void* lowest, const void* highest, void* scales, float* inverses, uint8_t* zeros,
                            size_t valid) {
        simd::f32 lo[2] = {simd::splat(0.0f), simd::splat(0.0f)};
        simd::f32 hi[2];
        if constexpr (!Symmetric) {
            simd::load2(Float{}, lowest, lo[0], lo[1]);
        }
        simd::load2(Float{}, highest, hi[0], hi[1]);
        const simd::f32 one = simd::splat(1.0f);
        simd::f32 scale[2];
        simd::i32 raised[2];
        PIQUANT_UNROLL
        for (size_t k = 0; k < 2; ++k) {
            const simd::f32 quotient = divided(lo[k], hi[k]);
            count_unfit(quotient, k * simd::lanes, valid);
            // The difference is 0 where both are: float32 has subnormal numbers for it.
            scale[k] = simd::where_zero(hi[k] - lo[k], one, simd::max_number(quotient, simd::splat(FLT_MIN)));
            simd::i32 zero = start_;
            if constexpr (!Symmetric) {
                const simd::f64 below = simd::splat(0.0) - simd::to<simd::f64>(lo[k]);
                const simd::f64 steps = simd::round_even(below / simd::to<simd::f64>(scale[k]));
                zero = zero + simd::to_i32(simd::min_number(steps, codes_));
            }
            raised[k] = zero;
        }
        unsigned char bytes[2 * pair_elements];
        simd::put<simd::Store::cached>(
            bytes, simd::sorted(simd::narrow4<false>(raised[0], raised[1], raised[0], raised[1], simd::splat_u16(0))));
        __builtin_memcpy(zeros, bytes, pair_elements);
        simd::store2<simd::Store::cached, false>(float32{}, scales, scale[0], scale[1]);
        simd::store2<simd::Store::cached, false>(float32{}, inverses, one / scale[0], one / scale[1]);
    }

    // Whether a scale was infinite or a NaN.
    bool found_unfit() const { return !simd::all_zero(unfit_); }

private:
    // One rounding from float64. A quotient of two float32 is the same without it: 53 >= 2 * 24 + 2 bits.
    PIQUANT_INLINE simd::f32 divided(simd::f32 lo, simd::f32 hi) const {
        if constexpr (Symmetric) {
            return hi / codes32_;
        } else {
            return simd::to<simd::f32>((simd::to<simd::f64>(hi) - simd::to<simd::f64>(lo)) / codes_);
        }
    }
    PIQUANT_INLINE void count_unfit(simd::f32 quotient, size_t first, size_t valid) {
        const simd::f32 zero = simd::splat(0.0f);
        simd::f32 unfit = quotient - quotient;  // a NaN, if it is not 0
        if (valid < pair_elements) {
            const simd::i32 from_last = simd::splat_i32(static_cast<int32_t>(valid - first)) - simd::lane_numbers();
            unfit = simd::where_zero(simd::to<simd::f32>(simd::max(from_last, simd::splat_i32(0))), zero, unfit);
        }
        unfit_ = unfit_ + unfit;
    }

    simd::f64 codes_;
    simd::f32 codes32_;
    simd::i32 start_;
    simd::f32 unfit_ = simd::splat(0.0f);
};

template <class Float, bool Symmetric>
bool find_parameters(const ParametersArgs& a) {
    constexpr size_t size = sizeof(typename Float::storage);
    ParametersStep<Float, Symmetric> operation(a);
    const auto* low = static_cast<const unsigned char*>(a.lowest);
    const auto* high = static_cast<const unsigned char*>(a.highest);
    for (size_t k = 0; k < a.count; k += pair_elements) {
        const size_t valid = a.count - k;
        float last[pair_elements];
        void* const scales = valid < pair_elements ? static_cast<void*>(last) : elementwise::element(a.scales, k, 32);
        operation.run(low + (Symmetric ? 0 : k * size), high + k * size, scales, a.inverses + k, a.zeros + k, valid);
        if (valid < pair_elements) {
            __builtin_memcpy(elementwise::element(a.scales, k, 32), last, valid * sizeof last[0]);
        }
    }
    return operation.found_unfit();
}

template <class Float>
bool parameters(const ParametersArgs& a) {
    if (a.lowest == nullptr) {
        return find_parameters<Float, true>(a);
    }
    // Half a step goes to the even sum with `start`, which is that to the even integer only if that is even.
    return a.start % 2 != 0 ? elementwise::parameters<Float>(a) : find_parameters<Float, false>(a);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
