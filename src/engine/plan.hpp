// A validated call as plain data: which kernel, on which elements, with which constants. Made once, from arguments that
// may be anything; executed by whoever has threads.
#pragma once

#include <piquant/quant.h>

#include "engine/lines.hpp"
#include "engine/validate.hpp"
#include "kernels/table.hpp"

namespace piquant {

struct Plan {
    Kernel kernel;
    KernelArgs args;  // constants; and both arrays, where they are one run
    DType in;
    DType out;
    size_t n;
    bool is_empty;
    bool is_tiled;                     // the arrays are no run: see `lines`
    bool reads_output;                 // reduce_op "add"
    bool uses_words;                   // stochastic rounding
    const piquant_threads_t* threads;  // null: the context's own
    Lines lines;
    const RowKernels* row_kernels;

    size_t traffic() const { return bytes_for(n, info(in).format) + bytes_for(n, info(out).format); }
};

// The extent of data, for parameters.
struct ExtentPlan {
    MinMaxKernel kernel;
    DType in;
    const void* run;  // n elements side by side; null: see `lines`
    size_t n;
    CallOptions options;
    const piquant_threads_t* threads;
    Lines lines;
    const RowKernels* row_kernels;

    size_t traffic() const { return bytes_for(n, info(in).format); }
};

// What the caller of a conversion says of it. in is of the float dtype, except for dequantize; out is, except for
// quantize.
struct TransformCall {
    Operation operation;
    const void* in;
    void* out;
    int float_dtype;
    int code_dtype;
    size_t n;
    double scale;
    int64_t zero_point;
    const piquant_options_t* options;
};

// Call both with the floating-point environment pinned.
piquant_status_t make_plan(const KernelTable& table, const TransformCall& call, Plan& plan);
piquant_status_t make_plan(const KernelTable& table, const void* in, int in_dtype, int code_dtype, size_t n,
                           const piquant_options_t* options, ExtentPlan& plan);

// The part of a plan that does not look at arrays: see piquant_check.
piquant_status_t check_arguments(int float_dtype, int code_dtype, double scale, int64_t zero_point,
                                 const piquant_options_t* options);

}  // namespace piquant
