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

// Zero point and range as 64-bit patterns of the code type.
struct CodeRange {
    uint64_t zero_point;
    uint64_t quant_min;
    uint64_t quant_max;
};

// integer + zero_point, saturated to the whole range of Q. `integer` is any integral floating-point value; the sum is
// exact: distances to the ends of the range always fit 64 unsigned bits, even where the sum itself would not.
template <class Q, class T>
inline uint64_t saturating_add(uint64_t zero_point, T integer) {
    constexpr uint64_t lowest = code_min(Q::bits, Q::is_signed);
    constexpr uint64_t highest = code_max(Q::bits, Q::is_signed);
    constexpr T two64 = static_cast<T>(18446744073709551616.0);
    const bool negative = integer < 0;
    const T magnitude = negative ? -integer : integer;
    const uint64_t distance = magnitude >= two64 ? ~uint64_t{0} : static_cast<uint64_t>(magnitude);
    if (negative) {
        return distance > zero_point - lowest ? lowest : zero_point - distance;
    }
    return distance > highest - zero_point ? highest : zero_point + distance;
}

// Rounds y to an integer. With a random word u, y goes up with the probability of its fraction, in steps of 2^-16:
//   floor((round_half_to_even(y * 65536) + u) / 65536)
// computed from the exact remainder of y against its nearest integer, so that no intermediate rounds or overflows.
template <Round R, class T>
inline T rounded(T y, [[maybe_unused]] uint16_t u) {
    const T nearest = round_half_to_even(y);
    if constexpr (R == Round::nearest) {
        return nearest;
    } else {
        const auto sixteenths = static_cast<int32_t>(round_half_to_even((y - nearest) * T{65536}));
        return nearest + static_cast<T>((sixteenths + u) >> 16);
    }
}

// q = clamp(round(x * inv) + zero_point, quant_min, quant_max); NaN gives quant_min, infinities the ends.
template <class Q, Round R, class T>
inline uint64_t quantize_element(T x, T inv, const CodeRange& range, uint16_t u) {
    T y = x * inv;
    if (y != y) {
        return range.quant_min;
    }
    // Beyond the reach of any 64-bit zero point the value no longer matters; infinities become ordinary numbers.
    constexpr T beyond = static_cast<T>(36893488147419103232.0);  // 2^65
    y = y > beyond ? beyond : y < -beyond ? -beyond : y;
    const uint64_t q = saturating_add<Q>(range.zero_point, rounded<R>(y, u));
    if (code_less(q, range.quant_min, Q::is_signed)) {
        return range.quant_min;
    }
    return code_less(range.quant_max, q, Q::is_signed) ? range.quant_max : q;
}

// (q - zero_point) * scale. The difference is exact: a sign and 64 bits of magnitude hold it for every type.
template <class Q, class T>
inline T dequantize_element(uint64_t q, T scale, uint64_t zero_point) {
    const bool negative = code_less(q, zero_point, Q::is_signed);
    const uint64_t distance = negative ? zero_point - q : q - zero_point;
    const T magnitude = static_cast<T>(distance);
    return (negative ? -magnitude : magnitude) * scale;
}

// The sum of reduce_op "add". Opposite infinities give the NaN that x86 gives, on every machine.
inline float accumulate(float before, float v) {
    const float sum = before + v;
    return before == before && sum != sum ? float_of(0xffc00000) : sum;
}
inline double accumulate(double before, double v) {
    const double sum = before + v;
    return before == before && sum != sum ? __builtin_bit_cast(double, uint64_t{0xfff8000000000000}) : sum;
}

}  // namespace
}  // namespace piquant
