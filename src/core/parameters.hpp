// Scale and zero point from the extent of the data. In double throughout; the scale is rounded once, to T.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {

struct QuantParams {
    double scale;
    uint64_t zero_point;  // pattern of the code type
};

// clamp(round_half_to_even(quant_min + steps), quant_min, quant_max) for steps >= 0, the sum exact: added in double,
// 64-bit ends of range would swallow up to a thousand steps. Half a step goes to the even sum.
inline uint64_t steps_above(uint64_t quant_min, uint64_t quant_max, double steps) {
    constexpr double two64 = 18446744073709551616.0;
    if (steps >= two64) {
        return quant_max;
    }
    const auto whole = static_cast<uint64_t>(steps);
    const double rest = steps - static_cast<double>(whole);
    const bool up = rest > 0.5 || (rest == 0.5 && ((quant_min + whole) & 1) != 0);
    const uint64_t room = quant_max - quant_min;
    return whole >= room ? quant_max : quant_min + whole + up;
}

// Rounds to T and keeps the result normal. May return infinity, when T cannot hold a scale that large.
inline double scale_in(double scale, bool double_compute) {
    if (double_compute) {
        return scale < __DBL_MIN__ ? __DBL_MIN__ : scale;
    }
    const float rounded = static_cast<float>(scale);
    return static_cast<double>(rounded < __FLT_MIN__ ? __FLT_MIN__ : rounded);
}

// lo <= 0 and hi >= 0: extent of the data together with zero, finite.
inline QuantParams affine_params(double lo, double hi, bool double_compute, uint64_t quant_min, uint64_t quant_max) {
    const double steps = static_cast<double>(quant_max - quant_min);
    // Halving keeps the difference of the two largest doubles finite, and is exact where it matters.
    const double span = hi - lo;
    const bool overflows = span > __DBL_MAX__;
    const double scale = overflows ? (hi / 2 - lo / 2) / steps * 2 : span / steps;
    const double rounded = lo == 0 && hi == 0 ? 1.0 : scale_in(scale, double_compute);
    return {rounded, steps_above(quant_min, quant_max, -lo / rounded)};
}

// The zero point of symmetric parameters: the middle of the type, wherever the range lies.
inline uint64_t symmetric_zero_point(int bits, bool is_signed) {
    return is_signed ? 0 : uint64_t{1} << (bits - 1);
}

// How many codes the range has on each side of that zero point, the fewer of the two; 0 where it lies outside.
inline uint64_t symmetric_reach(uint64_t quant_min, uint64_t quant_max, int bits, bool is_signed) {
    const uint64_t zero_point = symmetric_zero_point(bits, is_signed);
    if (!code_less(quant_min, zero_point, is_signed) || !code_less(zero_point, quant_max, is_signed)) {
        return 0;
    }
    const uint64_t below = zero_point - quant_min;
    const uint64_t above = quant_max - zero_point;
    return below < above ? below : above;
}

// reach > 0
inline QuantParams symmetric_params(double lo, double hi, bool double_compute, uint64_t zero_point, uint64_t reach) {
    const double largest = -lo > hi ? -lo : hi;
    return {largest == 0 ? 1.0 : scale_in(largest / static_cast<double>(reach), double_compute), zero_point};
}

}  // namespace
}  // namespace piquant
