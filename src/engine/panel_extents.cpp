#include "engine/panel_extents.hpp"

#include <string.h>

#include "core/float_formats.hpp"
#include "engine/with_dtype.hpp"

namespace piquant {
namespace {

// Blocks from this length on are worth a call of their own: where the other choice is an element loop, and else.
constexpr size_t long_block = 32;
constexpr size_t very_long_block = 4096;

size_t array_bytes(const BlockPlan& plan, size_t blocks) {
    return ((blocks + panel_slack) * info(plan.float_type).format.bytes + 63) / 64 * 64;
}

void store(DType type, unsigned char* array, size_t k, double x) {
    with_float(type, [&](auto dtype) {
        using Float = decltype(dtype);
        store_element<Float>(array + k * sizeof(typename Float::storage), static_cast<typename Float::compute>(x));
    });
}

double load(DType type, const unsigned char* array, size_t k) {
    return with_float(type, [&](auto dtype) {
        using Float = decltype(dtype);
        return static_cast<double>(load_element<Float>(array + k * sizeof(typename Float::storage)));
    });
}

// A bottom without a sign was never met: nothing is below zero. Magnitudes are patterns without signs.
template <class Pattern>
void from(const unsigned char* tops, const unsigned char* bottoms, size_t count, bool magnitudes,
          const ExtentArrays& arrays) {
    constexpr auto sign = static_cast<Pattern>(Pattern{1} << (8 * sizeof(Pattern) - 1));
    for (size_t k = 0; k < count; ++k) {
        Pattern top;
        Pattern bottom;
        memcpy(&top, tops + k * sizeof top, sizeof top);
        memcpy(&bottom, bottoms + k * sizeof bottom, sizeof bottom);
        bottom = bottom > sign ? bottom : Pattern{0};
        if (magnitudes) {
            const auto below = static_cast<Pattern>(bottom & static_cast<Pattern>(~sign));
            top = below > top ? below : top;
        } else {
            memcpy(arrays.lowest + k * sizeof bottom, &bottom, sizeof bottom);
        }
        memcpy(arrays.highest + k * sizeof top, &top, sizeof top);
    }
}

}  // namespace

PanelExtents::PanelExtents(const BlockPlan& plan, size_t block, bool magnitudes)
    : type_(plan.float_type),
      block_(block),
      magnitudes_(magnitudes),
      extent_of_(plan.table->minmax[float_index(type_)]) {
    const auto of = [&](const PanelKernels& set) {
        return magnitudes ? set.magnitudes[float_index(type_)] : set.extents[float_index(type_)];
    };
    const PanelKernels& own = plan.table->panels;
    const bool is_own = of(own) != nullptr && (block == 1 || block % own.granule == 0);
    extents_of_ = of(is_own ? own : *plan.scalar);
    is_apart_ = block >= (is_own ? very_long_block : long_block);
}

size_t PanelExtents::scratch_bytes(const BlockPlan& plan, size_t blocks) {
    return 2 * array_bytes(plan, blocks);
}

ExtentArrays PanelExtents::arrays(const BlockPlan& plan, size_t blocks, unsigned char* scratch) {
    return {scratch, scratch + array_bytes(plan, blocks)};
}

void PanelExtents::find(const Panel& p, const ExtentArrays& arrays) const {
    if (!is_apart_ && p.skipped == 0) {
        extents_of_(p.in, p.n, block_, arrays.lowest, arrays.highest);
        return;
    }
    for_blocks(p, block_, [&](size_t first, size_t count, size_t k) {
        store_extent(extent_of_(p.in + bytes_for(first, info(type_).format), count), arrays, k);
    });
}

void PanelExtents::store_extent(const Extent& e, const ExtentArrays& arrays, size_t k) const {
    const double high = magnitudes_ && -e.lo > e.hi ? -e.lo : e.hi;
    store(type_, arrays.highest, k, e.has_nan ? __builtin_nan("") : high);
    if (!magnitudes_) {
        store(type_, arrays.lowest, k, e.lo);
    }
}

Extent PanelExtents::extent(const ExtentArrays& arrays, size_t k) const {
    const double lo = magnitudes_ ? 0 : load(type_, arrays.lowest, k);
    const double hi = load(type_, arrays.highest, k);
    return {lo, hi, lo != lo || hi != hi};
}

void PanelExtents::from_patterns(const unsigned char* tops, const unsigned char* bottoms, size_t count,
                                 const ExtentArrays& arrays) const {
    switch (type_) {
        case DType::float64: from<uint64_t>(tops, bottoms, count, magnitudes_, arrays); break;
        case DType::float32: from<uint32_t>(tops, bottoms, count, magnitudes_, arrays); break;
        default: from<uint16_t>(tops, bottoms, count, magnitudes_, arrays);
    }
}

}  // namespace piquant
