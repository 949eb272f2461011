// Converts panels, on one thread: prepares the parameters of their blocks, and calls kernels.
#pragma once

#include "engine/block_finder.hpp"

namespace piquant {

// Which kernels a call uses. Codes of less than 8 bits that have a byte each, in memory or in a tile, are converted by
// kernels of 8 bits: range and zero points are arguments.
class BlockKernels {
public:
    BlockKernels(const BlockPlan& plan, bool codes_in_bytes);

    PanelKernel quantize = nullptr;
    PanelKernel dequantize = nullptr;
    // Where the set has none for the types, and blocks are long: its kernels for one scale, block by block.
    Kernel quantize_block = nullptr;
    Kernel dequantize_block = nullptr;
    DynamicKernel dynamic;  // null: not for these types, or words are needed
    WordsKernel words;
    size_t granule;  // of blocks, see PanelKernels
    DType code;      // that the kernels convert
    PreparedFor prepared;
};

class BlockConverter {
public:
    // Panels have at most so many elements and so many parameters, which may be expanded.
    struct Room {
        size_t elements;
        size_t parameters;
        bool expands;
    };
    static size_t scratch_bytes(const BlockPlan& plan, const BlockKernels& kernels, const Room& room);
    // Scratch is 64-byte aligned, for this thread alone.
    BlockConverter(const BlockPlan& plan, const BlockKernels& kernels, const Room& room, bool non_temporal,
                   size_t prefetch_distance, unsigned char* scratch);

    // Parameters of blocks first .. first + count - 1 are those of the panel that comes next.
    void prepare(size_t first, size_t count);
    // Of panels with a parameter for each element: those of the panel's blocks, and that of a block, which serves `count`
    // elements from element `begin` on.
    void expand(const Panel& panel, size_t block);
    void expand(size_t begin, size_t count, size_t parameter);

    // n elements, the first of them `skipped` elements behind the start of its block. Those of expanded panels have their
    // parameters from element `first` on.
    void convert(const unsigned char* in, unsigned char* out, size_t n, uint64_t index, size_t block, size_t first = 0);

    // Of quantize_dynamic. Parameters of a panel that was read: written, and ready for its conversion.
    void settle(const Panel& panel, size_t block, const BlockFinder& finder, Fault& fault);
    void quantize_found(const Panel& panel, size_t block);
    // The same, while the panel that comes next is read.
    void quantize_while_reading(const Panel& panel, size_t block, BlockFinder& finder, const Panel& next);

private:
    struct Arrays {
        unsigned char* inverses;
        unsigned char* scales;
        unsigned char* zeros;
    };
    void fill(const Arrays& arrays, size_t first, size_t count);
    void repeat(const Arrays& from, size_t k, size_t begin, size_t count);
    void quantize(const PanelArgs& panel, uint64_t index);
    void clear_nan_blocks(const PanelArgs& panel) const;
    void dequantize(const PanelArgs& panel);
    template <class T>
    void add_beside_nans(const PanelArgs& panel);
    void multiply(const PanelArgs& panel);
    void block_by_block(const PanelArgs& panel, Kernel kernel, uint64_t index);

    const BlockPlan& plan_;
    const BlockKernels& kernels_;
    size_t most_elements_;
    PanelArgs common_{};
    size_t prepared_first_ = SIZE_MAX;
    size_t prepared_count_ = 0;
    Arrays arrays_;
    Arrays of_blocks_;  // before they are expanded
    uint16_t* words_;
    unsigned char* codes_;
};

}  // namespace piquant
