// Float -> codes of 2, 4 or 8 bits where blocks have their own scale and zero point: the steps of kernels/quantize.hpp, of
// which only two things vary with the block, the inverse and the zero point. So the clamp in float, which keeps
// conversions from overflowing, is a constant beyond all codes, saturation does the rest, and the range is that of bytes.
#pragma once

#include "kernels/elementwise_panels.hpp"
#include "kernels/panel_walk.hpp"
#include "kernels/quantize.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <class Float, int Bits, Round Rounding>
class PanelQuantize {
    static constexpr bool interleaved = simd::interleaved<Float>;
    static constexpr bool stochastic = Rounding == Round::stochastic;
    // Stochastically, integers have 16 bits of fraction, see Rounder.
    static constexpr float factor = stochastic ? 65536 : 1;

public:
    static constexpr int in_bits = Float::bits;
    static constexpr int out_bits = Bits;
    static constexpr size_t elements = simd::width * 8 / Bits;
    static constexpr bool reads_output = false;
    static constexpr bool reads_words = stochastic;

    struct Block {
        static constexpr bool is_block = true;

        Block(float inverse, int32_t zero_point)
            : factors(simd::splat(inverse * factor)), zero(simd::splat_u16(static_cast<uint32_t>(zero_point))) {}
        simd::f32 factors;
        simd::bytes zero;
    };

    explicit PanelQuantize(const PanelArgs& a)
        : limit_(simd::splat(4096 * factor)),
          sign_(simd::splat_pattern(sign_bits<Bits>(a.is_signed))),
          min_(simd::splat_u8(offset_binary<Bits>(a.quant_min, a.is_signed))),
          max_(simd::splat_u8(offset_binary<Bits>(a.quant_max, a.is_signed))),
          narrows_(a.quant_min != code_min(Bits, a.is_signed) ||
                   (Bits == 8 && a.quant_max != code_max(Bits, a.is_signed))) {}

    template <class Source>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, const uint16_t* words, Source& source,
                            bool bypasses) const {
        simd::bytes packed;
        if constexpr (Bits == 8) {
            packed = simd::sorted(codes8(in, words, source, 0));
        } else if constexpr (Bits == 4) {
            const auto a = codes8(in, words, source, 0);
            const auto b = codes8(in, words, source, 1);
            packed = simd::pack_nibbles(a, b);
        } else {
            const auto a = codes8(in, words, source, 0);
            const auto b = codes8(in, words, source, 1);
            const auto c = codes8(in, words, source, 2);
            const auto d = codes8(in, words, source, 3);
            packed = simd::pack_crumbs(a, b, c, d);
        }
        packed = packed ^ sign_;
        if (bypasses) {
            simd::put<simd::Store::non_temporal>(out, packed);
        } else {
            simd::put<simd::Store::cached>(out, packed);
        }
    }

