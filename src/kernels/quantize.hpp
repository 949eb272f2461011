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

// Full: codes may take all values of their type, so that saturation is all the clamping that 8 bits need. Otherwise
// rounding sees to the upper end, and a maximum of codes to the lower. W: how far the integers reach before the zero
// point is added.
template <class F, class Q, Round R, bool Full, Reach W = reach_of(Q::bits)>
class QuantizeOp {
    static constexpr bool capped = !(simd::conversion_saturates<F> && Full && Q::bits <= 8 && R == Round::nearest);

public:
    static constexpr int in_bits = F::bits;
    static constexpr int out_bits = Q::bits;
    static constexpr size_t registers = Q::bits == 16 ? 2 : 1;  // of output: as much input as a register of bytes takes
    static constexpr size_t block = registers * simd::width * 8 / Q::bits;
    static constexpr bool reads_output = false;
    static constexpr Kernel model = elementwise::quantize<F, Q, R>;
    using Words = simd::WordsOf<F, W, R>;

    explicit QuantizeOp(const KernelArgs& a)
        : round_(a),
          zero_(simd::splat_u16(raised<Q>(a.zero_point))),
          wide_zero_(simd::splat_i32(static_cast<int32_t>(raised<Q>(a.zero_point)))),
          sign_(simd::splat_pattern(sign_pattern<Q>())),
          min_(Q::bits == 16 ? simd::splat_u16(raised<Q>(a.quant_min)) : simd::splat_u8(raised<Q>(a.quant_min))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, Words& words) const {
        // Names, not nested calls: compilers evaluate arguments in any order, and memory is read in the order of
        // evaluation.
        if constexpr (Q::bits == 16) {
            const unsigned char* second = in + 2 * bytes_for(simd::lanes, F::bits);
            simd::bytes codes[2];
            if constexpr (W == Reach::narrow) {
                simd::words<interleaved> u[2];
                words.take(u[0], u[1]);
                codes[0] = upper16(in, u[0]);
                codes[1] = upper16(second, u[1]);
            } else {
                codes[0] = codes16(in, words);
                codes[1] = codes16(second, words);
            }
            finish<S>(out, Full ? codes[0] : simd::max_u16(codes[0], min_));
            finish<S>(out + simd::width, Full ? codes[1] : simd::max_u16(codes[1], min_));
        } else if constexpr (Q::bits == 8) {
            finish<S>(out, simd::sorted(codes8(in, words, 0)));
        } else if constexpr (Q::bits == 4) {
            const auto a = codes8(in, words, 0);
            const auto b = codes8(in, words, 1);
            finish<S>(out, simd::pack_nibbles(a, b));
        } else {
            const auto a = codes8(in, words, 0);
            const auto b = codes8(in, words, 1);
            const auto c = codes8(in, words, 2);
            const auto d = codes8(in, words, 3);
            finish<S>(out, simd::pack_crumbs(a, b, c, d));
        }
    }

private:
    static constexpr bool interleaved = simd::interleaved<F>;

    template <simd::Store S>
    PIQUANT_INLINE void finish(unsigned char* out, simd::bytes codes) const {
        simd::put<S>(out, Q::is_signed ? codes ^ sign_ : codes);
    }

    // A register of 16-bit codes. The integers are the upper halves of the lanes, once random words are added.
    PIQUANT_INLINE simd::bytes upper16(const unsigned char* in, simd::words<interleaved> u) const {
        simd::i32 a;
        simd::i32 b;
        round_.fixed_point(in, a, b);
        return simd::narrow2_upper(a, b, u, zero_);
    }
    // The same from whole integers.
    PIQUANT_INLINE simd::bytes codes16(const unsigned char* in, Words& words) const {
        simd::i32 a;
        simd::i32 b;
        round_(in, words, a, b);
        return simd::narrow2<interleaved>(a + wide_zero_, b + wide_zero_);
    }

