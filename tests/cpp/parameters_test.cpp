// Scale and zero point: the formulas at their limits, and the error bound that follows from them.
#include "core/parameters.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>
#include <vector>

#include "exact.hpp"
#include "kernel_data.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using exact::Wide;

QuantParams affine(double lo, double hi, DType code, bool wide) {
    const DTypeInfo& t = info(code);
    return affine_params(std::min(lo, 0.0), std::max(hi, 0.0), wide, code_min(t.bits, t.is_signed),
                         code_max(t.bits, t.is_signed));
}

TEST(AffineParams, Golden) {
    const struct {
        double lo, hi;
        DType code;
        bool wide;
        double scale;
        int64_t zero_point;
    } rows[] = {
        {0, 255, DType::uint8, false, 1, 0},
        {0, 255, DType::int8, false, 1, -128},
        {-128, 127, DType::int8, true, 1, 0},
        {-255, 0, DType::uint8, false, 1, 255},
        {-1, 2, DType::uint2, false, 1, 1},
        {5, 15, DType::uint4, false, 1, 0},     // zero joins the range
        {-15, -5, DType::uint4, false, 1, 15},  // on either side
        {0, 0, DType::uint4, false, 1, 0},
        {0, 0, DType::int4, true, 1, -8},
        {-0.0, 0, DType::int64, true, 1, INT64_MIN},
        {-1, 1, DType::uint8, true, 2.0 / 255, 128},  // 127.5 rounds to even
        {-1, 1, DType::uint8, false, static_cast<double>(static_cast<float>(2.0 / 255)), 127},
        {-3, 3, DType::uint2, true, 2, 2},  // 1.5 rounds to even
        {-1, 5, DType::uint2, true, 2, 0},  // 0.5 too
        {0, 1e-44, DType::uint8, false, FLT_MIN, 0},
        {-1e-44, 0, DType::uint8, false, FLT_MIN, 0},
        {0, 1e-44, DType::uint8, true, 1e-44 / 255, 0},
        {0, DBL_TRUE_MIN, DType::uint8, true, DBL_MIN, 0},
        {-DBL_MAX, DBL_MAX, DType::uint2, true, DBL_MAX / 3 * 2, 2},
        {-DBL_MAX, DBL_MAX, DType::uint8, true, DBL_MAX / 255 * 2, 127},  // the quotient rounds below 127.5
        {-DBL_MAX, 0, DType::uint8, true, DBL_MAX / 255, 255},
        {0, 4294967295.0, DType::uint32, true, 1, 0},
        {-2147483648.0, 2147483647.0, DType::int32, true, 1, 0},
        {-1, 0, DType::uint64, true, 0x1p-64, -1},  // all ones: the largest uint64
        {0, 1, DType::uint64, true, 0x1p-64, 0},
        {-1, 0, DType::int64, true, 0x1p-64, INT64_MAX},
        {0, 1, DType::int64, true, 0x1p-64, INT64_MIN},
        {-1, 1, DType::uint64, true, 0x1p-63, INT64_MIN},  // 2^63
        {-1, 1, DType::int64, true, 0x1p-63, 0},
    };
    for (const auto& row : rows) {
        const QuantParams p = affine(row.lo, row.hi, row.code, row.wide);
        EXPECT_EQ(p.scale, row.scale) << row.lo << " " << row.hi << " " << info(row.code).name;
        EXPECT_EQ(static_cast<int64_t>(p.zero_point), row.zero_point)
            << row.lo << " " << row.hi << " " << info(row.code).name;
    }
}

// The sum of quant_min and the steps below zero is exact, also where no double holds it; ties go to the even sum.
TEST(AffineParams, ZeroPointsAreExact) {
    const struct {
        double lo;  // in steps: hi makes the scale 1
        int64_t quant_min, quant_max;
        int64_t zero_point;
    } rows[] = {
        {-78, INT64_MIN, INT64_MIN + 1000, INT64_MIN + 78},
        {-0.5, INT64_MIN, INT64_MIN + 1000, INT64_MIN},
        {-1.5, INT64_MIN, INT64_MIN + 1000, INT64_MIN + 2},
        {-0.5, INT64_MIN + 1, INT64_MIN + 1001, INT64_MIN + 2},
        {-1.5, INT64_MIN + 1, INT64_MIN + 1001, INT64_MIN + 2},
        {-0.75, INT64_MAX - 1000, INT64_MAX, INT64_MAX - 999},
        {-1000, INT64_MAX - 1000, INT64_MAX, INT64_MAX},
        {-2.5, -7, 993, -4},
        {-3.5, -7, 993, -4},
    };
    for (const auto& row : rows) {
        const QuantParams p = affine_params(row.lo, 1000 + row.lo, true, static_cast<uint64_t>(row.quant_min),
                                            static_cast<uint64_t>(row.quant_max));
        EXPECT_EQ(p.scale, 1.0);
        EXPECT_EQ(static_cast<int64_t>(p.zero_point), row.zero_point) << row.lo << " " << row.quant_min;
    }
    // Where the smallest normal scale is more than the data needs, few steps lie below zero.
    EXPECT_EQ(affine(-78 * static_cast<double>(FLT_MIN), 0, DType::int64, false).zero_point, code_min(64, true) + 78);
    EXPECT_EQ(affine(-78 * static_cast<double>(FLT_MIN), 0, DType::uint64, false).zero_point, 78u);
}