private:
    PIQUANT_INLINE static const uint16_t* words_at(const uint16_t* words, size_t element) {
        return stochastic ? words + element : nullptr;
    }

    // Four vectors of the step as one register of bytes.
    template <class Source>
    PIQUANT_INLINE auto codes8(const unsigned char* in, const uint16_t* words, Source& source, size_t k) const {
        in += 4 * k * bytes_for(simd::lanes, Float::bits);
        auto codes = narrowed(in, words_at(words, 4 * k * simd::lanes), source);
        // Bytes are saturated to the range of 8 bits, and at the lower end to that of all types. The branches go one way
        // for all of a call, too.
        if (Bits < 8 || narrows_) {
            codes = simd::min_u8(codes, max_);
        }
        if (narrows_) {
            codes = simd::max_u8(codes, min_);
        }
        return codes;
    }
    template <class Source>
    PIQUANT_INLINE auto narrowed(const unsigned char* in, const uint16_t* words, Source& source) const {
        simd::i32 a;
        simd::i32 b;
        simd::i32 c;
        simd::i32 d;
        integers(in, source, a, b);
        integers(in + bytes_for(pair_elements, Float::bits), source, c, d);
        simd::bytes zero;
        if constexpr (Source::is_block) {
            zero = source.zero;
        } else {
            zero = simd::splat_u16(0);  // compilers drop the addition
        }
        if constexpr (stochastic) {
            const auto ab = simd::load_words<interleaved>(words);
            const auto cd = simd::load_words<interleaved>(words + pair_elements);
            return simd::narrow4_upper(a, b, c, d, ab, cd, zero);
        } else {
            return simd::narrow4<interleaved>(a, b, c, d, zero);
        }
    }

    // A pair. Its own zero points are added here, before narrowing; no sum overflows: zero points are raised, and the
    // lowest integer stays far below all codes.
    template <class Source>
    PIQUANT_INLINE void integers(const unsigned char* in, Source& source, simd::i32& a, simd::i32& b) const {
        simd::f32 x;
        simd::f32 y;
        simd::load_pair<Float>(in, x, y);
        if constexpr (Source::is_block) {
            constexpr bool capped = !simd::conversion_saturates<Float> || stochastic;
            a = integer<capped>(x * source.factors);
            b = integer<capped>(y * source.factors);
        } else {
            simd::f32 first;
            simd::f32 second;
            simd::i32 zero;
            simd::i32 next_zero;
            source.template take<interleaved>(first, second, zero, next_zero);
            if constexpr (stochastic) {
                first = first * simd::splat(factor);
                second = second * simd::splat(factor);
                zero = simd::shift_left<16>(zero);
                next_zero = simd::shift_left<16>(next_zero);
            }
            a = integer<true>(x * first) + zero;
            b = integer<true>(y * second) + next_zero;
        }
    }
    template <bool Capped>
    PIQUANT_INLINE simd::i32 integer(simd::f32 y) const {
        return simd::to_i32(Capped ? simd::min_or_nan(y, limit_) : y);
    }

    simd::f32 limit_;
    simd::bytes sign_;
    simd::bytes min_;
    simd::bytes max_;
    bool narrows_;
};

// Whether inverse * 65536 is finite for all of them, as stochastic_inverse_fits() asks of one. Patterns of positive
// floats are in their order, negative ones above.
inline bool stochastic_inverses_fit(const float* inverses, size_t count) {
    constexpr uint32_t two112 = (112 + 127) << 23;
    simd::bytes largest = simd::splat_pattern(0);
    size_t k = 0;
    for (; k + simd::lanes <= count; k += simd::lanes) {
        largest = simd::lower<32>(simd::load_bytes(inverses + k), largest);
    }
    uint32_t most;
    uint32_t unused;
    simd::ends<32>(largest, largest, unused, most);
    for (; k < count; ++k) {
        const uint32_t pattern = bits_of(inverses[k]);
        most = pattern > most ? pattern : most;
    }
    return most < two112;
}

// The element loop, once for all widths: it is for scales of at most 2^-112.
template <class Float>
__attribute__((noinline)) void quantize_elements(const PanelArgs& a, int bits) {
    elementwise::for_blocks(a.n, a.block, [&](size_t k, size_t first, size_t end) {
        const float inverse = static_cast<const float*>(a.factors)[k];
        const auto zero = uint64_t{static_cast<const uint8_t*>(a.zeros)[k]};
        const CodeRange range{zero + code_min(bits, a.is_signed), a.quant_min, a.quant_max, a.is_signed};
        for (size_t i = first; i < end; ++i) {
            const float x = load_element<Float>(elementwise::element(a.in, i, Float::bits));
            const uint64_t code = quantize_element<Round::stochastic>(x, inverse, range, a.words[i]);
            auto* const out = static_cast<unsigned char*>(a.out);
            switch (bits) {
                case 2: store_code<2>(out, i, code); break;
                case 4: store_code<4>(out, i, code); break;
                default: store_code<8>(out, i, code);
            }
        }
    });
}

template <class Float, int Bits, Round Rounding>
void quantize_panel(const PanelArgs& a) {
    if constexpr (Rounding == Round::stochastic) {
        const size_t count = a.n <= a.block ? 1 : (a.n - 1) / a.block + 1;
        if (!stochastic_inverses_fit(static_cast<const float*>(a.factors), count)) {
            quantize_elements<Float>(a, Bits);
            return;
        }
    }
    walk_panel(panel_operation<PanelQuantize<Float, Bits, Rounding>>, a);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
