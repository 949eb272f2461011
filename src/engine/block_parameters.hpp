// Arrays of scales and zero points: checked, made ready for kernels, and written.
#pragma once

#include <piquant/quant.h>

#include "core/types.hpp"
#include "engine/validate.hpp"

namespace piquant {

// Scales and zero points of the blocks of a call. Written only where they are its result.
struct BlockParameters {
    void* scale;
    void* zero_point;  // null: `zero_of_all` is that of all blocks
    DType scale_dtype;
    DType zero_dtype;
    uint64_t zero_of_all;  // pattern of the code type
};

// What kernels want of them: T is float64, or else float32; codes of at most 8 bits, of the type that `lowest` is the lowest
// code of, have raised zero points; others patterns.
struct PreparedFor {
    bool is_wide;     // T is float64
    bool is_raised;   // see PanelArgs::zeros
    uint64_t lowest;  // pattern of the lowest code of the kernel's type
    size_t zero_bytes() const { return is_raised ? sizeof(uint8_t) : sizeof(uint64_t); }
    size_t factor_bytes() const { return is_wide ? sizeof(double) : sizeof(float); }
};

// Of the first block with parameters that the function for one scale would refuse: what it would say, and its number.
piquant_status_t check_parameters(const BlockParameters& parameters, size_t blocks, DType float_type, DType code,
                                  bool nan_scales, size_t& bad_block);

// Factors and zero points of blocks first .. first + count - 1. Inverse: T(1 / scale), else T(scale).
void prepare_factors(const BlockParameters& parameters, size_t first, size_t count, const PreparedFor& prepared,
                     bool inverse, void* factors);
void prepare_zeros(const BlockParameters& parameters, size_t first, size_t count, const PreparedFor& prepared,
                   void* zeros);

// Writes zero points of codes of at most 8 bits, raised as in PanelArgs, if there is an array of them.
void store_zeros(const BlockParameters& parameters, size_t first, size_t count, const uint8_t* zeros, DType code);

// Finds the parameters of a block from the extent of its data, and writes them. Call with the floating-point environment
// pinned.
piquant_status_t find_parameters(const BlockParameters& parameters, size_t block, const Extent& extent,
                                 DType float_type, DType code, const CallOptions& options);

// Whether an integer dtype holds all codes of another.
bool holds_codes(DType integers, DType code);

}  // namespace piquant
