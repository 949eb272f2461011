// SSE4.2: 4 lanes of 32 bits.
//
// Packing and unpacking keep element order here, so nothing needs a permutation afterwards. Missing against AVX2:
// float16 conversions, shifts that differ per lane, and three-operand forms: a value that is used again costs a copy.
#pragma once

#include <nmmintrin.h>

#include "core/types.hpp"

namespace piquant {
namespace {
namespace simd {

constexpr size_t lanes = 4;
constexpr size_t width = 16;

struct f32 {
    __m128 v;
};
struct f64 {
    __m128d lo, hi;
};
struct i32 {
    __m128i v;
};
struct bytes {
    __m128i v;
};
template <bool>  // no vectors interleave here
struct words {
    __m128i v;
};

template <class Float>
constexpr bool conversion_saturates = false;
template <class Float>
constexpr bool interleaved = false;

// --- memory ----------------------------------------------------------------------------------------------------

inline __m128i load64(const void* p) {
    return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
inline __m128i load128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline __m128i load32(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm_cvtsi32_si128(word);
}
inline bytes load_bytes(const void* p) {
    return {_mm_loadu_si128(static_cast<const __m128i*>(p))};
}
inline i32 load_i32(const void* p) {
    return {load_bytes(p).v};
}

inline void touch(bytes b) {
    __asm__ volatile("" : : "x"(b.v));
}

template <Store Storing>
inline void put128(void* p, __m128i v) {
    if constexpr (Storing == Store::non_temporal) {
        _mm_stream_si128(static_cast<__m128i*>(p), v);
    } else {
        _mm_storeu_si128(static_cast<__m128i*>(p), v);
    }
}
template <Store Storing, class Vector>
inline void put(void* p, Vector v) {
    put128<Storing>(p, v.v);
}

inline f32 load(float32, const void* p) {
    return {_mm_loadu_ps(static_cast<const float*>(p))};
}
inline f64 load(float64, const void* p) {
    const auto* d = static_cast<const double*>(p);
    return {_mm_loadu_pd(d), _mm_loadu_pd(d + 2)};
}
inline f32 load(bfloat16, const void* p) {
    return {_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(load64(p)), 16))};
}

// float16 -> float32, 18 instructions for 8. Sign, exponent and the upper mantissa bits make the upper half of a float
// while they are still 16 bits wide, 8 to a register; then halves are put together:
//
//   h       seeeeemmmmmmmmmm
//   upper   s000eeeeemmmmmmm       + 112 in the exponent, + 224 where it is 31
//   lower   mmm0000000000000
//
// A subnormal m * 2^-24 would read as 2^-15 * (1 + m / 1024). It takes the exponent of 2^-14 instead, and 2^-14 of the
// same sign off again, which is exact. -0 becomes +0, which changes no result: quantization makes an integer of it, and
// what `add` adds is never -0. (Multiplying by 2^112 would be shorter, but its float32-subnormal operands trap to
// microcode, about 150 cycles each time.) The subtraction quiets NaNs.
inline void load2(float16, const void* p, f32& a, f32& b) {
    const __m128i h = load128(p);
    const __m128i magnitude = _mm_and_si128(h, _mm_set1_epi16(0x7fff));
    const __m128i special = _mm_cmpgt_epi16(magnitude, _mm_set1_epi16(0x7bff));
    const __m128i subnormal = _mm_cmpgt_epi16(_mm_set1_epi16(0x0400), magnitude);
    const __m128i bias = _mm_set1_epi16(112 << 7);
    const __m128i unbiased = _mm_and_si128(_mm_srai_epi16(h, 3), _mm_set1_epi16(static_cast<int16_t>(0x8fff)));
    const __m128i biased = _mm_add_epi16(_mm_add_epi16(unbiased, bias), _mm_and_si128(special, bias));
    const __m128i minus_one = _mm_slli_epi16(subnormal, 7);  // in the exponent; also: a mask of sign and exponent
    const __m128i upper = _mm_sub_epi16(biased, minus_one);
    const __m128i excess = _mm_and_si128(upper, minus_one);
    const __m128i lower = _mm_slli_epi16(h, 13);
    const __m128i zero = _mm_setzero_si128();
    a.v = _mm_sub_ps(_mm_castsi128_ps(_mm_unpacklo_epi16(lower, upper)),
                     _mm_castsi128_ps(_mm_unpacklo_epi16(zero, excess)));
    b.v = _mm_sub_ps(_mm_castsi128_ps(_mm_unpackhi_epi16(lower, upper)),
                     _mm_castsi128_ps(_mm_unpackhi_epi16(zero, excess)));
}

template <Store Storing, bool>
inline void store2(float32, void* p, f32 a, f32 b) {
    auto* d = static_cast<char*>(p);
    put128<Storing>(d, _mm_castps_si128(a.v));
    put128<Storing>(d + width, _mm_castps_si128(b.v));
}
template <Store Storing, bool>
inline void store2(float64, void* p, f64 a, f64 b) {
    auto* d = static_cast<char*>(p);
    put128<Storing>(d, _mm_castpd_si128(a.lo));
    put128<Storing>(d + width, _mm_castpd_si128(a.hi));
    put128<Storing>(d + 2 * width, _mm_castpd_si128(b.lo));
    put128<Storing>(d + 3 * width, _mm_castpd_si128(b.hi));
}

// `packed`, without signs, with the NaN lanes replaced by their upper mantissa bits, quiet. It sits behind a branch
// that numeric data never takes: 5 instructions for 8 elements, about 15 without one.
inline __m128i with_nans(__m128i packed, f32 a, f32 b) {
    const __m128i mantissa = _mm_set1_epi32(0x3ff);
    const __m128i upper = _mm_packus_epi32(_mm_and_si128(_mm_srli_epi32(_mm_castps_si128(a.v), 13), mantissa),
                                           _mm_and_si128(_mm_srli_epi32(_mm_castps_si128(b.v), 13), mantissa));
    const __m128i nan =
        _mm_packs_epi32(_mm_castps_si128(_mm_cmpunord_ps(a.v, a.v)), _mm_castps_si128(_mm_cmpunord_ps(b.v, b.v)));
    return _mm_blendv_epi8(packed, _mm_or_si128(upper, _mm_set1_epi16(0x7e00)), nan);
}

// Magnitude of a float16 in each 32-bit lane; NaN gives infinity. The addition of M = 2^13 times the power of two at
// or below x (at least 2^-1, for subnormals) leaves x in the low bits of the sum, rounded half to even to 11 bits or
// to a multiple of 2^-24:
//
//   sum     0 EEEEEEEE 0000000 | 0000sssssssssssss     E = exponent + 13, s = rounded significand, 0 .. 2048
//   result  s + (E - 126) * 1024: one pmaddwd by (1, 8) over the two halves, minus a constant
//
// The significand's leading one, and a carry out of it, add themselves to the exponent. Clamping to 2^16 first makes
// infinity of everything that rounds beyond 65504.
inline __m128i float16_magnitude(f32 x) {
    const __m128 absolute = _mm_and_ps(x.v, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)));
    const __m128 clamped = _mm_min_ps(absolute, _mm_set1_ps(65536.0f));  // NaN: the second operand
    const __m128i exponent = _mm_and_si128(_mm_castps_si128(clamped), _mm_set1_epi32(0xff << 23));
    const __m128i m = _mm_add_epi32(_mm_max_epi32(exponent, _mm_set1_epi32(113 << 23)), _mm_set1_epi32(13 << 23));
    const __m128i sum = _mm_castps_si128(_mm_add_ps(clamped, _mm_castsi128_ps(m)));
    return _mm_sub_epi32(_mm_madd_epi16(sum, _mm_set1_epi32(0x00080001)), _mm_set1_epi32(126 << 10));
}
template <Store Storing, bool>
inline void store2(float16, void* p, f32 a, f32 b) {
    // Saturation to 16 bits keeps the sign of the pattern, -0 included.
    const __m128i saturated = _mm_packs_epi32(_mm_castps_si128(a.v), _mm_castps_si128(b.v));
    const __m128i sign = _mm_and_si128(saturated, _mm_set1_epi16(INT16_MIN));
    __m128i packed = _mm_or_si128(_mm_packus_epi32(float16_magnitude(a), float16_magnitude(b)), sign);
    if (__builtin_expect(_mm_movemask_ps(_mm_cmpunord_ps(a.v, b.v)), 0)) {
        packed = _mm_or_si128(with_nans(packed, a, b), sign);
    }
    put128<Storing>(p, packed);
}

