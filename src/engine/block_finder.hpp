// Finds the parameters of blocks, panel by panel, on one thread.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/panel_extents.hpp"

namespace piquant {

// The first block whose data has no parameters, and what is wrong with it.
struct Fault {
    size_t block = SIZE_MAX;
    piquant_status_t status = PIQUANT_OK;

    void note(size_t at, piquant_status_t what) {
        if (what != PIQUANT_OK && at < block) {
            *this = {at, what};
        }
    }
};

inline piquant_status_t first_of(const std::vector<Fault>& faults, size_t& bad_block) {
    const auto first =
        std::min_element(faults.begin(), faults.end(), [](auto& a, auto& b) { return a.block < b.block; });
    bad_block = first->block;
    return first->status;
}

class BlockFinder {
public:
    static size_t scratch_bytes(const BlockPlan& plan, size_t blocks);
    // Panels have at most so many blocks.
    BlockFinder(const BlockPlan& plan, const PanelExtents& extents, size_t blocks, unsigned char* scratch);

    void read(const Panel& p) { extents_.find(p, arrays_); }
    // The same, while `codes` are made of the panel before, which has as many elements.
    void read(const Panel& p, const PanelArgs& codes, DynamicKernel kernel) const;

    // What MergeKernels have read.
    void take(const unsigned char* tops, const unsigned char* bottoms, size_t count) const {
        extents_.from_patterns(tops, bottoms, count, arrays_);
    }

    // Writes the parameters of blocks first .. first + count - 1, which were read last. Inverses and raised zero points of
    // theirs come along where it says so: an array of each, `prepared_bytes` together, or apart.
    bool settle(size_t first, size_t count, float* inverses, uint8_t* zeros, Fault& fault) const;
    void settle(size_t first, size_t count, unsigned char* prepared, Fault& fault) const {
        auto* const inverses = reinterpret_cast<float*>(prepared);
        (void)settle(first, count, inverses, reinterpret_cast<uint8_t*>(inverses + count + panel_slack), fault);
    }
    static size_t prepared_bytes(size_t blocks) { return (blocks + panel_slack) * (sizeof(float) + sizeof(uint8_t)); }

private:
    const BlockPlan& plan_;
    const PanelExtents& extents_;
    ExtentArrays arrays_;
    ParametersKernel kernel_;  // null: scales or codes of other types than it has
    ParametersArgs args_{};
};

}  // namespace piquant
