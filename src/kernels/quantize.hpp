// Float -> codes over vectors: round, saturate while narrowing, pack, store whole registers.
//
// Codes are made as offset binary: unsigned numbers, of which 0 stands for the lowest code of the type. Saturation to
// unsigned numbers is then the clamp to the type's lowest code, and one narrowing serves both kinds of codes. Signed
// codes are offset binary with the sign bit flipped:
//
//   4 bits         -8     -7   ..   -1      0   ..    7
//   offset binary  0000   0001 ..   0111   1000 ..   1111
//   code           1000   1001 ..   1111   0000 ..   0111
//
// so the last thing that happens to a register is an exclusive or with a mask, which is zero for unsigned codes.
#pragma once

#include "core/packing.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"
#include "kernels/walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

// A code pattern of at most 32 bits in offset binary.
template <int Bits>
inline uint32_t offset_binary(uint64_t code, bool is_signed) {
    return static_cast<uint32_t>(code - code_min(Bits, is_signed));
}

// The sign bits of all fields in 32 bits; 0 for unsigned codes.
template <int Bits>
inline uint32_t sign_bits(bool is_signed) {
    uint32_t pattern = 0;
    for (int bit = Bits - 1; is_signed && bit < 32; bit += Bits) {
        pattern |= uint32_t{1} << bit;
    }
    return pattern;
}

// Codes of at most 16 bits. Width: how far the integers reach before the zero point is added.
template <class Float, int Bits, Round Rounding, CodeWidth Width = code_width(Bits)>
class QuantizeStep {
    // Whether rounding clamps to quant_max, in every vector of floats. Where conversion saturates, one minimum of a
    // register of bytes does it for four of them.
    static constexpr bool capped = !(simd::conversion_saturates<Float> && Bits <= 8 && Rounding == Round::nearest);

public:
    static constexpr int in_bits = Float::bits;
    static constexpr int out_bits = Bits;
    static constexpr size_t registers = Bits == 16 ? 2 : 1;  // of output: as much input as a register of bytes takes
    static constexpr size_t elements = registers * simd::width * 8 / Bits;
    static constexpr bool reads_output = false;
    static constexpr Kernel model = elementwise::quantize<Float, Bits, Rounding>;
    using Words = simd::WordsFor<Float, Width, Rounding>;

    explicit QuantizeStep(const KernelArgs& a)
        : round_(a),
          zero_(simd::splat_u16(offset_binary<Bits>(a.zero_point, a.is_signed))),
          wide_zero_(simd::splat_i32(static_cast<int32_t>(offset_binary<Bits>(a.zero_point, a.is_signed)))),
          sign_(simd::splat_pattern(sign_bits<Bits>(a.is_signed))),
          min_(splat_code(offset_binary<Bits>(a.quant_min, a.is_signed))),
          max_(splat_code(offset_binary<Bits>(a.quant_max, a.is_signed))),
          is_signed_(a.is_signed),
          raises_minimum_(a.quant_min != code_min(Bits, a.is_signed)) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, Words& words) const {
        // Names, not nested calls: compilers evaluate arguments in any order, and memory is read in the order of
        // evaluation.
        if constexpr (Bits == 16) {
            const unsigned char* second = in + 2 * bytes_for(simd::lanes, Float::bits);
            simd::bytes codes[2];
            if constexpr (Width == CodeWidth::up_to_8) {
                simd::words<interleaved> u[2];
                words.take(u[0], u[1]);
                codes[0] = upper16(in, u[0]);
                codes[1] = upper16(second, u[1]);
            } else {
                codes[0] = codes16(in, words);
                codes[1] = codes16(second, words);
            }
            if (raises_minimum_) {
                codes[0] = simd::max_u16(codes[0], min_);
                codes[1] = simd::max_u16(codes[1], min_);
            }
            if (is_signed_) {  // a branch that goes one way for all of a call, for two of some twenty instructions
                codes[0] = codes[0] ^ sign_;
                codes[1] = codes[1] ^ sign_;
            }
            simd::put<Storing>(out, codes[0]);
            simd::put<Storing>(out + simd::width, codes[1]);
        } else if constexpr (Bits == 8) {
            const auto a = codes8(in, words, 0);
            simd::put<Storing>(out, simd::sorted(a) ^ sign_);
        } else if constexpr (Bits == 4) {
            const auto a = codes8(in, words, 0);
            const auto b = codes8(in, words, 1);
            simd::put<Storing>(out, simd::pack_nibbles(a, b) ^ sign_);
        } else {
            const auto a = codes8(in, words, 0);
            const auto b = codes8(in, words, 1);
            const auto c = codes8(in, words, 2);
            const auto d = codes8(in, words, 3);
            simd::put<Storing>(out, simd::pack_crumbs(a, b, c, d) ^ sign_);
        }
    }