// Upper half of each float, rounded half to even: add 0x7fff plus the lowest kept bit, which carries into the kept half
// exactly where rounding goes up. Infinities, and NaNs that came from bfloat16, have a lower half of zero and stay.
inline __m128i bfloat16_in_dwords(f32 x) {
    const __m128i bits = _mm_castps_si128(x.v);
    const __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    return _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(odd, _mm_set1_epi32(0x7fff)), bits), 16);
}
template <Store Storing, bool>
inline void store2(bfloat16, void* p, f32 a, f32 b) {
    put128<Storing>(p, _mm_packus_epi32(bfloat16_in_dwords(a), bfloat16_in_dwords(b)));
}

// --- float -----------------------------------------------------------------------------------------------------

inline f32 splat(float x) {
    return {_mm_set1_ps(x)};
}
inline f64 splat(double x) {
    return {_mm_set1_pd(x), _mm_set1_pd(x)};
}
inline f32 operator+(f32 a, f32 b) {
    return {_mm_add_ps(a.v, b.v)};
}
inline f32 operator-(f32 a, f32 b) {
    return {_mm_sub_ps(a.v, b.v)};
}
inline f32 operator*(f32 a, f32 b) {
    return {_mm_mul_ps(a.v, b.v)};
}
inline f32 operator/(f32 a, f32 b) {
    return {_mm_div_ps(a.v, b.v)};
}
inline f64 operator+(f64 a, f64 b) {
    return {_mm_add_pd(a.lo, b.lo), _mm_add_pd(a.hi, b.hi)};
}
inline f64 operator-(f64 a, f64 b) {
    return {_mm_sub_pd(a.lo, b.lo), _mm_sub_pd(a.hi, b.hi)};
}
inline f64 operator*(f64 a, f64 b) {
    return {_mm_mul_pd(a.lo, b.lo), _mm_mul_pd(a.hi, b.hi)};
}
inline f64 operator/(f64 a, f64 b) {
    return {_mm_div_pd(a.lo, b.lo), _mm_div_pd(a.hi, b.hi)};
}
inline bool all_zero(f32 x) {
    return _mm_movemask_ps(_mm_cmpneq_ps(x.v, _mm_setzero_ps())) == 0;
}
inline f32 where_zero(f32 x, f32 then, f32 otherwise) {
    return {_mm_blendv_ps(otherwise.v, then.v, _mm_cmpeq_ps(x.v, _mm_setzero_ps()))};
}

