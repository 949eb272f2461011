// AVX-512 F + BW + DQ + VL: 16 lanes of 32 bits.
//
// Packing instructions work in four 128-bit quarters, as those of AVX2 do in two halves: packing a and b gives
// a0 b0 | a1 b1 | a2 b2 | a3 b3. One full permutation (vpermd, vpermq: one micro-operation everywhere) restores element
// order; packing twice before it pays for it once. Comparisons give masks in registers of their own.
#pragma once

// The intrinsics of GCC before 12.3 and 13 leave a register unset where no lane of it is used, and warn of that.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include "core/types.hpp"

namespace piquant {
namespace {
namespace simd {

constexpr size_t lanes = 16;
constexpr size_t width = 64;

struct f32 {
    __m512 v;
};
struct f64 {
    __m512d lo, hi;
};
struct i32 {
    __m512i v;
};
struct bytes {
    __m512i v;
};
// Random words of a pair of vectors, in element order and complemented: comparison then needs no addition, see
// upper_halves. Where vectors interleave, zero-extended for each.
template <bool Interleaved>
struct words {
    __m512i complement;
};
template <>
struct words<true> {
    i32 u, v;
};

template <class Float>
constexpr bool conversion_saturates = false;
template <class Float>
constexpr bool interleaved = Float::dtype == DType::bfloat16;

// --- pieces ----------------------------------------------------------------------------------------------------

// Lane l holds first + l * step: a constant to the compiler.
inline __m512i ramp(int first, int step) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_set1_epi32(first), _mm512_mullo_epi32(lane, _mm512_set1_epi32(step)));
}
inline __m512i join(__m256i lo, __m256i hi) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

// For vpermt2w on two vectors: indices of the lower halves of all their elements, in order.
template <bool Interleaved>
inline __m512i lower_halves() {
    return Interleaved ? ramp(0x00200000, 0x00020002) : ramp(0x00020000, 0x00040004);
}

// --- memory ----------------------------------------------------------------------------------------------------

inline __m128i load128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline bytes load_bytes(const void* p) {
    return {_mm512_loadu_si512(p)};
}
inline i32 load_i32(const void* p) {
    return {load_bytes(p).v};
}

inline void touch(bytes b) {
#ifdef __AVX512F__
    __asm__ volatile("" : : "v"(b.v));
#else  // emulated, see tests/emulation
    __asm__ volatile("" : : "m"(b.v));
#endif
}

template <Store Storing>
inline void put512(void* p, __m512i v) {
    if constexpr (Storing == Store::non_temporal) {
        _mm512_stream_si512(static_cast<__m512i*>(p), v);
    } else {
        _mm512_storeu_si512(p, v);
    }
}
template <Store Storing, class Vector>
inline void put(void* p, Vector a) {
    put512<Storing>(p, a.v);
}

inline f32 load(float32, const void* p) {
    return {_mm512_loadu_ps(p)};
}
inline f64 load(float64, const void* p) {
    return {_mm512_loadu_pd(p), _mm512_loadu_pd(static_cast<const double*>(p) + 8)};
}
inline f32 load(float16, const void* p) {
    return {_mm512_cvtph_ps(load256(p))};
}
inline f32 load(bfloat16, const void* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16))};
}

