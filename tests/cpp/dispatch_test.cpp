// The choice of instruction set: from the registers of CPUs that exist to features, from features and limit to a set.
#include "dispatch/dispatch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "instances.hpp"

namespace piquant {
namespace {

constexpr uint64_t sse42_features = cpu_sse3 | cpu_ssse3 | cpu_sse41 | cpu_sse42 | cpu_popcnt;
constexpr uint64_t avx2_features = sse42_features | cpu_avx | cpu_avx2 | cpu_f16c;
constexpr uint64_t avx512_features = avx2_features | cpu_avx512f | cpu_avx512bw | cpu_avx512dq | cpu_avx512vl;
#if defined(__clang__)
constexpr uint64_t implied_by_avx512 = cpu_fma;
#else
constexpr uint64_t implied_by_avx512 = 0;
#endif

// Best first, with what is intended to be required of the CPU. A flag in cmake/isa.cmake that brings more shows here.
const struct {
    const char* name;
    uint64_t features;
} known[] = {{"avx512", avx512_features | implied_by_avx512},
             {"avx2", avx2_features},
             {"sse42", sse42_features},
             {"neon", cpu_neon},
             {"scalar", 0}};

size_t rank(const std::string& name) {
    size_t i = 0;
    while (i < std::size(known) && name != known[i].name) {
        ++i;
    }
    return i;
}

std::string names(uint64_t features) {
    std::string text;
#define X(name, ...) text += (features & cpu_##name) != 0 ? #name " " : "";
    PIQUANT_X86_FEATURES(X)
#undef X
    return text;
}

TEST(Isas, BestFirstWithTheirFeaturesAndTables) {
    ASSERT_GE(isa_count, 1u);
    EXPECT_STREQ(isas[isa_count - 1].name, "scalar");
    for (size_t i = 0; i < isa_count; ++i) {
        const size_t place = rank(isas[i].name);
        ASSERT_LT(place, std::size(known)) << isas[i].name;
        // This unit has the flags of the whole build.
        EXPECT_EQ(names(isas[i].required), names(known[place].features | compiled_features())) << isas[i].name;
        EXPECT_EQ(isas[i].required & cpu_neon, compiled_features() & cpu_neon);
        EXPECT_STREQ(isas[i].table->name, isas[i].name);
        EXPECT_EQ(isas[i].required, isas[i].table->required);
        EXPECT_TRUE(i == 0 || rank(isas[i - 1].name) < place) << isas[i].name;
    }
}

TEST(Isas, EveryInstanceExists) {
    for (size_t i = 0; i < isa_count; ++i) {
        const std::vector<Kernel> kernels = all_kernels(*isas[i].table, nullptr);
        EXPECT_EQ(std::count(kernels.begin(), kernels.begin() + library_slots, nullptr), 0) << isas[i].name;
    }
}

// Every set of the features that matter, with and without all others.
TEST(SelectIsa, EveryFeatureSetAndLimit) {
    uint64_t all = 0;
    for (size_t i = 0; i < isa_count; ++i) {
        all |= isas[i].required;
    }
    uint64_t some = 0;
    do {
        for (const uint64_t features : {some, some | ~all}) {
            for (size_t limit = 0; limit <= std::size(known); ++limit) {
                const char* name = limit == std::size(known) ? nullptr : known[limit].name;
                size_t expected = 0;
                while (expected < isa_count && ((isas[expected].required & features) != isas[expected].required ||
                                                (name != nullptr && rank(isas[expected].name) < limit))) {
                    ++expected;
                }
                ASSERT_EQ(select_isa(features, name), expected)
                    << names(features) << "limit " << (name != nullptr ? name : "none");
            }
        }
        some = (some - all) & all;
    } while (some != 0);
}

TEST(SelectIsa, UnknownLimits) {
    for (const char* name : {"", "AVX2", "avx", "avx5122", "scalar ", "sse4.2", "none"}) {
        EXPECT_EQ(select_isa(~uint64_t{0}, name), isa_count) << name;
    }
}

TEST(SelectIsa, MissingBitsRuleOut) {
    for (size_t i = 0; i < isa_count; ++i) {
        // The best of those that require the same: NEON and scalar require nothing but the architecture.
        const size_t chosen = select_isa(isas[i].required, nullptr);
        ASSERT_LE(chosen, i) << isas[i].name;
        EXPECT_EQ(isas[chosen].required, isas[i].required) << isas[i].name;
        for (uint64_t bit = 1; bit != 0; bit *= 2) {
            if ((isas[i].required & bit) != 0) {
                EXPECT_GT(select_isa(isas[i].required & ~bit, nullptr), i) << isas[i].name << " without " << names(bit);
            }
        }
    }
}

// Registers as the CPUs report them, in the order of CpuidRegisters, and the set that each must get.
constexpr uint64_t x87_sse = 0x3;
constexpr uint64_t with_ymm = 0x7;
constexpr uint64_t with_zmm = 0xe7;
constexpr uint32_t osxsave = 1u << 27;
constexpr uint32_t f16c = 1u << 29;
constexpr uint32_t popcnt = 1u << 23;
constexpr uint32_t avx2 = 1u << 5;
constexpr uint32_t avx512vl = 1u << 31;

const struct {
    const char* cpu;
    CpuidRegisters registers;
    const char* isa;
} cpus[] = {
    {"nothing but x86-64", {}, "scalar"},
    {"AMD Phenom II, SSE3 and POPCNT only", {0x00802009, 0, 0, 0, 0, 0x000037ff, 0}, "scalar"},
    {"Intel Core 2 (Merom), up to SSSE3", {0x0000e3bd, 0, 0, 0, 0, 0x1, 0}, "scalar"},
    {"Intel Core 2 (Penryn), up to SSE4.1", {0x0008e3fd, 0, 0, 0, 0, 0x1, 0}, "scalar"},
    {"Intel Nehalem", {0x0098e3bd, 0, 0, 0, 0, 0x1, 0}, "sse42"},
    {"Intel Nehalem without POPCNT", {0x0098e3bd & ~popcnt, 0, 0, 0, 0, 0x1, 0}, "scalar"},
    {"Intel Sandy Bridge", {0x1fbae3ff, 0, 0, 0, 0, 0x1, with_ymm}, "sse42"},
    {"Intel Sandy Bridge, system without XSAVE", {0x1fbae3ff & ~osxsave, 0, 0, 0, 0, 0x1, with_ymm}, "sse42"},
    {"AMD Bulldozer, AVX, XOP, FMA4", {0x1e98220b, 0, 0, 0, 0, 0x01c9bfff, with_ymm}, "sse42"},
    {"Intel Ivy Bridge, AVX and F16C", {0x7fbae3ff, 0x00000281, 0, 0, 0, 0x1, with_ymm}, "sse42"},
    {"Intel Haswell", {0x7ffafbbf, 0x000027ab, 0, 0, 0, 0x21, with_ymm}, "avx2"},
    {"Intel Haswell, F16C masked", {0x7ffafbbf & ~f16c, 0x000027ab, 0, 0, 0, 0x21, with_ymm}, "sse42"},
    {"Intel Haswell, AVX2 masked", {0x7ffafbbf, 0x000027ab & ~avx2, 0, 0, 0, 0x21, with_ymm}, "sse42"},
    {"Intel Haswell, system saves XMM only", {0x7ffafbbf, 0x000027ab, 0, 0, 0, 0x21, x87_sse}, "sse42"},
    {"Intel Haswell, system without XSAVE", {0x7ffafbbf & ~osxsave, 0x000027ab, 0, 0, 0, 0x21, with_ymm}, "sse42"},
    {"AMD Zen", {0x7ed8320b, 0x209c01a9, 0, 0, 0, 0x35c233ff, with_ymm}, "avx2"},
    {"Intel Skylake-X", {0x7ffefbff, 0xd39ffffb, 0x8, 0x0c000000, 0, 0x121, 0x2ff}, "avx512"},
    {"Intel Skylake-X, ZMM not saved", {0x7ffefbff, 0xd39ffffb, 0x8, 0x0c000000, 0, 0x121, with_ymm}, "avx2"},
    {"Intel Skylake-X, mask registers only", {0x7ffefbff, 0xd39ffffb, 0x8, 0, 0, 0x121, 0x27}, "avx2"},
    {"Intel Skylake-X, ZMM16..31 not saved", {0x7ffefbff, 0xd39ffffb, 0x8, 0, 0, 0x121, 0x67}, "avx2"},
    {"Intel Skylake-X, YMM not saved", {0x7ffefbff, 0xd39ffffb, 0x8, 0, 0, 0x121, 0xe3}, "sse42"},
    {"Intel Skylake-X, AVX512VL masked", {0x7ffefbff, 0xd39ffffb & ~avx512vl, 0x8, 0, 0, 0x121, with_zmm}, "avx2"},
    {"Intel Skylake-X, AVX2 masked", {0x7ffefbff, 0xd39ffffb & ~avx2, 0x8, 0, 0, 0x121, with_zmm}, "sse42"},
    {"Intel Skylake-X, F16C masked", {0x7ffefbff & ~f16c, 0xd39ffffb, 0x8, 0, 0, 0x121, with_zmm}, "sse42"},
    {"Intel Alder Lake, no AVX-512",
     {0x7ffafbbf, 0x239ca7eb, 0x984007ac, 0xfc18c410, 0x00400810, 0x121, 0x207},
     "avx2"},
    {"AMD Zen 4", {0x7ef8320b, 0xf1bf97a9, 0x00405fce, 0x10000010, 0x20, 0x75c237ff, 0x2e7}, "avx512"},
    {"AMD Zen 4 in a virtual machine",
     {0xfffa3203, 0xf1bf07ab, 0x00405fc6, 0x10, 0x20, 0x004003f3, with_zmm},
     "avx512"},
    {"all bits, system saves nothing more", {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, x87_sse}, "sse42"},
};

TEST(Cpuid, RealCpusGetTheirSet) {
    for (const auto& row : cpus) {
        const uint64_t features = features_from(row.registers);
        EXPECT_EQ(features & cpu_neon, 0u);
        size_t expected = 0;
        while ((known[expected].features & ~features) != 0) {
            ++expected;
        }
        EXPECT_STREQ(known[expected].name, row.isa) << row.cpu << ": " << names(features);
#if defined(__x86_64__)
        if ((compiled_features() & ~features) == 0) {
            ASSERT_LT(select_isa(features, nullptr), isa_count);
            EXPECT_STREQ(isas[select_isa(features, nullptr)].name, row.isa) << row.cpu;
        } else {
            EXPECT_EQ(select_isa(features, nullptr), isa_count) << row.cpu;
        }
#endif
    }
}

TEST(Cpuid, EachFeatureIsOneBitOfOneRegister) {
    const CpuidRegisters everything = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~uint64_t{0}};
    const uint64_t all = features_from(everything);
    uint64_t seen = 0;
#define X(name, macro, reg, bit, state)                                         \
    {                                                                           \
        CpuidRegisters r = everything;                                          \
        r.reg &= ~(uint32_t{1} << bit);                                         \
        EXPECT_EQ(names(all & ~features_from(r)), names(uint64_t{cpu_##name})); \
        EXPECT_EQ(seen & cpu_##name, 0u) << #name;                              \
        seen |= cpu_##name;                                                     \
    }
    PIQUANT_X86_FEATURES(X)
#undef X
    EXPECT_EQ(seen, all);
}

TEST(Cpuid, RegistersThatTheSystemDoesNotSaveRuleOut) {
    const auto saving = [](uint64_t xcr0) { return features_from({~0u, ~0u, ~0u, ~0u, ~0u, ~0u, xcr0}); };
    constexpr uint64_t on_ymm = cpu_avx | cpu_fma | cpu_f16c | cpu_fma4 | cpu_xop | cpu_avx2 | cpu_avxvnni;
    constexpr uint64_t on_general = cpu_movbe | cpu_lzcnt | cpu_bmi | cpu_bmi2;
    EXPECT_EQ(names(saving(x87_sse)), names(sse42_features | on_general | cpu_gfni));
    EXPECT_EQ(names(saving(with_ymm)), names(sse42_features | on_general | cpu_gfni | on_ymm));
    EXPECT_EQ(names(saving(with_zmm)), names(saving(~uint64_t{0})));
}

TEST(CpuFeatures, AgreeWithTheCompilerRuntime) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse2") == 0) {  // which every CPU of this architecture has
        GTEST_SKIP() << "Zig's runtime says that there is nothing; expected_isas.cpp asks Linux";
    }
#define EXPECT_SAME(feature, name) EXPECT_EQ((cpu_features() & feature) != 0, __builtin_cpu_supports(name) != 0) << name
    EXPECT_SAME(cpu_sse3, "sse3");
    EXPECT_SAME(cpu_ssse3, "ssse3");
    EXPECT_SAME(cpu_sse41, "sse4.1");
    EXPECT_SAME(cpu_sse42, "sse4.2");
    EXPECT_SAME(cpu_popcnt, "popcnt");
    EXPECT_SAME(cpu_avx, "avx");
    EXPECT_SAME(cpu_avx2, "avx2");
    EXPECT_SAME(cpu_fma, "fma");
    EXPECT_SAME(cpu_bmi, "bmi");
    EXPECT_SAME(cpu_bmi2, "bmi2");
    EXPECT_SAME(cpu_avx512f, "avx512f");
    EXPECT_SAME(cpu_avx512bw, "avx512bw");
    EXPECT_SAME(cpu_avx512dq, "avx512dq");
    EXPECT_SAME(cpu_avx512vl, "avx512vl");
    EXPECT_SAME(cpu_avx512cd, "avx512cd");
    EXPECT_SAME(cpu_avx512vbmi, "avx512vbmi");
    EXPECT_SAME(cpu_avx512vnni, "avx512vnni");
    EXPECT_SAME(cpu_avx512bitalg, "avx512bitalg");
    EXPECT_SAME(cpu_gfni, "gfni");
#undef EXPECT_SAME
    EXPECT_EQ(cpu_features() & cpu_neon, 0u);
#elif defined(__aarch64__)
    EXPECT_EQ(cpu_features(), uint64_t{cpu_neon});
#else
    EXPECT_EQ(cpu_features(), 0u);
#endif
}

}  // namespace
}  // namespace piquant
