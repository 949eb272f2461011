// Float -> codes over vectors: round, saturate while narrowing, pack, store whole registers.
//
// Signed codes are made as unsigned ones with the zero point raised by half the range; flipping the top bit of every
// field of the finished register lowers them again. So one narrowing serves both.
#pragma once

#include "kernels/drive.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"

namespace piquant {
namespace {
namespace vectorized {

// Top bit of every field of Q in 32 bits, for signed codes.
template <class Q>
constexpr uint32_t sign_pattern() {
    uint32_t pattern = 0;
    for (int bit = Q::bits - 1; Q::is_signed && bit < 32; bit += Q::bits) {
        pattern |= uint32_t{1} << bit;
    }
    return pattern;
}

// A code pattern as the unsigned code that takes its place before the sign bits are flipped.
template <class Q>
inline uint32_t raised(uint64_t code) {
    return static_cast<uint32_t>(code - code_min(Q::bits, Q::is_signed));
}

// Floor: quant_min lies above the type's minimum, where saturation does not clamp to it. The upper end needs no clamp
// here, rounding has seen to it.
template <class F, class Q, Round R, bool Floor>
class QuantizeOp {
public:
    static constexpr int in_bits = F::bits;
    static constexpr int out_bits = Q::bits;
    static constexpr size_t block = simd::width * 8 / Q::bits;
    static constexpr bool stochastic = R == Round::stochastic;
    static constexpr bool reads_output = false;

    explicit QuantizeOp(const KernelArgs& a)
        : round_(a),
          zero8_(simd::splat_u16(raised<Q>(a.zero_point))),
          zero16_(simd::splat_i32(static_cast<int32_t>(raised<Q>(a.zero_point)))),
          sign_(simd::splat_pattern(sign_pattern<Q>())),
          min_(Q::bits == 16 ? simd::splat_u16(raised<Q>(a.quant_min)) : simd::splat_u8(raised<Q>(a.quant_min))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, const uint16_t* words) const {
        // Names, not nested calls: compilers evaluate arguments in any order, and memory is read in the order of evaluation.
        simd::bytes codes;
        if constexpr (Q::bits == 16) {
            const simd::i32 a = integers(in, words, 0);
            const simd::i32 b = integers(in, words, 1);
            codes = simd::narrow2(a + zero16_, b + zero16_);
            if constexpr (Floor) {
                codes = simd::max_u16(codes, min_);
            }
        } else if constexpr (Q::bits == 8) {
            codes = codes8(in, words, 0);
        } else if constexpr (Q::bits == 4) {
            const simd::bytes a = codes8(in, words, 0);
            const simd::bytes b = codes8(in, words, 1);
            codes = simd::pack_nibbles(a, b);
        } else {
            const simd::bytes a = codes8(in, words, 0);
            const simd::bytes b = codes8(in, words, 1);
            const simd::bytes c = codes8(in, words, 2);
            const simd::bytes d = codes8(in, words, 3);
            codes = simd::pack_crumbs(a, b, c, d);
        }
        if constexpr (Q::is_signed) {
            codes = codes ^ sign_;
        }
        simd::put<S>(out, codes);
    }

private:
    // Vector k of the block.
    PIQUANT_INLINE simd::i32 integers(const unsigned char* in, const uint16_t* words, size_t k) const {
        return round_(in + k * bytes_for(simd::lanes, F::bits), stochastic ? words + k * simd::lanes : nullptr);
    }
    PIQUANT_INLINE simd::i32 fixed_point(const unsigned char* in, const uint16_t* words, size_t k) const {
        return round_.fixed_point(in + k * bytes_for(simd::lanes, F::bits),
                                  stochastic ? words + k * simd::lanes : nullptr);
    }
    // Four vectors of the block as one register of bytes.
    PIQUANT_INLINE simd::bytes codes8(const unsigned char* in, const uint16_t* words, size_t k) const {
        const simd::i32 a = fixed_point(in, words, 4 * k);
        const simd::i32 b = fixed_point(in, words, 4 * k + 1);
        const simd::i32 c = fixed_point(in, words, 4 * k + 2);
        const simd::i32 d = fixed_point(in, words, 4 * k + 3);
        const simd::bytes codes =
            stochastic ? simd::narrow4_upper(a, b, c, d, zero8_) : simd::narrow4(a, b, c, d, zero8_);
        return Floor ? simd::max_u8(codes, min_) : codes;
    }

    simd::Rounder<F, reach_of(Q::bits), R> round_;
    simd::bytes zero8_;
    simd::i32 zero16_;
    simd::bytes sign_;
    simd::bytes min_;
};

// 32-bit codes: the sum with the zero point and the clamp in float64, which is exact, shifted into int32's range.
template <class F, class Q, Round R>
class QuantizeOp32 {
public:
    static constexpr int in_bits = F::bits;
    static constexpr int out_bits = 32;
    static constexpr size_t block = simd::lanes;
    static constexpr bool stochastic = R == Round::stochastic;
    static constexpr bool reads_output = false;

    explicit QuantizeOp32(const KernelArgs& a)
        : round_(a),
          zero_(simd::splat(shifted(a.zero_point))),
          min_(simd::splat(shifted(a.quant_min))),
          max_(simd::splat(shifted(a.quant_max))),
          top_bit_(simd::splat_i32(INT32_MIN)) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, const uint16_t* words) const {
        const simd::f64 sum = round_(in, words) + zero_;
        const simd::i32 code = simd::to_i32(simd::min_number(simd::max_number(sum, min_), max_));
        simd::put<S>(out, Q::is_signed ? code : code ^ top_bit_);
    }

private:
    static double shifted(uint64_t code) {
        return static_cast<double>(static_cast<int64_t>(code)) - (Q::is_signed ? 0.0 : 2147483648.0);
    }

    simd::Rounder<F, Reach::wide, R> round_;
    simd::f64 zero_;
    simd::f64 min_;
    simd::f64 max_;
    simd::i32 top_bit_;
};

template <class F, class Q, Round R>
void quantize(const KernelArgs& a) {
    if (Q::bits == 64 || (Q::bits <= 8 && R == Round::stochastic && !stochastic_inverse_fits<F>(a))) {
        elementwise::quantize<F, Q, R>(a);
        return;
    }
    if constexpr (Q::bits == 64) {
        return;
    } else if constexpr (Q::bits == 32) {
        Drive<QuantizeOp32<F, Q, R>>::run(a);
    } else if (a.quant_min == code_min(Q::bits, Q::is_signed)) {
        Drive<QuantizeOp<F, Q, R, false>>::run(a);
    } else {
        Drive<QuantizeOp<F, Q, R, true>>::run(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
