// Order of codes in memory.
//
//   4-bit, one byte:   bits 7..4 = element 2k+1   bits 3..0 = element 2k
//   2-bit, one byte:   bits 7..6 = element 4k+3   5..4 = 4k+2   3..2 = 4k+1   1..0 = element 4k
//
// the order of torch.quint4x2 / quint2x4 and of ONNX. Signed codes are two's complement in their field. Wider codes
// are plain little-endian integers. The unused fields of a last partial byte are zero.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

// A 2- or 4-bit field, sign- or zero-extended to a 64-bit pattern.
template <class Q>
inline uint64_t field_to_code(unsigned field) {
    constexpr uint64_t sign = Q::is_signed ? uint64_t{1} << (Q::bits - 1) : 0;
    return (field ^ sign) - sign;
}

// Code i of the array at p, sign- or zero-extended to a 64-bit pattern.
template <class Q>
inline uint64_t load_code(const unsigned char* p, size_t i) {
    if constexpr (Q::bits < 8) {
        constexpr size_t per_byte = 8 / Q::bits;
        const unsigned shift = static_cast<unsigned>(i % per_byte) * Q::bits;
        return field_to_code<Q>((p[i / per_byte] >> shift) & ((1u << Q::bits) - 1));
    } else {
        typename Q::storage s;
        __builtin_memcpy(&s, p + i * sizeof s, sizeof s);
        return static_cast<uint64_t>(s);
    }
}

// Writes code i. The first field of a byte clears the others, so storing in ascending order leaves zero padding.
template <class Q>
inline void store_code(unsigned char* p, size_t i, uint64_t code) {
    if constexpr (Q::bits < 8) {
        constexpr size_t per_byte = 8 / Q::bits;
        const unsigned shift = static_cast<unsigned>(i % per_byte) * Q::bits;
        const unsigned field = static_cast<unsigned>(code) & ((1u << Q::bits) - 1);
        const unsigned before = shift == 0 ? 0u : p[i / per_byte];
        p[i / per_byte] = static_cast<unsigned char>(before | (field << shift));
    } else {
        const auto s = static_cast<typename Q::storage>(code);
        __builtin_memcpy(p + i * sizeof s, &s, sizeof s);
    }
}

}  // namespace
}  // namespace piquant
