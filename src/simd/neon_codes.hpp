// AArch64 Advanced SIMD: codes into registers and out of them.
#pragma once

#include "simd/neon.hpp"

namespace piquant {
namespace {
namespace simd {

// --- widen -----------------------------------------------------------------------------------------------------

// Zero extension by table: lane l of vector k takes byte 4 k + l, then three indices that are out of range and give 0.
// Four instructions for 16 codes; two steps of widening would take six.
inline void extend_u8(uint8x16_t x, i32 (&c)[4]) {
    PIQUANT_UNROLL
    for (uint32_t k = 0; k < 4; ++k) {
        const uint32x4_t first = {0xffffff00u, 0xffffff01u, 0xffffff02u, 0xffffff03u};
        const uint8x16_t index = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(4 * k)));
        c[k].v = vreinterpretq_s32_u8(vqtbl1q_u8(x, index));
    }
}
// 16 fields as bytes: crumbs are repeated, and each copy shifted by its own amount (ushl: negative is right).
template <int Bits>
inline uint8x16_t fields_in_bytes(const unsigned char* p) {
    if constexpr (Bits == 4) {
        const uint8x8_t b = load64(p);
        const uint8x8_t even = vand_u8(b, vdup_n_u8(15));
        const uint8x8_t odd = vshr_n_u8(b, 4);
        return vcombine_u8(vzip1_u8(even, odd), vzip2_u8(even, odd));
    } else {
        uint32_t word;
        __builtin_memcpy(&word, p, sizeof word);
        const uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(word));
        const uint8x16_t spread = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
        const int8x16_t shifts = {0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6};
        return vandq_u8(vshlq_u8(vqtbl1q_u8(four, spread), shifts), vdupq_n_u8(3));
    }
}
template <int Bits, bool>
PIQUANT_INLINE void load_codes4(const unsigned char* p, i32 (&c)[4]) {
    if constexpr (Bits == 16) {
        const uint16x8_t zero = vdupq_n_u16(0);
        PIQUANT_UNROLL
        for (size_t k = 0; k < 2; ++k) {
            const uint16x8_t x = vreinterpretq_u16_u8(load128(p + 16 * k));
            c[2 * k].v = vreinterpretq_s32_u16(vzip1q_u16(x, zero));
            c[2 * k + 1].v = vreinterpretq_s32_u16(vzip2q_u16(x, zero));
        }
    } else if constexpr (Bits == 8) {
        extend_u8(load128(p), c);
    } else {
        extend_u8(fields_in_bytes<Bits>(p), c);
    }
}
template <class Vector>
inline Vector from_pattern(i32 x);
template <>
inline f32 from_pattern<f32>(i32 x) {
    return {vreinterpretq_f32_s32(x.v)};
}
template <>
inline f64 from_pattern<f64>(i32 x) {
    const int32x4_t exponent = vdupq_n_s32(0x43300000);
    return {vreinterpretq_f64_s32(vzip1q_s32(x.v, exponent)), vreinterpretq_f64_s32(vzip2q_s32(x.v, exponent))};
}

// --- narrow ----------------------------------------------------------------------------------------------------

