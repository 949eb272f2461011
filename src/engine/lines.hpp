// Where the elements of a call lie: dimensions with byte strides for the input and the output.
//
// Dimensions merge until as few as possible are left. A call on contiguous arrays is one line of n elements, whatever
// its shape; every second row of a matrix is two dimensions. Rows of packed codes merge only if each fills its bytes;
// and dimensions of blocks, only if the blocks of what they become are all of one size, but for the last: a scale for each row
// of a matrix makes one line with blocks of a row.
#pragma once

#include <piquant/quant.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "core/types.hpp"

namespace piquant {

struct Dimension {
    size_t size;
    ptrdiff_t in;       // bytes between neighbours in the input
    ptrdiff_t out;      // and in the output
    uint64_t index;     // elements between neighbours in row-major order, which random words follow
    size_t block;       // neighbours that share a parameter, at most size: all of them, where a call has one scale
    size_t parameters;  // entries between the parameters of neighbouring blocks

    bool is_whole() const { return block == size; }
    size_t blocks() const { return (size + block - 1) / block; }
};

// One of the two arrays of a call.
struct Side {
    unsigned char* base;  // of the element that comes first; nothing is written to an input
    Format format;

    bool packed() const { return format.elements > 1; }
};

struct Lines {
    Side in;
    Side out;
    bool has_out;
    // Outermost first. The last one is that of packed rows, where one side is packed; its stride on that side is not
    // used.
    Dimension* dims = few;
    int rank;
    // Arrays of more dimensions than are usual pay for an allocation, instead of all calls for their stack.
    static constexpr int few_dimensions = 4;
    Dimension few[few_dimensions];
    std::unique_ptr<Dimension[]> many;

    Lines() = default;
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;

    Dimension& last() { return dims[rank - 1]; }
    const Dimension& last() const { return dims[rank - 1]; }
    // Whether neighbours along a dimension lie side by side.
    bool in_is_dense(const Dimension& d) const { return (in.packed() && &d == &last()) || d.in == in.format.bytes; }
    bool out_is_dense(const Dimension& d) const {
        return !has_out || (out.packed() && &d == &last()) || d.out == out.format.bytes;
    }
    size_t count() const {
        size_t n = 1;
        for (int d = 0; d < rank; ++d) {
            n *= dims[d].size;
        }
        return n;
    }
    bool is_packed() const { return in.packed() || out.packed(); }
    // One line on both sides.
    bool is_flat() const { return rank == 1 && in_is_dense(last()) && out_is_dense(last()); }
};

// Fills `lines` from the layout of the options, which have a rank above 0, and checks it: the shape and n agree, arrays
// fit the address space, no two elements of the output share bytes, and the arrays do not overlap, unless `in_place`
// and both are the same. Arrays that lie among each other, as the halves of a matrix's rows do, do not overlap. `out`
// is null for calls without an output, whose strides are 0 then. Throws std::bad_alloc.
piquant_status_t read_lines(const piquant_options_t& layout, size_t n, const void* in, DType in_dtype, void* out,
                            DType out_dtype, bool in_place, Lines& lines);

// Bytes from the first to the last that a side's elements take, which fit the address space; and where they begin.
size_t bytes_of(const Lines& lines, const Side& side, ptrdiff_t Dimension::* stride, uintptr_t& begin);

// Cuts the dimensions into blocks. Before dimensions merge.
void set_blocks(Lines& lines, const size_t* block_size);

// Leaves as few dimensions as possible. In `any_order`, elements may be visited in another order than row-major.
void merge_dimensions(Lines& lines, bool any_order);

}  // namespace piquant
