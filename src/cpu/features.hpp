// What a CPU may lack: as bits of a mask, as the macros that compilers predefine, and as CPUID reports it.
//
// An instruction set requires what its compiler flags allowed the compiler to use, and that is read from the predefined
// macros. So a flag cannot be added without its check, one compiler may imply more than another, and flags for the
// whole build (CXXFLAGS=-march=...) count as well. Features that compilers use only where a program asks for them by
// name (AES, RDRAND) are left out, as are those that come with a listed one: CRC32 with SSE4.2, XSAVE with AVX.
// scripts/check-isa-objects fails if the flags of an instruction set bring a macro that is in neither group.
#pragma once

#include <stdint.h>

namespace piquant {

// The registers of CPUID that tell, zero for leaves that a CPU does not have, and the state that the operating system
// saves, zero where it does not say (bit 27 of leaf 1).
struct CpuidRegisters {
    uint32_t leaf1_ecx;
    uint32_t leaf7_ebx;
    uint32_t leaf7_ecx;
    uint32_t leaf7_edx;
    uint32_t leaf7_1_eax;
    uint32_t extended1_ecx;
    uint64_t xcr0;
};

namespace {

// Bits of XCR0. Instructions on registers that the system does not save are illegal, whatever CPUID says of them.
enum SavedState : uint64_t {
    xmm = 0,     // part of x86-64
    ymm = 0x06,  // XMM and the upper halves of YMM
    zmm = 0xe6,  // these, mask registers, the upper halves of ZMM0..15, and ZMM16..31
};

// name, predefined macro, register and bit of CPUID, registers that the instructions use
#define PIQUANT_X86_FEATURES(X)                                 \
    X(sse3, __SSE3__, leaf1_ecx, 0, xmm)                        \
    X(ssse3, __SSSE3__, leaf1_ecx, 9, xmm)                      \
    X(sse41, __SSE4_1__, leaf1_ecx, 19, xmm)                    \
    X(sse42, __SSE4_2__, leaf1_ecx, 20, xmm)                    \
    X(popcnt, __POPCNT__, leaf1_ecx, 23, xmm)                   \
    X(movbe, __MOVBE__, leaf1_ecx, 22, xmm)                     \
    X(lzcnt, __LZCNT__, extended1_ecx, 5, xmm)                  \
    X(bmi, __BMI__, leaf7_ebx, 3, xmm)                          \
    X(bmi2, __BMI2__, leaf7_ebx, 8, xmm)                        \
    X(gfni, __GFNI__, leaf7_ecx, 8, xmm)                        \
    X(avx, __AVX__, leaf1_ecx, 28, ymm)                         \
    X(fma, __FMA__, leaf1_ecx, 12, ymm)                         \
    X(f16c, __F16C__, leaf1_ecx, 29, ymm)                       \
    X(fma4, __FMA4__, extended1_ecx, 16, ymm)                   \
    X(xop, __XOP__, extended1_ecx, 11, ymm)                     \
    X(avx2, __AVX2__, leaf7_ebx, 5, ymm)                        \
    X(avxvnni, __AVXVNNI__, leaf7_1_eax, 4, ymm)                \
    X(avx512f, __AVX512F__, leaf7_ebx, 16, zmm)                 \
    X(avx512dq, __AVX512DQ__, leaf7_ebx, 17, zmm)               \
    X(avx512ifma, __AVX512IFMA__, leaf7_ebx, 21, zmm)           \
    X(avx512cd, __AVX512CD__, leaf7_ebx, 28, zmm)               \
    X(avx512bw, __AVX512BW__, leaf7_ebx, 30, zmm)               \
    X(avx512vl, __AVX512VL__, leaf7_ebx, 31, zmm)               \
    X(avx512vbmi, __AVX512VBMI__, leaf7_ecx, 1, zmm)            \
    X(avx512vbmi2, __AVX512VBMI2__, leaf7_ecx, 6, zmm)          \
    X(avx512vnni, __AVX512VNNI__, leaf7_ecx, 11, zmm)           \
    X(avx512bitalg, __AVX512BITALG__, leaf7_ecx, 12, zmm)       \
    X(avx512vpopcntdq, __AVX512VPOPCNTDQ__, leaf7_ecx, 14, zmm) \
    X(avx512fp16, __AVX512FP16__, leaf7_edx, 23, zmm)           \
    X(avx512bf16, __AVX512BF16__, leaf7_1_eax, 5, zmm)

enum CpuFeatureIndex : int {
    index_neon,
#define X(name, ...) index_##name,
    PIQUANT_X86_FEATURES(X)
#undef X
};

enum CpuFeature : uint64_t {
    cpu_neon = uint64_t{1} << index_neon,
#define X(name, ...) cpu_##name = uint64_t{1} << index_##name,
    PIQUANT_X86_FEATURES(X)
#undef X
};

// What the flags of this unit allow the compiler to use. A macro that is not defined stays its own name.
constexpr uint64_t compiled_features() {
    uint64_t features = 0;
#if defined(__aarch64__)
    features |= cpu_neon;  // part of the architecture
#endif
#define PIQUANT_TEXT(x) #x
#define X(name, macro, ...) features |= PIQUANT_TEXT(macro)[0] == '_' ? 0 : uint64_t{cpu_##name};
    PIQUANT_X86_FEATURES(X)
#undef X
#undef PIQUANT_TEXT
    return features;
}

// What a CPU with these registers runs.
constexpr uint64_t features_from(const CpuidRegisters& r) {
    constexpr uint32_t system_tells = uint32_t{1} << 27;
    const uint64_t saved = (r.leaf1_ecx & system_tells) != 0 ? r.xcr0 : 0;
    uint64_t features = 0;
#define X(name, macro, reg, bit, state) \
    features |= (r.reg >> bit & 1) != 0 && (saved & state) == state ? uint64_t{cpu_##name} : 0;
    PIQUANT_X86_FEATURES(X)
#undef X
    return features;
}

}  // namespace

// Features of this CPU, read once: those that it has and whose registers the operating system saves.
uint64_t cpu_features();

// Code that may meet a CPU which lacks what the build was compiled for is compiled for the architecture's baseline.
#define PIQUANT_RUNS_BEFORE_THE_CHECK \
    static_assert((compiled_features() & ~uint64_t{cpu_neon}) == 0, "compile this unit with PIQUANT_BASELINE_FLAGS")

}  // namespace piquant
