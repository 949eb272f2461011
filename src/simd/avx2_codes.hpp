// AVX2: codes into registers and out of them.
#pragma once

#include "simd/avx2.hpp"

namespace piquant {
namespace {
namespace simd {

// --- widen -----------------------------------------------------------------------------------------------------

inline __m256i broadcast_word(const unsigned char* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}
// Eight nibbles fill a 32-bit word: broadcast it, and lane l shifts by 4 l. Sixteen crumbs do: two vectors out of each.
template <int Bits>
PIQUANT_INLINE void load_codes4_in_order(const unsigned char* p, i32 (&c)[4]) {
    if constexpr (Bits == 2) {
        const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
        PIQUANT_UNROLL
        for (size_t k = 0; k < 2; ++k) {
            const __m256i low = _mm256_srlv_epi32(broadcast_word(p + 4 * k), shifts);
            c[2 * k].v = _mm256_and_si256(low, _mm256_set1_epi32(3));
            c[2 * k + 1].v = _mm256_and_si256(_mm256_srli_epi32(low, 16), _mm256_set1_epi32(3));
        }
    } else {
        const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
        PIQUANT_UNROLL
        for (size_t k = 0; k < 4; ++k) {
            if constexpr (Bits == 4) {
                c[k].v = _mm256_and_si256(_mm256_srlv_epi32(broadcast_word(p + 4 * k), shifts), _mm256_set1_epi32(15));
            } else if constexpr (Bits == 8) {
                c[k].v = _mm256_cvtepu8_epi32(load64(p + 8 * k));
            } else {
                c[k].v = _mm256_cvtepu16_epi32(load128(p + 16 * k));
            }
        }
    }
}
// Codes as 16-bit words, two to a lane.
template <int Bits>
inline i32 as_words(const unsigned char* p) {
    if constexpr (Bits == 8) {
        return {_mm256_cvtepu8_epi16(load128(p))};
    } else {
        return load_i32(p);
    }
}
template <class Vector>
inline Vector from_pattern(i32 x);
template <>
inline f32 from_pattern<f32>(i32 x) {
    return {_mm256_castsi256_ps(x.v)};
}
// Unpacking works in halves: they exchange their middle pieces first.
template <>
inline f64 from_pattern<f64>(i32 x) {
    const __m256i pieces = _mm256_permute4x64_epi64(x.v, 0xd8);
    const __m256i exponent = _mm256_set1_epi32(0x43300000);
    return {_mm256_castsi256_pd(_mm256_unpacklo_epi32(pieces, exponent)),
            _mm256_castsi256_pd(_mm256_unpackhi_epi32(pieces, exponent))};
}

// --- narrow ----------------------------------------------------------------------------------------------------

inline bytes splat_u8(unsigned x) {
    return {_mm256_set1_epi8(static_cast<char>(x))};
}
inline bytes splat_u16(unsigned x) {
    return {_mm256_set1_epi16(static_cast<short>(x))};
}
inline bytes splat_pattern(uint32_t x) {
    return {_mm256_set1_epi32(static_cast<int>(x))};
}
inline bytes operator^(bytes a, bytes b) {
    return {_mm256_xor_si256(a.v, b.v)};
}
inline bytes operator&(bytes a, bytes b) {
    return {_mm256_and_si256(a.v, b.v)};
}
inline bytes max_u16(bytes a, bytes b) {
    return {_mm256_max_epu16(a.v, b.v)};
}
// Maxima of 64-bit integers are missing, so float64 are compared as what they are. maxpd and minpd return their second
// operand when either is NaN.
template <int Bits>
inline bytes higher(bytes x, bytes top) {
    if constexpr (Bits == 16) {
        return {_mm256_max_epi16(x.v, top.v)};
    } else if constexpr (Bits == 32) {
        return {_mm256_max_epi32(x.v, top.v)};
    } else {
        return {_mm256_castpd_si256(_mm256_max_pd(_mm256_castsi256_pd(x.v), _mm256_castsi256_pd(top.v)))};
    }
}
template <int Bits>
inline bytes lower(bytes x, bytes bottom) {
    if constexpr (Bits == 16) {
        return {_mm256_max_epu16(x.v, bottom.v)};
    } else if constexpr (Bits == 32) {
        return {_mm256_max_epu32(x.v, bottom.v)};
    } else {
        return {_mm256_castpd_si256(_mm256_min_pd(_mm256_castsi256_pd(x.v), _mm256_castsi256_pd(bottom.v)))};
    }
}
template <int Bits>
inline bytes below_zero(bytes x) {
    if constexpr (Bits == 16) {
        const __m256i flipped = _mm256_xor_si256(x.v, _mm256_set1_epi16(INT16_MIN));
        return {_mm256_and_si256(x.v, _mm256_cmpgt_epi16(flipped, _mm256_setzero_si256()))};
    } else {
        const __m256i flipped = _mm256_xor_si256(x.v, _mm256_set1_epi32(INT32_MIN));
        return {_mm256_and_si256(x.v, _mm256_cmpgt_epi32(flipped, _mm256_setzero_si256()))};
    }
}
// 32 bits: with the sign flipped the unsigned order is the signed one, and both maxima are found together, in
// alternating lanes. 16 bits: the one horizontal instruction finds a minimum of unsigned words.
template <int Bits>
inline void ends(bytes top, bytes bottom, uint32_t& highest, uint32_t& lowest) {
    if constexpr (Bits == 16) {
        const __m128i t = _mm_max_epi16(_mm256_castsi256_si128(top.v), _mm256_extracti128_si256(top.v, 1));
        const __m128i b = _mm_max_epu16(_mm256_castsi256_si128(bottom.v), _mm256_extracti128_si256(bottom.v, 1));
        const __m128i above = _mm_minpos_epu16(_mm_xor_si128(t, _mm_set1_epi16(INT16_MAX)));
        const __m128i below = _mm_minpos_epu16(_mm_xor_si128(b, _mm_set1_epi16(-1)));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(above)) ^ 0x7fff;
        lowest = ~static_cast<uint32_t>(_mm_cvtsi128_si32(below));
    } else {
        const __m256i b = _mm256_xor_si256(bottom.v, _mm256_set1_epi32(INT32_MIN));
        const __m256i both = _mm256_max_epi32(_mm256_unpacklo_epi32(top.v, b), _mm256_unpackhi_epi32(top.v, b));
        const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(two));
        lowest = static_cast<uint32_t>(_mm_extract_epi32(two, 1)) ^ 0x80000000;
    }
}
template <int Bits>
inline bytes keep_nans(bytes bottom, bytes a, bytes b) {
    if constexpr (Bits == 64) {
        const __m256d unordered = _mm256_cmp_pd(_mm256_castsi256_pd(a.v), _mm256_castsi256_pd(b.v), _CMP_UNORD_Q);
        return {_mm256_castpd_si256(_mm256_or_pd(_mm256_castsi256_pd(bottom.v), unordered))};
    } else {
        return bottom;
    }
}

// Evens of eight elements, then their odds -> element order: 16-bit elements, or bytes.
inline __m256i deal_words(__m256i x) {
    const __m128i order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
}
inline __m256i deal_bytes(__m256i x) {
    const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
}
// Codes as packing twice leaves them, in groups of Group codes:
//
//   4   a0 b0 c0 d0 | a1 b1 c1 d1
//   8   a0 b0 | a1 b1
//
// Fields of less than a byte are packed in that order, and what restores it serves twice or four times the codes.
template <int Group>
struct loose {
    __m256i v;
};
template <int Group>
inline loose<Group> min_u8(loose<Group> a, bytes b) {
    return {_mm256_min_epu8(a.v, b.v)};
}
template <int Group>
inline loose<Group> max_u8(loose<Group> a, bytes b) {
    return {_mm256_max_epu8(a.v, b.v)};
}

// Pieces of a packed register, by halves, to element order: of eight bytes, of four, of two, of one.
inline bytes sort8(__m256i x) {
    return {_mm256_permute4x64_epi64(x, 0xd8)};
}
inline bytes sort4(__m256i x) {
    return {_mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))};
}
inline bytes sort2(__m256i x) {
    return {deal_words(sort8(x).v)};
}
inline bytes sort1(__m256i x) {
    const __m128i order = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    return {_mm256_shuffle_epi8(sort8(x).v, _mm256_broadcastsi128_si256(order))};
}
inline bytes sorted(loose<4> codes) {
    return sort4(codes.v);
}
inline bytes sorted(loose<8> codes) {
    return sort8(codes.v);
}
template <bool Interleaved>
inline loose<Interleaved ? 8 : 4> narrow4(i32 a, i32 b, i32 c, i32 d, bytes zero) {
    const __m256i ab = _mm256_add_epi16(_mm256_packs_epi32(a.v, b.v), zero.v);
    const __m256i cd = _mm256_add_epi16(_mm256_packs_epi32(c.v, d.v), zero.v);
    const __m256i packed = _mm256_packus_epi16(ab, cd);
    return {Interleaved ? deal_bytes(packed) : packed};
}

