// Every status of the functions with blocks, for every argument that can cause it, and that errors leave the output, the
// parameters and bad_block alone. What blocks themselves can be wrong with is in block_faults_test.cpp.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "block_call.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Call = BlockArguments;

constexpr size_t no_block = 777;

// An enum value from outside the enum, as C lets one pass.
piquant_dtype_t outside(int value) {
    return static_cast<piquant_dtype_t>(value);
}

class BlockErrors : public testing::TestWithParam<Call::Function> {
protected:
    ContextPtr context = make_parallel_context(2);
    std::vector<size_t> shape = {5, 13};
    std::vector<size_t> block_size = {2, 4};  // 3 x 4 blocks
    std::vector<float> in = std::vector<float>(65, 1.0f);
    Bytes out = Bytes(300, 0x5a);
    std::vector<float> scales = std::vector<float>(12, 0.5f);
    Bytes zeros = Bytes(12, 3);
    size_t bad_block = no_block;
    piquant_options_t options = default_options();
    piquant_blocks_t blocks{};

    Call call() {
        options = default_options();
        blocks = {sizeof blocks, 2, shape.data(), block_size.data(), PIQUANT_FLOAT32, PIQUANT_INT8, 3};
        return {GetParam(), context.get(), PIQUANT_FLOAT32, PIQUANT_INT4, &blocks,   &options,
                in.data(),  out.data(),    scales.data(),   zeros.data(), &bad_block};
    }

    void expect(const std::string& what, piquant_status_t status, const std::function<void(Call&)>& spoil) {
        SCOPED_TRACE(what);
        out.assign(out.size(), 0x5a);
        const std::vector<float> in_before = in;
        const std::vector<float> scales_before = scales;
        const Bytes zeros_before = zeros;
        Call c = call();
        spoil(c);
        const piquant_status_t got = c();
        EXPECT_EQ(got, status) << piquant_status_string(got);
        EXPECT_EQ(bad_block, no_block);
        EXPECT_EQ(in, in_before) << "the input was written to";
        if (status != PIQUANT_OK) {
            EXPECT_EQ(out, Bytes(out.size(), 0x5a)) << "the output was written to";
            EXPECT_EQ(scales, scales_before) << "scales were written to";
            EXPECT_EQ(zeros, zeros_before) << "zero points were written to";
        }
        scales = scales_before;
        zeros = zeros_before;
        bad_block = no_block;
    }
    // Of functions that it is an error for; others succeed.
    void expect_if(bool wrong, const std::string& what, piquant_status_t status,
                   const std::function<void(Call&)>& spoil) {
        expect(what, wrong ? status : PIQUANT_OK, spoil);
    }
    bool finds_parameters() { return call().finds_parameters(); }
};

TEST_P(BlockErrors, GoodArgumentsWork) {
    expect("all good", PIQUANT_OK, [](Call&) {});
    EXPECT_EQ(out == Bytes(out.size(), 0x5a), !call().has_output());
}

TEST_P(BlockErrors, ContextPointersAndDtypes) {
    expect("context", PIQUANT_ERROR_CONTEXT, [](Call& c) { c.context = nullptr; });
    expect("in", PIQUANT_ERROR_NULL, [](Call& c) { c.in = nullptr; });
    expect_if(call().has_output(), "out", PIQUANT_ERROR_NULL, [](Call& c) { c.out = nullptr; });
    expect("scale", PIQUANT_ERROR_NULL, [](Call& c) { c.scale = nullptr; });
    expect_if(finds_parameters(), "zero_point", PIQUANT_ERROR_NULL, [](Call& c) { c.zero_point = nullptr; });
    expect("zero_point, symmetric", PIQUANT_OK, [this](Call& c) { c.zero_point = nullptr, options.symmetric = 1; });
    expect("bad_block", PIQUANT_OK, [](Call& c) { c.bad_block = nullptr; });
    expect("bad_block of an error", PIQUANT_ERROR_NULL, [](Call& c) { c.bad_block = nullptr, c.in = nullptr; });
    expect("no options", PIQUANT_OK, [](Call& c) { c.options = nullptr; });
    for (const int bad : {4, 15, 19, 20, 100, -1, INT32_MIN, INT32_MAX}) {
        expect("float dtype", PIQUANT_ERROR_FLOAT_DTYPE, [=](Call& c) { c.real = outside(bad); });
    }
    for (const int bad : {0, 3, 20, 21, 100, -1, INT32_MIN, INT32_MAX}) {
        expect("code dtype", PIQUANT_ERROR_CODE_DTYPE, [=](Call& c) { c.code = outside(bad); });
    }
}

