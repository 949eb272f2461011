#include "dispatch/dispatch.hpp"

#include "isa_list.hpp"  // PIQUANT_ISA_LIST(X): the sets that CMake compiles for this machine, best first

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace piquant {

PIQUANT_RUNS_BEFORE_THE_CHECK;

namespace isa {
#define X(name) extern const KernelTable name;
PIQUANT_ISA_LIST(X)
#undef X
}  // namespace isa

namespace {

// Every ISA of every architecture, best first within one. Names of another architecture are known, and never chosen.
constexpr const char* known_names[] = {"avx512", "avx2", "sse42", "neon", "scalar"};
constexpr size_t known_count = sizeof known_names / sizeof known_names[0];

constexpr bool equal(const char* a, const char* b) {
    while (*a != 0 && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

constexpr size_t rank_of(const char* name) {
    size_t i = 0;
    while (i < known_count && !equal(known_names[i], name)) {
        ++i;
    }
    return i;
}

#if defined(__x86_64__)

uint64_t detect() {
    CpuidRegisters r{};
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) {
        r.leaf1_ecx = c;
    }
    if ((r.leaf1_ecx & bit_OSXSAVE) != 0) {
        uint32_t low = 0;
        uint32_t high = 0;
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        r.xcr0 = (uint64_t{high} << 32) | low;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
        r.leaf7_ebx = b;
        r.leaf7_ecx = c;
        r.leaf7_edx = d;
        const uint32_t last_subleaf = a;
        if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
            r.leaf7_1_eax = a;
        }
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0) {
        r.extended1_ecx = c;
    }
    return features_from(r);
}

#elif defined(__aarch64__)

uint64_t detect() {
    return cpu_neon;  // part of the architecture
}

#else

uint64_t detect() {
    return 0;
}

#endif

}  // namespace

const Isa isas[] = {
#define X(name) {#name, isa::name.required, &isa::name},
    PIQUANT_ISA_LIST(X)
#undef X
};
const size_t isa_count = sizeof isas / sizeof isas[0];

uint64_t cpu_features() {
    static const uint64_t features = detect();
    return features;
}

bool cpu_runs_this_build() {
    return (isas[isa_count - 1].required & ~cpu_features()) == 0;
}

size_t select_isa(uint64_t features, const char* limit) {
    const size_t best_rank = limit != nullptr ? rank_of(limit) : 0;
    if (best_rank == known_count) {
        return isa_count;
    }
    size_t i = 0;
    while (i < isa_count && ((isas[i].required & ~features) != 0 || rank_of(isas[i].name) < best_rank)) {
        ++i;
    }
    return i;
}

}  // namespace piquant
