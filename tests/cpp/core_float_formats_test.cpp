// The scalar float formats: every 16-bit pattern, and every place where narrowing changes its answer.
#include "core/float_formats.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace piquant {
namespace {

struct Format {
    const char* name;
    int exponent_bits;
    int mantissa_bits;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);

    int bias() const { return (1 << (exponent_bits - 1)) - 1; }
    uint16_t infinity() const { return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits); }
    // Value of a magnitude pattern as if exponents went on: "infinity" is the next power of two.
    double value(uint16_t magnitude) const {
        const int exponent = magnitude >> mantissa_bits;
        const int mantissa = magnitude & ((1 << mantissa_bits) - 1);
        const int implied = exponent == 0 ? 0 : 1 << mantissa_bits;
        return std::ldexp(mantissa + implied, std::max(exponent, 1) - bias() - mantissa_bits);
    }
};

const Format formats[] = {{"float16", 5, 10, float16_to_float32, float32_to_float16},
                          {"bfloat16", 8, 7, bfloat16_to_float32, float32_to_bfloat16}};

class CoreFloatFormats : public testing::TestWithParam<Format> {
protected:
    const Format& f = GetParam();
    std::vector<double> values;  // ascending, by magnitude pattern, up to and including infinity's

    void SetUp() override {
        for (int p = 0; p <= f.infinity(); ++p) {
            values.push_back(f.value(static_cast<uint16_t>(p)));
        }
    }

    // The nearest value by search; the one with the even pattern on a tie.
    uint16_t model(float x) const {
        const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
        const double magnitude = std::fabs(static_cast<double>(x));
        const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
        if (above == values.end()) {
            return sign | f.infinity();
        }
        auto p = static_cast<uint16_t>(above - values.begin());
        if (p > 0) {
            const double to_above = values[p] - magnitude;
            const double to_below = magnitude - values[p - 1u];
            if (to_below < to_above || (to_below == to_above && p % 2 != 0)) {
                --p;
            }
        }
        return sign | p;
    }
};

TEST_P(CoreFloatFormats, EveryPatternWidensExactlyAndComesBack) {
    for (unsigned p = 0; p < 65536; ++p) {
        const auto pattern = static_cast<uint16_t>(p);
        const auto magnitude = static_cast<uint16_t>(p & 0x7fff);
        const float wide = f.widen(pattern);
        ASSERT_EQ(std::signbit(wide), p >= 0x8000) << p;
        if (magnitude > f.infinity()) {  // NaN: payload kept, quiet afterwards
            ASSERT_TRUE(std::isnan(wide)) << p;
            ASSERT_EQ(bits_of(wide) >> (23 - f.mantissa_bits) & ((1u << f.mantissa_bits) - 1) &
                          ~(1u << (f.mantissa_bits - 1)),
                      magnitude & ((1u << (f.mantissa_bits - 1)) - 1))
                << p;
            ASSERT_EQ(f.narrow(wide), pattern | (1 << (f.mantissa_bits - 1))) << p;
            continue;
        }
        const double expected = magnitude == f.infinity() ? INFINITY : f.value(magnitude);
        ASSERT_EQ(std::fabs(static_cast<double>(wide)), expected) << p;
        ASSERT_EQ(f.narrow(wide), pattern) << p;
    }
}

TEST_P(CoreFloatFormats, EveryTieAndItsNeighbours) {
    for (unsigned p = 0; p < f.infinity(); ++p) {
        const auto tie = static_cast<float>((values[p] + values[p + 1]) / 2);
        ASSERT_EQ(static_cast<double>(tie), (values[p] + values[p + 1]) / 2);
        for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, float(INFINITY))}) {
            ASSERT_EQ(f.narrow(x), model(x)) << x;
            ASSERT_EQ(f.narrow(-x), model(-x)) << -x;
        }
    }
}

TEST_P(CoreFloatFormats, EveryExponentAndRandomPatterns) {
    std::mt19937 random(1);
    for (uint32_t high = 0; high < 512; ++high) {
        for (uint32_t i = 0; i < 1000; ++i) {
            const uint32_t mantissas[] = {0, 1, 0x7fffff, 0x400000, 0x3fffff, 0x400001};
            const uint32_t mantissa = i < 6 ? mantissas[i] : random() & 0x7fffff;
            const float x = float_of(high << 23 | mantissa);
            if (!std::isnan(x)) {
                ASSERT_EQ(f.narrow(x), model(x)) << x;
                continue;
            }
            const uint16_t narrow = f.narrow(x);
            ASSERT_EQ(narrow >> 15, high >> 8);
            ASSERT_EQ(narrow & 0x7fff, f.infinity() | 1u << (f.mantissa_bits - 1) | mantissa >> (23 - f.mantissa_bits));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, CoreFloatFormats, testing::ValuesIn(formats),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(CoreFloatFormatsGolden, Values) {
    EXPECT_EQ(float32_to_float16(65504.0f), 0x7bff);
    EXPECT_EQ(float32_to_float16(65519.996f), 0x7bff);
    EXPECT_EQ(float32_to_float16(65520.0f), 0x7c00);
    EXPECT_EQ(float32_to_float16(0x1p-24f), 0x0001);
    EXPECT_EQ(float32_to_float16(0x1p-25f), 0x0000);
    EXPECT_EQ(float32_to_float16(-0x1.000002p-25f), 0x8001);
    EXPECT_EQ(float32_to_float16(1.0f / 3), 0x3555);
    EXPECT_EQ(float32_to_bfloat16(1.0f / 3), 0x3eab);
    EXPECT_EQ(float32_to_bfloat16(3.4e38f), 0x7f80);
    EXPECT_EQ(float32_to_bfloat16(float_of(0x7f800001)), 0x7fc0);
    EXPECT_EQ(float16_to_float32(0x3c00), 1.0f);
    EXPECT_EQ(bits_of(float16_to_float32(0x7c01)), 0x7fc02000u);  // quiet, as after the conversion of the hardware
    EXPECT_EQ(bfloat16_to_float32(0xc040), -3.0f);
}

template <class F>
void check_unaligned(typename F::compute value) {
    unsigned char bytes[24];
    for (size_t shift = 0; shift < 8; ++shift) {
        std::fill(std::begin(bytes), std::end(bytes), static_cast<unsigned char>(0xa5));
        store_element<F>(bytes + shift, value);
        EXPECT_EQ(load_element<F>(bytes + shift), value);
        for (size_t i = 0; i < sizeof bytes; ++i) {
            EXPECT_TRUE((i >= shift && i < shift + F::bits / 8) || bytes[i] == 0xa5) << "byte " << i;
        }
    }
}

TEST(CoreFloatFormatsElement, AnyAlignmentAndNoOtherByte) {
    check_unaligned<float16>(1.5f);
    check_unaligned<bfloat16>(-1.5f);
    check_unaligned<float32>(1.0f / 3);
    check_unaligned<float64>(1.0 / 3);
}

}  // namespace
}  // namespace piquant