// Upper halves of a + u and b + v, u and v the random words, plus `zero`: in element order where the vectors
// interleave, else as packing leaves them. After the shift no lane exceeds 16 bits, so packing does not
// saturate.
template <bool Interleaved>
inline __m256i upper_halves(i32 a, i32 b, words<Interleaved> w, bytes zero) {
    i32 u;
    i32 v;
    expand(w, u, v);
    a = a + u;
    b = b + v;
    __m256i upper;
    if constexpr (Interleaved) {
        upper = _mm256_blend_epi16(_mm256_srli_epi32(a.v, 16), b.v, 0xaa);
    } else {
        upper = _mm256_packs_epi32(_mm256_srai_epi32(a.v, 16), _mm256_srai_epi32(b.v, 16));
    }
    return _mm256_add_epi16(upper, zero.v);
}
template <bool Interleaved>
inline loose<Interleaved ? 8 : 4> narrow4_upper(i32 a, i32 b, i32 c, i32 d, words<Interleaved> u_ab,
                                                words<Interleaved> u_cd, bytes zero) {
    return {_mm256_packus_epi16(upper_halves(a, b, u_ab, zero), upper_halves(c, d, u_cd, zero))};
}
template <bool Interleaved>
inline bytes narrow2_upper(i32 a, i32 b, words<Interleaved> u, bytes zero) {
    const __m256i upper = upper_halves(a, b, u, zero);
    if constexpr (Interleaved) {
        return {upper};
    } else {
        return sort8(upper);
    }
}
template <bool Interleaved>
inline bytes narrow2(i32 a, i32 b) {
    const __m256i packed = _mm256_packus_epi32(a.v, b.v);
    if constexpr (Interleaved) {
        return {deal_words(packed)};
    } else {
        return sort8(packed);
    }
}