TEST(AffineParams, AnyDataGivesValidParameters) {
    std::mt19937_64 random(1);
    for (int i = 0; i < 200000; ++i) {
        const auto real = static_cast<DType>(random() % float_count);
        const bool wide = real == DType::float64;
        const auto code = static_cast<DType>(float_count + static_cast<int>(random() % code_count));
        const DTypeInfo& t = info(code);
        const auto draw = [&] {
            const uint64_t bits = random();
            const double x =
                wide ? __builtin_bit_cast(double, bits) : static_cast<double>(float_of(static_cast<uint32_t>(bits)));
            return std::isfinite(x) ? x : 0.0;
        };
        double lo = draw();
        double hi = random() % 4 == 0 ? -lo * 1.01 : draw();
        if (!std::isfinite(hi) || (!wide && std::fabs(hi) > FLT_MAX)) {
            hi = lo;
        }
        if (hi < lo) {
            std::swap(lo, hi);
        }
        uint64_t quant_min = code_min(t.bits, t.is_signed);
        uint64_t quant_max = code_max(t.bits, t.is_signed);
        if (random() % 2 == 0) {
            const uint64_t span = quant_max - quant_min;
            quant_min += random() % (span / 2 + 1);
            quant_max -= random() % (span / 2 + (span / 2 == 0));
        }
        const QuantParams p = affine_params(std::min(lo, 0.0), std::max(hi, 0.0), wide, quant_min, quant_max);
        ASSERT_GE(p.scale, wide ? DBL_MIN : FLT_MIN);
        ASSERT_FALSE(code_less(p.zero_point, quant_min, t.is_signed)) << lo << " " << hi << " " << t.name;
        ASSERT_FALSE(code_less(quant_max, p.zero_point, t.is_signed)) << lo << " " << hi << " " << t.name;
        // The scale is the quotient to within the roundings of a difference, a count, a quotient and T.
        const Wide low = lo < 0 ? lo : 0;
        const Wide high = hi > 0 ? hi : 0;
        const Wide quotient = (high - low) / static_cast<Wide>(quant_max - quant_min);
        const Wide epsilon = wide ? Wide(DBL_EPSILON) * 2 : Wide(FLT_EPSILON);
        const Wide least = wide ? Wide(DBL_MIN) : Wide(FLT_MIN);
        const Wide error = p.scale > quotient ? p.scale - quotient : quotient - p.scale;
        if (low != high && std::isfinite(p.scale)) {
            ASSERT_TRUE(error <= quotient * epsilon || (quotient < least * (1 + epsilon) && p.scale == least))
                << lo << " " << hi << " " << t.name << " " << p.scale;
        }
    }
}

TEST(SymmetricParams, Golden) {
    for (int d = float_count; d < dtype_count; ++d) {
        const DTypeInfo& t = dtype_infos[d];
        const uint64_t half = uint64_t{1} << (t.bits - 1);
        const auto m = static_cast<double>(half - 1);
        const uint64_t middle = symmetric_zero_point(t.bits, t.is_signed);
        const uint64_t reach =
            symmetric_reach(code_min(t.bits, t.is_signed), code_max(t.bits, t.is_signed), t.bits, t.is_signed);
        EXPECT_EQ(reach, half - 1);
        for (const double sign : {-1.0, 1.0}) {
            const double largest = 3.0;
            const QuantParams p = sign < 0 ? symmetric_params(-largest, 1, true, middle, reach)
                                           : symmetric_params(-1, largest, true, middle, reach);
            EXPECT_EQ(p.scale, largest / m) << t.name;
            EXPECT_EQ(p.zero_point, t.is_signed ? 0 : half) << t.name;
        }
        EXPECT_EQ(symmetric_params(0, 0, false, middle, reach).scale, 1.0);
        EXPECT_EQ(symmetric_params(2, 3, false, middle, reach).scale, static_cast<double>(static_cast<float>(3.0 / m)));
        EXPECT_EQ(symmetric_params(-3, -2, false, middle, reach).scale,
                  static_cast<double>(static_cast<float>(3.0 / m)));
        EXPECT_EQ(symmetric_params(0, 1e-44, false, middle, reach).scale, FLT_MIN);
        EXPECT_EQ(symmetric_params(-DBL_MAX, DBL_MAX, true, middle, reach).scale, DBL_MAX / m);
    }
}

