// The five functions with blocks as one, and arrays for them, for tests that go through all of them.
#pragma once

#include <gtest/gtest.h>
#include <piquant/quant.h>

#include <numeric>
#include <vector>

#include "exact.hpp"
#include "portable_data.hpp"

namespace piquant {

struct BlockArguments {
    enum Function { quantize, dequantize, quantize_dequantize, compute_quant_params, quantize_dynamic } function;
    piquant_context_t* context;
    piquant_dtype_t real;
    piquant_dtype_t code;
    const piquant_blocks_t* blocks;
    const piquant_options_t* options;
    const void* in = nullptr;
    void* out = nullptr;  // not used by compute_quant_params
    void* scale = nullptr;
    void* zero_point = nullptr;
    size_t* bad_block = nullptr;

    bool finds_parameters() const { return function >= compute_quant_params; }
    bool has_output() const { return function != compute_quant_params; }
    bool reads_codes() const { return function == dequantize; }
    bool writes_codes() const { return function == quantize || function == quantize_dynamic; }

    piquant_status_t operator()() const {
        switch (function) {
            case quantize:
                return piquant_quantize_blocks(context, in, real, out, code, blocks, scale, zero_point, options,
                                               bad_block);
            case dequantize:
                return piquant_dequantize_blocks(context, in, code, out, real, blocks, scale, zero_point, options,
                                                 bad_block);
            case quantize_dequantize:
                return piquant_quantize_dequantize_blocks(context, in, out, real, code, blocks, scale, zero_point,
                                                          options, bad_block);
            case compute_quant_params:
                return piquant_compute_quant_params_blocks(context, in, real, code, blocks, options, scale, zero_point,
                                                           bad_block);
            default:
                return piquant_quantize_dynamic(context, in, real, out, code, blocks, options, scale, zero_point,
                                                bad_block);
        }
    }
};

constexpr BlockArguments::Function block_functions[] = {
    BlockArguments::quantize, BlockArguments::dequantize, BlockArguments::quantize_dequantize,
    BlockArguments::compute_quant_params, BlockArguments::quantize_dynamic};

inline const char* name_of(BlockArguments::Function function) {
    constexpr const char* names[] = {"quantize", "dequantize", "quantize_dequantize", "compute_quant_params",
                                     "quantize_dynamic"};
    return names[function];
}

// A shape and its blocks.
struct BlockGrid {
    std::vector<size_t> shape;
    std::vector<size_t> block_size;

    size_t elements() const { return std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies<>()); }
    size_t blocks() const {
        size_t n = 1;
        for (size_t d = 0; d < shape.size(); ++d) {
            n *= (shape[d] + block_size[d] - 1) / block_size[d];
        }
        return n;
    }
    size_t bytes_of(DType type) const { return elements() / shape.back() * bytes_for(shape.back(), info(type).format); }
    piquant_blocks_t with(DType scale_dtype, DType zero_dtype) const {
        return {sizeof(piquant_blocks_t),
                shape.size(),
                shape.data(),
                block_size.data(),
                static_cast<piquant_dtype_t>(scale_dtype),
                static_cast<piquant_dtype_t>(zero_dtype),
                1};
    }
};

// The narrowest dtype of zero points for codes.
inline DType plain(DType code) {
    return info(code).bits > 8 ? code : info(code).is_signed ? DType::int8 : DType::uint8;
}

// From 1/16 to 16.
inline Bytes scales(DType type, size_t n, Words& words) {
    Bytes made = numbers(type, n, 4, words);
    const size_t size = info(type).format.bytes;
    for (size_t i = 0; i < n; ++i) {
        made[(i + 1) * size - 1] &= 0x7f;
    }
    return made;
}

// Codes of a type, each as a number of an integer dtype.
inline Bytes zero_points(DType dtype, DType code, size_t n, Words& words) {
    const uint64_t lowest = code_min(info(code).bits, info(code).is_signed);
    const uint64_t span = code_max(info(code).bits, info(code).is_signed) - lowest;
    const size_t size = info(dtype).format.bytes;
    Bytes made(n * size);
    for (size_t i = 0; i < n; ++i) {
        const uint64_t zero = lowest + (span == UINT64_MAX ? words.next() : words.below(span + 1));
        std::memcpy(&made[i * size], &zero, size);
    }
    return made;
}

// Arrays of a call: finite data, codes, and good parameters, also where they are to be overwritten.
struct BlockArrays {
    Bytes in;
    Bytes out;
    Bytes scale;
    Bytes zero_point;

    BlockArrays(const BlockArguments& call, const BlockGrid& grid, DType scale_dtype, DType zero_dtype, Words& words) {
        const auto code = static_cast<DType>(call.code);
        const auto made = [&](bool is_code) {
            return is_code ? codes(DType::uint8, grid.bytes_of(code), words)
                           : numbers(static_cast<DType>(call.real), grid.elements(), 8, words);
        };
        in = made(call.reads_codes());
        out = made(call.writes_codes());
        scale = scales(scale_dtype, grid.blocks(), words);
        zero_point = zero_points(zero_dtype, code, grid.blocks(), words);
    }
    // The call on these.
    BlockArguments of(BlockArguments call) {
        call.in = in.data();
        call.out = out.data();
        call.scale = scale.data();
        call.zero_point = zero_point.data();
        return call;
    }
    bool operator==(const BlockArrays&) const = default;
};

// The range of an integer dtype, as numbers.
struct Ends {
    exact::Integer lowest;
    exact::Integer highest;

    bool hold(exact::Integer number) const { return lowest <= number && number <= highest; }
};
inline Ends ends_of(piquant_dtype_t dtype) {
    int64_t lowest = 0;
    int64_t highest = 0;
    EXPECT_EQ(piquant_dtype_range(dtype, &lowest, &highest), PIQUANT_OK);
    const bool is_signed = dtype != PIQUANT_UINT64;  // what it says of others fits an int64_t
    return {exact::value_of(static_cast<uint64_t>(lowest), is_signed),
            exact::value_of(static_cast<uint64_t>(highest), is_signed)};
}

}  // namespace piquant
