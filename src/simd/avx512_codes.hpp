// AVX-512: codes into registers and out of them.
#pragma once

#include "simd/avx512.hpp"

namespace piquant {
namespace {
namespace simd {

// --- widen -----------------------------------------------------------------------------------------------------

// Sixteen crumbs fill a 32-bit word: broadcast it (from memory that is a load and nothing else), and lane l shifts by
// 2 l.
inline __m512i broadcast_word(const unsigned char* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}
// Eight nibbles fill a 32-bit word. A vector takes two words, eight lanes each, out of one register of eight words:
//
//   lane      0  1  2 ..  7 |  8  9 .. 15
//   word     2k 2k 2k .. 2k | 2k + 1 ..         one vpermd
//   shift     0  4  8 .. 28 |  0  4 .. 28       one variable shift
inline __m512i nibble_words(__m512i words, int k) {
    return _mm512_permutexvar_epi32(_mm512_srli_epi32(ramp(16 * k, 1), 3), words);
}
// Vector k of the fields at p, each in the low bits of its lane with others above it.
template <int Bits>
inline __m512i low_fields(const unsigned char* p, int k) {
    if constexpr (Bits == 4) {
        const __m512i shifts = _mm512_and_si512(ramp(0, 4), _mm512_set1_epi32(28));
        return _mm512_srlv_epi32(nibble_words(_mm512_castsi256_si512(load256(p)), k), shifts);
    } else {
        return _mm512_srlv_epi32(broadcast_word(p + 4 * k), ramp(0, 2));
    }
}
// Always inlined: results in an array would go through memory otherwise.
template <int Bits>
PIQUANT_INLINE void load_codes4_in_order(const unsigned char* p, i32 (&c)[4]) {
    PIQUANT_UNROLL
    for (int k = 0; k < 4; ++k) {
        if constexpr (Bits == 16) {
            c[k].v = _mm512_cvtepu16_epi32(load256(p + 32 * k));
        } else if constexpr (Bits == 8) {
            c[k].v = _mm512_cvtepu8_epi32(load128(p + 16 * k));
        } else {
            c[k].v = _mm512_and_si512(low_fields<Bits>(p, k), _mm512_set1_epi32((1 << Bits) - 1));
        }
    }
}
// Codes as 16-bit words, two to a lane.
template <int Bits>
inline i32 as_words(const unsigned char* p) {
    if constexpr (Bits == 8) {
        return {_mm512_cvtepu8_epi16(load256(p))};
    } else {
        return load_i32(p);
    }
}
template <class Vector>
inline Vector from_pattern(i32 x);
template <>
inline f32 from_pattern<f32>(i32 x) {
    return {_mm512_castsi512_ps(x.v)};
}
// One permutation for every eight doubles, that takes every second word from a register of exponents.
template <>
inline f64 from_pattern<f64>(i32 x) {
    const __m512i exponent = _mm512_set1_epi32(0x43300000);
    const __m512i lower = _mm512_setr_epi32(0, 16, 1, 16, 2, 16, 3, 16, 4, 16, 5, 16, 6, 16, 7, 16);
    const __m512i upper = _mm512_setr_epi32(8, 16, 9, 16, 10, 16, 11, 16, 12, 16, 13, 16, 14, 16, 15, 16);
    return {_mm512_castsi512_pd(_mm512_permutex2var_epi32(x.v, lower, exponent)),
            _mm512_castsi512_pd(_mm512_permutex2var_epi32(x.v, upper, exponent))};
}
// 64 fields as bytes. A byte b is widened, shifted copies put every field at the bottom of a byte, a mask cleans up:
//   4 bit   b | b << 4               0000hhhhhhhhllll & 0000111100001111
//   2 bit   (b | b << 12) | ... << 6
template <int Bits>
inline __m512i fields_in_bytes(const unsigned char* p) {
    if constexpr (Bits == 4) {
        const __m512i b = _mm512_cvtepu8_epi16(load256(p));
        return _mm512_and_si512(_mm512_or_si512(b, _mm512_slli_epi16(b, 4)), _mm512_set1_epi16(0x0f0f));
    } else {
        const __m512i b = _mm512_cvtepu8_epi32(load128(p));
        const __m512i two = _mm512_or_si512(b, _mm512_slli_epi32(b, 12));
        return _mm512_and_si512(_mm512_or_si512(two, _mm512_slli_epi32(two, 6)), _mm512_set1_epi32(0x03030303));
    }
}

// --- narrow ----------------------------------------------------------------------------------------------------

inline bytes splat_u8(unsigned x) {
    return {_mm512_set1_epi8(static_cast<char>(x))};
}
inline bytes splat_u16(unsigned x) {
    return {_mm512_set1_epi16(static_cast<short>(x))};
}
inline bytes splat_pattern(uint32_t x) {
    return {_mm512_set1_epi32(static_cast<int>(x))};
}
inline bytes operator^(bytes a, bytes b) {
    return {_mm512_xor_si512(a.v, b.v)};
}
inline bytes operator&(bytes a, bytes b) {
    return {_mm512_and_si512(a.v, b.v)};
}
inline bytes max_u16(bytes a, bytes b) {
    return {_mm512_max_epu16(a.v, b.v)};
}

// Codes as packing twice leaves them, in groups of Group codes:
//
//   4   a0 b0 c0 d0 | a1 b1 c1 d1 | a2 b2 c2 d2 | a3 b3 c3 d3
//   8   a0 b0 | a1 b1 | a2 b2 | a3 b3
//
// Fields of less than a byte are packed in that order, and one permutation after it serves twice or four times the
// codes.
template <int Group>
struct loose {
    __m512i v;
};
template <int Group>
inline loose<Group> min_u8(loose<Group> a, bytes b) {
    return {_mm512_min_epu8(a.v, b.v)};
}
template <int Group>
inline loose<Group> max_u8(loose<Group> a, bytes b) {
    return {_mm512_max_epu8(a.v, b.v)};
}

// Pieces of a packed register, by quarters, to element order: of eight bytes, of four, of two.
inline bytes sort8(__m512i x) {
    return {_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), x)};
}
inline bytes sort4(__m512i x) {
    return {_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x)};
}
inline bytes sort2(__m512i x) {
    // Word 4 i + q comes from 8 q + i, so lane l takes its lower word from 16 (l & 1) + (l >> 1), its upper one 8
    // further on.
    const __m512i l = ramp(0, 1);
    const __m512i odd = _mm512_and_si512(l, _mm512_set1_epi32(1));
    const __m512i from = _mm512_add_epi32(_mm512_slli_epi32(odd, 4), _mm512_srli_epi32(l, 1));
    const __m512i order =
        _mm512_add_epi32(_mm512_slli_epi32(from, 16), _mm512_add_epi32(from, _mm512_set1_epi32(8 << 16)));
    return {_mm512_permutexvar_epi16(order, x)};
}
inline bytes sorted(loose<4> codes) {
    return sort4(codes.v);
}
inline bytes sorted(loose<8> codes) {
    return sort8(codes.v);
}
template <int Bits>
inline bytes higher(bytes x, bytes top) {
    if constexpr (Bits == 16) {
        return {_mm512_max_epi16(x.v, top.v)};
    } else if constexpr (Bits == 32) {
        return {_mm512_max_epi32(x.v, top.v)};
    } else {
        return {_mm512_max_epi64(x.v, top.v)};
    }
}
template <int Bits>
inline bytes lower(bytes x, bytes bottom) {
    if constexpr (Bits == 16) {
        return {_mm512_max_epu16(x.v, bottom.v)};
    } else if constexpr (Bits == 32) {
        return {_mm512_max_epu32(x.v, bottom.v)};
    } else {
        return {_mm512_max_epu64(x.v, bottom.v)};
    }
}
template <int Bits>
inline bytes below_zero(bytes x) {
    if constexpr (Bits == 16) {
        return {_mm512_maskz_mov_epi16(_mm512_cmpgt_epu16_mask(x.v, _mm512_set1_epi16(INT16_MIN)), x.v)};
    } else {
        const __m512i flipped = _mm512_xor_si512(x.v, _mm512_set1_epi32(INT32_MIN));
        return {_mm512_maskz_mov_epi32(_mm512_cmpgt_epi32_mask(flipped, _mm512_setzero_si512()), x.v)};
    }
}
// 32 bits: with the sign flipped the unsigned order is the signed one, and both maxima are found together, in
// alternating lanes. 16 bits: the one horizontal instruction finds a minimum of unsigned words.
template <int Bits>
inline void ends(bytes top, bytes bottom, uint32_t& highest, uint32_t& lowest) {
    if constexpr (Bits == 16) {
        const __m256i t = _mm256_max_epi16(_mm512_castsi512_si256(top.v), _mm512_extracti64x4_epi64(top.v, 1));
        const __m256i b = _mm256_max_epu16(_mm512_castsi512_si256(bottom.v), _mm512_extracti64x4_epi64(bottom.v, 1));
        const __m128i t8 = _mm_max_epi16(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
        const __m128i b8 = _mm_max_epu16(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
        const __m128i above = _mm_minpos_epu16(_mm_xor_si128(t8, _mm_set1_epi16(INT16_MAX)));
        const __m128i below = _mm_minpos_epu16(_mm_xor_si128(b8, _mm_set1_epi16(-1)));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(above)) ^ 0x7fff;
        lowest = ~static_cast<uint32_t>(_mm_cvtsi128_si32(below));
    } else {
        const __m512i b = _mm512_xor_si512(bottom.v, _mm512_set1_epi32(INT32_MIN));
        const __m512i both = _mm512_max_epi32(_mm512_unpacklo_epi32(top.v, b), _mm512_unpackhi_epi32(top.v, b));
        const __m256i eight = _mm256_max_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
        const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
        const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
        highest = static_cast<uint32_t>(_mm_cvtsi128_si32(two));
        lowest = static_cast<uint32_t>(_mm_extract_epi32(two, 1)) ^ 0x80000000;
    }
}
template <int Bits>
inline bytes keep_nans(bytes bottom, bytes, bytes) {
    return bottom;
}

// Evens of eight elements, then their odds -> element order: 16-bit elements, or bytes.
inline __m512i deal_words(__m512i x) {
    return _mm512_shuffle_epi8(
        x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15)));
}
inline __m512i deal_bytes(__m512i x) {
    return _mm512_shuffle_epi8(
        x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)));
}
template <bool Interleaved>
inline loose<Interleaved ? 8 : 4> narrow4(i32 a, i32 b, i32 c, i32 d, bytes zero) {
    const __m512i ab = _mm512_add_epi16(_mm512_packs_epi32(a.v, b.v), zero.v);
    const __m512i cd = _mm512_add_epi16(_mm512_packs_epi32(c.v, d.v), zero.v);
    const __m512i packed = _mm512_packus_epi16(ab, cd);
    return {Interleaved ? deal_bytes(packed) : packed};
}

