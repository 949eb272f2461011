// What the library computes: one scalar function per operation. Every kernel of every instruction set equals these
// bit for bit. Each line rounds where it says and nowhere else; the build forbids contraction to FMA, and the engine
// pins the floating-point control word.
#pragma once

#include "core/float_formats.hpp"
#include "core/types.hpp"

namespace piquant {
namespace {

inline float round_half_to_even(float x) {
    return __builtin_rintf(x);
}
inline double round_half_to_even(double x) {
    return __builtin_rint(x);
}

// Zero point and range as 64-bit patterns of the code type. Nothing else of the type matters: its own ends lie at or
// beyond those of the range.
struct CodeRange {
    uint64_t zero_point;
    uint64_t quant_min;
    uint64_t quant_max;
    bool is_signed;
};

// start + integer, saturated to 64 unsigned bits. `integer` is any integral floating-point value; the sum is exact:
// distances to both ends always fit 64 bits, even where the sum itself would not.
template <class T>
inline uint64_t saturating_add(uint64_t start, T integer) {
    constexpr auto two64 = static_cast<T>(18446744073709551616.0);
    const bool negative = integer < 0;
    const T magnitude = negative ? -integer : integer;
    const uint64_t distance = magnitude >= two64 ? ~uint64_t{0} : static_cast<uint64_t>(magnitude);
    if (negative) {
        return distance > start ? 0 : start - distance;
    }
    return distance > ~start ? ~uint64_t{0} : start + distance;
}

// Rounds y to an integer. With a random word u, y goes up with the probability of its fraction, in steps of 2^-16:
//   floor((round_half_to_even(y * 65536) + u) / 65536)
// computed from the exact remainder of y against its nearest integer, so that no intermediate rounds or overflows.
template <Round Rounding, class T>
inline T rounded(T y, [[maybe_unused]] uint16_t u) {
    const T nearest = round_half_to_even(y);
    if constexpr (Rounding == Round::nearest) {
        return nearest;
    } else {
        const auto parts = static_cast<int32_t>(round_half_to_even((y - nearest) * T{65536}));  // 65,536ths
        return nearest + static_cast<T>((parts + u) >> 16);
    }
}

// q = clamp(round(x * inv) + zero_point, quant_min, quant_max); NaN gives quant_min, infinities the ends.
template <Round Rounding, class T>
inline uint64_t quantize_element(T x, T inv, const CodeRange& range, uint16_t u) {
    T y = x * inv;
    if (y != y) {
        return range.quant_min;
    }
    // No 64-bit zero point brings a value from beyond 2^65 back into a range; infinities become ordinary numbers.
    constexpr auto beyond = static_cast<T>(36893488147419103232.0);  // 2^65
    y = y > beyond ? beyond : y < -beyond ? -beyond : y;
    // In offset binary, where the order of codes is that of unsigned numbers.
    const uint64_t mask = order_mask(range.is_signed);
    const uint64_t lowest = range.quant_min ^ mask;
    const uint64_t highest = range.quant_max ^ mask;
    const uint64_t q = saturating_add(range.zero_point ^ mask, rounded<Rounding>(y, u));
    return (q < lowest ? lowest : q > highest ? highest : q) ^ mask;
}

// The NaN that x86 makes: negative, without payload. Other hardware makes positive ones.
template <class T>
inline T default_nan() {
    if constexpr (sizeof(T) == 4) {
        return float_of(0xffc00000);
    } else {
        return __builtin_bit_cast(double, uint64_t{0xfff8000000000000});
    }
}

// x, and the default NaN for any NaN.
template <class T>
inline T with_default_nan(T x) {
    return x == x ? x : default_nan<T>();
}

// Whether the product of a number and a NaN is that NaN. On RISC-V it is a positive one, whatever the NaN was.
#ifdef __riscv
constexpr bool products_keep_nans = false;
#else
constexpr bool products_keep_nans = true;
#endif

// A scale for differences of either sign. A NaN is the same for both.
template <class T>
struct SignedScale {
    T by_sign[2];
};
template <class T>
inline SignedScale<T> signed_scale(T scale) {
    return {{scale, scale == scale ? -scale : scale}};
}

// (q - zero_point) * scale, both in offset binary, from the same number on. The difference is exact: a sign and 64 bits
// of magnitude hold it for every type. There is no branch on its sign, which no CPU could predict: (x ^ negative) -
// negative is -x or x.
template <class T>
inline T dequantize_element(uint64_t q, const SignedScale<T>& scale, uint64_t zero_point) {
    const uint64_t negative = q < zero_point ? ~uint64_t{0} : 0;
    const uint64_t distance = ((q - zero_point) ^ negative) - negative;
    const T product = static_cast<T>(distance) * scale.by_sign[negative & 1];
    return products_keep_nans ? product : with_default_nan(product);
}

// The sum of reduce_op "add". NaNs are those that x86 gives, on every machine: one that was there stays, and becomes quiet;
// else opposite infinities, or a NaN of v, give the default one. Hardware disagrees: RISC-V has a single NaN.
inline float accumulate(float before, float v) {
    const float sum = before + v;
    return sum == sum ? sum : before == before ? default_nan<float>() : float_of(bits_of(before) | 0x00400000);
}
inline double accumulate(double before, double v) {
    const double sum = before + v;
    if (sum == sum) {
        return sum;
    }
    const uint64_t quiet = __builtin_bit_cast(uint64_t, before) | 0x0008000000000000;
    return before == before ? default_nan<double>() : __builtin_bit_cast(double, quiet);
}

}  // namespace
}  // namespace piquant
