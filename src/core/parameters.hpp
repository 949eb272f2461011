// Scale and zero point from the extent of the data. In double throughout; the scale is rounded once, to T.
#pragma once

#include <float.h>

#include "core/semantics.hpp"
#include "core/types.hpp"

namespace piquant {
namespace {

struct QuantParams {
    double scale;
    uint64_t zero_point;  // pattern of the code type
};

inline double code_to_double(uint64_t code, bool is_signed) {
    return is_signed ? static_cast<double>(static_cast<int64_t>(code)) : static_cast<double>(code);
}

// Rounds to T and keeps the result normal. May return infinity, when T cannot hold a scale that large.
inline double scale_in(double scale, bool double_compute) {
    if (double_compute) {
        return scale < DBL_MIN ? DBL_MIN : scale;
    }
    const float rounded = static_cast<float>(scale);
    return static_cast<double>(rounded < FLT_MIN ? FLT_MIN : rounded);
}

// lo <= 0 and hi >= 0: extent of the data together with zero, finite.
inline QuantParams affine_params(double lo, double hi, bool double_compute, uint64_t quant_min, uint64_t quant_max,
                                 bool is_signed) {
    const double steps = static_cast<double>(quant_max - quant_min);
    // Halving keeps the difference of the two largest doubles finite, and is exact where it matters.
    const double span = hi - lo;
    const bool overflows = span > DBL_MAX;
    const double scale = overflows ? (hi / 2 - lo / 2) / steps * 2 : span / steps;
    QuantParams p{lo == 0 && hi == 0 ? 1.0 : scale_in(scale, double_compute), quant_min};
    const double zero = round_half_to_even(code_to_double(quant_min, is_signed) - lo / p.scale);
    if (zero >= code_to_double(quant_max, is_signed)) {
        p.zero_point = quant_max;
    } else if (zero > code_to_double(quant_min, is_signed)) {
        p.zero_point = is_signed ? static_cast<uint64_t>(static_cast<int64_t>(zero)) : static_cast<uint64_t>(zero);
    }
    return p;
}

inline QuantParams symmetric_params(double lo, double hi, bool double_compute, int bits, bool is_signed) {
    const double largest = -lo > hi ? -lo : hi;
    const uint64_t half = uint64_t{1} << (bits - 1);
    return {largest == 0 ? 1.0 : scale_in(largest / static_cast<double>(half - 1), double_compute),
            is_signed ? 0 : half};
}

}  // namespace
}  // namespace piquant
