// Element types and the enums that every room shares.
//
// Linkage: this header and the others in src/core are compiled once per instruction set. Code therefore sits in
// an unnamed namespace (internal linkage): were it `inline` with external linkage, the linker would keep one copy
// for all, possibly the one compiled for AVX-512, and an older machine would fault. Only types without member
// functions live outside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) ||      \
    defined(__NO_SIGNED_ZEROS__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ != 0) || \
    (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0)
#error "a compiler flag changes what arithmetic gives, see cmake/float_flags.cmake"
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "piquant needs a little-endian machine: packed codes would come out wrong");

// The lists of types and widths. What follows X is handed on to each of its calls, so that lists can nest.

// name, bits, storage type, compute type T (float32 unless the float side is float64)
#define PIQUANT_FLOAT_TYPES(X, ...)                             \
    X(float16, 16, uint16_t, float __VA_OPT__(, ) __VA_ARGS__)  \
    X(bfloat16, 16, uint16_t, float __VA_OPT__(, ) __VA_ARGS__) \
    X(float32, 32, float, float __VA_OPT__(, ) __VA_ARGS__)     \
    X(float64, 64, double, double __VA_OPT__(, ) __VA_ARGS__)

// name, bits, signed
#define PIQUANT_CODE_TYPES(X) \
    X(int2, 2, true)          \
    X(uint2, 2, false)        \
    X(int4, 4, true)          \
    X(uint4, 4, false)        \
    X(int8, 8, true)          \
    X(uint8, 8, false)        \
    X(int16, 16, true)        \
    X(uint16, 16, false)      \
    X(int32, 32, true)        \
    X(uint32, 32, false)      \
    X(int64, 64, true)        \
    X(uint64, 64, false)

// Bits of a code. Kernels are compiled for a width; whether codes are signed is data.
#define PIQUANT_CODE_WIDTHS(X, ...)  \
    X(2 __VA_OPT__(, ) __VA_ARGS__)  \
    X(4 __VA_OPT__(, ) __VA_ARGS__)  \
    X(8 __VA_OPT__(, ) __VA_ARGS__)  \
    X(16 __VA_OPT__(, ) __VA_ARGS__) \
    X(32 __VA_OPT__(, ) __VA_ARGS__) \
    X(64 __VA_OPT__(, ) __VA_ARGS__)

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
constexpr int width_count = 6;  // of PIQUANT_CODE_WIDTHS

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
#define X(name, bits, is_signed) {#name, bits, false, is_signed, format_of_bits(bits)},
        PIQUANT_CODE_TYPES(X)
#undef X
#define X(name, bits, is_signed) {#name, bits, false, is_signed, Format{1, 1}},
            PIQUANT_UNPACKED_TYPES(X)
#undef X
};

namespace {

// Tags of the float types, for templates: quantize<float32, 4, Round::nearest>.
#define X(NAME, BITS, STORAGE, COMPUTE)             \
    struct NAME {                                   \
        static constexpr int bits = BITS;           \
        static constexpr DType dtype = DType::NAME; \
        using storage = STORAGE;                    \
        using compute = COMPUTE;                    \
    };
PIQUANT_FLOAT_TYPES(X)
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

// Position among the code widths, which are all powers of two from 2 on.
constexpr int width_index(int bits) {
    return __builtin_ctz(static_cast<unsigned>(bits)) - 1;
}

// Codes by how far their values reach, for what never stores them: quantize_dequantize has a kernel for each of these.
enum class CodeWidth : int { up_to_8, up_to_16, up_to_32, up_to_64 };
constexpr int code_width_count = 4;

constexpr CodeWidth code_width(int bits) {
    return bits <= 8    ? CodeWidth::up_to_8
           : bits == 16 ? CodeWidth::up_to_16
           : bits == 32 ? CodeWidth::up_to_32
                        : CodeWidth::up_to_64;
}

// Bytes that hold n elements; a last partial byte counts whole. Does not overflow for any n with n * bits / 8 < 2^64.
constexpr size_t bytes_for(size_t n, int bits) {
    return bits >= 8 ? n * static_cast<size_t>(bits / 8)
                     : n / static_cast<size_t>(8 / bits) + (n % static_cast<size_t>(8 / bits) != 0);
}

constexpr size_t bytes_for(size_t n, Format format) {
    return format.elements == 1 ? n * format.bytes : (n / format.elements + (n % format.elements != 0)) * format.bytes;
}

// Limits of a code type as 64-bit patterns: two's complement for signed types, binary for unsigned ones. uint64 needs
// all 64 bits, so every zero point and range in the library travels as such a pattern.
constexpr uint64_t code_min(int bits, bool is_signed) {
    return is_signed ? uint64_t{0} - (uint64_t{1} << (bits - 1)) : 0;
}
constexpr uint64_t code_max(int bits, bool is_signed) {
    return code_min(bits, is_signed) + (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1);
}
// Exclusive or with this turns a pattern into offset binary and back: an unsigned number in the order of the codes.
// For unsigned codes it changes nothing. Signedness as data costs one operation this way, and no branch.
constexpr uint64_t order_mask(bool is_signed) {
    return is_signed ? uint64_t{1} << 63 : 0;
}
// a < b for patterns of one type
constexpr bool code_less(uint64_t a, uint64_t b, bool is_signed) {
    return (a ^ order_mask(is_signed)) < (b ^ order_mask(is_signed));
}

}  // namespace
}  // namespace piquant
