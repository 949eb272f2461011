#include "engine/device.hpp"

namespace piquant {
namespace {

piquant_operation_t operation_of(Operation operation) {
    switch (operation) {
        case Operation::quantize: return PIQUANT_QUANTIZE;
        case Operation::dequantize: return PIQUANT_DEQUANTIZE;
        case Operation::quantize_dequantize: break;
    }
    return PIQUANT_QUANTIZE_DEQUANTIZE;
}

piquant_operation_t operation_of(BlockOperation operation) {
    switch (operation) {
        case BlockOperation::quantize: return PIQUANT_QUANTIZE;
        case BlockOperation::dequantize: return PIQUANT_DEQUANTIZE;
        case BlockOperation::quantize_dequantize: return PIQUANT_QUANTIZE_DEQUANTIZE;
        case BlockOperation::compute_parameters: return PIQUANT_COMPUTE_QUANT_PARAMS;
        case BlockOperation::quantize_dynamic: break;
    }
    return PIQUANT_QUANTIZE_DYNAMIC;
}

}  // namespace

bool Device::set(const piquant_device_t& device) {
    if (!is_readable(&device, device.struct_size, sizeof device, sizeof device) || device.run == nullptr) {
        return false;
    }
    device_ = device;
    return true;
}

piquant_status_t Device::run(const Plan& plan, const TransformCall& call) const {
    piquant_plan_t handed{};
    handed.operation = operation_of(call.operation);
    handed.float_dtype = static_cast<piquant_dtype_t>(call.float_dtype);
    handed.code_dtype = static_cast<piquant_dtype_t>(call.code_dtype);
    handed.in = plan.args.in;
    handed.out = plan.args.out;
    handed.n = plan.n;
    handed.scale = plan.args.scale;
    handed.inverse = plan.args.inverse;
    handed.zero_point = static_cast<int64_t>(plan.args.zero_point);
    CallOptions options;
    (void)read_options(call.options, static_cast<DType>(call.code_dtype), options);
    if (plan.is_tiled) {
        return run(handed, options, plan.lines);
    }
    Lines run_of_all;
    run_of_all.rank = 1;
    run_of_all.has_out = true;
    run_of_all.last() = {plan.n, info(plan.in).format.bytes, info(plan.out).format.bytes, 1, plan.n, 0};
    return run(handed, options, run_of_all);
}

piquant_status_t Device::run(const BlockPlan& plan, const BlockCall& call) const {
    piquant_plan_t handed{};
    handed.operation = operation_of(call.operation);
    handed.float_dtype = static_cast<piquant_dtype_t>(call.float_dtype);
    handed.code_dtype = static_cast<piquant_dtype_t>(call.code_dtype);
    handed.in = plan.lines.in.base;
    handed.out = plan.lines.has_out ? plan.lines.out.base : nullptr;
    handed.n = plan.n;
    handed.blocks = plan.blocks;
    handed.zero_point = static_cast<int64_t>(plan.parameters.zero_of_all);
    handed.scales = plan.parameters.scale;
    handed.zero_points = plan.parameters.zero_point;
    handed.scale_dtype = static_cast<piquant_dtype_t>(plan.parameters.scale_dtype);
    handed.zero_point_dtype = static_cast<piquant_dtype_t>(plan.parameters.zero_dtype);
    return run(handed, plan.options, plan.lines);
}

piquant_status_t Device::run(piquant_plan_t& plan, const CallOptions& options, const Lines& lines) const {
    piquant_dimension_t dimensions[PIQUANT_MAX_RANK];
    for (int d = 0; d < lines.rank; ++d) {
        const Dimension& from = lines.dims[d];
        dimensions[d] = {from.size, from.in, from.out, from.block, from.parameters};
    }
    plan.struct_size = sizeof plan;
    plan.rank = static_cast<size_t>(lines.rank);
    plan.dimensions = dimensions;
    plan.round_mode = static_cast<piquant_round_mode_t>(options.round);
    plan.reduce_op = static_cast<piquant_reduce_op_t>(options.reduce);
    plan.symmetric = options.symmetric;
    plan.quant_min = static_cast<int64_t>(options.quant_min);
    plan.quant_max = static_cast<int64_t>(options.quant_max);
    plan.seed = options.seed;
    plan.offset = options.offset;
    plan.nan_scales = options.nan_scales;
    return device_.run(device_.self, &plan);
}

}  // namespace piquant
