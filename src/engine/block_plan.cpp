#include "engine/block_plan.hpp"

#include "core/parameters.hpp"
#include "dispatch/dispatch.hpp"

namespace piquant {
namespace {

bool are_readable(const piquant_blocks_t* blocks) {
    if (blocks == nullptr || !is_readable(blocks, blocks->struct_size, sizeof *blocks, sizeof *blocks) ||
        blocks->rank == 0 || blocks->rank > PIQUANT_MAX_BLOCK_RANK || blocks->shape == nullptr ||
        blocks->block_size == nullptr) {
        return false;
    }
    for (size_t d = 0; d < blocks->rank; ++d) {
        if (blocks->block_size[d] == 0) {
            return false;
        }
    }
    return true;
}

// Whether the integers of a dtype have bytes of their own.
bool is_whole_integer(int dtype) {
    return is_code_dtype(dtype) && info(static_cast<DType>(dtype)).bits >= 8;
}

// Elements and blocks. False if the elements are more than can be counted.
bool count(const piquant_blocks_t& blocks, size_t& n, size_t& of_them) {
    n = 1;
    of_them = 1;
    bool fits = true;
    for (size_t d = 0; d < blocks.rank; ++d) {
        const size_t size = blocks.shape[d];
        if (size == 0) {
            n = 0;
            of_them = 0;
            return true;
        }
        fits = fits && !__builtin_mul_overflow(n, size, &n);
        of_them *= size / blocks.block_size[d] + (size % blocks.block_size[d] != 0);
    }
    return fits;
}

piquant_status_t read_parameters(const BlockCall& call, BlockPlan& plan) {
    const piquant_blocks_t& blocks = *call.blocks;
    const DTypeInfo& code = info(plan.code);
    BlockParameters& p = plan.parameters;
    const bool is_given = !call.finds_parameters();
    if (!is_float_dtype(blocks.scale_dtype) ||
        (call.zero_point != nullptr && !is_whole_integer(blocks.zero_point_dtype))) {
        return PIQUANT_ERROR_PARAM_DTYPE;
    }
    p = {call.scale, call.zero_point, static_cast<DType>(blocks.scale_dtype),
         static_cast<DType>(blocks.zero_point_dtype), static_cast<uint64_t>(blocks.zero_point)};
    if (!is_given) {
        p.zero_of_all = symmetric_zero_point(code.bits, code.is_signed);
        if (plan.options.symmetric &&
            symmetric_reach(plan.options.quant_min, plan.options.quant_max, code.bits, code.is_signed) == 0) {
            return PIQUANT_ERROR_SYMMETRIC_RANGE;
        }
        if (p.zero_point != nullptr && !holds_codes(p.zero_dtype, plan.code)) {
            return PIQUANT_ERROR_PARAM_DTYPE;
        }
    } else if (p.zero_point == nullptr) {
        KernelArgs ignored;
        return read_scale(1.0, blocks.zero_point, plan.float_type, plan.code, ignored);
    }
    return PIQUANT_OK;
}

struct Bytes {
    uintptr_t begin;
    size_t size;
};

bool overlap(const Bytes& a, const Bytes& b) {
    return a.begin < b.begin + b.size && b.begin < a.begin + a.size;
}

// What is written shares no bytes with anything else, as far as the ends of the arrays tell.
piquant_status_t check_apart(const BlockCall& call, const BlockPlan& plan) {
    const BlockParameters& p = plan.parameters;
    if (p.scale == nullptr || (p.zero_point == nullptr && call.finds_parameters() && !plan.options.symmetric)) {
        return PIQUANT_ERROR_NULL;
    }
    if (check_array(p.scale, p.scale_dtype, plan.blocks) != PIQUANT_OK ||
        (p.zero_point != nullptr && check_array(p.zero_point, p.zero_dtype, plan.blocks) != PIQUANT_OK)) {
        return PIQUANT_ERROR_LENGTH;
    }
    const auto address = [](const void* at) { return reinterpret_cast<uintptr_t>(at); };
    const Bytes scales{address(p.scale), bytes_for(plan.blocks, info(p.scale_dtype).format)};
    const Bytes zeros{address(p.zero_point),
                      p.zero_point == nullptr ? 0 : bytes_for(plan.blocks, info(p.zero_dtype).format)};
    const auto reach = [&](const Side& side, ptrdiff_t Dimension::* stride) {
        Bytes bytes{address(side.base), 0};
        bytes.size = bytes_of(plan.lines, side, stride, bytes.begin);
        return bytes;
    };
    const auto meets_parameters = [&](const Bytes& array) { return overlap(array, scales) || overlap(array, zeros); };
    const bool is_met =
        (plan.lines.has_out && meets_parameters(reach(plan.lines.out, &Dimension::out))) ||
        (call.finds_parameters() && (meets_parameters(reach(plan.lines.in, &Dimension::in)) || overlap(scales, zeros)));
    return is_met ? PIQUANT_ERROR_OVERLAP : PIQUANT_OK;
}

bool are_codes_unpacked(const BlockPlan& plan) {
    const DTypeInfo& code = info(plan.code);
    return (plan.in == plan.code || plan.out == plan.code) && code.bits < 8 && code.format.elements == 1;
}

}  // namespace

bool are_lines_copied(const BlockPlan& plan) {
    const Dimension& line = plan.lines.last();
    return !plan.lines.in_is_dense(line) || !plan.lines.out_is_dense(line) || are_codes_unpacked(plan);
}

piquant_status_t make_plan(const KernelTable& table, const BlockCall& call, bool reads_parameters, BlockPlan& plan,
                           size_t& bad_block) {
    if (!is_float_dtype(call.float_dtype)) {
        return PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (!is_code_dtype(call.code_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    plan.operation = call.operation;
    plan.float_type = static_cast<DType>(call.float_dtype);
    plan.code = static_cast<DType>(call.code_dtype);
    piquant_status_t status = read_options(call.options, plan.code, plan.options);
    if (status != PIQUANT_OK) {
        return status;
    }
    if (!are_readable(call.blocks)) {
        return PIQUANT_ERROR_BLOCKS;
    }
    status = read_parameters(call, plan);
    if (status != PIQUANT_OK) {
        return status;
    }
    const bool stores_codes =
        call.operation == BlockOperation::quantize || call.operation == BlockOperation::quantize_dynamic;
    const bool stores_floats = !stores_codes && call.operation != BlockOperation::compute_parameters;
    plan.in = call.operation == BlockOperation::dequantize ? plan.code : plan.float_type;
    plan.out = stores_codes ? plan.code : plan.float_type;
    plan.reads_output = plan.options.reduce == Reduce::add && stores_floats;
    plan.uses_words = plan.options.round == Round::stochastic && call.operation != BlockOperation::dequantize &&
                      call.operation != BlockOperation::compute_parameters;
    plan.table = &table;
    plan.scalar = &isas[isa_count - 1].table->panels;
    if (!count(*call.blocks, plan.n, plan.blocks)) {
        return PIQUANT_ERROR_LENGTH;
    }
    if (plan.n == 0) {
        return PIQUANT_OK;
    }
    if (call.in == nullptr || ((stores_codes || stores_floats) && call.out == nullptr)) {
        return PIQUANT_ERROR_NULL;
    }
    piquant_options_t layout = PIQUANT_OPTIONS_INIT;
    layout.rank = call.blocks->rank;
    layout.shape = call.blocks->shape;
    layout.in_strides = call.options != nullptr ? call.options->in_strides : nullptr;
    layout.out_strides = call.options != nullptr ? call.options->out_strides : nullptr;
    status = read_lines(layout, plan.n, call.in, plan.in, call.out, plan.out,
                        call.operation == BlockOperation::quantize_dequantize, plan.lines);
    status = status != PIQUANT_OK ? status : check_apart(call, plan);
    if (status == PIQUANT_OK && reads_parameters && !call.finds_parameters()) {
        status = check_parameters(plan.parameters, plan.blocks, plan.float_type, plan.code, plan.options.nan_scales,
                                  bad_block);
    }
    if (status == PIQUANT_OK) {
        set_blocks(plan.lines, call.blocks->block_size);
        merge_dimensions(plan.lines, false);
    }
    return status;
}

}  // namespace piquant
