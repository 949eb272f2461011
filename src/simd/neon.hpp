// AArch64 Advanced SIMD: 4 lanes of 32 bits.
//
// What differs from x86, and shapes the words below:
//   - Conversions to integer saturate, but turn NaN into 0.
//   - fmin and fmax keep NaN; fminnm and fmaxnm prefer the number (to a quiet NaN: every one here has been
//     through arithmetic, which quiets).
//   - Two-register shuffles (uzp, zip, tbl) reach across the whole register, so nothing is left to permute.
//   - Widening and narrowing shifts run on half of the vector pipes of many cores (Neoverse N1, N2, V1): where a
//     shuffle or a table look-up does the same in no more instructions, it is taken.
#pragma once

#include <arm_neon.h>

#include "core/types.hpp"

namespace piquant {
namespace {
namespace simd {

constexpr size_t lanes = 4;
constexpr size_t width = 16;

struct f32 {
    float32x4_t v;
};
struct f64 {
    float64x2_t lo, hi;
};
struct i32 {
    int32x4_t v;
};
struct bytes {
    uint8x16_t v;
};
template <bool>  // no vectors interleave here
struct words {
    uint16x8_t v;
};

template <class Float>
constexpr bool conversion_saturates = Float::bits < 64;
template <class Float>
constexpr bool interleaved = false;

// --- memory ----------------------------------------------------------------------------------------------------

// Byte accesses, because an access of wider elements would promise their alignment to the compiler.
inline uint8x16_t load128(const void* p) {
    return vld1q_u8(static_cast<const uint8_t*>(p));
}
inline uint8x8_t load64(const void* p) {
    return vld1_u8(static_cast<const uint8_t*>(p));
}
inline uint16x4_t load_u16x4(const void* p) {
    return vreinterpret_u16_u8(load64(p));
}
inline bytes load_bytes(const void* p) {
    return {load128(p)};
}
inline i32 load_i32(const void* p) {
    return {vreinterpretq_s32_u8(load128(p))};
}

// There is no store that bypasses the caches: stnp only hints that the line will not be read soon, needs pairs of
// registers, and has no intrinsic. It is not needed either: cores detect runs of whole written lines and stop fetching
// them. So non-temporal stores are ordinary ones, and there is nothing to drain.
inline void touch(bytes b) {
    __asm__ volatile("" : : "w"(b.v));
}

template <Store>
inline void put128(void* p, uint8x16_t v) {
    vst1q_u8(static_cast<uint8_t*>(p), v);
}
template <Store Storing>
inline void put(void* p, bytes b) {
    put128<Storing>(p, b.v);
}
template <Store Storing>
inline void put(void* p, i32 a) {
    put128<Storing>(p, vreinterpretq_u8_s32(a.v));
}

inline f32 load(float32, const void* p) {
    return {vreinterpretq_f32_u8(load128(p))};
}
inline f64 load(float64, const void* p) {
    const auto* d = static_cast<const char*>(p);
    return {vreinterpretq_f64_u8(load128(d)), vreinterpretq_f64_u8(load128(d + width))};
}
inline f32 load(float16, const void* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u8(load64(p)))};
}
// zip with zero: each 16-bit pattern becomes the upper half of a lane.
inline f32 load(bfloat16, const void* p) {
    const uint16x8_t upper = vcombine_u16(load_u16x4(p), vdup_n_u16(0));
    return {vreinterpretq_f32_u16(vzip1q_u16(vdupq_n_u16(0), upper))};
}

template <Store Storing, bool>
inline void store2(float32, void* p, f32 a, f32 b) {
    auto* d = static_cast<char*>(p);
    put128<Storing>(d, vreinterpretq_u8_f32(a.v));
    put128<Storing>(d + width, vreinterpretq_u8_f32(b.v));
}
template <Store Storing, bool>
inline void store2(float64, void* p, f64 a, f64 b) {
    auto* d = static_cast<char*>(p);
    put128<Storing>(d, vreinterpretq_u8_f64(a.lo));
    put128<Storing>(d + width, vreinterpretq_u8_f64(a.hi));
    put128<Storing>(d + 2 * width, vreinterpretq_u8_f64(b.lo));
    put128<Storing>(d + 3 * width, vreinterpretq_u8_f64(b.hi));
}
template <Store Storing, bool>
inline void store2(float16, void* p, f32 a, f32 b) {
    put128<Storing>(p, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.v), b.v)));
}

