// AVX2 + F16C: 8 lanes of 32 bits.
//
// Most 256-bit integer instructions work in two 128-bit halves: packing a and b gives a.lo b.lo | a.hi b.hi. One
// permutation of 64- or 32-bit pieces restores element order; packing twice before it pays for it once.
#pragma once

#include <immintrin.h>

#include "core/types.hpp"

namespace piquant {
namespace {
namespace simd {

constexpr size_t lanes = 8;
constexpr size_t width = 32;

struct f32 {
    __m256 v;
};
struct f64 {
    __m256d lo, hi;
};
struct i32 {
    __m256i v;
};
struct bytes {
    __m256i v;
};
// Random words of a pair of vectors, in element order; zero-extended for each where vectors interleave.
template <bool Interleaved>
struct words {
    __m256i v;
};
template <>
struct words<true> {
    i32 u, v;
};

template <class Float>
constexpr bool conversion_saturates = false;
template <class Float>
constexpr bool interleaved = Float::dtype == DType::bfloat16;

// --- memory ----------------------------------------------------------------------------------------------------

inline __m128i load128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline __m128i load64(const void* p) {
    return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
inline bytes load_bytes(const void* p) {
    return {_mm256_loadu_si256(static_cast<const __m256i*>(p))};
}
inline i32 load_i32(const void* p) {
    return {load_bytes(p).v};
}

inline void touch(bytes b) {
    __asm__ volatile("" : : "x"(b.v));
}

template <Store Storing>
inline void put256(void* p, __m256i v) {
    if constexpr (Storing == Store::non_temporal) {
        _mm256_stream_si256(static_cast<__m256i*>(p), v);
    } else {
        _mm256_storeu_si256(static_cast<__m256i*>(p), v);
    }
}
template <Store Storing>
inline void put(void* p, bytes b) {
    put256<Storing>(p, b.v);
}
template <Store Storing>
inline void put(void* p, i32 a) {
    put256<Storing>(p, a.v);
}

inline f32 load(float32, const void* p) {
    return {_mm256_loadu_ps(static_cast<const float*>(p))};
}
inline f64 load(float64, const void* p) {
    const auto* d = static_cast<const double*>(p);
    return {_mm256_loadu_pd(d), _mm256_loadu_pd(d + 4)};
}
inline f32 load(float16, const void* p) {
    return {_mm256_cvtph_ps(load128(p))};
}
inline f32 load(bfloat16, const void* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16))};
}

// Elements that are upper halves of floats are cheapest to widen where they lie: one instruction each for the even and
// the odd ones of a register.
inline void load_interleaved(bfloat16, const void* p, f32& a, f32& b) {
    const __m256i x = load_bytes(p).v;
    a.v = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
    b.v = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}

// Two pieces of 128 bits, 256 bits apart: shuffling two of these within 128 bits leaves evens, or odds, in order.
inline __m256 load_apart(const float* p) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 8), 1);
}
inline void load_interleaved(float32, const void* p, f32& a, f32& b) {
    const auto* d = static_cast<const float*>(p);
    const __m256 x = load_apart(d);
    const __m256 y = load_apart(d + 4);
    a.v = _mm256_shuffle_ps(x, y, 0x88);
    b.v = _mm256_shuffle_ps(x, y, 0xdd);
}

template <Store Storing, bool Interleaved>
inline void store2(float32, void* p, f32 a, f32 b) {
    auto* d = static_cast<char*>(p);
    put256<Storing>(d, _mm256_castps_si256(a.v));
    put256<Storing>(d + width, _mm256_castps_si256(b.v));
}
template <Store Storing, bool Interleaved>
inline void store2(float64, void* p, f64 a, f64 b) {
    auto* d = static_cast<char*>(p);
    put256<Storing>(d, _mm256_castpd_si256(a.lo));
    put256<Storing>(d + width, _mm256_castpd_si256(a.hi));
    put256<Storing>(d + 2 * width, _mm256_castpd_si256(b.lo));
    put256<Storing>(d + 3 * width, _mm256_castpd_si256(b.hi));
}
template <Store Storing, bool Interleaved>
inline void store2(float16, void* p, f32 a, f32 b) {
    const __m128i lo = _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i hi = _mm256_cvtps_ph(b.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    put256<Storing>(p, _mm256_set_m128i(hi, lo));
}

// Each float in bfloat16 in the upper half of its lane, rounded half to even: add 0x7fff plus the lowest kept bit,
// which carries into the kept half exactly where rounding goes up. Infinities, and NaNs that came from bfloat16, have a
// lower half of zero and stay.
inline __m256i bfloat16_above(f32 x) {
    const __m256i bits = _mm256_castps_si256(x.v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}
template <Store Storing, bool Interleaved>
inline void store2(bfloat16, void* p, f32 a, f32 b) {
    const __m256i lo = _mm256_srli_epi32(bfloat16_above(a), 16);
    if constexpr (Interleaved) {
        put256<Storing>(p, _mm256_blend_epi16(lo, bfloat16_above(b), 0xaa));
    } else {
        const __m256i packed = _mm256_packus_epi32(lo, _mm256_srli_epi32(bfloat16_above(b), 16));
        put256<Storing>(p, _mm256_permute4x64_epi64(packed, 0xd8));
    }
}

// --- float -----------------------------------------------------------------------------------------------------

inline f32 splat(float x) {
    return {_mm256_set1_ps(x)};
}
inline f64 splat(double x) {
    return {_mm256_set1_pd(x), _mm256_set1_pd(x)};
}
inline f32 operator+(f32 a, f32 b) {
    return {_mm256_add_ps(a.v, b.v)};
}
inline f32 operator-(f32 a, f32 b) {
    return {_mm256_sub_ps(a.v, b.v)};
}
inline f32 operator*(f32 a, f32 b) {
    return {_mm256_mul_ps(a.v, b.v)};
}
inline f32 operator/(f32 a, f32 b) {
    return {_mm256_div_ps(a.v, b.v)};
}
inline f64 operator+(f64 a, f64 b) {
    return {_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)};
}
inline f64 operator-(f64 a, f64 b) {
    return {_mm256_sub_pd(a.lo, b.lo), _mm256_sub_pd(a.hi, b.hi)};
}
inline f64 operator*(f64 a, f64 b) {
    return {_mm256_mul_pd(a.lo, b.lo), _mm256_mul_pd(a.hi, b.hi)};
}
inline f64 operator/(f64 a, f64 b) {
    return {_mm256_div_pd(a.lo, b.lo), _mm256_div_pd(a.hi, b.hi)};
}
inline bool all_zero(f32 x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_NEQ_UQ)) == 0;
}
inline f32 where_zero(f32 x, f32 then, f32 otherwise) {
    return {_mm256_blendv_ps(otherwise.v, then.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_EQ_OQ))};
}

