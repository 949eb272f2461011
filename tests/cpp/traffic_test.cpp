// The traffic twins write what a conversion writes: every byte of the output, and none behind it.
#include "traffic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernel_data.hpp"

namespace piquant {
namespace {

using benchmark::move_traffic;
using benchmark::TrafficSettings;

constexpr TrafficSettings always_parallel = {2, 0, SIZE_MAX};
constexpr TrafficSettings alone = {1, SIZE_MAX, SIZE_MAX};

TEST(Traffic, WritesWhatAConversionWrites) {
    ThreadPool pool;
    const Bytes in(1 << 16, 1);
    for (const Isa* isa : vector_isas()) {
        for (int real = 0; real < float_count; ++real) {
            for (int code = float_count; code < float_count + code_count; ++code) {
                for (const bool quantize : {true, false}) {
                    for (const size_t n : std::initializer_list<size_t>{1, 77, 4096, 8001}) {
                        const int from = quantize ? real : code;
                        const int to = quantize ? code : real;
                        Bytes out(bytes_for(n, info(static_cast<DType>(to)).bits) + 1, 0);
                        for (const size_t threshold : {size_t{0}, SIZE_MAX}) {
                            const TrafficSettings settings = {2, 0, threshold};
                            std::fill(out.begin(), out.end(), 0);
                            ASSERT_EQ(move_traffic(pool, settings, isa->name, in.data(), from, out.data(), to, n,
                                                   PIQUANT_ADD),
                                      PIQUANT_OK);
                            ASSERT_EQ(std::count(out.begin(), out.end() - 1, 0), 0)
                                << isa->name << " " << from << " " << to;
                            ASSERT_EQ(out.back(), 0) << isa->name << " " << from << " " << to;
                        }
                    }
                }
            }
        }
        for (const TrafficSettings& settings : {always_parallel, alone}) {
            ASSERT_EQ(move_traffic(pool, settings, isa->name, in.data(), PIQUANT_FLOAT32, nullptr, PIQUANT_UINT8, 9000,
                                   PIQUANT_SET),
                      PIQUANT_OK);
        }
    }
}

TEST(Traffic, BadArguments) {
    ThreadPool pool;
    unsigned char in[64] = {};
    unsigned char out[64] = {};
    // The best set of an old CPU is scalar.
    const Isa& best = isas[select_isa(cpu_features(), nullptr)];
    const bool has_twins = std::string(best.name) != "scalar";
    const auto move = [&](const char* isa, const void* from, int from_dtype, void* to, int to_dtype, int reduce) {
        return move_traffic(pool, alone, isa, from, from_dtype, to, to_dtype, 8, reduce);
    };
    EXPECT_EQ(move("scalar", in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_ISA);
    EXPECT_EQ(move("none", in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_ISA);
    EXPECT_EQ(move(nullptr, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_ISA);
    EXPECT_EQ(move(best.name, in, 99, out, PIQUANT_INT8, 0), PIQUANT_ERROR_CODE_DTYPE);
    EXPECT_EQ(move(best.name, in, PIQUANT_FLOAT32, out, PIQUANT_FLOAT32, 0), PIQUANT_ERROR_CODE_DTYPE);
    EXPECT_EQ(move(best.name, in, PIQUANT_INT8, out, PIQUANT_INT8, 0), PIQUANT_ERROR_FLOAT_DTYPE);
    EXPECT_EQ(move(best.name, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7), PIQUANT_ERROR_REDUCE_OP);
    for (const size_t threads : {size_t{0}, size_t{PIQUANT_MAX_THREADS} + 1}) {
        EXPECT_EQ(move_traffic(pool, {threads, 0, 0}, best.name, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 8, 0),
                  PIQUANT_ERROR_NUM_THREADS);
    }
    if (has_twins) {
        EXPECT_EQ(move(best.name, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_OK);
        EXPECT_EQ(move(best.name, nullptr, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0), PIQUANT_ERROR_NULL);
        EXPECT_EQ(move(best.name, in, PIQUANT_FLOAT32, in, PIQUANT_INT8, 0), PIQUANT_ERROR_OVERLAP);
        EXPECT_EQ(move_traffic(pool, alone, best.name, nullptr, PIQUANT_FLOAT32, nullptr, PIQUANT_INT8, 0, 0),
                  PIQUANT_OK);
    }
}

}  // namespace
}  // namespace piquant