// The bits plus the lowest bit of their upper half; with 0x7fff on top, that carries into the upper half exactly where
// rounding half to even goes up. The test sets all bits of a lane, -1, when its bit is set.
inline uint32x4_t plus_odd(uint32x4_t bits) {
    return vsubq_u32(bits, vtstq_u32(bits, vdupq_n_u32(0x10000)));
}
// addhn: add, keep the upper halves. Three instructions a vector. Infinities, and NaNs that came from bfloat16, have a
// lower half of zero and stay.
template <Store Storing, bool>
PIQUANT_INLINE void store2(bfloat16, void* p, f32 a, f32 b) {
    const uint32x4_t carry = vdupq_n_u32(0x7fff);
    const uint16x4_t lo = vaddhn_u32(plus_odd(vreinterpretq_u32_f32(a.v)), carry);
    put128<Storing>(p, vreinterpretq_u8_u16(vaddhn_high_u32(lo, plus_odd(vreinterpretq_u32_f32(b.v)), carry)));
}

// --- float -----------------------------------------------------------------------------------------------------

inline f32 splat(float x) {
    return {vdupq_n_f32(x)};
}
inline f64 splat(double x) {
    return {vdupq_n_f64(x), vdupq_n_f64(x)};
}
inline f32 operator+(f32 a, f32 b) {
    return {vaddq_f32(a.v, b.v)};
}
inline f32 operator-(f32 a, f32 b) {
    return {vsubq_f32(a.v, b.v)};
}
inline f32 operator*(f32 a, f32 b) {
    return {vmulq_f32(a.v, b.v)};
}
inline f32 operator/(f32 a, f32 b) {
    return {vdivq_f32(a.v, b.v)};
}
inline f64 operator+(f64 a, f64 b) {
    return {vaddq_f64(a.lo, b.lo), vaddq_f64(a.hi, b.hi)};
}
inline f64 operator-(f64 a, f64 b) {
    return {vsubq_f64(a.lo, b.lo), vsubq_f64(a.hi, b.hi)};
}
inline f64 operator*(f64 a, f64 b) {
    return {vmulq_f64(a.lo, b.lo), vmulq_f64(a.hi, b.hi)};
}
inline f64 operator/(f64 a, f64 b) {
    return {vdivq_f64(a.lo, b.lo), vdivq_f64(a.hi, b.hi)};
}
inline bool all_zero(f32 x) {
    return vminvq_u32(vceqzq_f32(x.v)) != 0;
}
inline f32 where_zero(f32 x, f32 then, f32 otherwise) {
    return {vbslq_f32(vceqzq_f32(x.v), then.v, otherwise.v)};
}

inline f32 max_number(f32 x, f32 bound) {
    return {vmaxnmq_f32(x.v, bound.v)};
}
inline f64 max_number(f64 x, f64 bound) {
    return {vmaxnmq_f64(x.lo, bound.lo), vmaxnmq_f64(x.hi, bound.hi)};
}
inline f32 min_number(f32 x, f32 bound) {
    return {vminnmq_f32(x.v, bound.v)};
}
inline f64 min_number(f64 x, f64 bound) {
    return {vminnmq_f64(x.lo, bound.lo), vminnmq_f64(x.hi, bound.hi)};
}
inline f32 min_or_nan(f32 x, f32 bound) {
    return {vminq_f32(x.v, bound.v)};
}
inline f64 min_or_nan(f64 x, f64 bound) {
    return {vminq_f64(x.lo, bound.lo), vminq_f64(x.hi, bound.hi)};
}
inline f64 round_even(f64 x) {
    return {vrndnq_f64(x.lo), vrndnq_f64(x.hi)};
}

// before + v, where inf - inf is the negative NaN that x86 gives; Arm's own is positive, and a NaN in `before` stays.
//
//   other = before + -NaN            `before` if that is NaN (the first operand goes first), else -NaN
//   fminnm(other, before + v)        the sum if it is a number, else `other`
//
// Two instructions, where comparing and selecting takes four. In assembly because both rest on the order of operands,
// which compilers take the liberty to swap, or to fold away with the constant.
inline f32 accumulate(f32 before, f32 v) {
    const float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(0xffc00000));
    const float32x4_t sum = vaddq_f32(before.v, v.v);
    f32 r;
    __asm__("fadd %0.4s, %1.4s, %2.4s\n\tfminnm %0.4s, %0.4s, %3.4s" : "=&w"(r.v) : "w"(before.v), "w"(nan), "w"(sum));
    return r;
}
inline float64x2_t accumulate(float64x2_t before, float64x2_t v) {
    const float64x2_t nan = vreinterpretq_f64_u64(vdupq_n_u64(0xfff8000000000000));
    const float64x2_t sum = vaddq_f64(before, v);
    float64x2_t r;
    __asm__("fadd %0.2d, %1.2d, %2.2d\n\tfminnm %0.2d, %0.2d, %3.2d" : "=&w"(r) : "w"(before), "w"(nan), "w"(sum));
    return r;
}
inline f64 accumulate(f64 before, f64 v) {
    return {accumulate(before.lo, v.lo), accumulate(before.hi, v.hi)};
}

