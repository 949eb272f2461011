// Arguments -> status, at both sides of every limit.
#include "engine/validate.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "support.hpp"

namespace piquant {
namespace {

TEST(Dtypes, KindsAndEnds) {
    for (int d = -2; d < 40; ++d) {
        EXPECT_EQ(is_float_dtype(d), d >= 0 && d < 4) << d;
        EXPECT_EQ(is_code_dtype(d), d >= 4 && d < 20) << d;
    }
    EXPECT_FALSE(is_code_dtype(INT32_MAX));
    EXPECT_FALSE(is_float_dtype(INT32_MIN));
}

TEST(ReadOptions, NullIsTheInitializer) {
    const piquant_options_t initializer = PIQUANT_OPTIONS_INIT;
    for (int d = float_count; d < dtype_count; ++d) {
        const auto code = static_cast<DType>(d);
        for (const piquant_options_t* given : {static_cast<const piquant_options_t*>(nullptr), &initializer}) {
            CallOptions o{};
            ASSERT_EQ(read_options(given, code, o), PIQUANT_OK);
            EXPECT_EQ(o.round, Round::nearest);
            EXPECT_EQ(o.reduce, Reduce::set);
            EXPECT_EQ(o.quant_min, code_min(info(code).bits, info(code).is_signed));
            EXPECT_EQ(o.quant_max, code_max(info(code).bits, info(code).is_signed));
            EXPECT_EQ(o.seed, 0u);
            EXPECT_EQ(o.offset, 0u);
            EXPECT_FALSE(o.symmetric);
        }
    }
}

TEST(ReadOptions, EveryFieldArrives) {
    piquant_options_t given = PIQUANT_OPTIONS_INIT;
    given.round_mode = PIQUANT_STOCHASTIC;
    given.reduce_op = PIQUANT_ADD;
    given.seed = ~uint64_t{0};
    given.offset = 77;
    given.has_quant_min = 5;
    given.has_quant_max = -1;
    given.quant_min = -3;
    given.quant_max = 6;
    given.symmetric = -1;
    CallOptions o{};
    ASSERT_EQ(read_options(&given, DType::int4, o), PIQUANT_OK);
    EXPECT_EQ(o.round, Round::stochastic);
    EXPECT_EQ(o.reduce, Reduce::add);
    EXPECT_EQ(o.seed, ~uint64_t{0});
    EXPECT_EQ(o.offset, 77u);
    EXPECT_EQ(o.quant_min, uint64_t(-3));
    EXPECT_EQ(o.quant_max, 6u);
    EXPECT_TRUE(o.symmetric);
}

TEST(ReadOptions, BadFields) {
    CallOptions o{};
    for (const size_t size : {size_t{0}, offsetof(piquant_options_t, nan_scales) - 1, size_t{4097}, SIZE_MAX}) {
        piquant_options_t given = PIQUANT_OPTIONS_INIT;
        given.struct_size = size;
        EXPECT_EQ(read_options(&given, DType::uint8, o), PIQUANT_ERROR_OPTIONS) << size;
    }
    // As C callers may: through the bytes of the field.
    for (const int value : {-1, 2, 1000, INT32_MAX, INT32_MIN}) {
        piquant_options_t given = PIQUANT_OPTIONS_INIT;
        __builtin_memcpy(&given.round_mode, &value, sizeof value);
        EXPECT_EQ(read_options(&given, DType::uint8, o), PIQUANT_ERROR_ROUND_MODE) << value;
        given = PIQUANT_OPTIONS_INIT;
        __builtin_memcpy(&given.reduce_op, &value, sizeof value);
        EXPECT_EQ(read_options(&given, DType::uint8, o), PIQUANT_ERROR_REDUCE_OP) << value;
    }
}

// Those of a later version are larger; what they ask for beyond ours must be nothing.
TEST(ReadOptions, LaterVersions) {
    struct {
        piquant_options_t known = PIQUANT_OPTIONS_INIT;
        unsigned char beyond[4096 - sizeof(piquant_options_t)] = {};
    } later;
    CallOptions o{};
    for (const size_t more : {size_t{1}, size_t{8}, sizeof later.beyond}) {
        later.known.struct_size = sizeof later.known + more;
        later.known.seed = more;
        ASSERT_EQ(read_options(&later.known, DType::uint8, o), PIQUANT_OK) << more;
        EXPECT_EQ(o.seed, more);
        later.beyond[more - 1] = 1;
        EXPECT_EQ(read_options(&later.known, DType::uint8, o), PIQUANT_ERROR_OPTIONS) << more;
        later.known.struct_size = sizeof later.known + more - 1;
        EXPECT_EQ(read_options(&later.known, DType::uint8, o), PIQUANT_OK) << more;
        later.beyond[more - 1] = 0;
    }
}

TEST(ReadOptions, EndsOfTheRangeMayBeGivenAlone) {
    piquant_options_t given = PIQUANT_OPTIONS_INIT;
    CallOptions o{};
    given.has_quant_min = 1;
    given.quant_min = -7;
    given.quant_max = -100;  // not given
    ASSERT_EQ(read_options(&given, DType::int4, o), PIQUANT_OK);
    EXPECT_EQ(static_cast<int64_t>(o.quant_min), -7);
    EXPECT_EQ(o.quant_max, 7u);
    given.has_quant_min = 0;
    given.has_quant_max = 1;
    given.quant_max = 3;
    ASSERT_EQ(read_options(&given, DType::int4, o), PIQUANT_OK);
    EXPECT_EQ(static_cast<int64_t>(o.quant_min), -8);
    EXPECT_EQ(o.quant_max, 3u);
    given.quant_max = -8;
    EXPECT_EQ(read_options(&given, DType::int4, o), PIQUANT_ERROR_QUANT_RANGE);
}

TEST(ReadOptions, QuantRangeLimits) {
    const struct {
        DType code;
        int64_t lo;
        int64_t hi;
        bool valid;
    } rows[] = {
        {DType::int2, -2, 1, true},
        {DType::int2, -3, 1, false},
        {DType::int2, -2, 2, false},
        {DType::int2, 0, 0, false},
        {DType::int2, 1, -2, false},
        {DType::uint2, 0, 3, true},
        {DType::uint2, 0, 4, false},
        {DType::uint2, -1, 3, false},
        {DType::uint4, 14, 15, true},
        {DType::uint4, 15, 15, false},
        {DType::int8, -128, 127, true},
        {DType::int8, -129, 127, false},
        {DType::int8, -128, 128, false},
        {DType::uint8, 0, 256, false},
        {DType::uint8, INT64_MIN, 255, false},
        {DType::uint16, 0, 65536, false},
        {DType::int32, INT32_MIN, INT32_MAX, true},
        {DType::int32, int64_t{INT32_MIN} - 1, INT32_MAX, false},
        {DType::int32, INT32_MIN, int64_t{INT32_MAX} + 1, false},
        {DType::uint32, 0, UINT32_MAX, true},
        {DType::uint32, 0, int64_t{UINT32_MAX} + 1, false},
        {DType::int64, INT64_MIN, INT64_MAX, true},
        {DType::int64, INT64_MAX, INT64_MIN, false},
        {DType::int64, INT64_MAX, INT64_MAX, false},
        {DType::uint64, 0, -1, true},  // -1 carries the bits of the largest uint64
        {DType::uint64, INT64_MAX, INT64_MIN, true},
        {DType::uint64, -1, 0, false},
        {DType::uint64, INT64_MIN, INT64_MAX, false},
    };
    for (const auto& row : rows) {
        piquant_options_t given = PIQUANT_OPTIONS_INIT;
        given.has_quant_min = given.has_quant_max = 1;
        given.quant_min = row.lo;
        given.quant_max = row.hi;
        CallOptions o{};
        EXPECT_EQ(read_options(&given, row.code, o), row.valid ? PIQUANT_OK : PIQUANT_ERROR_QUANT_RANGE)
            << info(row.code).name << " " << row.lo << " " << row.hi;
        given.has_quant_min = given.has_quant_max = 0;
        EXPECT_EQ(read_options(&given, row.code, o), PIQUANT_OK) << "an unused range does not matter";
    }
}

TEST(ReadScale, Limits) {
    // Smallest doubles whose float is normal, whose float is finite: halfway cases of the conversion count as rounded.
    const double least_float = FLT_MIN;
    const double below_least_float = std::nextafter(static_cast<double>(FLT_MIN), 0.0);  // rounds up to FLT_MIN
    const double subnormal_float = static_cast<double>(std::nextafter(FLT_MIN, 0.0f));
    const double past_float = 0x1.ffffffp127;  // half a step beyond FLT_MAX: rounds to infinity
    const struct {
        double scale;
        bool valid32;
        bool valid64;
    } rows[] = {
        {1.0, true, true},
        {0.0, false, false},
        {-0.0, false, false},
        {-1.0, false, false},
        {NAN, false, false},
        {-NAN, false, false},
        {INFINITY, false, false},
        {-INFINITY, false, false},
        {least_float, true, true},
        {below_least_float, true, true},
        {subnormal_float, false, true},
        {1e-40, false, true},
        {FLT_MAX, true, true},
        {past_float, false, true},
        {std::nextafter(past_float, 0.0), true, true},
        {1e39, false, true},
        {1e-320, false, false},
        {DBL_TRUE_MIN, false, false},
        {std::nextafter(DBL_MIN, 0.0), false, false},
        {DBL_MIN, false, true},
        {DBL_MAX, false, true},
    };
    for (const auto& row : rows) {
        for (int real = 0; real < float_count; ++real) {
            const bool valid = real == static_cast<int>(DType::float64) ? row.valid64 : row.valid32;
            KernelArgs args{};
            EXPECT_EQ(read_scale(row.scale, 0, static_cast<DType>(real), DType::int8, args),
                      valid ? PIQUANT_OK : PIQUANT_ERROR_SCALE)
                << row.scale << " " << dtype_infos[real].name;
        }
    }
}

TEST(ReadScale, DividesInDoubleAndRoundsOnce) {
    for (const double scale : {0.1, 1.0 / 3, 3e-5, 123.456, 1e30}) {
        KernelArgs args{};
        ASSERT_EQ(read_scale(scale, 0, DType::float32, DType::int8, args), PIQUANT_OK);
        EXPECT_EQ(args.scale, static_cast<double>(static_cast<float>(scale)));
        EXPECT_EQ(args.inverse, static_cast<double>(static_cast<float>(1.0 / scale)));
        ASSERT_EQ(read_scale(scale, 0, DType::float64, DType::int8, args), PIQUANT_OK);
        EXPECT_EQ(args.scale, scale);
        EXPECT_EQ(args.inverse, 1.0 / scale);
    }
}

TEST(ReadScale, ZeroPointLimits) {
    for (int d = float_count; d < dtype_count; ++d) {
        const auto code = static_cast<DType>(d);
        const DTypeInfo& type = info(code);
        const auto lo = static_cast<int64_t>(code_min(type.bits, type.is_signed));
        const auto hi = static_cast<int64_t>(code_max(type.bits, type.is_signed));
        const auto status = [&](int64_t zero_point, uint64_t& seen) {
            KernelArgs args{};
            const piquant_status_t s = read_scale(1.0, zero_point, DType::float32, code, args);
            seen = args.zero_point;
            return s;
        };
        uint64_t seen = 0;
        for (const int64_t good : {lo, hi, int64_t{0}, int64_t{1}}) {
            EXPECT_EQ(status(good, seen), PIQUANT_OK) << type.name << " " << good;
            EXPECT_EQ(seen, static_cast<uint64_t>(good));
        }
        if (type.bits < 64) {
            for (const int64_t bad : {lo - 1, hi + 1, INT64_MIN, INT64_MAX}) {
                EXPECT_EQ(status(bad, seen), PIQUANT_ERROR_ZERO_POINT) << type.name << " " << bad;
            }
        }
    }
}

const void* at(uintptr_t address) {
    return reinterpret_cast<const void*>(address);
}

TEST(CheckArray, NullAndLength) {
    const uintptr_t p = 0x100000;
    const size_t room = UINTPTR_MAX - p;
    EXPECT_EQ(check_array(nullptr, DType::int8, 1), PIQUANT_ERROR_NULL);
    EXPECT_EQ(check_array(at(p), DType::int8, SIZE_MAX / 8), PIQUANT_OK);
    EXPECT_EQ(check_array(at(p), DType::int2, SIZE_MAX / 8 + 1), PIQUANT_ERROR_LENGTH);
    EXPECT_EQ(check_array(at(p), DType::int8, SIZE_MAX), PIQUANT_ERROR_LENGTH);
    EXPECT_EQ(check_array(at(p), DType::float64, room / 8), PIQUANT_OK);
    EXPECT_EQ(check_array(at(p), DType::float64, room / 8 + 1), PIQUANT_ERROR_LENGTH);
    EXPECT_EQ(check_array(at(UINTPTR_MAX - 8), DType::float32, 2), PIQUANT_OK);
    EXPECT_EQ(check_array(at(UINTPTR_MAX - 7), DType::float32, 2), PIQUANT_ERROR_LENGTH);
    EXPECT_EQ(check_array(at(UINTPTR_MAX - 2), DType::uint4, 5), PIQUANT_ERROR_LENGTH);
}

TEST(CheckArrays, Overlap) {
    const uintptr_t p = 0x100000;
    const struct {
        DType in_type;
        DType out_type;
        size_t n;
        long distance;  // out - in, bytes
        bool overlap;
    } rows[] = {
        {DType::float32, DType::uint8, 16, 0, true},        {DType::float32, DType::uint8, 16, 63, true},
        {DType::float32, DType::uint8, 16, 64, false},      {DType::float32, DType::uint8, 16, -15, true},
        {DType::float32, DType::uint8, 16, -16, false},     {DType::uint2, DType::float32, 5, 1, true},
        {DType::uint2, DType::float32, 5, 2, false},        {DType::uint2, DType::float32, 5, -19, true},
        {DType::uint2, DType::float32, 5, -20, false},      {DType::float64, DType::float64, 1, 0, true},
        {DType::float64, DType::float64, 1, 8, false},      {DType::float64, DType::float64, 1, -8, false},
        {DType::float64, DType::float64, 1000, 7999, true},
    };
    for (const auto& row : rows) {
        const auto out = static_cast<uintptr_t>(static_cast<long>(p) + row.distance);
        EXPECT_EQ(check_arrays(at(p), row.in_type, at(out), row.out_type, row.n, false),
                  row.overlap ? PIQUANT_ERROR_OVERLAP : PIQUANT_OK)
            << info(row.in_type).name << " " << info(row.out_type).name << " " << row.n << " " << row.distance;
    }
}

TEST(CheckArrays, NothingToDoNeedsNoPointers) {
    EXPECT_EQ(check_arrays(nullptr, DType::float32, nullptr, DType::int8, 0, false), PIQUANT_OK);
    EXPECT_EQ(check_arrays(at(64), DType::float32, at(64), DType::int8, 0, false), PIQUANT_OK);
    EXPECT_EQ(check_arrays(nullptr, DType::float32, at(64), DType::int8, 1, false), PIQUANT_ERROR_NULL);
    EXPECT_EQ(check_arrays(at(64), DType::float32, nullptr, DType::int8, 1, false), PIQUANT_ERROR_NULL);
}

}  // namespace
}  // namespace piquant
