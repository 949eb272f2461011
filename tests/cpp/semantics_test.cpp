// The scalar semantics against a model in exact integer arithmetic.
#include "core/semantics.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <random>
#include <string>
#include <vector>

#include "exact.hpp"

namespace piquant {
namespace {

using exact::Integer;
using exact::value_of;

// The model in two steps, of which only the second knows the range: the integer that y rounds to, and its code.
uint64_t model_code(double y, Integer rounded, const CodeRange& range) {
    if (std::isnan(y) || y == -INFINITY) {
        return range.quant_min;
    }
    if (y == INFINITY) {
        return range.quant_max;
    }
    const Integer lo = value_of(range.quant_min, range.is_signed);
    const Integer hi = value_of(range.quant_max, range.is_signed);
    return static_cast<uint64_t>(exact::clamp(rounded + value_of(range.zero_point, range.is_signed), lo, hi));
}

Integer model_round(double y, Round mode, unsigned u) {
    return std::isfinite(y) ? exact::round(y, mode, u) : 0;
}

// Arguments that decide something: both sides of every tie near the ends and powers of two, fractions around multiples
// of 2^-16 and 2^-17, specials.
template <class T>
std::vector<T> interesting_values(int bits, bool is_signed) {
    std::vector<T> found = {T{0},    -T{0},   T(INFINITY),  -T(INFINITY), T(NAN),    -T(NAN),
                            FLT_MAX, FLT_MIN, FLT_TRUE_MIN, T(9.3e18),    T(1.9e19), T(1e30)};
    if (sizeof(T) == 8) {
        for (const double x : {DBL_MAX, DBL_MIN, DBL_TRUE_MIN, 0x1p-60, 0x1p63 - 1024, 0x1p64 - 2048}) {
            found.push_back(static_cast<T>(x));
        }
    }
    const auto with_neighbours = [&](double x) {
        const T t = static_cast<T>(x);
        found.insert(found.end(), {t, std::nextafter(t, T(INFINITY)), std::nextafter(t, -T(INFINITY))});
    };
    for (int p = 0; p <= 66; ++p) {
        for (const double half : {-0.5, 0.0, 0.5}) {
            with_neighbours(std::ldexp(1.0, p) + half);
        }
    }
    const double top = static_cast<double>(code_max(bits, is_signed));
    for (const double step : {-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5}) {
        with_neighbours(top + step);
        with_neighbours(top / 2 + step);
        with_neighbours(2 * top + step);
    }
    for (int k : {0, 1, 2, 3, 4, 5, 126, 127, 128, 1000}) {
        for (const double parts : {0.0, 0.5, 1.0, 1.5, 16384.5, 32767.5, 32768.0, 32768.5, 65535.0, 65535.5}) {
            with_neighbours(k + parts / 65536);
        }
    }
    for (size_t i = 0, n = found.size(); i < n; ++i) {
        found.push_back(-found[i]);
    }
    return found;
}

std::vector<CodeRange> ranges(int bits, bool is_signed) {
    const uint64_t lo = code_min(bits, is_signed);
    const uint64_t hi = code_max(bits, is_signed);
    const uint64_t middle = lo + (hi - lo) / 2;
    std::vector<CodeRange> found;
    for (const uint64_t zero : {lo, lo + 1, uint64_t{0}, middle, middle + 1, hi - 1, hi}) {
        found.insert(found.end(), {{zero, lo, hi, is_signed},
                                   {zero, lo, lo + 1, is_signed},
                                   {zero, hi - 1, hi, is_signed},
                                   {zero, lo + 1, hi - 1, is_signed}});
    }
    return found;
}

template <class T>
void check_quantize(int bits, bool is_signed) {
    const std::vector<CodeRange> all_ranges = ranges(bits, is_signed);
    for (const T y : interesting_values<T>(bits, is_signed)) {
        // The words that matter are those around the carry, wherever it is.
        const double d = static_cast<double>(y);
        const auto t =
            static_cast<uint32_t>(std::isfinite(d) ? (d - std::floor(d)) * 65536 : 0);  // 65536 where it rounds
        const uint16_t words[] = {0,
                                  1,
                                  0x7fff,
                                  0x8000,
                                  0xfffe,
                                  0xffff,
                                  static_cast<uint16_t>(65535 - t),
                                  static_cast<uint16_t>(65534 - t),
                                  static_cast<uint16_t>(65536 - t),
                                  static_cast<uint16_t>(65537 - t)};
        const Integer nearest = model_round(d, Round::nearest, 0);
        Integer stochastic[std::size(words)];
        for (size_t i = 0; i < std::size(words); ++i) {
            stochastic[i] = model_round(d, Round::stochastic, words[i]);
        }
        for (const CodeRange& range : all_ranges) {
            ASSERT_EQ((quantize_element<Round::nearest>(y, T{1}, range, 0xffff)), model_code(d, nearest, range))
                << "y " << d << " zero point " << range.zero_point << " range " << range.quant_min << " "
                << range.quant_max;
            for (size_t i = 0; i < std::size(words); ++i) {
                ASSERT_EQ((quantize_element<Round::stochastic>(y, T{1}, range, words[i])),
                          model_code(d, stochastic[i], range))
                    << "y " << d << " u " << words[i] << " zero point " << range.zero_point << " range "
                    << range.quant_min << " " << range.quant_max;
            }
        }
    }
}

// One rounding of the product and no more.
template <class T>
void check_product() {
    std::mt19937_64 random(1);
    const CodeRange range = {0, code_min(64, true), code_max(64, true), true};
    for (int i = 0; i < 200000; ++i) {
        const T x = static_cast<T>(std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 40) - 60));
        const T inverse =
            static_cast<T>(std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 40) - 80));
        const T y = static_cast<T>(static_cast<exact::Wide>(x) * static_cast<exact::Wide>(inverse));
        ASSERT_EQ((quantize_element<Round::nearest>(x, inverse, range, 0)),
                  model_code(static_cast<double>(y), model_round(static_cast<double>(y), Round::nearest, 0), range))
            << "x " << x << " inverse " << inverse;
    }
}

