// Float -> float through a code that exists only in registers: quantize_dequantize.
//
// The code is never packed, so its width matters only through how far it reaches, and its zero point only through the
// clamp: d = clamp(r + zero_point, min, max) - zero_point = clamp(r, min - zero_point, max - zero_point). One kernel
// serves all codes of one CodeWidth.
#pragma once

#include "kernels/elementwise.hpp"
#include "kernels/reduce.hpp"
#include "kernels/rounding.hpp"
#include "kernels/walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <class Float, CodeWidth Width, Round Rounding, Reduce Reduction>
class QuantizeDequantizeStep {
    using T = typename Float::compute;
    using Vector = simd::vec<Float>;

public:
    static constexpr int in_bits = Float::bits;
    static constexpr int out_bits = Float::bits;
    static constexpr size_t elements = 2 * simd::lanes;
    static constexpr bool reads_output = Reduction == Reduce::add;
    static constexpr Kernel model = elementwise::quantize_dequantize<Float, Rounding, Reduction>;
    using Words = simd::WordsFor<Float, Width, Rounding>;

    explicit QuantizeDequantizeStep(const KernelArgs& a)
        : round_(a),
          scale_(simd::splat(static_cast<T>(a.scale))),
          min_(bound(static_cast<int64_t>(a.quant_min - a.zero_point))),
          max_(bound(static_cast<int64_t>(a.quant_max - a.zero_point))) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, Words& words) const {
        Integer a;
        Integer b;
        round_(in, words, a, b);
        reduce_pair<Float, Reduction, Storing, simd::interleaved_for<Float, Width>>(out, value(a), value(b));
    }

private:
    static constexpr bool in_float64 = Width == CodeWidth::up_to_32;
    using Integer = std::conditional_t<in_float64, simd::f64, simd::i32>;

    static Integer bound(int64_t difference) {
        if constexpr (in_float64) {
            return simd::splat(static_cast<double>(difference));
        } else {
            return simd::splat_i32(static_cast<int32_t>(difference));
        }
    }

    PIQUANT_INLINE Vector value(Integer r) const {
        if constexpr (in_float64) {
            // Adding zero turns -0 into the +0 that an integer gives.
            return simd::to<Vector>(simd::min_number(simd::max_number(r, min_), max_) + simd::splat(0.0)) * scale_;
        } else {
            return simd::to<Vector>(simd::max(r, min_)) * scale_;  // rounding has clamped the upper end
        }
    }

    simd::Rounder<Float, Width, Rounding> round_;
    Vector scale_;
    Integer min_;
    Integer max_;
};

template <class Float, CodeWidth Width, Round Rounding, Reduce Reduction>
void quantize_dequantize(const KernelArgs& a) {
    using Step = QuantizeDequantizeStep<Float, Width, Rounding, Reduction>;
    if (Width == CodeWidth::up_to_8 && Rounding == Round::stochastic && !stochastic_inverse_fits<Float>(a)) {
        Step::model(a);
    } else {
        walk<Step>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