// Upper halves of a + u and b + v, u and v the random words, plus `zero`, in element order.
inline __m512i upper_halves(i32 a, i32 b, words<true> w, bytes zero) {
    const __m512i upper = _mm512_add_epi16(lower_halves<true>(), _mm512_set1_epi16(1));
    return _mm512_add_epi16(_mm512_permutex2var_epi16((a + w.u).v, upper, (b + w.v).v), zero.v);
}
// Words in element order would have to be spread over a and b. Instead one permutation gathers the lower halves of both
// vectors, one the upper halves, and 32 comparisons are one: the lower half l carries if l + u > 0xffff, that is
// l > ~u.
inline __m512i upper_halves(i32 a, i32 b, words<false> w, bytes zero) {
    const __m512i lower = lower_halves<false>();
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i l = _mm512_permutex2var_epi16(a.v, lower, b.v);
    const __m512i h = _mm512_permutex2var_epi16(a.v, _mm512_add_epi16(lower, one), b.v);
    const __mmask32 carries = _mm512_cmpgt_epu16_mask(l, w.complement);
    return _mm512_mask_add_epi16(_mm512_add_epi16(h, zero.v), carries, h, _mm512_add_epi16(zero.v, one));
}
template <class RandomWords>
inline loose<8> narrow4_upper(i32 a, i32 b, i32 c, i32 d, RandomWords u_ab, RandomWords u_cd, bytes zero) {
    return {_mm512_packus_epi16(upper_halves(a, b, u_ab, zero), upper_halves(c, d, u_cd, zero))};
}
template <class RandomWords>
inline bytes narrow2_upper(i32 a, i32 b, RandomWords u, bytes zero) {
    return {upper_halves(a, b, u, zero)};
}
template <bool Interleaved>
inline bytes narrow2(i32 a, i32 b) {
    const __m512i packed = _mm512_packus_epi32(a.v, b.v);
    if constexpr (Interleaved) {
        return {deal_words(packed)};
    } else {
        return sort8(packed);
    }
}