// Elements that are upper halves of floats are cheapest to widen where they lie: one instruction each for the even and
// the odd ones of a register.
inline void load_interleaved(bfloat16, const void* p, f32& a, f32& b) {
    const __m512i x = load_bytes(p).v;
    a.v = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    b.v = _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

inline void load_interleaved(float32, const void* p, f32& a, f32& b) {
    const __m512i x = load_bytes(p).v;
    const __m512i y = load_bytes(static_cast<const char*>(p) + width).v;
    a.v = _mm512_castsi512_ps(_mm512_permutex2var_epi32(x, ramp(0, 2), y));
    b.v = _mm512_castsi512_ps(_mm512_permutex2var_epi32(x, ramp(1, 2), y));
}

template <Store Storing, bool Interleaved>
inline void store2(float32, void* p, f32 a, f32 b) {
    auto* d = static_cast<char*>(p);
    put512<Storing>(d, _mm512_castps_si512(a.v));
    put512<Storing>(d + width, _mm512_castps_si512(b.v));
}
template <Store Storing, bool Interleaved>
inline void store2(float64, void* p, f64 a, f64 b) {
    auto* d = static_cast<char*>(p);
    put512<Storing>(d, _mm512_castpd_si512(a.lo));
    put512<Storing>(d + width, _mm512_castpd_si512(a.hi));
    put512<Storing>(d + 2 * width, _mm512_castpd_si512(b.lo));
    put512<Storing>(d + 3 * width, _mm512_castpd_si512(b.hi));
}
// Through the caches each half goes by itself; a non-temporal store writes a whole line.
template <Store Storing, bool Interleaved>
inline void store2(float16, void* p, f32 a, f32 b) {
    const __m256i lo = _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i hi = _mm512_cvtps_ph(b.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if constexpr (Storing == Store::cached) {
        _mm256_storeu_si256(static_cast<__m256i*>(p), lo);
        _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, hi);
    } else {
        put512<Storing>(p, join(lo, hi));
    }
}

// The kept and the lost halves of all floats are gathered first, in element order; rounding then works on 32 elements
// at a time. Half to even goes up when the lost half is above 0x8000, or equal to it and the kept half is odd. Merging
// the lowest kept bit into the lost half makes that one comparison:
//
//   kept   k...........o     up when (lost | o) > 1000000000000000
//   lost   l............
//
// Five instructions for 32 elements. Infinities, and NaNs that came from bfloat16, have lost nothing and stay.
// (vcvtneps2bf16 would flush subnormals, and is not part of this instruction set.)
template <Store Storing, bool Interleaved>
inline void store2(bfloat16, void* p, f32 a, f32 b) {
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i even = lower_halves<Interleaved>();
    const __m512i odd = _mm512_add_epi16(even, one);
    const __m512i x = _mm512_castps_si512(a.v);
    const __m512i y = _mm512_castps_si512(b.v);
    const __m512i kept = _mm512_permutex2var_epi16(x, odd, y);
    const __m512i lost = _mm512_permutex2var_epi16(x, even, y);
    constexpr int a_or_b_and_c = 0xf0 | (0xcc & 0xaa);
    const __m512i merged = _mm512_ternarylogic_epi32(lost, kept, one, a_or_b_and_c);
    const __mmask32 up = _mm512_cmpgt_epu16_mask(merged, _mm512_set1_epi16(-0x8000));
    put512<Storing>(p, _mm512_mask_add_epi16(kept, up, kept, one));
}

// --- float -----------------------------------------------------------------------------------------------------

inline f32 splat(float x) {
    return {_mm512_set1_ps(x)};
}
inline f64 splat(double x) {
    return {_mm512_set1_pd(x), _mm512_set1_pd(x)};
}
inline f32 operator+(f32 a, f32 b) {
    return {_mm512_add_ps(a.v, b.v)};
}
inline f32 operator-(f32 a, f32 b) {
    return {_mm512_sub_ps(a.v, b.v)};
}
inline f32 operator*(f32 a, f32 b) {
    return {_mm512_mul_ps(a.v, b.v)};
}
inline f32 operator/(f32 a, f32 b) {
    return {_mm512_div_ps(a.v, b.v)};
}
inline f64 operator+(f64 a, f64 b) {
    return {_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)};
}
inline f64 operator-(f64 a, f64 b) {
    return {_mm512_sub_pd(a.lo, b.lo), _mm512_sub_pd(a.hi, b.hi)};
}
inline f64 operator*(f64 a, f64 b) {
    return {_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)};
}
inline f64 operator/(f64 a, f64 b) {
    return {_mm512_div_pd(a.lo, b.lo), _mm512_div_pd(a.hi, b.hi)};
}
inline bool all_zero(f32 x) {
    return _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0;
}
inline f32 where_zero(f32 x, f32 then, f32 otherwise) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_EQ_OQ), otherwise.v, then.v)};
}

// vminps and vmaxps return their second operand when either is NaN.
inline f32 max_number(f32 x, f32 bound) {
    return {_mm512_max_ps(x.v, bound.v)};
}
inline f64 max_number(f64 x, f64 bound) {
    return {_mm512_max_pd(x.lo, bound.lo), _mm512_max_pd(x.hi, bound.hi)};
}
inline f32 min_number(f32 x, f32 bound) {
    return {_mm512_min_ps(x.v, bound.v)};
}
inline f64 min_number(f64 x, f64 bound) {
    return {_mm512_min_pd(x.lo, bound.lo), _mm512_min_pd(x.hi, bound.hi)};
}
template <class Vector>
inline Vector min_or_nan(Vector x, Vector bound) {
    return min_number(bound, x);
}
inline f64 round_even(f64 x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;  // to a multiple of 2^0
    return {_mm512_roundscale_pd(x.lo, mode), _mm512_roundscale_pd(x.hi, mode)};
}
template <class Vector>
inline Vector accumulate(Vector before, Vector v) {
    return before + v;
}

