// Rows of packed codes to and from tiles, over vectors. See elementwise_rows.hpp.
#pragma once

#include "kernels/elementwise_rows.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {
namespace vectorized {

// Rows of fewer codes are done sooner eight at a time.
constexpr size_t short_row = 2 * elementwise::group;

// One register of packed codes, of as many registers of bytes as a byte has codes.
template <int Bits>
PIQUANT_INLINE simd::bytes packed(const unsigned char* tile, simd::bytes mask) {
    const auto codes = [&](size_t k) { return simd::load_bytes(tile + k * simd::width) & mask; };
    if constexpr (Bits == 4) {
        return simd::pack_nibbles(codes(0), codes(1));
    } else {
        return simd::pack_crumbs(codes(0), codes(1), codes(2), codes(3));
    }
}

template <int Bits>
void pack_rows(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns) {
    if (columns <= short_row) {
        elementwise::pack_rows<Bits>(to, row_stride, tile, rows, columns);
        return;
    }
    constexpr size_t step = 8 / Bits * simd::width;  // codes
    static_assert(step <= tile_slack);
    const size_t whole = (columns - 1) / step;
    const size_t rest = columns - whole * step;
    const size_t rest_bytes = bytes_for(rest, Bits);
    const size_t row_bytes = whole * simd::width + rest_bytes;
    const simd::bytes mask = simd::splat_u8((1u << Bits) - 1);
    // The fields of a row's last register that hold codes of the row.
    unsigned char fields[simd::width] = {};
    __builtin_memset(fields, 0xff, rest_bytes);
    fields[rest_bytes - 1] = static_cast<unsigned char>(0xff >> (8 * rest_bytes - rest * Bits));
    const simd::bytes last_fields = simd::load_bytes(fields);
    // Where rows follow each other, what a row's last register writes too much is the next row's to overwrite.
    const bool adjacent = row_stride == static_cast<ptrdiff_t>(row_bytes);
    const size_t overwritten = adjacent ? (simd::width - rest_bytes + row_bytes - 1) / row_bytes : rows;
    for (size_t i = 0; i < rows; ++i, to += row_stride) {
        unsigned char* out = to;
        for (size_t k = 0; k < whole; ++k, tile += step, out += simd::width) {
            simd::put<simd::Store::cached>(out, packed<Bits>(tile, mask));
        }
        const simd::bytes last = packed<Bits>(tile, mask) & last_fields;
        tile += rest;
        if (i + overwritten < rows) {
            simd::put<simd::Store::cached>(out, last);
        } else {
            unsigned char all[simd::width];
            simd::put<simd::Store::cached>(all, last);
            __builtin_memcpy(out, all, rest_bytes);
        }
    }
}

// A register of codes, a byte each, of their fields at p. Every 32-bit lane takes the fields of four codes and spreads
// them: halves, then quarters; a field's sign is then copied into the bits above it, all at once.
template <int Bits>
PIQUANT_INLINE simd::i32 unpacked(const unsigned char* p, simd::i32 sign) {
    using namespace simd;
    i32 lanes_of[4];
    load_codes4<4 * Bits, false>(p, lanes_of);  // of which only the first is used: see unpack_rows
    const i32 halves = splat_i32(Bits == 4 ? 0x00ff00ff : 0x000f000f);
    const i32 quarters = splat_i32(Bits == 4 ? 0x0f0f0f0f : 0x03030303);
    i32 x = lanes_of[0];
    x = (x ^ shift_left<16 - 2 * Bits>(x)) & halves;
    x = (x ^ shift_left<8 - Bits>(x)) & quarters;
    const i32 signs = x & sign;
    return x + (shift_left<9 - Bits>(signs) - shift_left<1>(signs));
}

template <int Bits>
void unpack_rows(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns,
                 bool is_signed) {
    if (columns <= short_row) {
        elementwise::unpack_rows<Bits>(tile, from, row_stride, rows, columns, is_signed);
        return;
    }
    constexpr size_t step_bytes = simd::width * Bits / 8;
    const size_t whole = (columns - 1) / simd::width;
    const size_t rest = columns - whole * simd::width;
    const size_t rest_bytes = bytes_for(rest, Bits);
    const simd::i32 sign = simd::splat_i32(is_signed ? 0x01010101 << (Bits - 1) : 0);
    // Optimized code loads what it uses of the fields, other code those of four registers.
    constexpr size_t most_read = 4 * step_bytes;
    // The end of the row that lies last in memory: nothing is read beyond it. Nor beyond any other row, if a page that
    // nobody may touch fits in behind it.
    constexpr size_t page = 4096;
    const size_t row_bytes = whole * step_bytes + rest_bytes;
    const auto stride = static_cast<size_t>(row_stride < 0 ? -row_stride : row_stride);
    const bool are_far = stride >= row_bytes + page;
    const ptrdiff_t last_row = row_stride > 0 ? static_cast<ptrdiff_t>(rows - 1) * row_stride : 0;
    const auto end = reinterpret_cast<uintptr_t>(from + last_row + row_bytes);
    // Where rows begin whose registers are all read directly.
    const uintptr_t last_direct = are_far ? 0 : end - most_read - whole * step_bytes;
    unsigned char fields[most_read] = {};
    for (size_t i = 0; i < rows; ++i, from += row_stride) {
        const unsigned char* in = from;
        const bool is_direct = reinterpret_cast<uintptr_t>(from) <= last_direct;
        const size_t direct = is_direct ? whole : whole < 4 ? 0 : whole - 3;
        for (size_t k = 0; k < direct; ++k, tile += simd::width, in += step_bytes) {
            simd::put<simd::Store::cached>(tile, unpacked<Bits>(in, sign));
        }
        if (!is_direct) {
            for (size_t k = direct; k < whole; ++k, tile += simd::width, in += step_bytes) {
                __builtin_memcpy(fields, in, step_bytes);
                simd::put<simd::Store::cached>(tile, unpacked<Bits>(fields, sign));
            }
            __builtin_memcpy(fields, in, rest_bytes);
            in = fields;
        }
        simd::put<simd::Store::cached>(tile,
                                       unpacked<Bits>(in, sign));  // the next row's codes overwrite what is too much
        tile += rest;
    }
}

}  // namespace vectorized

}  // namespace
}  // namespace piquant
