#include "oracle.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>
#include <sstream>

#include "../cpp/exact.hpp"
#include "../cpp/random_model.hpp"
#include "layout.hpp"

namespace piquant::fuzz {
namespace {

using exact::Integer;
using exact::Wide;

bool is_real(int dtype) {
    return dtype >= PIQUANT_FLOAT16 && dtype <= PIQUANT_FLOAT64;
}
bool is_code(int dtype) {
    return dtype >= PIQUANT_INT2 && dtype <= PIQUANT_UINT4_UNPACKED;
}

// bits, and whether signed: the order of piquant_dtype_t from PIQUANT_INT2 on, and once more where unpacked
bool is_unpacked(int code) {
    return code >= PIQUANT_INT2_UNPACKED;
}
int bits_of(int code) {
    return 2 << (code - (is_unpacked(code) ? PIQUANT_INT2_UNPACKED : PIQUANT_INT2)) / 2;
}
bool is_signed(int code) {
    return (code - PIQUANT_INT2) % 2 == 0;
}
Integer lowest(int code) {
    return is_signed(code) ? -exact::power_of_two(bits_of(code) - 1) : 0;
}
Integer highest(int code) {
    return lowest(code) + exact::power_of_two(bits_of(code)) - 1;
}
// A zero point or an end of a range as the API takes it.
Integer given(int64_t number, int code) {
    return code == PIQUANT_UINT64 ? static_cast<Integer>(static_cast<uint64_t>(number)) : number;
}
bool in_range(Integer number, int code) {
    return lowest(code) <= number && number <= highest(code);
}

piquant_options_t options_of(const Case& c) {
    return c.has_options ? c.options : piquant_options_t PIQUANT_OPTIONS_INIT;
}
Integer range_min(const Case& c) {
    return options_of(c).has_quant_min != 0 ? given(c.options.quant_min, c.code) : lowest(c.code);
}
Integer range_max(const Case& c) {
    return options_of(c).has_quant_max != 0 ? given(c.options.quant_max, c.code) : highest(c.code);
}

template <class T>
bool is_scale(double scale) {
    const volatile T narrow = static_cast<T>(scale);  // no optimizer knows it: the cast may overflow
    const volatile T inverse = static_cast<T>(1 / scale);
    return std::isfinite(scale) && scale > 0 && std::isnormal(narrow) && std::isfinite(inverse);
}

double to_double(uint16_t pattern, int exponent_bits) {
    const int mantissa_bits = 15 - exponent_bits;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = pattern >> mantissa_bits & ((1 << exponent_bits) - 1);
    const int mantissa = pattern & ((1 << mantissa_bits) - 1);
    const double magnitude = exponent == (1 << exponent_bits) - 1 ? (mantissa != 0 ? NAN : INFINITY)
                             : exponent == 0
                                 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                 : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return std::copysign(magnitude, (pattern & 0x8000) != 0 ? -1.0 : 1.0);
}

// x to the nearest number of `precision` bits and exponents down to `smallest`, ties to even.
double rounded_to(double x, int precision, int smallest, double largest) {
    if (!std::isfinite(x) || x == 0) {
        return x;
    }
    const int unit = std::max(std::ilogb(x), smallest) - precision + 1;
    const double near = std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
    return std::fabs(near) > largest ? std::copysign(INFINITY, x) : near;
}

double to_dtype(double x, int dtype) {
    return dtype == PIQUANT_FLOAT16    ? rounded_to(x, 11, -14, 65504)
           : dtype == PIQUANT_BFLOAT16 ? rounded_to(x, 8, -126, 0x1.fep127)
                                       : x;
}

Integer code_at(const unsigned char* p, int code, size_t i) {
    const int bits = bits_of(code);
    uint64_t word = 0;
    if (is_unpacked(code)) {
        word = p[i] & ((1 << bits) - 1);
    } else if (bits < 8) {
        const auto per_byte = static_cast<size_t>(8 / bits);
        word = p[i / per_byte] >> static_cast<int>(i % per_byte) * bits & ((1 << bits) - 1);
    } else {
        std::memcpy(&word, p + i * static_cast<size_t>(bits / 8), static_cast<size_t>(bits / 8));  // little-endian
    }
    const Integer number = static_cast<Integer>(word);
    return is_signed(code) && number > highest(code) ? number - exact::power_of_two(bits) : number;
}

template <class T>
T rounded_product(double a, double b) {
    return static_cast<T>(static_cast<Wide>(static_cast<T>(a)) * static_cast<Wide>(static_cast<T>(b)));
}

template <class T>
Integer quantized(const Case& c, double x, size_t i) {
    const piquant_options_t o = options_of(c);
    const double y = static_cast<double>(rounded_product<T>(x, static_cast<double>(static_cast<T>(1.0 / c.scale))));
    if (std::isnan(y) || y == -INFINITY) {
        return range_min(c);
    }
    if (y == INFINITY) {
        return range_max(c);
    }
    const auto mode = static_cast<Round>(o.round_mode);
    const Integer r = exact::round(y, mode, model::model_word(o.seed, o.offset + i));
    return exact::clamp(r + given(c.zero_point, c.code), range_min(c), range_max(c));
}

template <class T>
double dequantized(const Case& c, Integer q, double before) {
    const T d = static_cast<T>(static_cast<Wide>(q - given(c.zero_point, c.code)));
    T v = rounded_product<T>(static_cast<double>(d), static_cast<double>(static_cast<T>(c.scale)));
    if (options_of(c).reduce_op == PIQUANT_ADD) {
        v = static_cast<T>(static_cast<Wide>(before) + static_cast<Wide>(v));
    }
    return to_dtype(static_cast<double>(v), c.real);
}

bool same(double a, double b) {
    return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

template <class T>
bool element_is_right(const Case& c, const unsigned char* in, const unsigned char* before, const unsigned char* out,
                      size_t i) {
    if (out_dtype(c) == c.code) {
        const bool clean = !is_unpacked(c.code) || out[i] >> bits_of(c.code) == 0;
        return clean && code_at(out, c.code, i) == quantized<T>(c, real_at(in, c.real, i), i);
    }
    const Integer q =
        c.operation == Operation::dequantize ? code_at(in, c.code, i) : quantized<T>(c, real_at(in, c.real, i), i);
    return same(real_at(out, c.real, i), dequantized<T>(c, q, real_at(before, c.real, i)));
}

}  // namespace

double real_at(const unsigned char* p, int dtype, size_t i) {
    if (dtype == PIQUANT_FLOAT64) {
        double x;
        std::memcpy(&x, p + 8 * i, 8);
        return x;
    }
    if (dtype == PIQUANT_FLOAT32) {
        float x;
        std::memcpy(&x, p + 4 * i, 4);
        return static_cast<double>(x);
    }
    uint16_t x;
    std::memcpy(&x, p + 2 * i, 2);
    return to_double(x, dtype == PIQUANT_FLOAT16 ? 5 : 8);
}

int in_dtype(const Case& c) {
    return c.operation == Operation::dequantize ? c.code : c.real;
}
int out_dtype(const Case& c) {
    return c.operation == Operation::quantize || c.operation == Operation::quantize_dynamic ? c.code : c.real;
}

namespace {

class Statuses {
public:
    void add_if(bool wrong, piquant_status_t status) {
        if (wrong) {
            found.push_back(status);
        }
    }
    std::vector<piquant_status_t> found;
};

// What is wrong with a call's context, dtypes and options.
Statuses wrong_options(const Case& c) {
    Statuses s;
    const piquant_options_t o = options_of(c);
    s.add_if(c.pointers == Pointers::null_context, PIQUANT_ERROR_CONTEXT);
    s.add_if(!is_real(c.real), PIQUANT_ERROR_FLOAT_DTYPE);
    s.add_if(!is_code(c.code), PIQUANT_ERROR_CODE_DTYPE);
    const auto* const known = c.beyond + (o.struct_size - sizeof o);
    s.add_if(c.has_options && std::any_of(c.beyond, known, [](unsigned char b) { return b != 0; }),
             PIQUANT_ERROR_OPTIONS);
    s.add_if(o.round_mode != PIQUANT_NEAREST && o.round_mode != PIQUANT_STOCHASTIC, PIQUANT_ERROR_ROUND_MODE);
    s.add_if(o.reduce_op != PIQUANT_SET && o.reduce_op != PIQUANT_ADD, PIQUANT_ERROR_REDUCE_OP);
    if (is_code(c.code)) {
        s.add_if(!(in_range(range_min(c), c.code) && in_range(range_max(c), c.code) && range_min(c) < range_max(c)),
                 PIQUANT_ERROR_QUANT_RANGE);
    }
    return s;
}

}  // namespace

std::vector<piquant_status_t> deserved(const Case& c, bool overlap) {
    Statuses s = wrong_options(c);
    const bool parameters = c.operation == Operation::compute_quant_params;
    if (is_code(c.code)) {
        s.add_if(!parameters && !in_range(given(c.zero_point, c.code), c.code), PIQUANT_ERROR_ZERO_POINT);
    }
    if (!parameters) {
        s.add_if(!(c.real == PIQUANT_FLOAT64 ? is_scale<double>(c.scale) : is_scale<float>(c.scale)),
                 PIQUANT_ERROR_SCALE);
    }
    if (is_real(c.real) && is_code(c.code)) {
        s.add_if(layout_error(c) != PIQUANT_OK, layout_error(c));
    }
    s.add_if(c.n > 0 && c.pointers == Pointers::null_in, PIQUANT_ERROR_NULL);
    s.add_if(c.n > 0 && c.pointers == Pointers::null_out && !parameters, PIQUANT_ERROR_NULL);
    s.add_if(parameters && c.n == 0, PIQUANT_ERROR_EMPTY);
    s.add_if(overlap, PIQUANT_ERROR_OVERLAP);
    return s.found;
}

bool is_right(const Case& c, const unsigned char* in, const unsigned char* before, const unsigned char* out, size_t i) {
    return c.real == PIQUANT_FLOAT64 ? element_is_right<double>(c, in, before, out, i)
                                     : element_is_right<float>(c, in, before, out, i);
}

bool is_right_without_scale(const Case& c, const unsigned char* out, size_t i) {
    return out_dtype(c) == c.code ? code_at(out, c.code, i) == 0 : std::isnan(real_at(out, c.real, i));
}

std::string wrong_elements(const Case& c, const unsigned char* in, const unsigned char* before,
                           const unsigned char* out, size_t count) {
    const size_t step = c.n / count + 1;
    for (size_t i = c.n % step / 2; i < c.n; i += step) {
        if (!is_right(c, in, before, out, i)) {
            return "element " + std::to_string(i) + " is not what exact arithmetic gives";
        }
    }
    return "";
}

namespace {

Integer middle_of(const Case& c) {
    return is_signed(c.code) ? 0 : exact::power_of_two(bits_of(c.code) - 1);
}
// Codes on each side of the symmetric zero point, the fewer of both.
Integer reach_of_codes(const Case& c) {
    return std::min<Integer>(middle_of(c) - range_min(c), range_max(c) - middle_of(c));
}

// The scale of data of an extent: one rounding of the span, one of the quotient, one to T. Wide has room for twice the
// largest double.
double scale_of(const Case& c, double lo, double hi) {
    const bool symmetric = options_of(c).symmetric != 0;
    const Wide span = symmetric ? static_cast<Wide>(std::fmax(-lo, hi)) : static_cast<Wide>(hi) - static_cast<Wide>(lo);
    const double steps = static_cast<double>(symmetric ? reach_of_codes(c) : range_max(c) - range_min(c));
    const Wide rounded_span = span > static_cast<Wide>(DBL_MAX) ? 2 * static_cast<Wide>(static_cast<double>(span / 2))
                                                                : static_cast<Wide>(static_cast<double>(span));
    const double quotient = static_cast<double>(rounded_span / steps);
    const bool wide = c.real == PIQUANT_FLOAT64;
    const volatile float narrow = static_cast<float>(quotient);
    return lo == 0 && hi == 0 ? 1.0
                              : std::fmax(wide ? quotient : static_cast<double>(narrow),
                                          wide ? DBL_MIN : static_cast<double>(FLT_MIN));
}

Integer zero_point_of(const Case& c, double lo, double scale) {
    if (options_of(c).symmetric != 0) {
        return middle_of(c);
    }
    const double t = -lo / scale;
    if (t >= 0x1p65) {
        return range_max(c);
    }
    // round_half_even(quant_min + t): the integer decides which is even
    const Integer whole = static_cast<Integer>(static_cast<Wide>(std::floor(t)));
    const double rest = t - std::floor(t);
    const Integer below = range_min(c) + whole;
    return exact::clamp(below + (rest > 0.5 || (rest == 0.5 && below % 2 != 0) ? 1 : 0), range_min(c), range_max(c));
}

// False if the data are not finite.
bool extent_of(const Case& c, const unsigned char* in, const std::vector<size_t>& elements, double& lo, double& hi) {
    lo = hi = 0;
    for (const size_t i : elements) {
        const double x = real_at(in, c.real, i);
        if (!std::isfinite(x)) {
            return false;
        }
        lo = std::fmin(lo, x);
        hi = std::fmax(hi, x);
    }
    return true;
}

// The smallest number of a dtype that is not below a scale.
double rounded_up(double scale, int dtype) {
    if (dtype == PIQUANT_FLOAT64) {
        return scale;
    }
    const struct {
        int precision, smallest;
        double largest;
    } types[] = {{11, -14, 65504}, {8, -126, 0x1.fep127}, {24, -126, static_cast<double>(FLT_MAX)}};
    const auto& type = types[dtype - PIQUANT_FLOAT16];
    const int unit = std::max(std::ilogb(scale), type.smallest) - type.precision + 1;
    const double above = std::ldexp(std::ceil(std::ldexp(scale, -unit)), unit);
    return above > type.largest ? INFINITY : above;
}

}  // namespace

std::string wrong_parameters(const Case& c, const unsigned char* in, piquant_status_t status, double scale,
                             int64_t zero_point) {
    std::vector<size_t> all(c.n);
    std::iota(all.begin(), all.end(), size_t{0});
    double lo;
    double hi;
    if (!extent_of(c, in, all, lo, hi)) {
        return status == PIQUANT_ERROR_NOT_FINITE ? "" : "the data are not finite";
    }
    if (options_of(c).symmetric != 0 && reach_of_codes(c) < 1) {
        return status == PIQUANT_ERROR_SYMMETRIC_RANGE ? "" : "the range has no codes on both sides of the zero point";
    }
    const double expected = scale_of(c, lo, hi);
    if (std::isinf(expected)) {
        return status == PIQUANT_ERROR_DATA_RANGE ? "" : "no scale covers the data";
    }
    if (status != PIQUANT_OK) {
        return "the data have parameters";
    }
    std::ostringstream words;
    const Integer zero = zero_point_of(c, lo, expected);
    if (scale != expected) {
        words << "scale is " << scale << " instead of " << expected;
    } else if (given(zero_point, c.code) != zero) {
        words << "zero point is " << zero_point << " instead of " << static_cast<int64_t>(zero);
    }
    return words.str();
}

std::vector<piquant_status_t> deserved_with_blocks(const Case& c, bool overlap) {
    Statuses s = wrong_options(c);
    const Blocks& b = c.blocks;
    const size_t beyond = b.struct_size - sizeof(piquant_blocks_t);
    const bool is_bad = b.missing || c.layout.no_shape || b.no_block_size || c.layout.shape.empty() ||
                        c.layout.shape.size() > PIQUANT_MAX_BLOCK_RANK || beyond > sizeof b.beyond ||
                        std::any_of(b.beyond, b.beyond + beyond, [](unsigned char byte) { return byte != 0; }) ||
                        std::find(b.block_size.begin(), b.block_size.end(), size_t{0}) != b.block_size.end();
    s.add_if(is_bad, PIQUANT_ERROR_BLOCKS);
    const bool finds = c.finds_parameters();
    const bool symmetric = options_of(c).symmetric != 0;
    if (is_code(c.code)) {
        s.add_if(finds && symmetric && reach_of_codes(c) < 1, PIQUANT_ERROR_SYMMETRIC_RANGE);
        s.add_if(!finds && b.no_zero_point && !in_range(given(c.zero_point, c.code), c.code), PIQUANT_ERROR_ZERO_POINT);
    }
    const bool is_integer = b.zero_dtype >= PIQUANT_INT8 && b.zero_dtype <= PIQUANT_UINT64;
    s.add_if(!is_real(b.scale_dtype) || (!b.no_zero_point && !is_integer), PIQUANT_ERROR_PARAM_DTYPE);
    s.add_if(finds && !b.no_zero_point && is_integer && is_code(c.code) &&
                 !(in_range(lowest(c.code), b.zero_dtype) && in_range(highest(c.code), b.zero_dtype)),
             PIQUANT_ERROR_PARAM_DTYPE);
    if (is_bad || c.n == 0 || !is_real(c.real) || !is_code(c.code)) {
        return s.found;
    }
    const bool has_output = c.operation != Operation::compute_quant_params;
    s.add_if(c.pointers == Pointers::null_in || (has_output && c.pointers == Pointers::null_out) || b.no_scale ||
                 (finds && b.no_zero_point && !symmetric),
             PIQUANT_ERROR_NULL);
    const piquant_status_t layout = layout_error(c);
    s.add_if(layout != PIQUANT_OK, layout == PIQUANT_ERROR_SHAPE ? PIQUANT_ERROR_LENGTH : layout);
    s.add_if(overlap, PIQUANT_ERROR_OVERLAP);
    return s.found;
}

BlockResult expected_of_block(const Case& c, const unsigned char* in, const std::vector<size_t>& elements,
                              const unsigned char* scales, const unsigned char* zeros, size_t block) {
    const bool may_be_nan = options_of(c).nan_scales != 0;
    if (!c.finds_parameters()) {
        const double scale = real_at(scales, c.blocks.scale_dtype, block);
        const Integer zero =
            zeros == nullptr ? given(c.zero_point, c.code) : code_at(zeros, c.blocks.zero_dtype, block);
        const bool is_good = (may_be_nan && std::isnan(scale)) ||
                             (c.real == PIQUANT_FLOAT64 ? is_scale<double>(scale) : is_scale<float>(scale));
        return {!is_good                  ? PIQUANT_ERROR_SCALE
                : !in_range(zero, c.code) ? PIQUANT_ERROR_ZERO_POINT
                                          : PIQUANT_OK,
                scale, static_cast<int64_t>(zero)};
    }
    const auto without_scale = [&](piquant_status_t status) {
        return may_be_nan ? BlockResult{PIQUANT_OK, NAN, 0} : BlockResult{status, 0, 0};
    };
    double lo;
    double hi;
    if (!extent_of(c, in, elements, lo, hi)) {
        return without_scale(PIQUANT_ERROR_NOT_FINITE);
    }
    const double scale = scale_of(c, lo, hi);
    const double stored = std::isinf(scale) ? scale : rounded_up(scale, c.blocks.scale_dtype);
    return std::isinf(stored) ? without_scale(PIQUANT_ERROR_DATA_RANGE)
                              : BlockResult{PIQUANT_OK, stored, static_cast<int64_t>(zero_point_of(c, lo, stored))};
}

bool is_zero_point(const unsigned char* zeros, const Case& c, size_t block, int64_t expected) {
    return code_at(zeros, c.blocks.zero_dtype, block) == given(expected, c.code);
}

double error_bound(int dtype, double scale, double lo, double hi) {
    const double u = dtype == PIQUANT_FLOAT64 ? 0x1p-53 : 0x1p-24;
    const double k = dtype == PIQUANT_FLOAT64 ? 4 : 1;
    const double w = dtype == PIQUANT_FLOAT16 ? 0x1p-11 : dtype == PIQUANT_BFLOAT16 ? 0x1p-8 : 0;
    const double m = std::fmax(-lo, hi);
    const double e1 = scale / 2 + 2 * u * m + k * u * (hi - lo);
    const double e2 = 2 * u * (m + e1);
    return e1 + e2 + w * (m + e1 + e2) + (dtype == PIQUANT_FLOAT16 ? 0x1p-25 : 0);
}

}  // namespace piquant::fuzz
