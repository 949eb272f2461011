#include "engine/block_finder.hpp"

#include "core/parameters.hpp"

namespace piquant {

size_t BlockFinder::scratch_bytes(const BlockPlan& plan, size_t blocks) {
    return PanelExtents::scratch_bytes(plan, blocks);
}

BlockFinder::BlockFinder(const BlockPlan& plan, const PanelExtents& extents, size_t blocks, unsigned char* scratch)
    : plan_(plan), extents_(extents), arrays_(PanelExtents::arrays(plan, blocks, scratch)) {
    const DTypeInfo& code = info(plan.code);
    const CallOptions& o = plan.options;
    const bool is_narrow = code.bits <= 8 && plan.parameters.scale_dtype == DType::float32;
    kernel_ = is_narrow ? plan.table->panels.parameters[float_index(plan.float_type)] : nullptr;
    const uint64_t lowest = code_min(code.bits, code.is_signed);
    const uint64_t start = o.symmetric ? plan.parameters.zero_of_all : o.quant_min;
    const uint64_t codes =
        o.symmetric ? symmetric_reach(o.quant_min, o.quant_max, code.bits, code.is_signed) : o.quant_max - o.quant_min;
    args_.lowest = o.symmetric ? nullptr : arrays_.lowest;
    args_.highest = arrays_.highest;
    args_.start = static_cast<int32_t>(start - lowest);
    args_.codes = static_cast<int32_t>(codes);
}

void BlockFinder::read(const Panel& p, const PanelArgs& codes, DynamicKernel kernel) const {
    kernel({codes, p.in, arrays_.lowest, arrays_.highest});
}

bool BlockFinder::settle(size_t first, size_t count, float* inverses, uint8_t* zeros, Fault& fault) const {
    const BlockParameters& to = plan_.parameters;
    if (kernel_ != nullptr) {
        ParametersArgs args = args_;
        args.count = count;
        args.scales = static_cast<unsigned char*>(to.scale) + first * sizeof(float);
        args.inverses = inverses;
        args.zeros = zeros;
        if (!kernel_(args)) {
            store_zeros(to, first, count, zeros, plan_.code);
            return true;
        }
    }
    for (size_t k = 0; k < count; ++k) {
        fault.note(first + k, find_parameters(to, first + k, extents_.extent(arrays_, k), plan_.float_type, plan_.code,
                                              plan_.options));
    }
    return false;
}

}  // namespace piquant
