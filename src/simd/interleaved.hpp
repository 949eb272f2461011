// Codes and random words as pairs of evens and odds, for the instruction sets where some type interleaves. They include
// this behind their own words.
#pragma once

namespace piquant {
namespace {
namespace simd {

// Two fields to a lane, the even one below the odd one, of 2, 4 or 16 bits: pair k at p.
template <int Bits>
PIQUANT_INLINE i32 paired_codes(const unsigned char* p, int k) {
    if constexpr (Bits < 8) {
        return paired_fields<Bits>(p, k);
    } else {
        return as_words<Bits>(p + bytes_for(static_cast<size_t>(2 * k) * lanes, Bits));
    }
}

template <int Bits, bool Interleaved>
PIQUANT_INLINE void load_codes4(const unsigned char* p, i32 (&c)[4]) {
    if constexpr (!Interleaved) {
        load_codes4_in_order<Bits>(p, c);
    } else {
        PIQUANT_UNROLL
        for (int k = 0; k < 2; ++k) {
            constexpr int bits = Bits < 8 ? Bits : 16;
            const i32 field_bits = splat_i32((1 << bits) - 1);
            const i32 x = paired_codes<Bits>(p, k);
            const i32 odd = shift_right_logical<bits>(x);
            c[2 * k] = x & field_bits;
            c[2 * k + 1] = Bits == 2 ? odd & field_bits : odd;  // there are other fields above
        }
    }
}

template <int Bits, bool Interleaved>
PIQUANT_INLINE void lookup(const unsigned char* p, table32 t, f32 (&v)[4]) {
    if constexpr (!Interleaved) {
        lookup_in_order<Bits>(p, t, v);
    } else {
        PIQUANT_UNROLL
        for (int k = 0; k < 2; ++k) {
            const i32 fields = paired_fields<Bits>(p, k);
            v[2 * k] = entries_of(fields, t);
            v[2 * k + 1] = entries_of(shift_right_logical<Bits>(fields), t);
        }
    }
}

template <bool Interleaved>
inline words<Interleaved> load_words(const void* p) {
    const i32 x = load_i32(p);
    if constexpr (Interleaved) {
        return {x & splat_i32(0xffff), shift_right_logical<16>(x)};
    } else {
        return as_words(x);
    }
}

}  // namespace simd
}  // namespace
}  // namespace piquant
