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
    static constexpr bool reads_output = O == Reduce::add;
    // Arguments are 64-bit patterns, and the code is not stored: the widest type stands for all that are narrower.
    static constexpr Kernel model = elementwise::requantize<F, int64, R, O>;
    using Words = simd::WordsOf<F, W, R>;

    explicit RequantizeOp(const KernelArgs& a)
        : round_(a),
          scale_(simd::splat(static_cast<T>(a.scale))),
          min_(bound(static_cast<int64_t>(a.quant_min - a.zero_point))),
          max_(bound(static_cast<int64_t>(a.quant_max - a.zero_point))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, Words& words) const {
        Integer a;
        Integer b;
        round_(in, words, a, b);
        reduce2<F, O, S, simd::interleaved_for<F, W>>(out, value(a), value(b));
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

    PIQUANT_INLINE V value(Integer r) const {
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
    if constexpr (Q::bits == 64) {
        elementwise::requantize<F, Q, R, O>(a);
    } else {
        using Op = RequantizeOp<F, reach_of(Q::bits), R, O>;
        if (Q::bits <= 8 && R == Round::stochastic && !stochastic_inverse_fits<F>(a)) {
            Op::model(a);
        } else {
            drive<Op>(a);
        }
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