inline uint16x8_t u16(bytes a) {
    return vreinterpretq_u16_u8(a.v);
}
inline int16x8_t s16(bytes a) {
    return vreinterpretq_s16_u8(a.v);
}
inline bytes splat_u8(unsigned x) {
    return {vdupq_n_u8(static_cast<uint8_t>(x))};
}
inline bytes splat_u16(unsigned x) {
    return {vreinterpretq_u8_u16(vdupq_n_u16(static_cast<uint16_t>(x)))};
}
inline bytes splat_pattern(uint32_t x) {
    return {vreinterpretq_u8_u32(vdupq_n_u32(x))};
}
inline bytes operator^(bytes a, bytes b) {
    return {veorq_u8(a.v, b.v)};
}
inline bytes operator&(bytes a, bytes b) {
    return {vandq_u8(a.v, b.v)};
}
inline bytes min_u8(bytes a, bytes b) {
    return {vminq_u8(a.v, b.v)};
}
inline bytes max_u8(bytes a, bytes b) {
    return {vmaxq_u8(a.v, b.v)};
}
inline bytes max_u16(bytes a, bytes b) {
    return {vreinterpretq_u8_u16(vmaxq_u16(u16(a), u16(b)))};
}
// Maxima of 64-bit integers are missing, so float64 are compared as what they are. fmax and fmin return a NaN when
// either operand is one; which of two, the order of the operands tells, which compilers may swap.
template <int Bits>
inline bytes higher(bytes x, bytes top) {
    if constexpr (Bits == 16) {
        return {vreinterpretq_u8_s16(vmaxq_s16(s16(x), s16(top)))};
    } else if constexpr (Bits == 32) {
        return {vreinterpretq_u8_s32(vmaxq_s32(vreinterpretq_s32_u8(x.v), vreinterpretq_s32_u8(top.v)))};
    } else {
        return {vreinterpretq_u8_f64(vmaxq_f64(vreinterpretq_f64_u8(x.v), vreinterpretq_f64_u8(top.v)))};
    }
}
template <int Bits>
inline bytes lower(bytes x, bytes bottom) {
    if constexpr (Bits == 16) {
        return {vreinterpretq_u8_u16(vmaxq_u16(u16(x), u16(bottom)))};
    } else if constexpr (Bits == 32) {
        return {vreinterpretq_u8_u32(vmaxq_u32(vreinterpretq_u32_u8(x.v), vreinterpretq_u32_u8(bottom.v)))};
    } else {
        return {vreinterpretq_u8_f64(vminq_f64(vreinterpretq_f64_u8(x.v), vreinterpretq_f64_u8(bottom.v)))};
    }
}
template <int Bits>
inline bytes below_zero(bytes x) {
    if constexpr (Bits == 16) {
        return {vandq_u8(x.v, vreinterpretq_u8_u16(vcgtq_u16(u16(x), vdupq_n_u16(0x8000))))};
    } else {
        const uint32x4_t pattern = vreinterpretq_u32_u8(x.v);
        return {vreinterpretq_u8_u32(vandq_u32(pattern, vcgtq_u32(pattern, vdupq_n_u32(0x80000000))))};
    }
}
template <int Bits>
inline void ends(bytes top, bytes bottom, uint32_t& highest, uint32_t& lowest) {
    if constexpr (Bits == 16) {
        highest = static_cast<uint32_t>(vmaxvq_s16(s16(top)));
        lowest = vmaxvq_u16(u16(bottom));
    } else {
        highest = static_cast<uint32_t>(vmaxvq_s32(vreinterpretq_s32_u8(top.v)));
        lowest = vmaxvq_u32(vreinterpretq_u32_u8(bottom.v));
    }
}
template <int Bits>
inline bytes keep_nans(bytes bottom, bytes, bytes) {
    return bottom;
}

inline bytes sorted(bytes codes) {
    return codes;
}
template <bool>
inline bytes narrow4(i32 a, i32 b, i32 c, i32 d, bytes zero) {
    const int16x8_t ab = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a.v), b.v), s16(zero));
    const int16x8_t cd = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c.v), d.v), s16(zero));
    return {vqmovun_high_s16(vqmovun_s16(ab), cd)};
}
// Upper halves of a + u and b + v, u and v the random words, plus `zero`.
inline int16x8_t upper_halves(i32 a, i32 b, words<false> w, bytes zero) {
    i32 u;
    i32 v;
    expand(w, u, v);
    const int16x8_t upper = vuzp2q_s16(vreinterpretq_s16_s32((a + u).v), vreinterpretq_s16_s32((b + v).v));
    return vaddq_s16(upper, s16(zero));
}
inline bytes narrow4_upper(i32 a, i32 b, i32 c, i32 d, words<false> u_ab, words<false> u_cd, bytes zero) {
    return {vqmovun_high_s16(vqmovun_s16(upper_halves(a, b, u_ab, zero)), upper_halves(c, d, u_cd, zero))};
}
inline bytes narrow2_upper(i32 a, i32 b, words<false> u, bytes zero) {
    return {vreinterpretq_u8_s16(upper_halves(a, b, u, zero))};
}
template <bool>
inline bytes narrow2(i32 a, i32 b) {
    return {vreinterpretq_u8_u16(vqmovun_high_s32(vqmovun_s32(a.v), b.v))};
}