// minps and maxps return their second operand when either is NaN.
inline f32 max_number(f32 x, f32 bound) {
    return {_mm_max_ps(x.v, bound.v)};
}
inline f64 max_number(f64 x, f64 bound) {
    return {_mm_max_pd(x.lo, bound.lo), _mm_max_pd(x.hi, bound.hi)};
}
inline f32 min_number(f32 x, f32 bound) {
    return {_mm_min_ps(x.v, bound.v)};
}
inline f64 min_number(f64 x, f64 bound) {
    return {_mm_min_pd(x.lo, bound.lo), _mm_min_pd(x.hi, bound.hi)};
}
template <class Vector>
inline Vector min_or_nan(Vector x, Vector bound) {
    return min_number(bound, x);
}
inline f64 round_even(f64 x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm_round_pd(x.lo, mode), _mm_round_pd(x.hi, mode)};
}
template <class Vector>
inline Vector accumulate(Vector before, Vector v) {
    return before + v;
}

// --- convert ---------------------------------------------------------------------------------------------------

inline i32 to_i32(f32 x) {
    return {_mm_cvtps_epi32(x.v)};
}
inline i32 to_i32(f64 x) {
    return {_mm_unpacklo_epi64(_mm_cvtpd_epi32(x.lo), _mm_cvtpd_epi32(x.hi))};
}

template <class Vector>
inline Vector to(i32 a);
template <>
inline f32 to<f32>(i32 a) {
    return {_mm_cvtepi32_ps(a.v)};
}
template <>
inline f64 to<f64>(i32 a) {
    return {_mm_cvtepi32_pd(a.v), _mm_cvtepi32_pd(_mm_shuffle_epi32(a.v, 0xee))};
}
template <class Vector>
inline Vector to(f32 a);
template <>
inline f64 to<f64>(f32 a) {
    return {_mm_cvtps_pd(a.v), _mm_cvtps_pd(_mm_movehl_ps(a.v, a.v))};
}
template <class Vector>
inline Vector to(f64 a);
template <>
inline f64 to<f64>(f64 a) {
    return a;
}
template <>
inline f32 to<f32>(f64 a) {
    return {_mm_movelh_ps(_mm_cvtpd_ps(a.lo), _mm_cvtpd_ps(a.hi))};
}

// --- integer ---------------------------------------------------------------------------------------------------

inline i32 splat_i32(int32_t x) {
    return {_mm_set1_epi32(x)};
}
inline i32 operator+(i32 a, i32 b) {
    return {_mm_add_epi32(a.v, b.v)};
}
inline i32 operator-(i32 a, i32 b) {
    return {_mm_sub_epi32(a.v, b.v)};
}
inline i32 operator^(i32 a, i32 b) {
    return {_mm_xor_si128(a.v, b.v)};
}
inline i32 operator&(i32 a, i32 b) {
    return {_mm_and_si128(a.v, b.v)};
}
inline i32 mul_low(i32 a, i32 b) {
    return {_mm_mullo_epi32(a.v, b.v)};
}
inline i32 max(i32 a, i32 b) {
    return {_mm_max_epi32(a.v, b.v)};
}
inline i32 xor3(i32 a, i32 b, i32 c) {
    return a ^ b ^ c;
}
template <int K>
inline i32 shift_left(i32 a) {
    return {_mm_slli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_logical(i32 a) {
    return {_mm_srli_epi32(a.v, K)};
}
template <int K>
inline i32 shift_right_arithmetic(i32 a) {
    return {_mm_srai_epi32(a.v, K)};
}

// --- words -----------------------------------------------------------------------------------------------------

inline i32 lane_numbers() {
    return {_mm_setr_epi32(0, 1, 2, 3)};
}
template <bool Interleaved>
inline words<Interleaved> make_words(i32 x, i32 lower, i32) {
    return {(x ^ lower).v};
}
template <bool Interleaved>
inline words<Interleaved> load_words(const void* p) {
    return {load128(p)};
}
inline void put_words(void* p, words<false> w) {
    put128<Store::cached>(p, w.v);
}
inline void expand(words<false> w, i32& a, i32& b) {
    a.v = _mm_cvtepu16_epi32(w.v);
    b.v = _mm_unpackhi_epi16(w.v, _mm_setzero_si128());
}

}  // namespace simd
}  // namespace
}  // namespace piquant
