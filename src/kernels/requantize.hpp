// Float -> float through a code that exists only in registers: quantize_dequantize.
//
// The code is never packed, so its width matters only through how far it reaches, and its zero point only through the
// clamp: d = clamp(r + zero_point, min, max) - zero_point = clamp(r, min - zero_point, max - zero_point). One kernel
// serves all codes of one reach.
#pragma once

#include "kernels/dequantize.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <class F, Reach W, Round R, Reduce O>
class RequantizeOp {
    using T = typename F::compute;
    using V = simd::vec<F>;

public:
    static constexpr int in_bits = F::bits;
    static constexpr int out_bits = F::bits;
    static constexpr size_t block = 2 * simd::lanes;
    static constexpr bool stochastic = R == Round::stochastic;
    static constexpr bool reads_output = O == Reduce::add;

    explicit RequantizeOp(const KernelArgs& a)
        : round_(a),
          scale_(simd::splat(static_cast<T>(a.scale))),
          min_(bound(static_cast<int64_t>(a.quant_min - a.zero_point))),
          max_(bound(static_cast<int64_t>(a.quant_max - a.zero_point))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, const uint16_t* words) const {
        const V a = value(in, words);
        const V b = value(in + bytes_for(simd::lanes, F::bits), words + simd::lanes);
        reduce2<F, O, S>(out, a, b);
    }

private:
    using Integer = std::conditional_t<W == Reach::wide, simd::f64, simd::i32>;

    static Integer bound(int64_t difference) {
        if constexpr (W == Reach::wide) {
            return simd::splat(static_cast<double>(difference));
        } else {
            return simd::splat_i32(static_cast<int32_t>(difference));
        }
    }

    PIQUANT_INLINE V value(const unsigned char* in, const uint16_t* words) const {
        const Integer r = round_(in, words);
        if constexpr (W == Reach::wide) {
            // Adding zero turns -0 into the +0 that an integer gives.
            return simd::to<V>(simd::min_number(simd::max_number(r, min_), max_) + simd::splat(0.0)) * scale_;
        } else {
            return simd::to<V>(simd::max(r, min_)) * scale_;  // rounding has clamped the upper end
        }
    }

    simd::Rounder<F, W, R> round_;
    V scale_;
    Integer min_;
    Integer max_;
};

template <class F, class Q, Round R, Reduce O>
void requantize(const KernelArgs& a) {
    if (Q::bits == 64 || (Q::bits <= 8 && R == Round::stochastic && !stochastic_inverse_fits<F>(a))) {
        elementwise::requantize<F, Q, R, O>(a);
        return;
    }
    if constexpr (Q::bits != 64) {
        Drive<RequantizeOp<F, reach_of(Q::bits), R, O>>::run(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
