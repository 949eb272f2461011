// The traffic twins write what a conversion writes: every byte of the output, and none behind it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernel_data.hpp"
#include "support.hpp"

namespace piquant {
namespace {

TEST(Traffic, WritesWhatAConversionWrites) {
    const ContextPtr context = make_parallel_context(2);
    const std::vector<unsigned char> in(1 << 16, 1);
    for (const Isa* isa : vector_isas()) {
        ASSERT_EQ(piquant_context_set_isa(context.get(), isa->name), PIQUANT_OK);
        for (int real = 0; real < float_count; ++real) {
            for (int code = float_count; code < float_count + code_count; ++code) {
                for (const bool quantize : {true, false}) {
                    for (const size_t n : std::initializer_list<size_t>{1, 77, 4096, 8001}) {
                        const auto from = static_cast<piquant_dtype_t>(quantize ? real : code);
                        const auto to = static_cast<piquant_dtype_t>(quantize ? code : real);
                        std::vector<unsigned char> out(piquant_size(to, n) + 1, 0);
                        ASSERT_EQ(piquant_move_traffic(context.get(), in.data(), from, out.data(), to, n, PIQUANT_ADD),
                                  PIQUANT_OK);
                        ASSERT_EQ(std::count(out.begin(), out.end() - 1, 0), 0)
                            << isa->name << " " << from << " " << to;
                        ASSERT_EQ(out.back(), 0) << isa->name << " " << from << " " << to;
                    }
                }
            }
        }
        ASSERT_EQ(
            piquant_move_traffic(context.get(), in.data(), PIQUANT_FLOAT32, nullptr, PIQUANT_UINT8, 9000, PIQUANT_SET),
            PIQUANT_OK);
    }
}

TEST(Traffic, BadArguments) {
    const ContextPtr context = make_parallel_context(1);
    piquant_context_t* c = context.get();
    unsigned char in[64] = {};
    unsigned char out[64] = {};
    const auto move = [&](piquant_context_t* on, const void* from, int from_dtype, void* to, int to_dtype, int reduce) {
        return piquant_move_traffic(on, from, static_cast<piquant_dtype_t>(from_dtype), to,
                                    static_cast<piquant_dtype_t>(to_dtype), 8,
                                    static_cast<piquant_reduce_op_t>(reduce));
    };
    // The best set of an old CPU is scalar.
    const bool has_twins = std::string(piquant_available_isa(0)) != "scalar";
    EXPECT_EQ(move(c, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), has_twins ? PIQUANT_OK : PIQUANT_ERROR_ISA);
    EXPECT_EQ(move(nullptr, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(move(c, nullptr, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_NULL);
    EXPECT_EQ(move(c, in, 99, out, PIQUANT_INT8, 0), PIQUANT_ERROR_CODE_DTYPE);
    EXPECT_EQ(move(c, in, PIQUANT_FLOAT32, out, PIQUANT_FLOAT32, 0), PIQUANT_ERROR_CODE_DTYPE);
    EXPECT_EQ(move(c, in, PIQUANT_INT8, out, PIQUANT_INT8, 0), PIQUANT_ERROR_FLOAT_DTYPE);
    EXPECT_EQ(move(c, in, PIQUANT_FLOAT32, in, PIQUANT_INT8, 0), PIQUANT_ERROR_OVERLAP);
    EXPECT_EQ(move(c, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7), PIQUANT_ERROR_REDUCE_OP);
    ASSERT_EQ(piquant_context_set_isa(c, "scalar"), PIQUANT_OK);
    EXPECT_EQ(move(c, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_ISA);
}

}  // namespace
}  // namespace piquant