// --- convert ---------------------------------------------------------------------------------------------------

inline i32 to_i32(f32 x) {
    return {_mm512_cvtps_epi32(x.v)};
}
inline i32 to_i32(f64 x) {
    return {join(_mm512_cvtpd_epi32(x.lo), _mm512_cvtpd_epi32(x.hi))};
}

template <class Vector>
inline Vector to(i32 a);
template <>
inline f32 to<f32>(i32 a) {
    return {_mm512_cvtepi32_ps(a.v)};
}
template <>
inline f64 to<f64>(i32 a) {
    return {_mm512_cvtepi32_pd(_mm512_castsi512_si256(a.v)), _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a.v, 1))};
}
template <class Vector>
inline Vector to(f32 a);
template <>
inline f64 to<f64>(f32 a) {
    return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))};
}
template <class Vector>
inline Vector to(f64 a);
template <>
inline f64 to<f64>(f64 a) {
    return a;
}
template <>
inline f32 to<f32>(f64 a) {
    return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.lo)), _mm512_cvtpd_ps(a.hi), 1)};
}

// --- integer ---------------------------------------------------------------------------------------------------

inline i32 splat_i32(int32_t x) {
    return {_mm512_set1_epi32(x)};
}
inline i32 operator+(i32 a, i32 b) {
    return {_mm512_add_epi32(a.v, b.v)};
}
inline i32 operator-(i32 a, i32 b) {
    return {_mm512_sub_epi32(a.v, b.v)};
}
inline i32 operator&(i32 a, i32 b) {
    return {_mm512_and_si512(a.v, b.v)};
}
inline i32 operator^(i32 a, i32 b) {
    return {_mm512_xor_si512(a.v, b.v)};
}
inline i32 mul_low(i32 a, i32 b) {
    return {_mm512_mullo_epi32(a.v, b.v)};
}
inline i32 max(i32 a, i32 b) {
    return {_mm512_max_epi32(a.v, b.v)};
}
inline i32 xor3(i32 a, i32 b, i32 c) {
    return {_mm512_ternarylogic_epi32(a.v, b.v, c.v, 0xf0 ^ 0xcc ^ 0xaa)};
}
template <int K>
inline i32 shift_left(i32 a) {
    return {_mm512_slli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_logical(i32 a) {
    return {_mm512_srli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_arithmetic(i32 a) {
    return {_mm512_srai_epi32(a.v, K)};
}

// --- words -----------------------------------------------------------------------------------------------------

inline i32 lane_numbers() {
    return {ramp(0, 1)};
}
template <bool Interleaved>
inline words<Interleaved> make_words(i32 x, i32 lower, i32 upper) {
    if constexpr (Interleaved) {
        constexpr int a_xor_b_and_c = (0xf0 ^ 0xcc) & 0xaa;
        return {{_mm512_ternarylogic_epi32(x.v, lower.v, _mm512_set1_epi32(0xffff), a_xor_b_and_c)}, upper};
    } else {
        constexpr int xnor = 0xff ^ 0xf0 ^ 0xcc;
        return {_mm512_ternarylogic_epi32(x.v, lower.v, lower.v, xnor)};
    }
}
inline words<false> as_words(i32 x) {
    return {(x ^ splat_i32(-1)).v};
}
inline void put_words(void* p, words<false> w) {
    put512<Store::cached>(p, _mm512_xor_si512(w.complement, _mm512_set1_epi32(-1)));
}
inline void expand(words<true> w, i32& a, i32& b) {
    a = w.u;
    b = w.v;
}
inline void expand(words<false> w, i32& a, i32& b) {
    const __m512i u = _mm512_xor_si512(w.complement, _mm512_set1_epi32(-1));
    a.v = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(u));
    b.v = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(u, 1));
}

}  // namespace simd
}  // namespace
}  // namespace piquant