// The bound, through the public API.
class ErrorBound : public testing::TestWithParam<std::tuple<int, int>> {
protected:
    DType real = static_cast<DType>(std::get<0>(GetParam()));
    DType code = static_cast<DType>(float_count + std::get<1>(GetParam()));
    ContextPtr context = make_context(1);

    double at(const Bytes& data, size_t i) const {
        const unsigned char* p = data.data() + bytes_for(i, info(real).bits);
        switch (real) {
            case DType::float16: return static_cast<double>(load_element<float16>(p));
            case DType::bfloat16: return static_cast<double>(load_element<bfloat16>(p));
            case DType::float32: return static_cast<double>(load_element<float32>(p));
            default: return load_element<float64>(p);
        }
    }
    void put(Bytes& data, size_t i, double x) const {
        unsigned char* p = data.data() + bytes_for(i, info(real).bits);
        switch (real) {
            case DType::float16: return store_element<float16>(p, static_cast<float>(x));
            case DType::bfloat16: return store_element<bfloat16>(p, static_cast<float>(x));
            case DType::float32: return store_element<float32>(p, static_cast<float>(x));
            default: return store_element<float64>(p, x);
        }
    }

    void check(const Bytes& data, size_t n, const piquant_options_t& options, const std::string& what) {
        const auto r = static_cast<piquant_dtype_t>(real);
        const auto c = static_cast<piquant_dtype_t>(code);
        double scale = 0;
        int64_t zero_point = 0;
        ASSERT_EQ(piquant_compute_quant_params(context.get(), data.data(), r, c, n, &options, &scale, &zero_point),
                  PIQUANT_OK);
        Bytes codes(piquant_size(c, n));
        Bytes back(data.size());
        Bytes fused(data.size());
        ASSERT_EQ(piquant_quantize(context.get(), data.data(), r, codes.data(), c, n, scale, zero_point, &options),
                  PIQUANT_OK);
        ASSERT_EQ(piquant_dequantize(context.get(), codes.data(), c, back.data(), r, n, scale, zero_point, &options),
                  PIQUANT_OK);
        ASSERT_EQ(
            piquant_quantize_dequantize(context.get(), data.data(), fused.data(), r, c, n, scale, zero_point, &options),
            PIQUANT_OK);
        ASSERT_EQ(back, fused) << what;
        double span = 0;
        for (size_t i = 0; i < n; ++i) {
            span = std::max(span, std::fabs(at(data, i)));
        }
        // Relative rounding error of T and of the output, and the smallest step of the output.
        const double compute = real == DType::float64 ? 0x1p-53 : 0x1p-24;
        const double out[] = {0x1p-11, 0x1p-8, 0x1p-24, 0x1p-53};
        const double least[] = {0x1p-24, 0x1p-133, 0x1p-149, 0x1p-1074};
        for (size_t i = 0; i < n; ++i) {
            const double x = at(data, i);
            const double bound = scale / 2 + 8 * compute * span +
                                 out[static_cast<int>(real)] * (std::fabs(x) + scale / 2) +
                                 least[static_cast<int>(real)];
            ASSERT_LE(std::fabs(x - at(back, i)), bound)
                << what << " element " << i << " = " << x << " scale " << scale << " zero point " << zero_point;
        }
    }
};