    // Four vectors of the block as one register of bytes, in the order in which packing leaves them.
    PIQUANT_INLINE auto codes8(const unsigned char* in, Words& words, size_t k) const {
        auto codes = narrowed(in + 4 * k * bytes_for(simd::lanes, F::bits), words);
        if constexpr (!capped && Q::bits < 8) {
            codes = min_u8(codes, simd::splat_u8((1u << Q::bits) - 1));
        }
        return Full ? codes : simd::max_u8(codes, min_);
    }
    PIQUANT_INLINE auto narrowed(const unsigned char* in, [[maybe_unused]] Words& words) const {
        simd::i32 a;
        simd::i32 b;
        simd::i32 c;
        simd::i32 d;
        round_.fixed_point(in, a, b);
        round_.fixed_point(in + 2 * bytes_for(simd::lanes, F::bits), c, d);
        if constexpr (R == Round::stochastic) {
            simd::words<interleaved> ab;
            simd::words<interleaved> cd;
            words.take(ab, cd);
            return simd::narrow4_upper(a, b, c, d, ab, cd, zero_);
        } else {
            return simd::narrow4<interleaved>(a, b, c, d, zero_);
        }
    }

    simd::Rounder<F, W, R, capped> round_;
    simd::bytes zero_;
    simd::i32 wide_zero_;
    simd::bytes sign_;
    simd::bytes min_;
};

// 32-bit codes: the sum with the zero point and the clamp in float64, which is exact, shifted into int32's range.
template <class F, class Q, Round R>
class QuantizeOp32 {
public:
    static constexpr int in_bits = F::bits;
    static constexpr int out_bits = 32;
    static constexpr size_t block = 2 * simd::lanes;
    static constexpr bool reads_output = false;
    static constexpr Kernel model = elementwise::quantize<F, Q, R>;
    using Words = simd::WordsOf<F, Reach::wide, R>;

    explicit QuantizeOp32(const KernelArgs& a)
        : round_(a),
          zero_(simd::splat(shifted(a.zero_point))),
          min_(simd::splat(shifted(a.quant_min))),
          max_(simd::splat(shifted(a.quant_max))),
          top_bit_(simd::splat_i32(INT32_MIN)) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, Words& words) const {
        simd::f64 a;
        simd::f64 b;
        round_(in, words, a, b);
        simd::put<S>(out, code(a));
        simd::put<S>(out + simd::width, code(b));
    }

private:
    PIQUANT_INLINE simd::i32 code(simd::f64 integer) const {
        const simd::i32 c = simd::to_i32(simd::min_number(simd::max_number(integer + zero_, min_), max_));
        return Q::is_signed ? c : c ^ top_bit_;
    }
    static double shifted(uint64_t code) {
        return static_cast<double>(static_cast<int64_t>(code)) - (Q::is_signed ? 0.0 : 2147483648.0);
    }

    simd::Rounder<F, Reach::wide, R> round_;
    simd::f64 zero_;
    simd::f64 min_;
    simd::f64 max_;
    simd::i32 top_bit_;
};

template <class F, class Q, Round R, Reach W>
void quantize_at(const KernelArgs& a) {
    if (a.quant_min == code_min(Q::bits, Q::is_signed) && a.quant_max == code_max(Q::bits, Q::is_signed)) {
        drive<QuantizeOp<F, Q, R, true, W>>(a);
    } else {
        drive<QuantizeOp<F, Q, R, false, W>>(a);
    }
}

template <class F, class Q, Round R>
void quantize(const KernelArgs& a) {
    if constexpr (Q::bits == 64) {
        elementwise::quantize<F, Q, R>(a);
    } else if constexpr (Q::bits == 32) {
        drive<QuantizeOp32<F, Q, R>>(a);
    } else if constexpr (R == Round::nearest) {
        quantize_at<F, Q, R, reach_of(Q::bits)>(a);
    } else if constexpr (Q::bits == 16) {
        // The zero point of symmetric parameters: integers from -32768 to 32767 leave 16 bits for the fraction. Twice
        // as fast.
        if (raised<Q>(a.zero_point) == 0x8000 && stochastic_inverse_fits<F>(a)) {
            quantize_at<F, Q, R, Reach::narrow>(a);
        } else {
            quantize_at<F, Q, R, Reach::medium>(a);
        }
    } else if (stochastic_inverse_fits<F>(a)) {
        quantize_at<F, Q, R, Reach::narrow>(a);
    } else {
        elementwise::quantize<F, Q, R>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
