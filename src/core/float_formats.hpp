// float16 and bfloat16 <-> float32, in integer arithmetic.
//
//   float16   s eeeee mmmmmmmmmm                  bias 15, subnormals below 2^-14, largest 65504
//   bfloat16  s eeeeeeee mmmmmmm                  the upper half of a float32
//   float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm  bias 127
//
// Narrowing rounds half to even. NaNs keep their sign and upper payload bits and become quiet, as the hardware
// conversions of x86 and Arm do.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

inline uint32_t bits_of(float x) {
    return __builtin_bit_cast(uint32_t, x);
}
inline float float_of(uint32_t x) {
    return __builtin_bit_cast(float, x);
}

inline float float16_to_float32(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 0x1f;
    uint32_t mantissa = h & 0x3ff;
    if (exponent == 0x1f) {
        const uint32_t quiet = mantissa != 0 ? 0x400000u : 0;
        return float_of(sign | 0x7f800000u | quiet | (mantissa << 13));
    }
    if (exponent != 0) {
        return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
    }
    if (mantissa == 0) {
        return float_of(sign);
    }
    uint32_t shifted_exponent = 113;  // 2^-14, one step lower for every leading zero
    while ((mantissa & 0x400) == 0) {
        mantissa <<= 1;
        --shifted_exponent;
    }
    return float_of(sign | (shifted_exponent << 23) | ((mantissa & 0x3ff) << 13));
}

inline uint16_t float32_to_float16(float x) {
    const uint32_t pattern = bits_of(x);
    const uint32_t sign = (pattern >> 16) & 0x8000;
    const uint32_t magnitude = pattern & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    }
    if (magnitude >= 0x477ff000) {  // 65520 and up: nearer to 2^16 than to 65504
        return static_cast<uint16_t>(sign | 0x7c00);
    }
    if (magnitude >= 0x38800000) {  // 2^-14: normal. Rebias the exponent, round off 13 bits.
        const uint32_t odd = (magnitude >> 13) & 1;
        return static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xfff + odd) >> 13));
    }
    // Subnormal: an integer multiple of 2^-24.
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) {  // below 2^-25, half of the smallest subnormal
        return static_cast<uint16_t>(sign);
    }
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t shift = 126 - exponent;  // 14 (2^-15) .. 24 (2^-25)
    const uint32_t kept = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1);
    const uint32_t half = 1u << (shift - 1);
    const uint32_t up = rest > half || (rest == half && (kept & 1) != 0);
    return static_cast<uint16_t>(sign | (kept + up));
}

inline float bfloat16_to_float32(uint16_t b) {
    return float_of(static_cast<uint32_t>(b) << 16);
}

inline uint16_t float32_to_bfloat16(float x) {
    const uint32_t pattern = bits_of(x);
    if ((pattern & 0x7fffffff) > 0x7f800000) {
        return static_cast<uint16_t>((pattern >> 16) | 0x40);
    }
    return static_cast<uint16_t>((pattern + 0x7fff + ((pattern >> 16) & 1)) >> 16);
}

// One element of a float type, widened to its compute type and rounded back. Pointers need no alignment.
template <class Float>
inline typename Float::compute load_element(const void* p) {
    typename Float::storage s;
    __builtin_memcpy(&s, p, sizeof s);
    if constexpr (Float::dtype == DType::float16) {
        return float16_to_float32(s);
    } else if constexpr (Float::dtype == DType::bfloat16) {
        return bfloat16_to_float32(s);
    } else {
        return s;
    }
}

template <class Float>
inline void store_element(void* p, typename Float::compute v) {
    typename Float::storage s;
    if constexpr (Float::dtype == DType::float16) {
        s = float32_to_float16(v);
    } else if constexpr (Float::dtype == DType::bfloat16) {
        s = float32_to_bfloat16(v);
    } else {
        s = v;
    }
    __builtin_memcpy(p, &s, sizeof s);
}

}  // namespace
}  // namespace piquant
