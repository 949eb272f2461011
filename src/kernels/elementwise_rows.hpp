// Rows of codes of 2 or 4 bits, each from a byte of its own, to and from tiles, where every code has a byte: rows of any
// length lie side by side there, for kernels of 8 bits. Eight codes at a time, in the bytes of an integer. The vector
// sets use these for short rows.
#pragma once

#include "core/types.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {
namespace elementwise {

constexpr uint64_t in_every_byte(unsigned byte) {
    return byte * uint64_t{0x0101010101010101};
}

// Eight codes, a byte each, as the bits of eight fields, and back:
//
//   4 bits   ....7777 ....6666 .. ....0000   each step joins neighbours: 2 fields, 4 fields, 8 fields
//   2 bits   ......77 ......66 .. ......00
constexpr size_t group = 8;

template <int Bits>
inline uint64_t joined(uint64_t x) {
    x &= in_every_byte((1u << Bits) - 1);
    x = (x | x >> (8 - Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    x = (x | x >> (16 - 2 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    return x | x >> (32 - 4 * Bits);
}

template <int Bits>
inline uint64_t parted(uint64_t x) {
    x = (x | x << (32 - 4 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    x = (x | x << (16 - 2 * Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    return (x | x << (8 - Bits)) & in_every_byte((1u << Bits) - 1);
}

// Copies the sign of each code into the bits above it: sign * (2^(9 - Bits) - 2) is those bits.
template <int Bits>
inline uint64_t extended(uint64_t x) {
    return x | (x & in_every_byte(1u << (Bits - 1))) * ((1u << (9 - Bits)) - 2);
}

// As many bytes as a row's last group takes: 1 to 4.
PIQUANT_INLINE uint64_t load_group(const unsigned char* p, size_t bytes) {
    uint16_t low = 0;
    uint32_t all = 0;
    switch (bytes) {
        case 1: return *p;
        case 2: __builtin_memcpy(&low, p, 2); return low;
        case 3: __builtin_memcpy(&low, p, 2); return low | uint32_t{p[2]} << 16;
        default: __builtin_memcpy(&all, p, 4); return all;
    }
}
PIQUANT_INLINE void store_group(unsigned char* p, uint64_t x, size_t bytes) {
    switch (bytes) {
        case 1: *p = static_cast<unsigned char>(x); break;
        case 2: __builtin_memcpy(p, &x, 2); break;
        case 3:
            __builtin_memcpy(p, &x, 2);
            p[2] = static_cast<unsigned char>(x >> 16);
            break;
        default: __builtin_memcpy(p, &x, 4); break;
    }
}

template <int Bits>
void pack_rows(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns) {
    const size_t whole = (columns - 1) / group;
    const size_t rest = columns - whole * group;  // 1 to 8
    const size_t rest_bytes = bytes_for(rest, Bits);
    const uint64_t mask = ~uint64_t{0} >> (64 - 8 * rest);
    for (size_t i = 0; i < rows; ++i, to += row_stride) {
        unsigned char* out = to;
        uint64_t codes;
        for (size_t g = 0; g < whole; ++g, tile += group, out += Bits) {
            __builtin_memcpy(&codes, tile, group);
            store_group(out, joined<Bits>(codes), Bits);
        }
        __builtin_memcpy(&codes, tile, group);
        store_group(out, joined<Bits>(codes & mask), rest_bytes);
        tile += rest;
    }
}

template <int Bits, bool Signed>
void unpack_rows_of(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns) {
    const size_t whole = (columns - 1) / group;
    const size_t rest = columns - whole * group;
    const size_t rest_bytes = bytes_for(rest, Bits);
    const auto unpacked = [](uint64_t fields) {
        const uint64_t codes = parted<Bits>(fields);
        return Signed ? extended<Bits>(codes) : codes;
    };
    for (size_t i = 0; i < rows; ++i, from += row_stride) {
        const unsigned char* in = from;
        uint64_t codes;
        for (size_t g = 0; g < whole; ++g, tile += group, in += Bits) {
            codes = unpacked(load_group(in, Bits));
            __builtin_memcpy(tile, &codes, group);
        }
        codes = unpacked(load_group(in, rest_bytes));
        __builtin_memcpy(tile, &codes, group);
        tile += rest;
    }
}
template <int Bits>
void unpack_rows(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns,
                 bool is_signed) {
    (is_signed ? unpack_rows_of<Bits, true> : unpack_rows_of<Bits, false>)(tile, from, row_stride, rows, columns);
}

}  // namespace elementwise

}  // namespace
}  // namespace piquant