// minps and maxps return their second operand when either is NaN.
inline f32 max_number(f32 x, f32 bound) {
    return {_mm256_max_ps(x.v, bound.v)};
}
inline f64 max_number(f64 x, f64 bound) {
    return {_mm256_max_pd(x.lo, bound.lo), _mm256_max_pd(x.hi, bound.hi)};
}
inline f32 min_number(f32 x, f32 bound) {
    return {_mm256_min_ps(x.v, bound.v)};
}
inline f64 min_number(f64 x, f64 bound) {
    return {_mm256_min_pd(x.lo, bound.lo), _mm256_min_pd(x.hi, bound.hi)};
}
inline f32 min_or_nan(f32 x, f32 bound) {
    return min_number(bound, x);
}
inline f64 min_or_nan(f64 x, f64 bound) {
    return min_number(bound, x);
}
inline f64 round_even(f64 x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_pd(x.lo, mode), _mm256_round_pd(x.hi, mode)};
}
inline f32 accumulate(f32 before, f32 v) {
    return before + v;
}
inline f64 accumulate(f64 before, f64 v) {
    return before + v;
}

// --- convert ---------------------------------------------------------------------------------------------------

inline i32 to_i32(f32 x) {
    return {_mm256_cvtps_epi32(x.v)};
}
inline i32 to_i32(f64 x) {
    return {_mm256_set_m128i(_mm256_cvtpd_epi32(x.hi), _mm256_cvtpd_epi32(x.lo))};
}

template <class Vector>
inline Vector to(i32 a);
template <>
inline f32 to<f32>(i32 a) {
    return {_mm256_cvtepi32_ps(a.v)};
}
template <>
inline f64 to<f64>(i32 a) {
    return {_mm256_cvtepi32_pd(_mm256_castsi256_si128(a.v)), _mm256_cvtepi32_pd(_mm256_extracti128_si256(a.v, 1))};
}
template <class Vector>
inline Vector to(f32 a);
template <>
inline f64 to<f64>(f32 a) {
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.v)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1))};
}
template <class Vector>
inline Vector to(f64 a);
template <>
inline f64 to<f64>(f64 a) {
    return a;
}
template <>
inline f32 to<f32>(f64 a) {
    return {_mm256_set_m128(_mm256_cvtpd_ps(a.hi), _mm256_cvtpd_ps(a.lo))};
}

// --- integer ---------------------------------------------------------------------------------------------------

inline i32 splat_i32(int32_t x) {
    return {_mm256_set1_epi32(x)};
}
inline i32 operator+(i32 a, i32 b) {
    return {_mm256_add_epi32(a.v, b.v)};
}
inline i32 operator-(i32 a, i32 b) {
    return {_mm256_sub_epi32(a.v, b.v)};
}
inline i32 operator&(i32 a, i32 b) {
    return {_mm256_and_si256(a.v, b.v)};
}
inline i32 operator^(i32 a, i32 b) {
    return {_mm256_xor_si256(a.v, b.v)};
}
inline i32 mul_low(i32 a, i32 b) {
    return {_mm256_mullo_epi32(a.v, b.v)};
}
inline i32 max(i32 a, i32 b) {
    return {_mm256_max_epi32(a.v, b.v)};
}
inline i32 xor3(i32 a, i32 b, i32 c) {
    return a ^ b ^ c;
}
template <int K>
inline i32 shift_left(i32 a) {
    return {_mm256_slli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_logical(i32 a) {
    return {_mm256_srli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_arithmetic(i32 a) {
    return {_mm256_srai_epi32(a.v, K)};
}

// --- words -----------------------------------------------------------------------------------------------------

inline i32 lane_numbers() {
    return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)};
}
template <bool Interleaved>
inline words<Interleaved> make_words(i32 x, i32 lower, i32 upper) {
    if constexpr (Interleaved) {
        return {{_mm256_and_si256((x ^ lower).v, _mm256_set1_epi32(0xffff))}, upper};
    } else {
        return {(x ^ lower).v};
    }
}
inline words<false> as_words(i32 x) {
    return {x.v};
}
inline void put_words(void* p, words<false> w) {
    put256<Store::cached>(p, w.v);
}
inline void expand(words<true> w, i32& a, i32& b) {
    a = w.u;
    b = w.v;
}
// Unpacking works in halves: they exchange their middle pieces first.
inline void expand(words<false> w, i32& a, i32& b) {
    const __m256i x = _mm256_permute4x64_epi64(w.v, 0xd8);
    a.v = _mm256_unpacklo_epi16(x, _mm256_setzero_si256());
    b.v = _mm256_unpackhi_epi16(x, _mm256_setzero_si256());
}

}  // namespace simd
}  // namespace
}  // namespace piquant
