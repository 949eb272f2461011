// Calls on a device: what it is handed of each, in place of kernels that would read addresses of nothing.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "piquant/quant.h"

namespace piquant {
namespace {

struct Seen {
    piquant_plan_t plan{};
    std::vector<piquant_dimension_t> dimensions;
    piquant_status_t answer = PIQUANT_OK;
};

piquant_status_t look(void* self, const piquant_plan_t* plan) {
    Seen& seen = *static_cast<Seen*>(self);
    seen.plan = *plan;
    seen.dimensions.assign(plan->dimensions, plan->dimensions + plan->rank);
    return seen.answer;
}

class Devices : public testing::Test {
protected:
    Devices() {
        const piquant_device_t device{sizeof device, look, &seen};
        EXPECT_EQ(piquant_context_create_on_device(&context, &device), PIQUANT_OK);
        options.seed = 3;
        options.offset = 5;
    }
    ~Devices() override { EXPECT_EQ(piquant_context_destroy(context), PIQUANT_OK); }

    Seen seen;
    piquant_context_t* context = nullptr;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    void* const in = reinterpret_cast<void*>(uintptr_t{1} << 20);
    void* const out = reinterpret_cast<void*>(uintptr_t{2} << 20);
    void* const scales = reinterpret_cast<void*>(uintptr_t{3} << 20);
    void* const zeros = reinterpret_cast<void*>(uintptr_t{4} << 20);
    const std::vector<size_t> shape{4, 6};
    const std::vector<size_t> block_size{1, 3};
    const piquant_blocks_t blocks{sizeof blocks, 2, shape.data(), block_size.data(), PIQUANT_FLOAT32, PIQUANT_INT8, 0};
};

TEST_F(Devices, GetCallsWithOneScale) {
    ASSERT_EQ(piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT4, 24, 0.5, 2, &options), PIQUANT_OK);
    EXPECT_EQ(seen.plan.operation, PIQUANT_QUANTIZE);
    EXPECT_EQ(seen.plan.in, in);
    EXPECT_EQ(seen.plan.out, out);
    EXPECT_EQ(seen.plan.n, 24u);
    EXPECT_EQ(seen.plan.blocks, 0u);
    EXPECT_EQ(seen.plan.scale, 0.5);
    EXPECT_EQ(seen.plan.inverse, 2.0);
    EXPECT_EQ(seen.plan.zero_point, 2);
    EXPECT_EQ(seen.plan.quant_min, -8);
    EXPECT_EQ(seen.plan.quant_max, 7);
    EXPECT_EQ(seen.plan.seed, 3u);
    EXPECT_EQ(seen.plan.offset, 5u);
    ASSERT_EQ(seen.dimensions.size(), 1u);

    options.reduce_op = PIQUANT_ADD;
    ASSERT_EQ(piquant_dequantize(context, in, PIQUANT_UINT8, out, PIQUANT_BFLOAT16, 24, 0.5, 2, &options), PIQUANT_OK);
    EXPECT_EQ(seen.plan.operation, PIQUANT_DEQUANTIZE);
    EXPECT_EQ(seen.plan.reduce_op, PIQUANT_ADD);
    EXPECT_EQ(seen.dimensions[0].in_stride, 1);
    EXPECT_EQ(seen.dimensions[0].out_stride, 2);
}

TEST_F(Devices, GetStrides) {
    const std::vector<ptrdiff_t> strides{100, 8};
    options.rank = 2;
    options.shape = shape.data();
    options.in_strides = strides.data();
    options.round_mode = PIQUANT_STOCHASTIC;
    ASSERT_EQ(piquant_quantize_dequantize(context, in, out, PIQUANT_FLOAT32, PIQUANT_INT8, 24, 0.5, 0, &options),
              PIQUANT_OK);
    EXPECT_EQ(seen.plan.operation, PIQUANT_QUANTIZE_DEQUANTIZE);
    EXPECT_EQ(seen.plan.round_mode, PIQUANT_STOCHASTIC);
    ASSERT_EQ(seen.dimensions.size(), 2u);
    EXPECT_EQ(seen.dimensions[0].size, 4u);
    EXPECT_EQ(seen.dimensions[0].in_stride, 100);
    EXPECT_EQ(seen.dimensions[0].out_stride, 24);
    EXPECT_EQ(seen.dimensions[1].in_stride, 8);
    EXPECT_EQ(seen.dimensions[1].out_stride, 4);
}

TEST_F(Devices, GetCallsWithBlocks) {
    const auto expect = [&](piquant_status_t status, piquant_operation_t operation) {
        ASSERT_EQ(status, PIQUANT_OK);
        EXPECT_EQ(seen.plan.operation, operation);
        EXPECT_EQ(seen.plan.blocks, 8u);
        EXPECT_EQ(seen.plan.scales, scales);
        EXPECT_EQ(seen.plan.zero_points, zeros);
        EXPECT_EQ(seen.dimensions.back().block, 3u);
    };
    expect(piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, &blocks, scales, zeros, &options,
                                   nullptr),
           PIQUANT_QUANTIZE);
    expect(piquant_dequantize_blocks(context, in, PIQUANT_INT8, out, PIQUANT_FLOAT32, &blocks, scales, zeros, &options,
                                     nullptr),
           PIQUANT_DEQUANTIZE);
    expect(piquant_quantize_dequantize_blocks(context, in, out, PIQUANT_FLOAT32, PIQUANT_INT8, &blocks, scales, zeros,
                                              &options, nullptr),
           PIQUANT_QUANTIZE_DEQUANTIZE);
    expect(piquant_compute_quant_params_blocks(context, in, PIQUANT_FLOAT32, PIQUANT_INT8, &blocks, &options, scales,
                                               zeros, nullptr),
           PIQUANT_COMPUTE_QUANT_PARAMS);
    EXPECT_EQ(seen.plan.out, nullptr);
    EXPECT_EQ(seen.plan.nan_scales, 0);
    options.nan_scales = 1;
    expect(piquant_quantize_dynamic(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, &blocks, &options, scales, zeros,
                                    nullptr),
           PIQUANT_QUANTIZE_DYNAMIC);
    EXPECT_NE(seen.plan.nan_scales, 0);
}

TEST_F(Devices, AnswerWithAStatus) {
    seen.answer = PIQUANT_ERROR_DEVICE;
    EXPECT_EQ(piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 24, 0.5, 0, &options),
              PIQUANT_ERROR_DEVICE);
    EXPECT_EQ(piquant_quantize_dynamic(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, &blocks, &options, scales,
                                       zeros, nullptr),
              PIQUANT_ERROR_DEVICE);
    seen.plan.n = 0;
    EXPECT_EQ(piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 24, 0.0, 0, &options),
              PIQUANT_ERROR_SCALE);
    EXPECT_EQ(seen.plan.n, 0u);
    double scale = 0;
    int64_t zero_point = 0;
    EXPECT_EQ(
        piquant_compute_quant_params(context, in, PIQUANT_FLOAT32, PIQUANT_INT8, 24, &options, &scale, &zero_point),
        PIQUANT_ERROR_CONTEXT);
}

TEST(Device, NeedsAFunction) {
    piquant_context_t* context = nullptr;
    const piquant_device_t device{sizeof device, nullptr, nullptr};
    EXPECT_EQ(piquant_context_create_on_device(&context, &device), PIQUANT_ERROR_DEVICE);
    EXPECT_EQ(piquant_context_create_on_device(&context, nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_create_on_device(nullptr, &device), PIQUANT_ERROR_NULL);
    EXPECT_EQ(context, nullptr);
}

}  // namespace
}  // namespace piquant
