#include "cpu/features.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace piquant {

PIQUANT_RUNS_BEFORE_THE_CHECK;

namespace {

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

uint64_t cpu_features() {
    static const uint64_t features = detect();
    return features;
}

}  // namespace piquant