TEST_P(BlockErrors, Options) {
    for (const size_t bad : {size_t{0}, offsetof(piquant_options_t, nan_scales) - 1, size_t{4097}}) {
        expect("struct_size", PIQUANT_ERROR_OPTIONS, [&](Call&) { options.struct_size = bad; });
    }
    for (const int bad : {-1, 2, INT32_MAX}) {
        expect("round_mode", PIQUANT_ERROR_ROUND_MODE,
               [&](Call&) { options.round_mode = static_cast<piquant_round_mode_t>(bad); });
        expect("reduce_op", PIQUANT_ERROR_REDUCE_OP,
               [&](Call&) { options.reduce_op = static_cast<piquant_reduce_op_t>(bad); });
    }
    const auto ranged = [this](int64_t lowest, int64_t highest) {
        options.has_quant_min = options.has_quant_max = 1;
        options.quant_min = lowest;
        options.quant_max = highest;
    };
    const int64_t bad_ranges[][2] = {{-9, 7}, {-8, 8}, {3, 3}, {3, 2}, {INT64_MIN, 7}, {-8, INT64_MAX}};
    for (const auto& bad : bad_ranges) {
        expect("range", PIQUANT_ERROR_QUANT_RANGE, [&](Call&) { ranged(bad[0], bad[1]); });
    }
    const int64_t one_sided[][2] = {{0, 7}, {-8, 0}, {3, 5}};
    for (const auto& bad : one_sided) {
        expect("range, not symmetric", PIQUANT_OK, [&](Call&) { ranged(bad[0], bad[1]); });
        expect_if(finds_parameters(), "range, symmetric", PIQUANT_ERROR_SYMMETRIC_RANGE,
                  [&](Call&) { ranged(bad[0], bad[1]), options.symmetric = 1; });
    }
    const size_t other_shape[] = {1};
    expect("rank and shape of the options are not looked at", PIQUANT_OK,
           [&](Call&) { options.rank = 1, options.shape = other_shape; });
    expect("nor a rank without a shape", PIQUANT_OK, [&](Call&) { options.rank = 1000; });
}

TEST_P(BlockErrors, Blocks) {
    expect("none", PIQUANT_ERROR_BLOCKS, [](Call& c) { c.blocks = nullptr; });
    for (const size_t bad : {size_t{0}, sizeof blocks - 1, size_t{4097}, SIZE_MAX}) {
        expect("struct_size", PIQUANT_ERROR_BLOCKS, [&](Call&) { blocks.struct_size = bad; });
    }
    for (const size_t bad : {size_t{0}, size_t{PIQUANT_MAX_BLOCK_RANK + 1}, SIZE_MAX}) {
        expect("rank", PIQUANT_ERROR_BLOCKS, [&](Call&) { blocks.rank = bad; });
    }
    expect("shape", PIQUANT_ERROR_BLOCKS, [&](Call&) { blocks.shape = nullptr; });
    expect("block_size", PIQUANT_ERROR_BLOCKS, [&](Call&) { blocks.block_size = nullptr; });
    for (const size_t d : {size_t{0}, size_t{1}}) {
        expect("a block of no elements", PIQUANT_ERROR_BLOCKS, [&](Call&) { block_size[d] = 0; });
        block_size = {2, 4};
    }
    expect("larger than the array", PIQUANT_OK, [&](Call&) { block_size = {SIZE_MAX, SIZE_MAX}; });
    block_size = {2, 4};
    const size_t most_shape[] = {1, 1, 5, 1, 1, 1, 1, 13};
    const size_t most_blocks[] = {1, 3, 2, 1, 1, 9, 1, 4};
    static_assert(std::size(most_shape) == PIQUANT_MAX_BLOCK_RANK);
    expect("the highest rank", PIQUANT_OK, [&](Call&) {
        blocks.rank = PIQUANT_MAX_BLOCK_RANK;
        blocks.shape = most_shape;
        blocks.block_size = most_blocks;
    });
}

// Of a later version: what there is beyond this one's must be zero, wherever blocks lie.
TEST_P(BlockErrors, BlocksOfALaterVersion) {
    struct {
        piquant_blocks_t known;
        unsigned char beyond[64];
    } later{};
    for (const size_t block_rows : {size_t{1}, size_t{2}}) {
        block_size = {block_rows, 13};
        const auto longer = [&](Call& c) {
            later.known = blocks;
            later.known.struct_size = sizeof later;
            c.blocks = &later.known;
        };
        expect("zeros beyond", PIQUANT_OK, longer);
        for (const size_t at : {size_t{0}, sizeof later.beyond - 1}) {
            later.beyond[at] = 1;
            expect("something beyond", PIQUANT_ERROR_BLOCKS, longer);
            later.beyond[at] = 0;
        }
    }
}

