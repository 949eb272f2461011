// The random words: published vectors of the generator, golden words, and the bulk form inside the kernels.
#include "core/random.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernel_data.hpp"
#include "random_model.hpp"

namespace piquant {
namespace {

using model::model_word;
using model::philox;
using model::Words4;

// Known-answer tests that Random123 publishes.
TEST(Philox, ModelGivesThePublishedVectors) {
    EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              (Words4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, PeriodKeysAreItsFirstTwoWords) {
    std::mt19937_64 random(1);
    EXPECT_EQ(period_keys(0, 0).k0, 0x6627e8d5u);
    EXPECT_EQ(period_keys(0, 0).k1, 0xe169c58du);
    for (int i = 0; i < 1000; ++i) {
        const uint64_t seed = i < 2 ? uint64_t(i) - 1 : random();
        const uint64_t period = i < 4 ? 0xffffffffffff : random() >> (random() % 64);
        const Words4 expected =
            philox({uint32_t(period), uint32_t(period >> 32), 0, 0}, {uint32_t(seed), uint32_t(seed >> 32)});
        const PeriodKeys keys = period_keys(seed, period);
        ASSERT_EQ(keys.k0, expected[0]);
        ASSERT_EQ(keys.k1, expected[1]);
    }
}

// Made with an implementation in another language. These words are part of the promise: they change only in a major
// version.
TEST(RandomWords, Golden) {
    const struct {
        uint64_t seed;
        uint64_t index;
        uint16_t word;
    } rows[] = {{0, 0, 0x6867},
                {0, 1, 0xc7b6},
                {0, 2, 0x873a},
                {0, 65535, 0xd98a},
                {0, 65536, 0xdaa0},
                {0, 0x100000007, 0x8b2e},
                {0, 0x1000000000003, 0x0d14},
                {0, 0xffffffffffffffff, 0xb8b0},
                {42, 0, 0x6f79},
                {42, 1, 0xed65},
                {42, 65536, 0x8e96},
                {0xdeadbeefcafef00d, 0, 0x2e89},
                {0xdeadbeefcafef00d, 65535, 0x31e1},
                {0xdeadbeefcafef00d, 0x1000000000003, 0xddd3},
                {0xffffffffffffffff, 0, 0x2dbb},
                {0xffffffffffffffff, 0xffffffffffffffff, 0x3ad9}};
    for (const auto& row : rows) {
        EXPECT_EQ(WordSequence(row.seed, row.index).next(), row.word) << row.seed << " " << row.index;
        EXPECT_EQ(model_word(row.seed, row.index), row.word) << row.seed << " " << row.index;
    }
}

TEST(RandomWords, SequenceCrossesKeyPeriodsAndWraps) {
    for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{65530}, uint64_t{65533}, uint64_t{0} - 70000,
                                 (uint64_t{1} << 48) - 3, uint64_t{0} - 1}) {
        WordSequence words(7, first);
        for (uint64_t i = 0; i < 140000; ++i) {
            ASSERT_EQ(words.next(), model_word(7, first + i)) << "first " << first << " + " << i;
        }
    }
}

// x = (65536 - w) / 65536 rounds up if and only if the word is at least w; so two values show a word exactly.
Bytes quantize_threshold(Kernel kernel, DType real, DType code, const std::vector<uint16_t>& words, uint64_t seed,
                         uint64_t offset, uint32_t numerator) {
    const size_t n = words.size();
    const size_t size = bytes_for(1, info(real).bits);
    Bytes in(n * size);
    Bytes out(bytes_for(n, info(code).bits));
    for (size_t i = 0; i < n; ++i) {
        const double x = (numerator - words[i]) / 65536.0;
        const auto narrow = static_cast<float>(x);
        std::memcpy(&in[i * size], size == 8 ? static_cast<const void*>(&x) : &narrow, size);
    }
    KernelArgs args = kernel_args(real, code, 1.0, 0);
    args.in = in.data();
    args.out = out.data();
    args.n = n;
    args.seed = seed;
    args.offset = offset;
    kernel(args);
    return out;
}

TEST(RandomWords, KernelsUseTheSameAtAnyStartAndLength) {
    std::mt19937_64 random(3);
    const uint64_t starts[] = {0, 1, 15, 17, 65536 - 40, 65535, 2 * 65536 - 2049, uint64_t{0} - 33, uint64_t{0} - 2100};
    for (size_t isa = 0; isa < isa_count; ++isa) {
        if ((isas[isa].required & ~cpu_features()) != 0) {
            continue;
        }
        for (const DType real : {DType::float32, DType::float64}) {
            for (int c = 0; c < code_count; ++c) {
                const auto code = static_cast<DType>(float_count + c);
                if (info(code).bits < 8) {
                    continue;  // one byte per code keeps the comparison simple; packed ones share the rounding
                }
                const Kernel kernel = quantize_kernel(*isas[isa].table, real, code, 1);
                for (const uint64_t start : starts) {
                    const uint64_t seed = random();
                    std::vector<uint16_t> words(1 + random() % 5000);
                    for (size_t i = 0; i < words.size(); ++i) {
                        words[i] = model_word(seed, start + i);
                    }
                    const Bytes up = quantize_threshold(kernel, real, code, words, seed, start, 65536);
                    const Bytes down = quantize_threshold(kernel, real, code, words, seed, start, 65535);
                    const size_t size = bytes_for(1, info(code).bits);
                    for (size_t i = 0; i < words.size(); ++i) {
                        ASSERT_TRUE(up[i * size] == 1 && down[i * size] == 0)
                            << isas[isa].name << " " << info(code).name << " start " << start << " element " << i;
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace piquant
