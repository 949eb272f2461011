// Order of codes in memory.
//
//   4-bit, one byte:   bits 7..4 = element 2k+1   bits 3..0 = element 2k
//   2-bit, one byte:   bits 7..6 = element 4k+3   5..4 = 4k+2   3..2 = 4k+1   1..0 = element 4k
//
// the order of torch.quint4x2 / quint2x4 and of ONNX. Signed codes are two's complement in their field. Wider codes
// are little-endian integers. The unused fields of a last partial byte are zero.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

// The sign bit of a code of `bits` bits; 0 for unsigned ones. A field with this bit flipped is its code in offset
// binary: code - code_min, a number from 0 on.
constexpr uint64_t sign_bit(int bits, bool is_signed) {
    return is_signed ? uint64_t{1} << (bits - 1) : 0;
}

// clang-format off
template <int Bits> struct FieldStorage { using type = uint8_t; };  // 2- and 4-bit codes share bytes
template <> struct FieldStorage<16> { using type = uint16_t; };
template <> struct FieldStorage<32> { using type = uint32_t; };
template <> struct FieldStorage<64> { using type = uint64_t; };
// clang-format on

// Field i of the array at p, zero-extended.
template <int Bits>
inline uint64_t load_field(const unsigned char* p, size_t i) {
    if constexpr (Bits < 8) {
        constexpr size_t per_byte = 8 / Bits;
        const unsigned shift = static_cast<unsigned>(i % per_byte) * Bits;
        return (p[i / per_byte] >> shift) & ((1u << Bits) - 1);
    } else {
        typename FieldStorage<Bits>::type field;
        __builtin_memcpy(&field, p + i * sizeof field, sizeof field);
        return field;
    }
}

// Writes code i. The first field of a byte clears the others, so storing in ascending order leaves zero padding.
template <int Bits>
inline void store_code(unsigned char* p, size_t i, uint64_t code) {
    if constexpr (Bits < 8) {
        constexpr size_t per_byte = 8 / Bits;
        const unsigned shift = static_cast<unsigned>(i % per_byte) * Bits;
        const unsigned field = static_cast<unsigned>(code) & ((1u << Bits) - 1);
        const unsigned before = shift == 0 ? 0u : p[i / per_byte];
        p[i / per_byte] = static_cast<unsigned char>(before | (field << shift));
    } else {
        const auto field = static_cast<typename FieldStorage<Bits>::type>(code);
        __builtin_memcpy(p + i * sizeof field, &field, sizeof field);
    }
}

// Makes zeros of n codes from code i on, and leaves others that share their bytes alone.
inline void clear_codes(unsigned char* p, size_t i, size_t n, int bits) {
    const auto width = static_cast<size_t>(bits);
    const size_t end = (i + n) * width;
    size_t bit = i * width;
    const auto clear_fields = [&](size_t until) {
        for (; bit < end && bit != until; bit += width) {
            p[bit / 8] &= static_cast<unsigned char>(~(((1u << bits) - 1) << bit % 8));
        }
    };
    clear_fields((bit + 7) / 8 * 8);
    if (bit < end) {
        const size_t bytes = (end - bit) / 8;
        __builtin_memset(p + bit / 8, 0, bytes);
        bit += bytes * 8;
    }
    clear_fields(end);
}

}  // namespace
}  // namespace piquant
