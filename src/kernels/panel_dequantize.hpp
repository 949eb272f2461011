// Codes of 2, 4 or 8 bits -> float where blocks have their own scale and zero point: by arithmetic alone, as in
// kernels/dequantize.hpp, since a table would have to be made for each block.
#pragma once

#include "kernels/dequantize.hpp"
#include "kernels/panel_walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <int Bits, class Float, Reduce Reduction>
class PanelDequantize {
    static constexpr bool interleaved = simd::interleaved<Float>;
    static constexpr int32_t exponent = 0x4b000000;  // of 2^23, the pattern above a field; see simd::Difference

public:
    static constexpr int in_bits = Bits;
    static constexpr int out_bits = Float::bits;
    static constexpr size_t elements = 4 * simd::lanes;
    static constexpr bool reads_output = Reduction == Reduce::add;
    static constexpr bool reads_words = false;

    struct Block {
        Block(float scale, int32_t zero_point)
            : factor(simd::splat(scale)), zero(simd::splat(8388608.0f + static_cast<float>(zero_point))) {}

        template <bool>
        PIQUANT_INLINE void take(simd::f32& first, simd::f32& second, simd::f32& low, simd::f32& next_low) const {
            first = second = factor;
            low = next_low = zero;
        }

        simd::f32 factor;
        simd::f32 zero;
    };

    explicit PanelDequantize(const PanelArgs& a)
        : mask_(simd::splat_i32(static_cast<int32_t>(sign_bit(Bits, a.is_signed)) | exponent)) {}

    template <class Source>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, const uint16_t*, Source& source,
                            bool bypasses) const {
        simd::i32 fields[4];
        simd::load_codes4<Bits, interleaved>(in, fields);
        simd::f32 v[4];
        values(fields[0], fields[1], source, v[0], v[1]);
        values(fields[2], fields[3], source, v[2], v[3]);
        if (Reduction == Reduce::set && bypasses) {  // goes one way for all of a call
            reduce<simd::Store::non_temporal>(out, v);
        } else {
            reduce<simd::Store::cached>(out, v);
        }
    }

private:
    template <class Source>
    PIQUANT_INLINE void values(simd::i32 a, simd::i32 b, Source& source, simd::f32& x, simd::f32& y) const {
        simd::f32 first;
        simd::f32 second;
        simd::f32 zero;
        simd::f32 next_zero;
        take(source, first, second, zero, next_zero);
        x = (simd::from_pattern<simd::f32>(a ^ mask_) - zero) * first;
        y = (simd::from_pattern<simd::f32>(b ^ mask_) - next_zero) * second;
    }
    PIQUANT_INLINE static void take(Block& source, simd::f32& first, simd::f32& second, simd::f32& zero,
                                    simd::f32& next_zero) {
        source.template take<interleaved>(first, second, zero, next_zero);
    }
    // 2^23 + zero, made of the integer by adding to its pattern.
    template <class Source>
    PIQUANT_INLINE static void take(Source& source, simd::f32& first, simd::f32& second, simd::f32& zero,
                                    simd::f32& next_zero) {
        simd::i32 z;
        simd::i32 next;
        source.template take<interleaved>(first, second, z, next);
        zero = simd::from_pattern<simd::f32>(z + simd::splat_i32(exponent));
        next_zero = simd::from_pattern<simd::f32>(next + simd::splat_i32(exponent));
    }

    template <simd::Store Storing>
    PIQUANT_INLINE static void reduce(unsigned char* out, const simd::f32 (&v)[4]) {
        reduce_pair<Float, Reduction, Storing, interleaved>(out, v[0], v[1]);
        reduce_pair<Float, Reduction, Storing, interleaved>(out + bytes_for(pair_elements, Float::bits), v[2], v[3]);
    }

    simd::i32 mask_;
};

template <int Bits, class Float, Reduce Reduction>
void dequantize_panel(const PanelArgs& a) {
    walk_panel(panel_operation<PanelDequantize<Bits, Float, Reduction>>, a);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