// maddubs by (1, 16): each pair of bytes becomes even + 16 * odd, in 16 bits.
template <int Group>
inline bytes pack_nibbles(loose<Group> a, loose<Group> b) {
    const __m512i weights = _mm512_set1_epi16(0x1001);
    const __m512i packed = _mm512_packus_epi16(_mm512_maddubs_epi16(a.v, weights), _mm512_maddubs_epi16(b.v, weights));
    return Group == 8 ? sort4(packed) : sort2(packed);
}
inline bytes pack_nibbles(bytes a, bytes b) {
    const __m512i weights = _mm512_set1_epi16(0x1001);
    return sort8(_mm512_packus_epi16(_mm512_maddubs_epi16(a.v, weights), _mm512_maddubs_epi16(b.v, weights)));
}
// maddubs by (1, 4), then madd by (1, 16): each four bytes become one, in 32 bits.
inline __m512i pack_quads(__m512i a) {
    const __m512i pairs = _mm512_maddubs_epi16(a, _mm512_set1_epi16(0x0401));
    return _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00100001));
}
// Bytes 4 q + i of every 16 to 4 i + q.
inline __m512i transpose_bytes(__m512i x) {
    return _mm512_shuffle_epi8(
        x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
}
template <int Group>
inline bytes pack_crumbs(loose<Group> a, loose<Group> b, loose<Group> c, loose<Group> d) {
    const __m512i ab = _mm512_packs_epi32(pack_quads(a.v), pack_quads(b.v));
    const __m512i cd = _mm512_packs_epi32(pack_quads(c.v), pack_quads(d.v));
    const __m512i packed = _mm512_packus_epi16(ab, cd);
    if constexpr (Group == 8) {
        return sort2(packed);
    } else {
        return {transpose_bytes(sort4(packed).v)};
    }
}
inline bytes pack_crumbs(bytes a, bytes b, bytes c, bytes d) {
    const __m512i ab = _mm512_packs_epi32(pack_quads(a.v), pack_quads(b.v));
    const __m512i cd = _mm512_packs_epi32(pack_quads(c.v), pack_quads(d.v));
    return sort4(_mm512_packus_epi16(ab, cd));
}

// --- table -------------------------------------------------------------------------------------------------------

// vpermps reads four bits of each index, so fields may have others above them.
template <int Bits>
constexpr bool looks_up_floats = true;
struct table32 {
    __m512 v;
};
inline table32 make_table(const float (&entries)[16]) {
    return {_mm512_loadu_ps(entries)};
}
inline f32 entries_of(i32 fields, table32 t) {
    return {_mm512_permutexvar_ps(fields.v, t.v)};
}
template <int Bits>
PIQUANT_INLINE void lookup_in_order(const unsigned char* p, table32 t, f32 (&v)[4]) {
    PIQUANT_UNROLL
    for (int k = 0; k < 4; ++k) {
        v[k] = entries_of({low_fields<Bits>(p, k)}, t);
    }
}

// Two fields to a lane, the even one below the odd one: pair k at p.
template <int Bits>
inline i32 paired_fields(const unsigned char* p, int k) {
    if constexpr (Bits == 4) {
        return {_mm512_cvtepu8_epi32(load128(p + 16 * k))};
    } else {
        const __m512i shifts = _mm512_and_si512(ramp(0, 4), _mm512_set1_epi32(28));
        return {_mm512_srlv_epi32(nibble_words(_mm512_castsi128_si512(load128(p)), k), shifts)};
    }
}

// Entries by low and high byte, in every 128 bits. Fields become bytes, and pieces of eight change places so that
// interleaving within 128 bits gives element order.
struct table16 {
    __m512i lo, hi;
};
inline table16 make_table(const uint16_t (&entries)[16]) {
    const __m256i e = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(entries));
    const __m128i lo = _mm256_cvtepi16_epi8(e);
    const __m128i hi = _mm256_cvtepi16_epi8(_mm256_srli_epi16(e, 8));
    return {_mm512_broadcast_i32x4(lo), _mm512_broadcast_i32x4(hi)};
}
template <int Bits>
PIQUANT_INLINE void lookup(const unsigned char* p, table16 t, bytes (&v)[2]) {
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const __m512i fields = _mm512_permutexvar_epi64(order, fields_in_bytes<Bits>(p));
    const __m512i lo = _mm512_shuffle_epi8(t.lo, fields);
    const __m512i hi = _mm512_shuffle_epi8(t.hi, fields);
    v[0].v = _mm512_unpacklo_epi8(lo, hi);
    v[1].v = _mm512_unpackhi_epi8(lo, hi);
}

}  // namespace simd
}  // namespace
}  // namespace piquant

#include "simd/interleaved.hpp"
