// SSE4.2: codes into registers and out of them.
#pragma once

#include "simd/sse42.hpp"

namespace piquant {
namespace {
namespace simd {

// --- widen -----------------------------------------------------------------------------------------------------

// Crumbs l = 0..3 of the bytes x[K] and x[K + 1], at the top of 16-bit words that sit beside each other:
//
//   lane l    crumb l of x[K + 1], 14 other bits | crumb l of x[K], 14 other bits
//
// Multiplication by 2^(14 - 2 l) stands in for the shift per lane that is missing here.
template <int K>
inline __m128i crumbs_on_top(__m128i x) {
    constexpr int pair = ((K + 1) << 16) | K | static_cast<int>(0x80008000);  // an index with its top bit set: zero
    const __m128i copies = _mm_shuffle_epi8(x, _mm_set1_epi32(pair));
    return _mm_mullo_epi16(copies, _mm_setr_epi32(0x40004000, 0x10001000, 0x04000400, 0x01000100));
}

template <int Bits, bool>
PIQUANT_INLINE void load_codes4(const unsigned char* p, i32 (&c)[4]) {
    if constexpr (Bits == 16) {
        PIQUANT_UNROLL
        for (size_t k = 0; k < 4; ++k) {
            c[k].v = _mm_cvtepu16_epi32(load64(p + 8 * k));
        }
    } else if constexpr (Bits == 8) {
        PIQUANT_UNROLL
        for (size_t k = 0; k < 4; ++k) {
            c[k].v = _mm_cvtepu8_epi32(load32(p + 4 * k));
        }
    } else if constexpr (Bits == 4) {
        // Sixteen nibbles as bytes: interleave the bytes with themselves shifted by 4, and keep the low halves.
        const __m128i packed = load64(p);
        const __m128i x = _mm_and_si128(_mm_unpacklo_epi8(packed, _mm_srli_epi16(packed, 4)), _mm_set1_epi8(15));
        c[0].v = _mm_cvtepu8_epi32(x);
        c[1].v = _mm_cvtepu8_epi32(_mm_shuffle_epi32(x, 0x55));
        c[2].v = _mm_cvtepu8_epi32(_mm_shuffle_epi32(x, 0xaa));
        c[3].v = _mm_cvtepu8_epi32(_mm_shuffle_epi32(x, 0xff));
    } else {
        const __m128i low = crumbs_on_top<0>(load32(p));
        const __m128i high = crumbs_on_top<2>(load32(p));
        c[0].v = _mm_srli_epi32(_mm_slli_epi32(low, 16), 30);
        c[1].v = _mm_srli_epi32(low, 30);
        c[2].v = _mm_srli_epi32(_mm_slli_epi32(high, 16), 30);
        c[3].v = _mm_srli_epi32(high, 30);
    }
}
template <class Vector>
inline Vector from_pattern(i32 x);
template <>
inline f32 from_pattern<f32>(i32 x) {
    return {_mm_castsi128_ps(x.v)};
}
template <>
inline f64 from_pattern<f64>(i32 x) {
    const __m128i exponent = _mm_set1_epi32(0x43300000);
    return {_mm_castsi128_pd(_mm_unpacklo_epi32(x.v, exponent)), _mm_castsi128_pd(_mm_unpackhi_epi32(x.v, exponent))};
}

// --- narrow ----------------------------------------------------------------------------------------------------

inline bytes splat_u8(unsigned x) {
    return {_mm_set1_epi8(static_cast<char>(x))};
}
inline bytes splat_u16(unsigned x) {
    return {_mm_set1_epi16(static_cast<short>(x))};
}
inline bytes splat_pattern(uint32_t x) {
    return {_mm_set1_epi32(static_cast<int>(x))};
}
inline bytes operator^(bytes a, bytes b) {
    return {_mm_xor_si128(a.v, b.v)};
}
inline bytes operator&(bytes a, bytes b) {
    return {_mm_and_si128(a.v, b.v)};
}
inline bytes min_u8(bytes a, bytes b) {
    return {_mm_min_epu8(a.v, b.v)};
}
inline bytes max_u8(bytes a, bytes b) {
    return {_mm_max_epu8(a.v, b.v)};
}
inline bytes max_u16(bytes a, bytes b) {
    return {_mm_max_epu16(a.v, b.v)};
}
// Maxima of 64-bit integers are missing, so float64 are compared as what they are. maxpd and minpd return their second
// operand when either is NaN.
template <int Bits>
inline bytes higher(bytes x, bytes top) {
    if constexpr (Bits == 16) {
        return {_mm_max_epi16(x.v, top.v)};
    } else if constexpr (Bits == 32) {
        return {_mm_max_epi32(x.v, top.v)};
    } else {
        return {_mm_castpd_si128(_mm_max_pd(_mm_castsi128_pd(x.v), _mm_castsi128_pd(top.v)))};
    }
}
template <int Bits>
inline bytes lower(bytes x, bytes bottom) {
    if constexpr (Bits == 16) {
        return {_mm_max_epu16(x.v, bottom.v)};
    } else if constexpr (Bits == 32) {
        return {_mm_max_epu32(x.v, bottom.v)};
    } else {
        return {_mm_castpd_si128(_mm_min_pd(_mm_castsi128_pd(x.v), _mm_castsi128_pd(bottom.v)))};
    }
}
template <int Bits>
inline bytes below_zero(bytes x) {
    if constexpr (Bits == 16) {
        const __m128i flipped = _mm_xor_si128(x.v, _mm_set1_epi16(INT16_MIN));
        return {_mm_and_si128(x.v, _mm_cmpgt_epi16(flipped, _mm_setzero_si128()))};
    } else {
        const __m128i flipped = _mm_xor_si128(x.v, _mm_set1_epi32(INT32_MIN));
        return {_mm_and_si128(x.v, _mm_cmpgt_epi32(flipped, _mm_setzero_si128()))};
    }
}
// 32 bits: with the sign flipped the unsigned order is the signed one, and both maxima are found together, in
// alternating lanes. 16 bits: the one horizontal instruction finds a minimum of unsigned words.
template <int Bits>
inline void ends(bytes top, bytes bottom, uint32_t& highest, uint32_t& lowest) {
    if constexpr (Bits == 16) {
        const __m128i above = _mm_minpos_epu16(_mm_xor_si128(top.v, _mm_set1_epi16(INT16_MAX)));
        const __m128i below = _mm_minpos_epu16(_mm_xor_si128(bottom.v, _mm_set1_epi16(-1)));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(above)) ^ 0x7fff;
        lowest = ~static_cast<uint32_t>(_mm_cvtsi128_si32(below));
    } else {
        const __m128i b = _mm_xor_si128(bottom.v, _mm_set1_epi32(INT32_MIN));
        const __m128i four = _mm_max_epi32(_mm_unpacklo_epi32(top.v, b), _mm_unpackhi_epi32(top.v, b));
        const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(two));
        lowest = static_cast<uint32_t>(_mm_extract_epi32(two, 1)) ^ 0x80000000;
    }
}
template <int Bits>
inline bytes keep_nans(bytes bottom, bytes a, bytes b) {
    if constexpr (Bits == 64) {
        const __m128d unordered = _mm_cmpunord_pd(_mm_castsi128_pd(a.v), _mm_castsi128_pd(b.v));
        return {_mm_castpd_si128(_mm_or_pd(_mm_castsi128_pd(bottom.v), unordered))};
    } else {
        return bottom;
    }
}

inline bytes sorted(bytes codes) {
    return codes;
}
template <bool>
inline bytes narrow4(i32 a, i32 b, i32 c, i32 d, bytes zero) {
    const __m128i ab = _mm_add_epi16(_mm_packs_epi32(a.v, b.v), zero.v);
    const __m128i cd = _mm_add_epi16(_mm_packs_epi32(c.v, d.v), zero.v);
    return {_mm_packus_epi16(ab, cd)};
}
// Upper halves of a + u and b + v, u and v the random words. After the shift no lane exceeds 16 bits, so packing does
// not saturate.
inline __m128i upper_halves(i32 a, i32 b, words<false> w) {
    i32 u;
    i32 v;
    expand(w, u, v);
    return _mm_packs_epi32(_mm_srai_epi32((a + u).v, 16), _mm_srai_epi32((b + v).v, 16));
}
inline bytes narrow4_upper(i32 a, i32 b, i32 c, i32 d, words<false> u_ab, words<false> u_cd, bytes zero) {
    const __m128i ab = _mm_add_epi16(upper_halves(a, b, u_ab), zero.v);
    const __m128i cd = _mm_add_epi16(upper_halves(c, d, u_cd), zero.v);
    return {_mm_packus_epi16(ab, cd)};
}
inline bytes narrow2_upper(i32 a, i32 b, words<false> u, bytes zero) {
    return {_mm_add_epi16(upper_halves(a, b, u), zero.v)};
}
template <bool>
inline bytes narrow2(i32 a, i32 b) {
    return {_mm_packus_epi32(a.v, b.v)};
}

// maddubs by (1, Weight): each pair of bytes becomes even + Weight * odd, in 16 bits; packing makes bytes of them.
template <int Weight>
inline bytes join_pairs(bytes a, bytes b) {
    const __m128i weights = _mm_set1_epi16(Weight * 256 + 1);
    return {_mm_packus_epi16(_mm_maddubs_epi16(a.v, weights), _mm_maddubs_epi16(b.v, weights))};
}
inline bytes pack_nibbles(bytes a, bytes b) {
    return join_pairs<16>(a, b);
}
// Crumbs to nibbles, nibbles to bytes: 9 instructions, two fewer than going through 32-bit sums.
inline bytes pack_crumbs(bytes a, bytes b, bytes c, bytes d) {
    return join_pairs<16>(join_pairs<4>(a, b), join_pairs<4>(c, d));
}

// --- table -------------------------------------------------------------------------------------------------------

// 16 fields as bytes. Shifted copies of a widened byte put every field at the bottom of a byte, a mask cleans up.
template <int Bits>
inline __m128i fields_in_bytes(const unsigned char* p) {
    if constexpr (Bits == 4) {
        const __m128i b = _mm_cvtepu8_epi16(load64(p));
        return _mm_and_si128(_mm_or_si128(b, _mm_slli_epi16(b, 4)), _mm_set1_epi16(0x0f0f));
    } else {
        const __m128i b = _mm_cvtepu8_epi32(load32(p));
        const __m128i two = _mm_or_si128(b, _mm_slli_epi32(b, 12));
        return _mm_and_si128(_mm_or_si128(two, _mm_slli_epi32(two, 6)), _mm_set1_epi32(0x03030303));
    }
}

// Entries by byte: plane k holds byte k of all sixteen. pshufb looks a plane up for 16 fields at once, and two steps of
// interleaving put the bytes of each result together.
template <int Bits>
constexpr bool looks_up_floats = true;
struct table32 {
    __m128i plane[4];
};
inline table32 make_table(const float (&entries)[16]) {
    alignas(16) unsigned char planes[4][16];
    for (int e = 0; e < 16; ++e) {
        uint32_t bits;
        __builtin_memcpy(&bits, &entries[e], sizeof bits);
        for (int k = 0; k < 4; ++k) {
            planes[k][e] = static_cast<unsigned char>(bits >> (8 * k));
        }
    }
    return {load128(planes[0]), load128(planes[1]), load128(planes[2]), load128(planes[3])};
}
template <int Bits, bool>
PIQUANT_INLINE void lookup(const unsigned char* p, const table32& t, f32 (&v)[4]) {
    const __m128i fields = fields_in_bytes<Bits>(p);
    const __m128i b0 = _mm_shuffle_epi8(t.plane[0], fields);
    const __m128i b1 = _mm_shuffle_epi8(t.plane[1], fields);
    const __m128i b2 = _mm_shuffle_epi8(t.plane[2], fields);
    const __m128i b3 = _mm_shuffle_epi8(t.plane[3], fields);
    const __m128i low_first = _mm_unpacklo_epi8(b0, b1);
    const __m128i low_last = _mm_unpackhi_epi8(b0, b1);
    const __m128i high_first = _mm_unpacklo_epi8(b2, b3);
    const __m128i high_last = _mm_unpackhi_epi8(b2, b3);
    v[0].v = _mm_castsi128_ps(_mm_unpacklo_epi16(low_first, high_first));
    v[1].v = _mm_castsi128_ps(_mm_unpackhi_epi16(low_first, high_first));
    v[2].v = _mm_castsi128_ps(_mm_unpacklo_epi16(low_last, high_last));
    v[3].v = _mm_castsi128_ps(_mm_unpackhi_epi16(low_last, high_last));
}

struct table16 {
    __m128i lo, hi;
};
inline table16 make_table(const uint16_t (&entries)[16]) {
    const __m128i low_bytes = _mm_set1_epi16(0xff);
    const __m128i first = load128(entries);
    const __m128i last = load128(entries + 8);
    return {_mm_packus_epi16(_mm_and_si128(first, low_bytes), _mm_and_si128(last, low_bytes)),
            _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(last, 8))};
}
template <int Bits>
PIQUANT_INLINE void lookup(const unsigned char* p, const table16& t, bytes (&v)[2]) {
    const __m128i fields = fields_in_bytes<Bits>(p);
    const __m128i lo = _mm_shuffle_epi8(t.lo, fields);
    const __m128i hi = _mm_shuffle_epi8(t.hi, fields);
    v[0].v = _mm_unpacklo_epi8(lo, hi);
    v[1].v = _mm_unpackhi_epi8(lo, hi);
}

}  // namespace simd
}  // namespace
}  // namespace piquant
