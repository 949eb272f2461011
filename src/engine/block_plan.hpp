// A validated call with blocks as plain data. See plan.hpp.
#pragma once

#include <piquant/quant.h>

#include "engine/block_parameters.hpp"
#include "engine/lines.hpp"
#include "engine/validate.hpp"
#include "kernels/table.hpp"

namespace piquant {

enum class BlockOperation { quantize, dequantize, quantize_dequantize, compute_parameters, quantize_dynamic };

// What the caller says of it. in is of the float dtype, except to dequantize; out is, except to quantize.
struct BlockCall {
    BlockOperation operation;
    const void* in;
    void* out;  // null to compute parameters
    int float_dtype;
    int code_dtype;
    const piquant_blocks_t* blocks;
    void* scale;  // written where parameters are computed
    void* zero_point;
    const piquant_options_t* options;

    bool finds_parameters() const {
        return operation == BlockOperation::compute_parameters || operation == BlockOperation::quantize_dynamic;
    }
};

struct BlockPlan {
    BlockOperation operation;
    DType float_type;
    DType code;
    DType in;
    DType out;
    size_t n;
    size_t blocks;
    bool reads_output;
    bool uses_words;
    CallOptions options;
    BlockParameters parameters;
    Lines lines;
    const KernelTable* table;
    const PanelKernels* scalar;  // those of the scalar set

    size_t traffic() const {
        return bytes_for(n, info(in).format) + (lines.has_out ? bytes_for(n, info(out).format) : 0);
    }
};

// Whether kernels cannot work on the arrays themselves: elements are copied to tiles then, of at most tile_elements, each
// of which has its own parameters there.
bool are_lines_copied(const BlockPlan& plan);
constexpr size_t tile_elements = 2048;

// Call with the floating-point environment pinned. Where parameters are bad, sets bad_block; they are not looked at
// unless `reads_parameters`. A plan of no elements is whole but for its kernels and lines.
piquant_status_t make_plan(const KernelTable& table, const BlockCall& call, bool reads_parameters, BlockPlan& plan,
                           size_t& bad_block);

}  // namespace piquant