private:
    static constexpr bool interleaved = simd::interleaved<Float>;

    static simd::bytes splat_code(uint32_t code) { return Bits == 16 ? simd::splat_u16(code) : simd::splat_u8(code); }

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

    // Four vectors of the step as one register of bytes, in the order in which packing leaves them.
    PIQUANT_INLINE auto codes8(const unsigned char* in, Words& words, size_t k) const {
        auto codes = narrowed(in + 4 * k * bytes_for(simd::lanes, Float::bits), words);
        if constexpr (!capped) {
            codes = simd::min_u8(codes, max_);
        }
        // Saturation has clamped to the lowest code of the type. Few calls have a higher minimum, and the branch costs
        // nothing: it goes one way for all of a call.
        if (raises_minimum_) {
            codes = simd::max_u8(codes, min_);
        }
        return codes;
    }
    PIQUANT_INLINE auto narrowed(const unsigned char* in, [[maybe_unused]] Words& words) const {
        simd::i32 a;
        simd::i32 b;
        simd::i32 c;
        simd::i32 d;
        round_.fixed_point(in, a, b);
        round_.fixed_point(in + 2 * bytes_for(simd::lanes, Float::bits), c, d);
        if constexpr (Rounding == Round::stochastic) {
            simd::words<interleaved> ab;
            simd::words<interleaved> cd;
            words.take(ab, cd);
            return simd::narrow4_upper(a, b, c, d, ab, cd, zero_);
        } else {
            return simd::narrow4<interleaved>(a, b, c, d, zero_);
        }
    }

    simd::Rounder<Float, Width, Rounding, capped> round_;
    simd::bytes zero_;
    simd::i32 wide_zero_;
    simd::bytes sign_;
    simd::bytes min_;
    simd::bytes max_;
    bool is_signed_;
    bool raises_minimum_;
};

// 32-bit codes: the sum with the zero point and the clamp in float64, which is exact, over signed numbers. Unsigned
// codes are offset binary to those.
template <class Float, Round Rounding>
class Quantize32Step {
public:
    static constexpr int in_bits = Float::bits;
    static constexpr int out_bits = 32;
    static constexpr size_t elements = 2 * simd::lanes;
    static constexpr bool reads_output = false;
    static constexpr Kernel model = elementwise::quantize<Float, 32, Rounding>;
    using Words = simd::WordsFor<Float, CodeWidth::up_to_32, Rounding>;

    explicit Quantize32Step(const KernelArgs& a)
        : round_(a),
          zero_(simd::splat(as_signed(a.zero_point, a.is_signed))),
          min_(simd::splat(as_signed(a.quant_min, a.is_signed))),
          max_(simd::splat(as_signed(a.quant_max, a.is_signed))),
          top_bit_(simd::splat_i32(a.is_signed ? 0 : INT32_MIN)) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, Words& words) const {
        simd::f64 a;
        simd::f64 b;
        round_(in, words, a, b);
        simd::put<Storing>(out, code(a));
        simd::put<Storing>(out + simd::width, code(b));
    }

private:
    PIQUANT_INLINE simd::i32 code(simd::f64 integer) const {
        return simd::to_i32(simd::min_number(simd::max_number(integer + zero_, min_), max_)) ^ top_bit_;
    }
    static double as_signed(uint64_t code, bool is_signed) {
        return static_cast<double>(static_cast<int64_t>(code)) - (is_signed ? 0.0 : 2147483648.0);
    }

    simd::Rounder<Float, CodeWidth::up_to_32, Rounding> round_;
    simd::f64 zero_;
    simd::f64 min_;
    simd::f64 max_;
    simd::i32 top_bit_;
};

template <class Float, int Bits, Round Rounding>
void quantize(const KernelArgs& a) {
    if constexpr (Bits == 64) {
        elementwise::quantize<Float, Bits, Rounding>(a);
    } else if constexpr (Bits == 32) {
        walk<Quantize32Step<Float, Rounding>>(a);
    } else if constexpr (Rounding == Round::nearest) {
        walk<QuantizeStep<Float, Bits, Rounding>>(a);
    } else if constexpr (Bits == 16) {
        // The zero point of symmetric parameters: integers from -32768 to 32767 leave 16 bits for the fraction. Twice
        // as fast.
        if (offset_binary<Bits>(a.zero_point, a.is_signed) == 0x8000 && stochastic_inverse_fits<Float>(a)) {
            walk<QuantizeStep<Float, Bits, Rounding, CodeWidth::up_to_8>>(a);
        } else {
            walk<QuantizeStep<Float, Bits, Rounding>>(a);
        }
    } else if (stochastic_inverse_fits<Float>(a)) {
        walk<QuantizeStep<Float, Bits, Rounding>>(a);
    } else {
        elementwise::quantize<Float, Bits, Rounding>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
