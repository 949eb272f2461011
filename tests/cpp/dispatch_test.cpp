// The choice of instruction set, as a function of feature bits and limit, for every combination of them.
#include "dispatch/dispatch.hpp"

#include <gtest/gtest.h>

#include <string>

namespace piquant {
namespace {

// Best first. The features are those that the flags in cmake/isa.cmake let the compiler use.
const struct {
    const char* name;
    uint32_t features;
} known[] = {{"avx512", cpu_avx512 | cpu_avx2 | cpu_f16c | cpu_sse42},
             {"avx2", cpu_avx2 | cpu_f16c | cpu_sse42},
             {"sse42", cpu_sse42},
             {"neon", cpu_neon},
             {"scalar", 0}};

size_t rank(const std::string& name) {
    size_t i = 0;
    while (i < std::size(known) && name != known[i].name) {
        ++i;
    }
    return i;
}

TEST(Isas, BestFirstWithTheirFeaturesAndTables) {
    ASSERT_GE(isa_count, 1u);
    EXPECT_STREQ(isas[isa_count - 1].name, "scalar");
    for (size_t i = 0; i < isa_count; ++i) {
        const size_t place = rank(isas[i].name);
        ASSERT_LT(place, std::size(known)) << isas[i].name;
        EXPECT_EQ(isas[i].required, known[place].features) << isas[i].name;
        EXPECT_STREQ(isas[i].table->name, isas[i].name);
        EXPECT_TRUE(i == 0 || rank(isas[i - 1].name) < place) << isas[i].name;
    }
}

TEST(Isas, EveryInstanceExists) {
    for (size_t i = 0; i < isa_count; ++i) {
        const KernelTable& t = *isas[i].table;
        for (int f = 0; f < float_count; ++f) {
            EXPECT_NE(t.minmax[f], nullptr);
            for (int q = 0; q < code_count; ++q) {
                for (int mode = 0; mode < 4; ++mode) {
                    EXPECT_NE(t.quantize[f][q][mode % 2], nullptr);
                    EXPECT_NE(t.dequantize[q][f][mode % 2], nullptr);
                    EXPECT_NE(t.requantize[f][q][mode / 2][mode % 2], nullptr);
                }
            }
        }
    }
}

TEST(SelectIsa, EveryFeatureSetAndLimit) {
    for (uint32_t features = 0; features < 32; ++features) {
        for (size_t limit = 0; limit <= std::size(known); ++limit) {
            const char* name = limit == std::size(known) ? nullptr : known[limit].name;
            size_t expected = 0;
            while ((known[rank(isas[expected].name)].features & features) !=
                       known[rank(isas[expected].name)].features ||
                   (name != nullptr && rank(isas[expected].name) < limit)) {
                ++expected;
            }
            EXPECT_EQ(select_isa(features, name), expected)
                << "features " << features << " limit " << (name != nullptr ? name : "none");
        }
    }
}

TEST(SelectIsa, UnknownLimits) {
    for (const char* name : {"", "AVX2", "avx", "avx5122", "scalar ", "sse4.2", "none"}) {
        EXPECT_EQ(select_isa(~0u, name), isa_count) << name;
    }
}

TEST(SelectIsa, MissingBitsRuleOut) {
    for (size_t i = 0; i < isa_count; ++i) {
        EXPECT_EQ(select_isa(isas[i].required, nullptr), i) << isas[i].name;
        for (uint32_t bit = 1; bit < 32; bit *= 2) {
            if ((isas[i].required & bit) != 0) {
                EXPECT_GT(select_isa(isas[i].required & ~bit, nullptr), i) << isas[i].name << " without bit " << bit;
            }
        }
    }
}

TEST(CpuFeatures, AgreeWithTheCompilerRuntime) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    EXPECT_EQ((cpu_features() & cpu_sse42) != 0,
              __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt"));
    EXPECT_EQ((cpu_features() & cpu_avx2) != 0, __builtin_cpu_supports("avx2") != 0);
    EXPECT_EQ((cpu_features() & cpu_avx512) != 0,
              __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
    EXPECT_EQ(cpu_features() & cpu_neon, 0u);
#elif defined(__aarch64__)
    EXPECT_EQ(cpu_features(), uint32_t{cpu_neon});
#endif
}

}  // namespace
}  // namespace piquant
