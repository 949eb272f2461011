#include "engine/moves.hpp"

#include <algorithm>

#include "core/types.hpp"

namespace piquant {
namespace {

// Copies rows x columns elements between any strides. The side that is not the tile decides which way to go: along its
// smaller stride, so that each of its cache lines is visited once.
template <class T>
void copy(unsigned char* to, Strides t, const unsigned char* from, Strides f, size_t rows, size_t columns, Strides way) {
    if (t.column == sizeof(T) && f.column == sizeof(T)) {
        for (size_t i = 0; i < rows; ++i, to += t.row, from += f.row) {
            __builtin_memcpy(to, from, columns * sizeof(T));
        }
        return;
    }
    if (std::abs(way.row) < std::abs(way.column)) {
        std::swap(rows, columns);
        std::swap(t.row, t.column);
        std::swap(f.row, f.column);
    }
    for (size_t i = 0; i < rows; ++i, to += t.row, from += f.row) {
        unsigned char* out = to;
        const unsigned char* in = from;
        for (size_t j = 0; j < columns; ++j, out += t.column, in += f.column) {
            __builtin_memcpy(out, in, sizeof(T));
        }
    }
}

void copy_elements(unsigned char* to, Strides t, const unsigned char* from, Strides f, size_t rows, size_t columns,
                   size_t bytes, Strides way) {
    switch (bytes) {
        case 1: copy<uint8_t>(to, t, from, f, rows, columns, way); break;
        case 2: copy<uint16_t>(to, t, from, f, rows, columns, way); break;
        case 4: copy<uint32_t>(to, t, from, f, rows, columns, way); break;
        default: copy<uint64_t>(to, t, from, f, rows, columns, way); break;
    }
}

Strides of_tile(size_t columns, size_t bytes) {
    return {static_cast<ptrdiff_t>(columns * bytes), static_cast<ptrdiff_t>(bytes)};
}

constexpr uint64_t in_every_byte(unsigned byte) {
    return byte * uint64_t{0x0101010101010101};
}

// Eight codes, a byte each, as the bits of eight fields, and back:
//
//   4 bits   ....7777 ....6666 .. ....0000   each step joins neighbours: 2 fields, 4 fields, 8 fields
//   2 bits   ......77 ......66 .. ......00
constexpr size_t group = 8;

template <int Bits>
uint64_t joined(uint64_t x) {
    x &= in_every_byte((1u << Bits) - 1);
    x = (x | x >> (8 - Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    x = (x | x >> (16 - 2 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    return x | x >> (32 - 4 * Bits);
}

template <int Bits>
uint64_t parted(uint64_t x) {
    x = (x | x << (32 - 4 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    x = (x | x << (16 - 2 * Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    return (x | x << (8 - Bits)) & in_every_byte((1u << Bits) - 1);
}

// Copies the sign of each code into the bits above it: sign * (2^(9 - Bits) - 2) is those bits.
template <int Bits>
uint64_t extended(uint64_t x) {
    return x | (x & in_every_byte(1u << (Bits - 1))) * ((1u << (9 - Bits)) - 2);
}

// As many bytes as a row's last group takes: 1 to 4.
PIQUANT_INLINE uint64_t load_bytes(const unsigned char* p, size_t bytes) {
    uint16_t low = 0;
    uint32_t all = 0;
    switch (bytes) {
        case 1: return *p;
        case 2: __builtin_memcpy(&low, p, 2); return low;
        case 3: __builtin_memcpy(&low, p, 2); return low | uint32_t{p[2]} << 16;
        default: __builtin_memcpy(&all, p, 4); return all;
    }
}
PIQUANT_INLINE void store_bytes(unsigned char* p, uint64_t x, size_t bytes) {
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
void pack(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns) {
    const size_t whole = (columns - 1) / group;
    const size_t rest = columns - whole * group;  // 1 to 8
    const size_t rest_bytes = bytes_for(rest, Bits);
    const uint64_t mask = ~uint64_t{0} >> (64 - 8 * rest);
    for (size_t i = 0; i < rows; ++i, to += row_stride) {
        unsigned char* out = to;
        uint64_t codes;
        for (size_t g = 0; g < whole; ++g, tile += group, out += Bits) {
            __builtin_memcpy(&codes, tile, group);
            store_bytes(out, joined<Bits>(codes), Bits);
        }
        __builtin_memcpy(&codes, tile, group);
        store_bytes(out, joined<Bits>(codes & mask), rest_bytes);
        tile += rest;
    }
}

template <int Bits, bool Signed>
void unpack(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns) {
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
            codes = unpacked(load_bytes(in, Bits));
            __builtin_memcpy(tile, &codes, group);
        }
        codes = unpacked(load_bytes(in, rest_bytes));
        __builtin_memcpy(tile, &codes, group);
        tile += rest;
    }
}

}  // namespace

void gather(unsigned char* tile, const unsigned char* from, Strides strides, size_t rows, size_t columns,
            size_t bytes) {
    copy_elements(tile, of_tile(columns, bytes), from, strides, rows, columns, bytes, strides);
}

void scatter(unsigned char* to, Strides strides, const unsigned char* tile, size_t rows, size_t columns,
             size_t bytes) {
    copy_elements(to, strides, tile, of_tile(columns, bytes), rows, columns, bytes, strides);
}

void pack_rows(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns,
               int bits) {
    (bits == 2 ? pack<2> : pack<4>)(to, row_stride, tile, rows, columns);
}

void unpack_rows(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns,
                 int bits, bool is_signed) {
    const auto run = bits == 2 ? (is_signed ? unpack<2, true> : unpack<2, false>)
                               : (is_signed ? unpack<4, true> : unpack<4, false>);
    run(tile, from, row_stride, rows, columns);
}

void extend_codes(unsigned char* codes, size_t n, int bits, bool is_signed) {
    const int unused = 8 - bits;
    for (size_t i = 0; i < n; ++i) {
        const auto top = static_cast<unsigned char>(codes[i] << unused);
        codes[i] = static_cast<unsigned char>(is_signed ? static_cast<signed char>(top) >> unused : top >> unused);
    }
}

void clear_other_bits(unsigned char* codes, size_t n, int bits) {
    const auto mask = static_cast<unsigned char>((1u << bits) - 1);
    for (size_t i = 0; i < n; ++i) {
        codes[i] &= mask;
    }
}

}  // namespace piquant