// Even and odd codes apart, then sli puts the odd ones above the even ones: code 2k+1 << Bits | code 2k.
template <int Bits>
inline bytes join_pairs(bytes a, bytes b) {
    return {vsliq_n_u8(vuzp1q_u8(a.v, b.v), vuzp2q_u8(a.v, b.v), Bits)};
}
inline bytes pack_nibbles(bytes a, bytes b) {
    return join_pairs<4>(a, b);
}
// Pairs of crumbs are nibbles.
inline bytes pack_crumbs(bytes a, bytes b, bytes c, bytes d) {
    return join_pairs<4>(join_pairs<2>(a, b), join_pairs<2>(c, d));
}

// --- table -------------------------------------------------------------------------------------------------------

// Entries by byte: plane k holds byte k of all sixteen. tbl looks a plane up for 16 fields at once, and two steps of
// interleaving put the bytes of each result together.
template <int Bits>
constexpr bool looks_up_floats = true;
struct table32 {
    uint8x16x4_t plane;
};
inline table32 make_table(const float (&entries)[16]) {
    return {vld4q_u8(reinterpret_cast<const uint8_t*>(entries))};
}
template <int Bits, bool>
PIQUANT_INLINE void lookup(const unsigned char* p, const table32& t, f32 (&v)[4]) {
    const uint8x16_t fields = fields_in_bytes<Bits>(p);
    const uint8x16_t b0 = vqtbl1q_u8(t.plane.val[0], fields);
    const uint8x16_t b1 = vqtbl1q_u8(t.plane.val[1], fields);
    const uint8x16_t b2 = vqtbl1q_u8(t.plane.val[2], fields);
    const uint8x16_t b3 = vqtbl1q_u8(t.plane.val[3], fields);
    const uint16x8_t low_first = vreinterpretq_u16_u8(vzip1q_u8(b0, b1));
    const uint16x8_t low_last = vreinterpretq_u16_u8(vzip2q_u8(b0, b1));
    const uint16x8_t high_first = vreinterpretq_u16_u8(vzip1q_u8(b2, b3));
    const uint16x8_t high_last = vreinterpretq_u16_u8(vzip2q_u8(b2, b3));
    v[0].v = vreinterpretq_f32_u16(vzip1q_u16(low_first, high_first));
    v[1].v = vreinterpretq_f32_u16(vzip2q_u16(low_first, high_first));
    v[2].v = vreinterpretq_f32_u16(vzip1q_u16(low_last, high_last));
    v[3].v = vreinterpretq_f32_u16(vzip2q_u16(low_last, high_last));
}

struct table16 {
    uint8x16x2_t plane;
};
inline table16 make_table(const uint16_t (&entries)[16]) {
    return {vld2q_u8(reinterpret_cast<const uint8_t*>(entries))};
}
template <int Bits>
PIQUANT_INLINE void lookup(const unsigned char* p, const table16& t, bytes (&v)[2]) {
    const uint8x16_t fields = fields_in_bytes<Bits>(p);
    const uint8x16_t lo = vqtbl1q_u8(t.plane.val[0], fields);
    const uint8x16_t hi = vqtbl1q_u8(t.plane.val[1], fields);
    v[0].v = vzip1q_u8(lo, hi);
    v[1].v = vzip2q_u8(lo, hi);
}

}  // namespace simd
}  // namespace
}  // namespace piquant
