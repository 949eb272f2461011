// A call on lines, cut into tiles.
//
// Where both sides of a long line are dense, a kernel works on the arrays themselves, a line or a part of one at a time.
// Else a tile of some thousand elements, which the first-level cache holds, is gathered; the kernel works on it; and its
// result is scattered:
//
//   in --gather, or unpack codes--> tile --kernel--> tile --scatter, or pack codes--> out
//
// A side that is dense within each tile needs no copy. An array whose neighbours in memory are not neighbours along its
// last dimension, such as a transposed one, is visited in square tiles, so that whole cache lines are used on both
// sides.
#pragma once

#include "core/types.hpp"
#include "engine/lines.hpp"
#include "engine/moves.hpp"
#include "kernels/table.hpp"

namespace piquant {

// How a side's elements reach the kernel.
enum class Access : int {
    direct,    // it works on the array
    elements,  // they are copied
    packed,    // fields are unpacked to a byte each, or packed
    unpacked,  // codes with a byte of their own: copied, and their other bits made what kernels of 8 bits take
};

// Whether elements are copied to tiles and back, as lines are short, or not dense on both sides. Codes of less than 8 bits
// have a byte each there.
bool are_copied(const Lines& lines);

class Tiles {
public:
    // `lines` are merged; `code` is the type of the codes, if a side has any. What `lines` says of an output is ignored
    // where there is none. Tiles that are copied have at most `most_elements`.
    Tiles(const Lines& lines, const RowKernels& row_kernels, DType in, DType out, bool reads_output,
          bool consecutive_words, size_t most_elements = SIZE_MAX);

    size_t count() const { return tiles_; }
    size_t scratch_bytes() const { return in_bytes_ + out_bytes_ + spare_bytes_; }
    // Bytes that the kernel reads from the input side by side, and writes to the output; 0 if they are in a tile.
    size_t direct_input() const;
    size_t direct_output() const;

    // Most elements of a tile.
    size_t elements() const { return tile_rows_ * tile_columns_ * units_per_tile_; }

    // Calls kernel(in, out, n, index) for all elements of tiles begin .. end - 1; index is that of the first one in
    // row-major order, and those of the others follow it if `consecutive_words`. `scratch` is for this thread alone, 64-byte
    // aligned. `prefetches`: no near cache holds the input.
    template <class Call>
    void run(size_t begin, size_t end, unsigned char* scratch, bool prefetches, const Call& kernel) const {
        const auto anywhere = [&](const unsigned char* in, unsigned char* out, size_t n, uint64_t index, size_t) {
            kernel(in, out, n, index);
        };
        for (size_t t = begin; t < end; ++t) {
            if (prefetches && t + 1 < end && in_access_ == Access::direct) {
                prefetch_start(t + 1);
            }
            run_tile(t, scratch, [](const Unit&, size_t) {}, anywhere);
        }
    }

    // The same where blocks have parameters: before a tile is handed to kernel(in, out, n, index, first), its element
    // `first` on, parameters(first, count, number) says which parameter serves `count` elements from element `first` of
    // the tile on.
    template <class Parameters, class Call>
    void run_blocks(size_t begin, size_t end, unsigned char* scratch, const Parameters& parameters,
                    const Call& kernel) const {
        for (size_t t = begin; t < end; ++t) {
            run_tile(t, scratch, [&](const Unit& u, size_t first) { for_parameters(u, first, parameters); }, kernel);
        }
    }

private:
    // Rows and columns of the last two dimensions, at one place of the others.
    struct Unit {
        const unsigned char* in;
        unsigned char* out;
        uint64_t index;
        size_t rows;
        size_t columns;
        size_t first_row;
        size_t first_column;
        size_t parameters;  // at that place of the other dimensions
    };

    template <class Parameters>
    void for_parameters(const Unit& u, size_t first, const Parameters& parameters) const {
        for (size_t r = u.first_row; r < u.first_row + u.rows; ++r) {
            const size_t of_row = u.parameters + r / rows_.block * rows_.parameters;
            const size_t end = u.first_column + u.columns;
            for (size_t c = u.first_column; c < end;) {
                const size_t block = c / columns_.block;
                const size_t next = (block + 1) * columns_.block;
                const size_t count = (next < end ? next : end) - c;
                parameters(first, count, of_row + block * columns_.parameters);
                first += count;
                c += count;
            }
        }
    }

    Unit unit(size_t number) const;
    void prefetch_start(size_t t) const;
    void load_input(const Unit& u, unsigned char* tile, unsigned char* spare) const;
    void load_output(const Unit& u, unsigned char* tile, unsigned char* spare) const;
    void store_output(const Unit& u, unsigned char* tile, unsigned char* spare) const;

    template <class Prepare, class Call>
    void run_tile(size_t t, unsigned char* scratch, const Prepare& prepare, const Call& kernel) const {
        const size_t first = t * units_per_tile_;
        const size_t last = first + units_per_tile_ < units_ ? first + units_per_tile_ : units_;
        const Unit start = unit(first);
        unsigned char* const in_tile = scratch;
        unsigned char* const out_tile = scratch + in_bytes_;
        unsigned char* const spare = spare_bytes_ != 0 ? out_tile + out_bytes_ : nullptr;
        size_t n = 0;
        for_units(start, first, last, [&](const Unit& u) {
            prepare(u, n);
            if (in_access_ != Access::direct) {
                load_input(u, in_tile + n * in_size_, spare);
            }
            if (reads_output_ && out_access_ != Access::direct) {
                load_output(u, out_tile + n * out_size_, spare);
            }
            n += u.rows * u.columns;
        });
        const unsigned char* const in = in_access_ == Access::direct ? start.in : in_tile;
        unsigned char* const out = out_access_ == Access::direct ? start.out : out_tile;
        if (words_follow_) {
            kernel(in, out, n, start.index, size_t{0});
        } else {
            size_t done = 0;  // random words follow the rows one by one
            for_units(start, first, last, [&](const Unit& u) {
                for (size_t r = 0; r < u.rows; ++r, done += u.columns) {
                    kernel(in + done * in_size_, out + done * out_size_, u.columns, u.index + r * row_index_, done);
                }
            });
        }
        if (out_access_ != Access::direct) {
            size_t done = 0;
            for_units(start, first, last, [&](const Unit& u) {
                store_output(u, out_tile + done * out_size_, spare);
                done += u.rows * u.columns;
            });
        }
    }

    template <class F>
    void for_units(const Unit& start, size_t first, size_t last, const F& f) const {
        f(start);
        for (size_t i = first + 1; i < last; ++i) {
            f(unit(i));
        }
    }

    const Lines& lines_;
    const RowKernels& row_kernels_;
    Access in_access_;
    Access out_access_;
    bool reads_output_;
    bool words_follow_;  // the words of a tile are consecutive, or nobody needs any
    int bits_ = 8;       // of the codes, where they are in memory
    bool is_signed_ = false;

    Dimension rows_;     // the dimension of a tile's rows; of one element where there is none
    Dimension columns_;  // and of its columns
    int row_dimension_;  // their number, or -1; the columns are the last one
    uint64_t row_index_;
    bool along_rows_;  // the next tile is beside this one along its rows
    size_t tile_rows_;
    size_t tile_columns_;
    size_t row_blocks_;
    size_t column_blocks_;
    size_t units_;
    size_t units_per_tile_;
    size_t tiles_;
    size_t in_size_;  // bytes of an element in a tile
    size_t out_size_;
    size_t in_bytes_;  // of a tile
    size_t out_bytes_;
    size_t spare_bytes_;  // for transposing tiles
};

}  // namespace piquant