// maddubs by (1, 16): each pair of bytes becomes even + 16 * odd, in 16 bits.
template <int Group>
inline bytes pack_nibbles(loose<Group> a, loose<Group> b) {
    const __m256i weights = _mm256_set1_epi16(0x1001);
    const __m256i packed = _mm256_packus_epi16(_mm256_maddubs_epi16(a.v, weights), _mm256_maddubs_epi16(b.v, weights));
    return Group == 8 ? sort4(packed) : sort2(packed);
}
inline bytes pack_nibbles(bytes a, bytes b) {
    const __m256i weights = _mm256_set1_epi16(0x1001);
    return sort8(_mm256_packus_epi16(_mm256_maddubs_epi16(a.v, weights), _mm256_maddubs_epi16(b.v, weights)));
}
// maddubs by (1, 4), then madd by (1, 16): each four bytes become one, in 32 bits.
inline __m256i pack_quads(__m256i a) {
    const __m256i pairs = _mm256_maddubs_epi16(a, _mm256_set1_epi16(0x0401));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00100001));
}
template <int Group>
inline bytes pack_crumbs(loose<Group> a, loose<Group> b, loose<Group> c, loose<Group> d) {
    const __m256i ab = _mm256_packs_epi32(pack_quads(a.v), pack_quads(b.v));
    const __m256i cd = _mm256_packs_epi32(pack_quads(c.v), pack_quads(d.v));
    const __m256i packed = _mm256_packus_epi16(ab, cd);
    return Group == 8 ? sort2(packed) : sort1(packed);
}
inline bytes pack_crumbs(bytes a, bytes b, bytes c, bytes d) {
    const __m256i ab = _mm256_packs_epi32(pack_quads(a.v), pack_quads(b.v));
    const __m256i cd = _mm256_packs_epi32(pack_quads(c.v), pack_quads(d.v));
    return sort4(_mm256_packus_epi16(ab, cd));
}

