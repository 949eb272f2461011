// Arguments -> KernelArgs, or the status that says what is wrong with them.
#pragma once

#include <piquant/quant.h>

#include "core/types.hpp"
#include "kernels/table.hpp"

namespace piquant {

// Fields of the options after validation; the range is always present.
struct CallOptions {
    Round round;
    Reduce reduce;
    uint64_t quant_min;
    uint64_t quant_max;
    uint64_t seed;
    uint64_t offset;
    bool symmetric;
    bool nan_scales;
    const piquant_threads_t* threads;
};

bool is_float_dtype(int dtype);
bool is_code_dtype(int dtype);

// Whether a struct of the caller has all fields that the first version had. A later version's is larger than the one that is
// known here, and what it asks for beyond that must be nothing.
bool is_readable(const void* given, size_t struct_size, size_t first, size_t known);

// `options` may be null.
piquant_status_t read_options(const piquant_options_t* options, DType code, CallOptions& result);

// n elements at p, p not null, fit the address space.
piquant_status_t check_array(const void* p, DType dtype, size_t n);

// Pointers may be null only where n is 0; the arrays must fit the address space and not overlap, unless `in_place` and
// they are the same.
piquant_status_t check_arrays(const void* in, DType in_dtype, const void* out, DType out_dtype, size_t n,
                              bool in_place);

// Fills scale, inverse and zero point. Call with the floating-point environment pinned.
piquant_status_t read_scale(double scale, int64_t zero_point, DType real, DType code, KernelArgs& args);

// Scale and zero point for data of this extent. Call with the floating-point environment pinned.
piquant_status_t parameters_from(const Extent& extent, DType real, DType code, const CallOptions& options,
                                 double& scale, int64_t& zero_point);

}  // namespace piquant
