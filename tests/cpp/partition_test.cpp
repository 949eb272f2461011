// Chunks cover every element once and begin where no two threads can meet.
#include "engine/partition.hpp"

#include <gtest/gtest.h>

namespace piquant {
namespace {

// The least element on both a line of the output and a byte of the input; n where there is none.
size_t first_on_line(uintptr_t out, size_t n, int in_bits, int out_bits) {
    for (size_t e = 0; e < std::min<size_t>(n, 512); ++e) {
        const size_t out_bit = out * 8 + e * static_cast<size_t>(out_bits);
        if (out_bit % 512 == 0 && e * static_cast<size_t>(in_bits) % 8 == 0) {
            return e;
        }
    }
    return n;
}

void check(uintptr_t out, size_t n, int in_bits, int out_bits, size_t threads) {
    const Partition p = partition_lines(reinterpret_cast<const void*>(out), n, in_bits, out_bits, threads);
    const bool has_lines = first_on_line(out, n, in_bits, out_bits) < n;
    const auto in_width = static_cast<size_t>(in_bits);
    const auto out_width = static_cast<size_t>(out_bits);
    ASSERT_GE(p.chunks, 1u);
    ASSERT_LT(p.head * out_width, 512u) << "a whole line before the first line";
    ASSERT_EQ(p.begin(0), 0u);
    ASSERT_EQ(p.begin(p.chunks), n);
    for (size_t c = 1; c < p.chunks; ++c) {
        const size_t begin = p.begin(c);
        ASSERT_LT(p.begin(c - 1), begin) << "empty chunk " << c - 1;
        ASSERT_EQ(begin * in_width % 8, 0u) << "chunk " << c << " starts inside an input byte";
        ASSERT_EQ(begin * out_width % 8, 0u) << "chunk " << c << " starts inside an output byte";
        if (has_lines) {
            ASSERT_EQ((out + begin * out_width / 8) % 64, 0u) << "chunk " << c << " starts inside a line";
        }
        const size_t traffic = (begin - p.begin(c - 1)) * (in_width + out_width) / 8;
        // Rounding their number down takes at most an eighth of it.
        ASSERT_LE(traffic, (size_t{1} << 20) / 7 * 8 + 256 * 16 + 512 * 16) << "chunk " << c - 1 << " is too large";
    }
    ASSERT_LT(p.begin(p.chunks - 1), n) << "empty last chunk";
}

class PartitionPairs : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(PartitionPairs, CoverOnceOnBoundaries) {
    const auto [in_bits, out_bits] = GetParam();
    const size_t sizes[] = {1, 3, 63, 64, 65, 4095, 4097, 32769, 100003, 1000001, 27264000, (size_t{1} << 32) + 5};
    for (const size_t n : sizes) {
        for (const size_t threads : std::initializer_list<size_t>{2, 3, 8, 96, 1024}) {
            for (uintptr_t shift = 0; shift < 64; shift += n > 1000001 ? 13 : 1) {
                check(0x10000000 + shift, n, in_bits, out_bits, threads);
                ASSERT_FALSE(HasFailure()) << "n " << n << " threads " << threads << " shift " << shift;
            }
        }
    }
}

std::vector<std::pair<int, int>> all_pairs() {
    std::vector<std::pair<int, int>> pairs;
    for (const int real : {16, 32, 64}) {
        pairs.emplace_back(real, real);  // fused, and minmax
        for (const int code : {2, 4, 8, 16, 32, 64}) {
            pairs.emplace_back(real, code);
            pairs.emplace_back(code, real);
        }
    }
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    return pairs;
}

INSTANTIATE_TEST_SUITE_P(Bits, PartitionPairs, testing::ValuesIn(all_pairs()), [](const auto& instance) {
    return std::to_string(instance.param.first) + "_to_" + std::to_string(instance.param.second);
});

// No thread has more than its share but for the rounding to a granule.
TEST(Partition, ThreadsGetEquallyMuch) {
    for (const size_t threads : std::initializer_list<size_t>{2, 3, 8, 64}) {
        for (size_t n = 100 * threads * 1024; n < 1000 * threads * 1024; n += 37 * threads * 1024 + 5) {
            const Partition p = partition_lines(nullptr, n, 32, 8, threads);
            for (size_t i = 0; i < threads; ++i) {
                const size_t share = p.begin(p.chunks * (i + 1) / threads) - p.begin(p.chunks * i / threads);
                ASSERT_LE(share, n / threads + (p.chunks / threads + 1) * 256) << n;
            }
        }
    }
    EXPECT_EQ(partition_lines(nullptr, 65536, 32, 8, 2).chunks, 4u) << "320 KiB";
}

TEST(Partition, LargeArraysGiveEveryThreadSomething) {
    for (const size_t threads : std::initializer_list<size_t>{2, 4, 16}) {
        EXPECT_GE(partition_lines(nullptr, 27264000, 32, 8, threads).chunks, 4 * threads);
    }
    EXPECT_EQ(partition_lines(nullptr, 1000, 32, 8, 16).chunks, 1u);
}

}  // namespace
}  // namespace piquant