TEST_P(BlockErrors, DtypesOfParameters) {
    for (int d = -1; d <= PIQUANT_UINT4_UNPACKED + 1; ++d) {
        const bool is_float = d >= PIQUANT_FLOAT16 && d <= PIQUANT_FLOAT64;
        if (!is_float) {
            expect("scale dtype " + std::to_string(d), PIQUANT_ERROR_PARAM_DTYPE,
                   [&](Call&) { blocks.scale_dtype = outside(d); });
        }
        const bool is_integer = d >= PIQUANT_INT8 && d <= PIQUANT_UINT64;
        if (!is_integer) {
            expect("zero point dtype " + std::to_string(d), PIQUANT_ERROR_PARAM_DTYPE,
                   [&](Call&) { blocks.zero_point_dtype = outside(d); });
        }
        expect("of no zero points, dtype " + std::to_string(d), PIQUANT_OK, [&](Call& c) {
            blocks.zero_point_dtype = outside(d);
            c.zero_point = nullptr;
            options.symmetric = 1;
        });
    }
}

// Where zero points are found, their dtype must hold all codes. Where they are given, each must be one.
TEST_P(BlockErrors, ZeroPointsThatHoldTheCodes) {
    out.resize(1000);
    std::vector<uint64_t> wide(12, 0);
    std::vector<double> many(65, 1.0);
    for (int q = PIQUANT_INT2; q <= PIQUANT_UINT4_UNPACKED; ++q) {
        for (int z = PIQUANT_INT8; z <= PIQUANT_UINT64; ++z) {
            const piquant_dtype_t code = outside(q);
            const piquant_dtype_t zero = outside(z);
            const Ends codes = ends_of(code);
            const bool holds = ends_of(zero).hold(codes.lowest) && ends_of(zero).hold(codes.highest);
            expect_if(finds_parameters() && !holds,
                      std::string(piquant_dtype_name(code)) + " in " + piquant_dtype_name(zero),
                      PIQUANT_ERROR_PARAM_DTYPE, [&](Call& c) {
                          c.code = code;
                          c.zero_point = wide.data();
                          c.in = c.reads_codes() ? static_cast<const void*>(many.data()) : in.data();
                          blocks.zero_point_dtype = zero;
                      });
            ASSERT_FALSE(HasFailure() && q > PIQUANT_INT2);
        }
    }
}

// The zero point that all blocks share is no block's own.
TEST_P(BlockErrors, OneZeroPointForAll) {
    const auto expect_zero = [&](piquant_dtype_t code, int64_t zero, bool is_good) {
        expect_if(!finds_parameters() && !is_good, std::to_string(zero), PIQUANT_ERROR_ZERO_POINT, [&](Call& c) {
            c.code = code;
            c.zero_point = nullptr;
            blocks.zero_point = zero;
            options.symmetric = 1;
        });
    };
    for (const int64_t bad : {int64_t{-9}, int64_t{8}, INT64_MIN, INT64_MAX}) {
        expect_zero(PIQUANT_INT4, bad, false);
    }
    expect_zero(PIQUANT_INT4, -8, true);
    expect_zero(PIQUANT_UINT8, -1, false);
    expect_zero(PIQUANT_UINT4_UNPACKED, 16, false);
    out.resize(1000);
    if (GetParam() == Call::quantize) {
        expect_zero(PIQUANT_UINT64, -1, true);  // the bits of a uint64_t
        expect_zero(PIQUANT_INT64, INT64_MIN, true);
    }
}

TEST_P(BlockErrors, LengthsAndStrides) {
    const size_t too_long[][2] = {{SIZE_MAX, 2}, {2, SIZE_MAX},     {size_t{1} << 40, size_t{1} << 40},
                                  {1, SIZE_MAX}, {1, SIZE_MAX / 4}, {size_t{1} << 61, 1}};
    for (const auto& bad : too_long) {
        for (const size_t size : {size_t{1}, SIZE_MAX}) {
            expect("shape", PIQUANT_ERROR_LENGTH, [&](Call&) { shape = {bad[0], bad[1]}, block_size = {size, size}; });
        }
    }
    // The data repeat one element; its parameters are more than there are addresses.
    const ptrdiff_t none[] = {0, 0};
    if (!call().has_output()) {
        expect("parameters", PIQUANT_ERROR_LENGTH, [&](Call&) {
            shape = {(size_t{1} << 61) - 1, 1};
            block_size = {1, 1};
            blocks.scale_dtype = PIQUANT_FLOAT64;
            options.in_strides = none;
        });
    }
    shape = {5, 13};
    block_size = {2, 4};
    expect("the input repeats itself", PIQUANT_OK, [&](Call&) { options.in_strides = none; });
    expect_if(call().has_output(), "the output does", PIQUANT_ERROR_STRIDES,
              [&](Call&) { options.out_strides = none; });
    const ptrdiff_t far[] = {PTRDIFF_MAX, 4};
    expect("strides of the input", PIQUANT_ERROR_LENGTH, [&](Call&) { options.in_strides = far; });
    expect_if(call().has_output(), "strides of the output", PIQUANT_ERROR_LENGTH,
              [&](Call&) { options.out_strides = far; });
}