template <class T>
void check_dequantize(int bits, bool is_signed) {
    std::mt19937_64 random(2);
    const uint64_t mask = order_mask(is_signed);
    const uint64_t lo = code_min(bits, is_signed);
    const uint64_t hi = code_max(bits, is_signed);
    std::vector<uint64_t> codes = {lo, lo + 1, lo + 2, 0, lo + (hi - lo) / 2, lo + (hi - lo) / 2 + 1, hi - 1, hi};
    for (int i = 0; i < 40; ++i) {
        codes.push_back(lo + (random() & (hi - lo)));
    }
    for (const uint64_t q : codes) {
        for (const uint64_t zero : codes) {
            const Integer difference = value_of(q, is_signed) - value_of(zero, is_signed);
            const T rounded_difference = static_cast<T>(static_cast<exact::Wide>(difference));
            for (const double s : {1.0, 0.1, 1.0 / 3, 3e-5, 1.2e-38, 2.3e-308, 3e38, 1e308}) {
                const T scale = static_cast<T>(s);
                const T expected =
                    static_cast<T>(static_cast<exact::Wide>(rounded_difference) * static_cast<exact::Wide>(scale));
                const T actual = dequantize_element(q ^ mask, signed_scale(scale), zero ^ mask);
                ASSERT_TRUE(actual == expected || (actual != actual && expected != expected))
                    << "q " << q << " zero point " << zero << " scale " << scale << ": " << actual << ", not "
                    << expected;
            }
        }
    }
}

#define X(name, bits, is_signed)                   \
    TEST(QuantizeElement, name##_float32) {        \
        check_quantize<float>(bits, is_signed);    \
    }                                              \
    TEST(QuantizeElement, name##_float64) {        \
        check_quantize<double>(bits, is_signed);   \
    }                                              \
    TEST(DequantizeElement, name##_float32) {      \
        check_dequantize<float>(bits, is_signed);  \
    }                                              \
    TEST(DequantizeElement, name##_float64) {      \
        check_dequantize<double>(bits, is_signed); \
    }
PIQUANT_CODE_TYPES(X)
#undef X

TEST(QuantizeElement, RoundsTheProductOnce) {
    check_product<float>();
    check_product<double>();
}

