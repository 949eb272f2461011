// Exact arithmetic for the models that tests compare the library with. Written for obviousness, not speed, and in
// other terms than the code: wide integers and one final rounding instead of floating-point steps.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/types.hpp"

namespace piquant {
namespace exact {

__extension__ using Integer = __int128;
#if defined(__SIZEOF_FLOAT128__)
__extension__ using Wide = __float128;  // 113 bits of precision: any product of two doubles
#else
using Wide = long double;
#endif

constexpr Integer one = 1;

constexpr Integer power_of_two(int n) {
    return one << n;
}

// A finite double as mantissa * 2^exponent.
struct Binary {
    Integer mantissa;
    int exponent;
};

inline Binary decompose(double y) {
    int exponent = 0;
    const double fraction = std::frexp(y, &exponent);
    return {static_cast<Integer>(static_cast<int64_t>(std::ldexp(fraction, 53))), exponent - 53};
}

inline Integer floor_divide(Integer a, Integer b) {
    const Integer quotient = a / b;
    return a % b != 0 && a < 0 ? quotient - 1 : quotient;
}

// a / b, b > 0, to the nearest integer, ties to the even one.
inline Integer nearest_quotient(Integer a, Integer b) {
    const Integer below = floor_divide(a, b);
    const Integer twice_rest = 2 * (a - below * b);
    const bool odd = below % 2 != 0;
    return below + (twice_rest > b || (twice_rest == b && odd) ? 1 : 0);
}

// round(y) for finite y, nearest or stochastic with the word u, by the definition of docs/numerics.md: with f =
// floor(y) and t = round_half_even((y - f) * 65536), up = t + u >= 65536.
inline Integer round(double y, Round mode, unsigned u) {
    const Binary b = decompose(y);
    if (b.exponent >= 0) {
        return b.exponent > 60 ? b.mantissa * power_of_two(60) : b.mantissa * power_of_two(b.exponent);
    }
    if (b.exponent < -100) {
        return 0;  // |y| < 2^-47: rounds to nothing, and so little below 0 that t = 65536 carries it up
    }
    const Integer unit = power_of_two(-b.exponent);
    if (mode == Round::nearest) {
        return nearest_quotient(b.mantissa, unit);
    }
    const Integer below = floor_divide(b.mantissa, unit);
    const Integer rest = b.mantissa - below * unit;  // of `unit`; times 65536 it still fits
    return below + (nearest_quotient(rest * 65536, unit) + static_cast<Integer>(u) >= 65536 ? 1 : 0);
}

// Patterns of a code type <-> numbers.
inline Integer value_of(uint64_t pattern, bool is_signed) {
    return is_signed ? static_cast<Integer>(static_cast<int64_t>(pattern)) : static_cast<Integer>(pattern);
}

inline Integer clamp(Integer x, Integer lo, Integer hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

}  // namespace exact
}  // namespace piquant