TEST_P(ErrorBound, HoldsForRandomData) {
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    const DTypeInfo& type = info(code);
    // float16 ends at 65504, and a range that nearly does may dequantize to infinity.
    const double large = real == DType::float16 ? 5000 : real == DType::float64 ? 1e307 : 1e37;
    const double small = real == DType::float16 ? 1e-6 : real == DType::float64 ? 1e-305 : 1e-36;
    const struct {
        const char* what;
        double centre, spread;
    } shapes[] = {{"centred", 0, 1},        {"positive", 10, 1},      {"negative", -10, 1},  {"far off zero", 1000, 1},
                  {"large", 0, large},      {"small", 0, small},      {"constant", 3.25, 0}, {"all zero", 0, 0},
                  {"tiny", 0, small / 1e4}, {"skewed", 2 * small, 1}, {"smaller", -3, 1e-3}};
    for (const auto& shape : shapes) {
        for (const size_t n : std::initializer_list<size_t>{1, 2, 300}) {
            Bytes data(bytes_for(n, info(real).bits));
            for (size_t i = 0; i < n; ++i) {
                put(data, i, shape.centre + std::clamp(normal(random), -4.0, 4.0) * shape.spread);
            }
            piquant_options_t options = default_options();
            check(data, n, options, std::string(shape.what) + ", affine");
            options.symmetric = 1;
            check(data, n, options, std::string(shape.what) + ", symmetric");
            options.symmetric = 0;
            options.has_quant_min = options.has_quant_max = 1;
            const uint64_t lowest = code_min(type.bits, type.is_signed);
            const uint64_t highest = code_max(type.bits, type.is_signed);
            for (int i = 0; i < 4; ++i) {
                const uint64_t first = lowest + random() % (highest - lowest);
                options.quant_min = static_cast<int64_t>(first);
                options.quant_max = static_cast<int64_t>(first + 1 + random() % (highest - first));
                check(data, n, options, std::string(shape.what) + ", custom range");
                if (HasFatalFailure()) {
                    return;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, ErrorBound,
                         testing::Combine(testing::Range(0, float_count), testing::Range(0, code_count)),
                         [](const auto& instance) {
                             return std::string(dtype_infos[std::get<0>(instance.param)].name) + "_" +
                                    dtype_infos[float_count + std::get<1>(instance.param)].name;
                         });

TEST(Parameters, SymmetricRangeLimits) {
    const ContextPtr context = make_context(1);
    const float data[] = {-1, 2};
    const struct {
        piquant_dtype_t code;
        int64_t lo, hi;
        double reach;  // 0: an error
    } rows[] = {{PIQUANT_INT8, -128, 127, 127},
                {PIQUANT_INT8, -126, 127, 126},
                {PIQUANT_INT8, -127, 100, 100},
                {PIQUANT_INT8, -1, 127, 1},
                {PIQUANT_INT8, 0, 127, 0},
                {PIQUANT_INT8, 1, 127, 0},
                {PIQUANT_INT8, -128, 0, 0},
                {PIQUANT_INT8, -128, -1, 0},
                {PIQUANT_UINT8, 0, 255, 127},
                {PIQUANT_UINT8, 2, 255, 126},
                {PIQUANT_UINT8, 1, 254, 126},
                {PIQUANT_UINT8, 0, 128, 0},
                {PIQUANT_UINT8, 128, 255, 0},
                {PIQUANT_INT4, -7, 7, 7},
                {PIQUANT_UINT4, 4, 12, 4},
                {PIQUANT_UINT2, 1, 3, 1},
                {PIQUANT_INT2, -2, 0, 0},
                {PIQUANT_UINT64, 1, -1, 0x1p63},
                {PIQUANT_UINT64, INT64_MAX, -1, 1},
                {PIQUANT_UINT64, INT64_MIN, -1, 0},
                {PIQUANT_INT64, INT64_MIN, INT64_MAX, 0x1p63},
                {PIQUANT_INT64, -INT64_MAX, 1000, 1000},
                {PIQUANT_INT64, -1, INT64_MAX, 1}};
    for (const auto& row : rows) {
        piquant_options_t o = default_options();
        o.symmetric = 1;
        o.has_quant_min = o.has_quant_max = 1;
        o.quant_min = row.lo;
        o.quant_max = row.hi;
        double scale = 0;
        int64_t zero_point = 0;
        EXPECT_EQ(
            piquant_compute_quant_params(context.get(), data, PIQUANT_FLOAT32, row.code, 2, &o, &scale, &zero_point),
            row.reach > 0 ? PIQUANT_OK : PIQUANT_ERROR_SYMMETRIC_RANGE)
            << piquant_dtype_name(row.code) << " " << row.lo << " " << row.hi;
        EXPECT_EQ(scale, row.reach > 0 ? static_cast<double>(static_cast<float>(2 / row.reach)) : 0)
            << piquant_dtype_name(row.code) << " " << row.lo << " " << row.hi;
    }
}

}  // namespace
}  // namespace piquant
