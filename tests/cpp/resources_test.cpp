// Memory, file descriptors and threads do not add up over a million calls.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "platform.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

#if defined(PIQUANT_TESTS_COUNT_RESOURCES)

namespace piquant {
namespace {

// Runs body often enough, and measures once, to have everything allocated that is allocated once; then `most` times, or
// with a sanitizer, to which each leak counts, a twentieth of that.
template <class Body>
void expect_no_growth(int most, Body body) {
    constexpr size_t a_few_pages = size_t{64} << 10;
    const int count = address_sanitizer || thread_sanitizer ? most / 20 : most;
    for (int i = 0; i < count / 100; ++i) {
        body(i);
    }
    (void)resources();
    const Resources before = resources();
    for (int i = 0; i < count; ++i) {
        body(i);
    }
    const Resources after = resources();
    if (!address_sanitizer && !thread_sanitizer) {  // their own memory grows; leaks are LeakSanitizer's to find
        EXPECT_LE(after.memory, before.memory + a_few_pages);
    }
    EXPECT_EQ(after.handles, before.handles);
    EXPECT_EQ(after.threads, before.threads);
}

TEST(Resources, AMillionCalls) {
    const ContextPtr context = make_context(2);
    const std::vector<float> in(16, 1.25f);
    std::vector<uint8_t> codes(16);
    std::vector<float> back(16);
    double scale = 0;
    int64_t zero_point = 0;
    const size_t shape[] = {2, 8};
    const size_t groups[] = {1, 4};
    const size_t columns[] = {2, 1};
    const piquant_blocks_t within = {sizeof within, 2, shape, groups, PIQUANT_FLOAT16, PIQUANT_UINT8, 0};
    const piquant_blocks_t across = {sizeof across, 2, shape, columns, PIQUANT_FLOAT16, PIQUANT_UINT8, 0};
    uint16_t scales[8];
    uint8_t zeros[8];
    expect_no_growth(1000000, [&](int i) {
        piquant_status_t status = PIQUANT_OK;
        switch (i % 8) {
            case 5:
                status = piquant_quantize_dynamic(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(),
                                                  PIQUANT_UINT4, &within, nullptr, scales, zeros, nullptr);
                break;
            case 6:
                status = piquant_quantize_dynamic(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(),
                                                  PIQUANT_UINT4, &across, nullptr, scales, zeros, nullptr);
                break;
            case 7:
                status = piquant_dequantize_blocks(context.get(), codes.data(), PIQUANT_UINT4, back.data(),
                                                   PIQUANT_FLOAT32, &across, scales, zeros, nullptr, nullptr);
                break;
            case 0:
                status = piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT4, 16,
                                          0.5, 1, nullptr);
                break;
            case 1:
                status = piquant_dequantize(context.get(), codes.data(), PIQUANT_UINT4, back.data(), PIQUANT_FLOAT32,
                                            16, 0.5, 1, nullptr);
                break;
            case 2:
                status = piquant_quantize_dequantize(context.get(), in.data(), back.data(), PIQUANT_FLOAT32,
                                                     PIQUANT_INT8, 16, 0.5, 1, nullptr);
                break;
            case 3:
                status = piquant_compute_quant_params(context.get(), in.data(), PIQUANT_FLOAT32, PIQUANT_INT8, 16,
                                                      nullptr, &scale, &zero_point);
                break;
            default:  // errors
                status = piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT4, 16,
                                          0.5, 16, nullptr);
                ASSERT_EQ(status, PIQUANT_ERROR_ZERO_POINT);
                status = PIQUANT_OK;
        }
        ASSERT_EQ(status, PIQUANT_OK);
    });
}

TEST(Resources, ParallelCallsOfChangingThreadCounts) {
    const ContextPtr context = make_parallel_context(2);
    const std::vector<float> in(20000, 1.25f);
    std::vector<uint8_t> codes(in.size());
    expect_no_growth(2000, [&](int i) {
        const size_t threads = 3 - static_cast<size_t>(i / 10 % 2);  // two at the end of every 20 calls
        ASSERT_EQ(piquant_context_set_num_threads(context.get(), threads), PIQUANT_OK);
        ASSERT_EQ(piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT8, in.size(),
                                   0.5, 1, nullptr),
                  PIQUANT_OK);
    });
}

TEST(Resources, ContextsComeAndGo) {
    const std::vector<float> in(20000, 1.25f);
    std::vector<uint8_t> codes(in.size());
    expect_no_growth(1000, [&](int) {
        const ContextPtr context = make_parallel_context(2);
        ASSERT_EQ(piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT8, in.size(),
                                   0.5, 1, nullptr),
                  PIQUANT_OK);
    });
}

}  // namespace
}  // namespace piquant
#endif
