// Extents of the blocks of a panel: lowest and highest of each, in the float type itself, zero among them.
#pragma once

#include "engine/block_plan.hpp"
#include "engine/panels.hpp"

namespace piquant {

// The arrays of a participant, of so many blocks.
struct ExtentArrays {
    unsigned char* lowest;  // not used where only magnitudes are asked for
    unsigned char* highest;
};

class PanelExtents {
public:
    // Magnitudes: the largest magnitude is all that is asked for.
    PanelExtents(const BlockPlan& plan, size_t block, bool magnitudes);

    static size_t scratch_bytes(const BlockPlan& plan, size_t blocks);
    static ExtentArrays arrays(const BlockPlan& plan, size_t blocks, unsigned char* scratch);

    void find(const Panel& p, const ExtentArrays& arrays) const;
    // Of `count` elements, which are one block: entry 0 of both arrays.
    void find_one(const unsigned char* elements, size_t count, const ExtentArrays& arrays) const {
        store_extent(extent_of_(elements, count), arrays, 0);
    }
    // From what MergeKernels left.
    void from_patterns(const unsigned char* tops, const unsigned char* bottoms, size_t count,
                       const ExtentArrays& arrays) const;
    // Of the k-th block.
    Extent extent(const ExtentArrays& arrays, size_t k) const;

private:
    void store_extent(const Extent& extent, const ExtentArrays& arrays, size_t k) const;

    DType type_;
    size_t block_;
    bool magnitudes_;
    bool is_apart_;  // a call of the kernel for one extent for each block
    MinMaxKernel extent_of_;
    ExtentsKernel extents_of_;
};

}  // namespace piquant