// Every pair of arrays, a byte over each other and side by side. What is only read may be the same.
TEST_P(BlockErrors, Overlap) {
    Bytes memory(2000);
    enum Array { input, output, scale, zero };
    constexpr const char* names[] = {"in", "out", "scale", "zero_point"};
    const size_t bytes[] = {call().reads_codes() ? size_t{65} : size_t{260},
                            call().writes_codes() ? size_t{65} : size_t{260}, 48, 12};
    const auto is_written = [&](Array a) { return a == output || (finds_parameters() && (a == scale || a == zero)); };
    const auto expect_pair = [&](Array a, Array b, const char* where, size_t distance, bool wrong) {
        memory.assign(memory.size(), 0);
        unsigned char* at[4] = {};
        at[a] = memory.data() + 400;
        at[b] = at[a] + distance;
        if (at[scale] != nullptr) {
            std::memcpy(at[scale], std::vector<float>(12, 1.0f).data(), bytes[scale]);
        }
        const Bytes before = memory;
        expect(std::string(names[b]) + " " + where + " " + names[a], wrong ? PIQUANT_ERROR_OVERLAP : PIQUANT_OK,
               [&](Call& c) {
                   c.code = PIQUANT_INT8;  // any byte is a zero point
                   c.in = at[input] != nullptr ? at[input] : c.in;
                   c.out = at[output] != nullptr ? at[output] : c.out;
                   c.scale = at[scale] != nullptr ? at[scale] : c.scale;
                   c.zero_point = at[zero] != nullptr ? at[zero] : c.zero_point;
               });
        EXPECT_TRUE(!wrong || memory == before) << "an error wrote";
    };
    for (const Array a : {input, output, scale, zero}) {
        for (const Array b : {input, output, scale, zero}) {
            if (a == b || ((a == output || b == output) && !call().has_output())) {
                continue;
            }
            expect_pair(a, b, "behind", bytes[a], false);
            expect_pair(a, b, "over the last byte of", bytes[a] - 1, is_written(a) || is_written(b));
            if (!is_written(a) && !is_written(b)) {
                expect_pair(a, b, "upon", 0, false);
            }
        }
    }
    if (GetParam() == Call::quantize_dequantize) {
        expect("in place", PIQUANT_OK, [&](Call& c) { c.in = c.out = memory.data(); });
        expect("an element further", PIQUANT_ERROR_OVERLAP,
               [&](Call& c) { c.in = memory.data(), c.out = memory.data() + 4; });
    }
}

TEST_P(BlockErrors, ArraysWithoutElements) {
    const std::vector<size_t> empty[] = {{0, 5}, {5, 0}, {SIZE_MAX, 0}, {0, SIZE_MAX}, {0, 0}};
    for (const auto& none : empty) {
        shape = none;
        expect("nothing to do", PIQUANT_OK, [](Call&) {});
        EXPECT_EQ(out, Bytes(out.size(), 0x5a));
        expect("null pointers", PIQUANT_OK,
               [](Call& c) { c.in = nullptr, c.out = nullptr, c.scale = nullptr, c.zero_point = nullptr; });
        expect("same pointers", PIQUANT_OK, [this](Call& c) { c.in = out.data(), c.scale = out.data(); });
        expect("what excuses no dtype", PIQUANT_ERROR_PARAM_DTYPE,
               [this](Call&) { blocks.scale_dtype = PIQUANT_INT8; });
        expect("nor options", PIQUANT_ERROR_ROUND_MODE,
               [this](Call&) { options.round_mode = static_cast<piquant_round_mode_t>(2); });
        expect("nor blocks of nothing", PIQUANT_ERROR_BLOCKS, [this](Call&) { block_size[0] = 0; });
        block_size = {2, 4};
    }
    shape = {5, 13};
}

INSTANTIATE_TEST_SUITE_P(All, BlockErrors, testing::ValuesIn(block_functions),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

}  // namespace
}  // namespace piquant
