// Lines of a call whose blocks have rows, 128 x 128 say, cut into strips: the rows of one row of blocks, and as many columns
// as a cache holds of them. So quantize_dynamic reads a strip twice, from memory only once.
//
//   | block | block |  rest of the row of blocks
//   |<-- strip ---->|
#pragma once

#include "engine/panels.hpp"

namespace piquant {

struct Strip {
    Panel row;  // the first; `parameter` is that of the first block
    size_t rows;
    size_t blocks;  // along a row
};

class Strips {
public:
    // Kernels take blocks of a multiple of `granule` elements.
    Strips(const Lines& lines, size_t granule, size_t threads);

    // Whether the lines have such blocks, strips fit, and there are some for every thread.
    bool fit() const { return fit_; }
    size_t count() const { return count_; }
    Strip at(size_t number) const;
    // The next row of a strip.
    Panel next(const Panel& row) const;

    size_t block() const { return lines_.last().block; }
    size_t columns() const { return columns_; }  // most of a strip
    size_t blocks() const { return blocks_; }

private:
    const Dimension& rows() const { return lines_.dims[lines_.rank - 2]; }

    const Lines& lines_;
    bool fit_;
    size_t columns_ = 0;
    size_t blocks_ = 0;
    size_t per_line_ = 0;  // strips side by side
    size_t count_ = 0;
};

}  // namespace piquant