// --- convert ---------------------------------------------------------------------------------------------------

// Saturation makes the bound redundant for numbers; it is there to catch NaN.
inline i32 to_i32(f32 x) {
    return {vcvtnq_s32_f32(vmaxnmq_f32(x.v, vdupq_n_f32(-2147483648.0f)))};
}
// To 64 bits; with the lower bound in place, all that may matter is in the lower halves.
inline i32 to_i32(f64 x) {
    const float64x2_t lowest = vdupq_n_f64(-2147483648.0);
    const int64x2_t lo = vcvtnq_s64_f64(vmaxnmq_f64(x.lo, lowest));
    const int64x2_t hi = vcvtnq_s64_f64(vmaxnmq_f64(x.hi, lowest));
    return {vuzp1q_s32(vreinterpretq_s32_s64(lo), vreinterpretq_s32_s64(hi))};
}

template <class Vector>
inline Vector to(i32 a);
template <>
inline f32 to<f32>(i32 a) {
    return {vcvtq_f32_s32(a.v)};
}
template <>
inline f64 to<f64>(i32 a) {
    return {vcvtq_f64_s64(vmovl_s32(vget_low_s32(a.v))), vcvtq_f64_s64(vmovl_high_s32(a.v))};
}
template <class Vector>
inline Vector to(f32 a);
template <>
inline f64 to<f64>(f32 a) {
    return {vcvt_f64_f32(vget_low_f32(a.v)), vcvt_high_f64_f32(a.v)};
}
template <class Vector>
inline Vector to(f64 a);
template <>
inline f64 to<f64>(f64 a) {
    return a;
}
template <>
inline f32 to<f32>(f64 a) {
    return {vcvt_high_f32_f64(vcvt_f32_f64(a.lo), a.hi)};
}

// --- integer ---------------------------------------------------------------------------------------------------

inline i32 splat_i32(int32_t x) {
    return {vdupq_n_s32(x)};
}
inline i32 operator+(i32 a, i32 b) {
    return {vaddq_s32(a.v, b.v)};
}
inline i32 operator-(i32 a, i32 b) {
    return {vsubq_s32(a.v, b.v)};
}
inline i32 operator&(i32 a, i32 b) {
    return {vandq_s32(a.v, b.v)};
}
inline i32 operator^(i32 a, i32 b) {
    return {veorq_s32(a.v, b.v)};
}
inline i32 mul_low(i32 a, i32 b) {
    return {vmulq_s32(a.v, b.v)};
}
inline i32 max(i32 a, i32 b) {
    return {vmaxq_s32(a.v, b.v)};
}
inline i32 xor3(i32 a, i32 b, i32 c) {
    return a ^ b ^ c;
}
template <int K>
inline i32 shift_left(i32 a) {
    return {vshlq_n_s32(a.v, K)};
}
template <int K>
inline i32 shift_right_logical(i32 a) {
    return {vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v), K))};
}
template <int K>
inline i32 shift_right_arithmetic(i32 a) {
    return {vshrq_n_s32(a.v, K)};
}

// --- words -----------------------------------------------------------------------------------------------------

inline i32 lane_numbers() {
    return {int32x4_t{0, 1, 2, 3}};
}
template <bool Interleaved>
inline words<Interleaved> make_words(i32 x, i32 lower, i32) {
    return {vreinterpretq_u16_s32((x ^ lower).v)};
}
template <bool Interleaved>
inline words<Interleaved> load_words(const void* p) {
    return {vreinterpretq_u16_u8(load128(p))};
}
inline void put_words(void* p, words<false> w) {
    put128<Store::cached>(p, vreinterpretq_u8_u16(w.v));
}
// Extends by a shift, not a zip: the compiler then folds it into the addition that follows (uaddw).
inline void expand(words<false> w, i32& a, i32& b) {
    a.v = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(w.v)));
    b.v = vreinterpretq_s32_u32(vmovl_high_u16(w.v));
}

}  // namespace simd
}  // namespace
}  // namespace piquant
