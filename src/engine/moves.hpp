// Moving elements between arrays of any strides and tiles, where they lie side by side, row by row.
//
// In a tile each code has a byte of its own, in the 8-bit type of its sign, so that packed rows of any length, and codes
// that are unpacked in memory, are only another way of moving. Strides are in bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace piquant {

// Rows and columns of elements of 1, 2, 4 or 8 bytes, to or from a tile. Where the array's neighbours lie along its
// columns, whole runs of them are copied to or from `spare`, of the size of the tile, and transposed there: copies of
// runs keep many cache lines on their way, single elements only as many as the processor holds instructions.
struct Strides {
    ptrdiff_t row;
    ptrdiff_t column;
};
void gather(unsigned char* tile, const unsigned char* from, Strides strides, size_t rows, size_t columns, size_t bytes,
            unsigned char* spare);
void scatter(unsigned char* to, Strides strides, const unsigned char* tile, size_t rows, size_t columns, size_t bytes,
             unsigned char* spare);

// Codes with a byte of their own, in place: the other bits become copies of the sign, or zero; and zero.
void extend_codes(unsigned char* codes, size_t n, int bits, bool is_signed);
void clear_other_bits(unsigned char* codes, size_t n, int bits);

}  // namespace piquant
