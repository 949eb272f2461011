#include "dispatch/dispatch.hpp"

#include "isa_list.hpp"  // PIQUANT_ISA_LIST(X): the sets that CMake compiles for this machine, best first

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace piquant {

namespace isa {
#define X(name) extern const KernelTable name;
PIQUANT_ISA_LIST(X)
#undef X
}  // namespace isa

namespace {

struct Requirement {
    const char* name;
    uint32_t features;
};

// Every ISA of every architecture, best first within one. Names of another architecture are known, and never chosen.
constexpr Requirement requirements[] = {
    {"avx512", cpu_sse42 | cpu_avx2 | cpu_f16c | cpu_avx512},
    {"avx2", cpu_sse42 | cpu_avx2 | cpu_f16c},
    {"sse42", cpu_sse42},
    {"neon", cpu_neon},
    {"scalar", 0},
};

constexpr bool equal(const char* a, const char* b) {
    while (*a != 0 && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

constexpr size_t rank_of(const char* name) {
    size_t i = 0;
    while (i < sizeof requirements / sizeof requirements[0] && !equal(requirements[i].name, name)) {
        ++i;
    }
    return i;
}

#if defined(__x86_64__)

uint64_t xcr0() {
    uint32_t lo = 0;
    uint32_t hi = 0;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t{hi} << 32) | lo;
}

uint32_t detect() {
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    uint32_t features = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0) {
        return 0;
    }
    constexpr uint32_t sse42_bits = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT;
    if ((c & sse42_bits) == sse42_bits) {
        features |= cpu_sse42;
    }
    const bool has_avx = (c & bit_OSXSAVE) != 0 && (c & bit_AVX) != 0;
    const uint64_t saved = has_avx ? xcr0() : 0;
    constexpr uint64_t ymm_state = 0x06;  // XMM and upper YMM halves
    constexpr uint64_t zmm_state = 0xe6;  // and mask registers, upper ZMM halves, ZMM16..31
    if ((saved & ymm_state) != ymm_state) {
        return features;
    }
    if ((c & bit_F16C) != 0) {
        features |= cpu_f16c;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
        return features;
    }
    if ((b & bit_AVX2) != 0) {
        features |= cpu_avx2;
    }
    constexpr uint32_t avx512_bits = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((b & avx512_bits) == avx512_bits && (saved & zmm_state) == zmm_state) {
        features |= cpu_avx512;
    }
    return features;
}

#elif defined(__aarch64__)

// Advanced SIMD is part of the AArch64 baseline.
uint32_t detect() {
    return cpu_neon;
}

#else

uint32_t detect() {
    return 0;
}

#endif

}  // namespace

const Isa isas[] = {
#define X(name) {#name, requirements[rank_of(#name)].features, &isa::name},
    PIQUANT_ISA_LIST(X)
#undef X
};
const size_t isa_count = sizeof isas / sizeof isas[0];

uint32_t cpu_features() {
    static const uint32_t features = detect();
    return features;
}

size_t select_isa(uint32_t features, const char* limit) {
    const size_t lowest_rank = limit != nullptr ? rank_of(limit) : 0;
    if (lowest_rank == sizeof requirements / sizeof requirements[0]) {
        return isa_count;
    }
    size_t i = 0;
    while ((isas[i].required & ~features) != 0 || rank_of(isas[i].name) < lowest_rank) {
        ++i;
    }
    return i;
}

}  // namespace piquant
