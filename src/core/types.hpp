// Element types and the plain enums that every room shares.
//
// Linkage: this header and the others in src/core are compiled once per instruction set. Code therefore sits in
// an unnamed namespace (internal linkage): were it `inline` with external linkage, the linker would keep one copy
// for all, possibly the one compiled for AVX-512, and an older machine would fault. Only types without member
// functions live outside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

// name, bits, storage type, compute type T (DESIGN: float32 unless the float side is float64)
#define PIQUANT_FLOAT_TYPES(X)       \
    X(float16, 16, uint16_t, float)  \
    X(bfloat16, 16, uint16_t, float) \
    X(float32, 32, float, float)     \
    X(float64, 64, double, double)

// name, bits, signed, storage type (2- and 4-bit codes share bytes)
#define PIQUANT_CODE_TYPES(X)      \
    X(int2, 2, true, uint8_t)      \
    X(uint2, 2, false, uint8_t)    \
    X(int4, 4, true, uint8_t)      \
    X(uint4, 4, false, uint8_t)    \
    X(int8, 8, true, int8_t)       \
    X(uint8, 8, false, uint8_t)    \
    X(int16, 16, true, int16_t)    \
    X(uint16, 16, false, uint16_t) \
    X(int32, 32, true, int32_t)    \
    X(uint32, 32, false, uint32_t) \
    X(int64, 64, true, int64_t)    \
    X(uint64, 64, false, uint64_t)

// name, bits, signed: narrow codes, each in a byte of its own, whose other bits are zero
#define PIQUANT_UNPACKED_TYPES(X) \
    X(int2_unpacked, 2, true)     \
    X(uint2_unpacked, 2, false)   \
    X(int4_unpacked, 4, true)     \
    X(uint4_unpacked, 4, false)

// Functions that hot loops are made of. A call inside such a loop re-reads its constants from memory every time, and
// the compilers' own judgement lets one through for the larger instances.
#define PIQUANT_INLINE inline __attribute__((always_inline))

// Before a loop of a few turns whose number is a constant: no loop is left of it, and arrays of vectors become
// registers. Compilers do that by themselves at -O3; kernels must not need it, as many distributions build with -O2.
#if defined(__clang__)
#define PIQUANT_UNROLL _Pragma("unroll")
#else
#define PIQUANT_UNROLL _Pragma("GCC unroll 16")
#endif

namespace piquant {

enum class DType : int {
#define X(name, ...) name,
    PIQUANT_FLOAT_TYPES(X) PIQUANT_CODE_TYPES(X) PIQUANT_UNPACKED_TYPES(X)
#undef X
};

constexpr int float_count = 4;
constexpr int code_count = 12;     // of which there are kernels
constexpr int unpacked_count = 4;  // which use the kernels of 8 bits
constexpr int dtype_count = float_count + code_count + unpacked_count;

enum class Round : int { nearest, stochastic };
enum class Reduce : int { set, add };

// How elements lie in memory: records of E elements in B bytes. int8 is (1, 1), int4 (2, 1), int4_unpacked (1, 1),
// float32 (1, 4).
struct Format {
    unsigned elements;
    unsigned bytes;
};

// What a dtype looks like from outside the kernels.
struct DTypeInfo {
    const char* name;
    int bits;  // of a code, in its range; of a float, in memory
    bool is_float;
    bool is_signed;
    Format format;
};

constexpr Format format_of_bits(int bits) {
    return bits < 8 ? Format{8u / static_cast<unsigned>(bits), 1} : Format{1, static_cast<unsigned>(bits) / 8};
}

constexpr DTypeInfo dtype_infos[dtype_count] = {
#define X(name, bits, ...) {#name, bits, true, true, format_of_bits(bits)},
    PIQUANT_FLOAT_TYPES(X)
#undef X
#define X(name, bits, is_signed, ...) {#name, bits, false, is_signed, format_of_bits(bits)},
        PIQUANT_CODE_TYPES(X)
#undef X
#define X(name, bits, is_signed) {#name, bits, false, is_signed, Format{1, 1}},
            PIQUANT_UNPACKED_TYPES(X)
#undef X
};

namespace {

// Tags: quantize<float32, uint4, Round::nearest>.
#define X(NAME, BITS, STORAGE, COMPUTE)             \
    struct NAME {                                   \
        static constexpr int bits = BITS;           \
        static constexpr DType dtype = DType::NAME; \
        using storage = STORAGE;                    \
        using compute = COMPUTE;                    \
    };
PIQUANT_FLOAT_TYPES(X)
#undef X

#define X(NAME, BITS, SIGNED, STORAGE)              \
    struct NAME {                                   \
        static constexpr int bits = BITS;           \
        static constexpr bool is_signed = SIGNED;   \
        static constexpr DType dtype = DType::NAME; \
        using storage = STORAGE;                    \
    };
PIQUANT_CODE_TYPES(X)
#undef X

constexpr const DTypeInfo& info(DType t) {
    return dtype_infos[static_cast<int>(t)];
}

// Position among the float types / among the code types: the indices of the kernel tables.
constexpr int float_index(DType t) {
    return static_cast<int>(t);
}
constexpr int code_index(DType t) {
    return static_cast<int>(t) - float_count;
}

// Bytes that hold n elements; a last partial byte counts whole. Does not overflow for any n with n * bits / 8 < 2^64.
constexpr size_t bytes_for(size_t n, int bits) {
    return bits >= 8 ? n * static_cast<size_t>(bits / 8)
                     : n / static_cast<size_t>(8 / bits) + (n % static_cast<size_t>(8 / bits) != 0);
}

constexpr size_t bytes_for(size_t n, Format format) {
    return format.elements == 1 ? n * format.bytes
                                : (n / format.elements + (n % format.elements != 0)) * format.bytes;
}

// Limits of a code type as 64-bit patterns: two's complement for signed types, plain for unsigned ones. uint64 needs
// all 64 bits, so every zero point and range in the library travels as such a pattern.
constexpr uint64_t code_min(int bits, bool is_signed) {
    return is_signed ? uint64_t{0} - (uint64_t{1} << (bits - 1)) : 0;
}
constexpr uint64_t code_max(int bits, bool is_signed) {
    return code_min(bits, is_signed) + (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1);
}
// a < b for patterns of one type
constexpr bool code_less(uint64_t a, uint64_t b, bool is_signed) {
    return is_signed ? static_cast<int64_t>(a) < static_cast<int64_t>(b) : a < b;
}

}  // namespace
}  // namespace piquant
