// Memory, file descriptors and threads do not add up over a million calls.
#include <gtest/gtest.h>

#if defined(__linux__)
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

struct Resources {
    size_t memory = 0;  // resident, bytes
    size_t descriptors = 0;
    size_t threads = 0;

    static Resources now() {
        Resources r;
        std::ifstream statm("/proc/self/statm");
        size_t total = 0;
        statm >> total >> r.memory;
        r.memory *= static_cast<size_t>(sysconf(_SC_PAGESIZE));
        statm.close();
        r.descriptors = entries("/proc/self/fd");
        r.threads = entries("/proc/self/task");
        return r;
    }

private:
    static size_t entries(const char* directory) {
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
    }
};

// Runs body often enough, and measures once, to have everything allocated that is allocated once; then `count` times.
template <class Body>
void expect_no_growth(int count, Body body) {
    constexpr size_t a_few_pages = size_t{64} << 10;
    for (int i = 0; i < count / 100; ++i) {
        body(i);
    }
    (void)Resources::now();
    const Resources before = Resources::now();
    for (int i = 0; i < count; ++i) {
        body(i);
    }
    const Resources after = Resources::now();
    if (!address_sanitizer && !thread_sanitizer) {  // their own memory grows; leaks are LeakSanitizer's to find
        EXPECT_LE(after.memory, before.memory + a_few_pages);
    }
    EXPECT_EQ(after.descriptors, before.descriptors);
    EXPECT_EQ(after.threads, before.threads);
}

TEST(Resources, AMillionCalls) {
    const ContextPtr context = make_context(2);
    const std::vector<float> in(16, 1.25f);
    std::vector<uint8_t> codes(16);
    std::vector<float> back(16);
    double scale = 0;
    int64_t zero_point = 0;
    expect_no_growth(1000000, [&](int i) {
        piquant_status_t status = PIQUANT_OK;
        switch (i % 5) {
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
