// What an input of the fuzzer stands for: one call of the C API with all its arguments.
#pragma once

#include <piquant/quant.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace piquant::fuzz {

enum class Operation { quantize, dequantize, quantize_dequantize, compute_quant_params, settings, quantize_dynamic };

enum class Pointers { right, overlapping, null_in, null_out, null_context };

// Of a call whose options have a rank: that of the shape.
struct Layout {
    std::vector<size_t> shape;
    std::vector<ptrdiff_t> in_strides;
    std::vector<ptrdiff_t> out_strides;
    bool no_shape;  // null pointers are given instead
    bool no_in_strides;
    bool no_out_strides;
    bool same_place;  // an overlapping output begins where the input does
};

// Of a call with blocks. The shape is the layout's, the zero point of all blocks the call's.
struct Blocks {
    bool exist = false;
    size_t struct_size = sizeof(piquant_blocks_t);
    unsigned char beyond[8] = {};
    std::vector<size_t> block_size;  // of as many dimensions as the shape has
    int scale_dtype = 0;
    int zero_dtype = 0;
    bool missing = false;  // null pointers are given instead
    bool no_block_size = false;
    bool no_scale = false;
    bool no_zero_point = false;
    bool may_be_infinite = false;  // the data, to compute parameters from
    bool at_end[2] = {};           // scales and zero points
    size_t shift[2] = {};
    struct {
        size_t block;  // modulo their number
        bool is_spoiled;
        uint64_t pattern;
    } scale = {}, zero_point = {};
    // An array of parameters that lies over another array, `distance` from its first byte.
    enum Over { nothing, scale_over_out, zero_over_out, scale_over_in, zero_over_scale } over = nothing;
    int64_t distance = 0;
};

struct Case {
    Operation operation;
    int real;  // dtypes as given, not always ones that exist
    int code;
    size_t isa;  // index among the available ones
    size_t threads;
    bool parallel;  // from the first byte on
    bool stream;    // non-temporal stores, from the first byte on
    Pointers pointers;
    bool in_at_end;
    bool out_at_end;
    size_t in_shift;
    size_t out_shift;
    int64_t distance;  // of an overlapping output from the input
    size_t n;
    bool n_fits;  // false: more than the address space holds
    double scale;
    int64_t zero_point;
    bool has_options;
    piquant_options_t options;     // but for the layout
    unsigned char beyond[8] = {};  // what a later version's options hold behind these
    uint64_t fill_seed;
    std::vector<unsigned char> fill;
    Layout layout;
    Blocks blocks;

    bool finds_parameters() const {
        return operation == Operation::compute_quant_params || operation == Operation::quantize_dynamic;
    }
};

constexpr size_t largest_n = 16384;

// Any bytes are a case; missing ones are zeros.
Case decode(const unsigned char* data, size_t size);

// `n` elements of a dtype from the bytes of the case, and from its seed where they end.
void fill(const Case& c, int dtype, unsigned char* out, size_t n, uint64_t salt);
// Parameters of n blocks.
void fill_scales(const Case& c, unsigned char* out, size_t n);
void fill_zero_points(const Case& c, unsigned char* out, size_t n);

}  // namespace piquant::fuzz
