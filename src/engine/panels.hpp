// The lines of a call with blocks, dense on both sides, cut into panels: what one call of a kernel for blocks handles.
//
//   line   |  block  |  block  |  block  |  block  | rest |
//   panel  |            group            |   and the next ..        small blocks
//   panel  | piece | piece | p |                                    of a large block, which has one parameter
//
// Blocks that no kernel takes, or that end inside a byte, are given a parameter for each element instead ("expanded").
#pragma once

#include "engine/lines.hpp"

namespace piquant {

struct Panel {
    const unsigned char* in;
    unsigned char* out;
    uint64_t index;    // of its first element in row-major order
    size_t n;          // elements
    size_t skipped;    // elements of the first block that lie before it
    size_t parameter;  // of the first block

    size_t blocks(size_t block) const { return (skipped + n + block - 1) / block; }
};

// Calls f(first, count, k) for each block of a panel: `count` of its elements from `first` on are of its k-th block.
template <class F>
void for_blocks(const Panel& p, size_t block, const F& f) {
    size_t end = block - p.skipped;
    for (size_t first = 0, k = 0; first < p.n; ++k) {
        const size_t count = (end < p.n ? end : p.n) - first;
        f(first, count, k);
        first += count;
        end += block;
    }
}

class Panels {
public:
    // Kernels take blocks of a multiple of `granule` elements. Whole: no block of a panel continues in another one. Small
    // blocks share panels of about `elements`.
    Panels(const Lines& lines, size_t granule, bool whole, size_t elements);

    size_t count() const { return lines_of_ * per_line_; }
    // Calls f(panel) for panels begin .. end - 1.
    template <class F>
    void each(size_t begin, size_t end, const F& f) const {
        Cursor cursor(*this, begin);
        for (size_t t = begin; t < end; ++t) {
            f(cursor.panel());
            cursor.next();
        }
    }

    size_t block() const { return block_; }
    size_t elements() const { return piece_; }         // most of a panel
    size_t parameters() const { return parameters_; }  // most that a panel has, before they are expanded
    bool expands() const { return expands_; }

private:
    // Goes from panel to panel without divisions, which would show in panels of short lines.
    class Cursor {
    public:
        Cursor(const Panels& panels, size_t number);
        Panel panel() const;
        void next();

    private:
        void next_line();

        const Panels& panels_;
        Panel line_;                         // a panel of the whole line
        size_t group_;                       // where the group of the panel begins in the line
        size_t start_;                       // where the panel does
        size_t at_[PIQUANT_MAX_BLOCK_RANK];  // of the line, in all dimensions but its own
    };

    const Lines& lines_;
    size_t block_;
    size_t group_;
    size_t piece_;
    size_t pieces_;
    size_t per_line_;
    size_t lines_of_ = 1;
    size_t parameters_;
    bool expands_ = false;
};

}  // namespace piquant
