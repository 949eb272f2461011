#include "engine/plan.hpp"

#include "cpu/float_environment.hpp"
#include "engine/tiles.hpp"

namespace piquant {
namespace {

// Options, scale and zero point as kernels take them.
piquant_status_t read_values(int float_dtype, int code_dtype, double scale, int64_t zero_point,
                             const piquant_options_t* given, CallOptions& options, KernelArgs& args) {
    if (!is_float_dtype(float_dtype)) {
        return PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (!is_code_dtype(code_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    const auto code = static_cast<DType>(code_dtype);
    if (const piquant_status_t status = read_options(given, code, options); status != PIQUANT_OK) {
        return status;
    }
    args.quant_min = options.quant_min;
    args.quant_max = options.quant_max;
    args.seed = options.seed;
    args.offset = options.offset;
    args.is_signed = info(code).is_signed;
    return read_scale(scale, zero_point, static_cast<DType>(float_dtype), code, args);
}

bool is_unpacked(DType code) {
    return code_index(code) >= code_count;
}

// Kernels of 8 bits serve narrower codes that have a byte each, or only pass through registers: range and zero point are
// arguments.
DType byte_code(DType code) {
    return info(code).is_signed ? DType::int8 : DType::uint8;
}

bool has_layout(const piquant_options_t* options) {
    return options != nullptr && options->rank != 0;
}

// Reads the layout of a call that has one, or of a run of n elements.
piquant_status_t read_lines_or_run(const TransformCall& call, DType in, DType out, bool in_place, Lines& lines) {
    if (call.n != 0 && (call.in == nullptr || call.out == nullptr)) {
        return PIQUANT_ERROR_NULL;
    }
    if (has_layout(call.options)) {
        return read_lines(*call.options, call.n, call.in, in, call.out, out, in_place, lines);
    }
    piquant_options_t run = PIQUANT_OPTIONS_INIT;
    run.rank = 1;
    run.shape = &call.n;
    return read_lines(run, call.n, call.in, in, call.out, out, in_place, lines);
}

}  // namespace

piquant_status_t make_plan(const KernelTable& table, const TransformCall& call, Plan& plan) {
    CallOptions options;
    piquant_status_t status =
        read_values(call.float_dtype, call.code_dtype, call.scale, call.zero_point, call.options, options, plan.args);
    if (status != PIQUANT_OK) {
        return status;
    }
    const auto float_type = static_cast<DType>(call.float_dtype);
    const auto code = static_cast<DType>(call.code_dtype);
    const bool in_registers = call.operation == Operation::quantize_dequantize;
    plan.in = call.operation == Operation::dequantize ? code : float_type;
    plan.out = call.operation == Operation::quantize ? code : float_type;
    plan.n = call.n;
    plan.is_empty = call.n == 0;
    plan.row_kernels = &table.rows;
    plan.threads = options.threads;
    plan.is_tiled = false;
    plan.reads_output = options.reduce == Reduce::add && call.operation != Operation::quantize;
    plan.uses_words = options.round == Round::stochastic && call.operation != Operation::dequantize;
    plan.args.in = call.in;
    plan.args.out = call.out;
    plan.args.n = call.n;
    bool in_bytes = is_unpacked(code);
    if (!has_layout(call.options) && (!in_bytes || in_registers)) {
        status = check_arrays(call.in, plan.in, call.out, plan.out, call.n, in_registers);
    } else {
        status = read_lines_or_run(call, plan.in, plan.out, in_registers, plan.lines);
        if (status != PIQUANT_OK || plan.is_empty) {
            return status;
        }
        merge_dimensions(plan.lines, !plan.uses_words);
        plan.is_tiled = !plan.lines.is_flat() || (in_bytes && !in_registers);
        plan.args.in = plan.lines.in.base;
        plan.args.out = plan.lines.out.base;
        in_bytes = in_bytes || (plan.is_tiled && plan.lines.is_packed() && are_copied(plan.lines));
    }
    plan.kernel = find_kernel(table, call.operation, float_type, in_bytes ? byte_code(code) : code, options.round,
                              options.reduce);
    return status;
}

piquant_status_t make_plan(const KernelTable& table, const void* in, int in_dtype, int code_dtype, size_t n,
                           const piquant_options_t* options, ExtentPlan& plan) {
    if (!is_float_dtype(in_dtype)) {
        return PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (!is_code_dtype(code_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    piquant_status_t status = read_options(options, static_cast<DType>(code_dtype), plan.options);
    if (status != PIQUANT_OK) {
        return status;
    }
    if (n == 0) {
        return PIQUANT_ERROR_EMPTY;
    }
    plan.in = static_cast<DType>(in_dtype);
    plan.kernel = table.minmax[float_index(plan.in)];
    plan.n = n;
    plan.run = in;
    plan.threads = plan.options.threads;
    plan.row_kernels = &table.rows;
    if (!has_layout(options)) {
        return check_array(in, plan.in, n);
    }
    if (in == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    status = read_lines(*options, n, in, plan.in, nullptr, plan.in, false, plan.lines);
    if (status == PIQUANT_OK) {
        merge_dimensions(plan.lines, true);
        plan.n = plan.lines.count();
        plan.run = plan.lines.is_flat() ? plan.lines.in.base : nullptr;
    }
    return status;
}

piquant_status_t check_arguments(int float_dtype, int code_dtype, double scale, int64_t zero_point,
                                 const piquant_options_t* options) {
    const FloatEnvironment pinned;
    CallOptions read;
    KernelArgs args;
    return read_values(float_dtype, code_dtype, scale, zero_point, options, read, args);
}

}  // namespace piquant