// --- table -------------------------------------------------------------------------------------------------------

// Crumbs alone: vpermps reads three bits of each index, for nibbles it takes two of it and a blend, which is more than
// to calculate them.
template <int Bits>
constexpr bool looks_up_floats = Bits == 2;
struct table32 {
    __m256 v;
};
inline table32 make_table(const float (&entries)[16]) {
    return {_mm256_loadu_ps(entries)};
}
// The entries that the low bits of each lane stand for. They repeat every four, so the third bit may be anything.
inline f32 entries_of(i32 fields, table32 t) {
    return {_mm256_permutevar8x32_ps(t.v, fields.v)};
}
template <int Bits>
PIQUANT_INLINE void lookup_in_order(const unsigned char* p, table32 t, f32 (&v)[4]) {
    static_assert(Bits == 2);
    PIQUANT_UNROLL
    for (size_t k = 0; k < 2; ++k) {
        const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
        const i32 fields{_mm256_srlv_epi32(broadcast_word(p + 4 * k), shifts)};
        v[2 * k] = entries_of(fields, t);
        v[2 * k + 1] = entries_of({_mm256_srli_epi32(fields.v, 16)}, t);
    }
}
// Two fields to a lane, the even one below the odd one: pair k at p.
template <int Bits>
inline i32 paired_fields(const unsigned char* p, int k) {
    if constexpr (Bits == 4) {
        return {_mm256_cvtepu8_epi32(load64(p + 8 * k))};
    } else {
        return {_mm256_srlv_epi32(broadcast_word(p + 4 * k), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28))};
    }
}

// Entries by low and high byte, in both halves. Fields become bytes, and pieces of eight change places so that
// interleaving within 128 bits gives element order.
struct table16 {
    __m256i lo, hi;
};
inline table16 make_table(const uint16_t (&entries)[16]) {
    const __m256i low_bytes = _mm256_set1_epi16(0xff);
    const __m256i e = load_bytes(entries).v;
    const __m256i lo = _mm256_packus_epi16(_mm256_and_si256(e, low_bytes), _mm256_and_si256(e, low_bytes));
    const __m256i hi = _mm256_packus_epi16(_mm256_srli_epi16(e, 8), _mm256_srli_epi16(e, 8));
    return {_mm256_permute4x64_epi64(lo, 0x88), _mm256_permute4x64_epi64(hi, 0x88)};
}
template <int Bits>
PIQUANT_INLINE void lookup(const unsigned char* p, table16 t, bytes (&v)[2]) {
    __m256i fields;
    if constexpr (Bits == 4) {
        // Byte b as a word, beside itself shifted by four:   0000hhhhhhhhllll & 0000111100001111
        const __m256i b = _mm256_cvtepu8_epi16(load128(p));
        fields = _mm256_and_si256(_mm256_or_si256(b, _mm256_slli_epi16(b, 4)), _mm256_set1_epi16(0x0f0f));
    } else {
        const __m256i b = _mm256_cvtepu8_epi32(load64(p));
        const __m256i two = _mm256_or_si256(b, _mm256_slli_epi32(b, 12));
        fields = _mm256_and_si256(_mm256_or_si256(two, _mm256_slli_epi32(two, 6)), _mm256_set1_epi32(0x03030303));
    }
    fields = _mm256_permute4x64_epi64(fields, 0xd8);
    const __m256i lo = _mm256_shuffle_epi8(t.lo, fields);
    const __m256i hi = _mm256_shuffle_epi8(t.hi, fields);
    v[0].v = _mm256_unpacklo_epi8(lo, hi);
    v[1].v = _mm256_unpackhi_epi8(lo, hi);
}

}  // namespace simd
}  // namespace
}  // namespace piquant

#include "simd/interleaved.hpp"