// Written out by hand, so that a mistake shared by code and model would show.
TEST(QuantizeElement, Golden) {
    const CodeRange u8 = {10, 0, 255, false};
    const CodeRange i4 = {uint64_t(-3), uint64_t(-8), 7, true};
    const struct {
        float x;
        uint64_t as_uint8;
        uint64_t as_int4;
    } rows[] = {{0, 10, uint64_t(-3)},
                {0.5f, 10, uint64_t(-3)},
                {1.5f, 12, uint64_t(-1)},
                {2.5f, 12, uint64_t(-1)},
                {-0.5f, 10, uint64_t(-3)},
                {-1.5f, 8, uint64_t(-5)},
                {-2.5f, 8, uint64_t(-5)},
                {-5, 5, uint64_t(-8)},
                {-6, 4, uint64_t(-8)},
                {9.49f, 19, 6},
                {10.4f, 20, 7},
                {12, 22, 7},
                {245, 255, 7},
                {246, 255, 7},
                {-10, 0, uint64_t(-8)},
                {-11, 0, uint64_t(-8)},
                {NAN, 0, uint64_t(-8)},
                {INFINITY, 255, 7},
                {-INFINITY, 0, uint64_t(-8)}};
    for (const auto& row : rows) {
        EXPECT_EQ((quantize_element<Round::nearest>(row.x, 1.0f, u8, 0)), row.as_uint8) << row.x;
        EXPECT_EQ((quantize_element<Round::nearest>(row.x, 1.0f, i4, 0)), row.as_int4) << row.x;
    }
}

// Sums and differences with 64-bit codes are exact: the sum may pass the ends of int64 and come back into the range.
TEST(QuantizeElement, SixtyFourBitSumsAreExact) {
    const uint64_t lowest = code_min(64, true);
    const uint64_t highest = code_max(64, true);
    const auto signed_sum = [&](double y, uint64_t zero) {
        return static_cast<int64_t>(quantize_element<Round::nearest>(y, 1.0, {zero, lowest, highest, true}, 0));
    };
    EXPECT_EQ(signed_sum(0x1p63, lowest), 0);
    EXPECT_EQ(signed_sum(0x1p64 - 2048, lowest), INT64_MAX - 2047);
    EXPECT_EQ(signed_sum(-0x1p63, highest), -1);
    EXPECT_EQ(signed_sum(-0x1p64, highest), INT64_MIN);
    EXPECT_EQ((quantize_element<Round::nearest>(-0x1p63, 1.0, {~uint64_t{0}, 0, ~uint64_t{0}, false}, 0)),
              0x7fffffffffffffffu);
    EXPECT_EQ(dequantize_element(~uint64_t{0}, signed_scale(1.0), 0), 0x1p64);
    EXPECT_EQ(dequantize_element(0, signed_scale(1.0), ~uint64_t{0}), -0x1p64);
}

// All 65,536 words: the number of them that round up is the fraction in 65536ths.
TEST(Rounded, ProbabilityIsTheFraction) {
    for (const double y : {0.25, 0.75, 1.0 / 3, -0.1, 7.0, -2.5, 1e-9, -1e-9, 123.999999}) {
        long ups = 0;
        for (unsigned u = 0; u < 65536; ++u) {
            const double r = rounded<Round::stochastic>(y, static_cast<uint16_t>(u));
            ASSERT_TRUE(r == std::floor(y) || r == std::floor(y) + 1) << y;
            ups += r == std::floor(y) + 1;
        }
        EXPECT_NEAR(static_cast<double>(ups), (y - std::floor(y)) * 65536, 0.5) << y;
    }
}

TEST(Accumulate, SumsAndNaNs) {
    const auto bits = [](double x) { return __builtin_bit_cast(uint64_t, x); };
    EXPECT_EQ(accumulate(1.0f, 0x1p-24f), 1.0f);
    EXPECT_EQ(accumulate(1.0f + FLT_EPSILON, 0x1p-24f), 1.0f + 2 * FLT_EPSILON);
    EXPECT_EQ(accumulate(FLT_TRUE_MIN, FLT_TRUE_MIN), 2 * FLT_TRUE_MIN);
    EXPECT_EQ(accumulate(FLT_MAX, FLT_MAX), INFINITY);
    EXPECT_EQ(bits_of(accumulate(float(INFINITY), -float(INFINITY))), 0xffc00000u);
    EXPECT_EQ(bits_of(accumulate(float_of(0x7fc12345), 1.0f)), 0x7fc12345u);
    EXPECT_EQ(bits(accumulate(double(INFINITY), -double(INFINITY))), 0xfff8000000000000u);
    EXPECT_EQ(bits(accumulate(__builtin_bit_cast(double, uint64_t{0x7ff8000000000123}), 1.0)), 0x7ff8000000000123u);
}

}  // namespace
}  // namespace piquant
