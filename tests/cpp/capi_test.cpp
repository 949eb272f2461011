// Every status that the C API can return, for every argument that can cause it, and that errors leave outputs alone.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

#include "core/types.hpp"
#include "support.hpp"

namespace piquant {
namespace {

// An enum value from outside the enum, as C lets one pass.
template <class E>
E outside(int value) {
    E e;
    static_assert(sizeof e == sizeof value);
    std::memcpy(&e, &value, sizeof e);
    return e;
}

// One call of any of the three transforms, with arguments that are right until a test spoils one.
struct Call {
    enum Function { quantize, dequantize, quantize_dequantize } function;
    piquant_context_t* context;
    const void* in;
    void* out;
    piquant_dtype_t real = PIQUANT_FLOAT32;
    piquant_dtype_t code = PIQUANT_INT4;
    size_t n = 13;
    double scale = 0.5;
    int64_t zero_point = -3;
    const piquant_options_t* options = nullptr;

    piquant_status_t operator()() const {
        switch (function) {
            case quantize: return piquant_quantize(context, in, real, out, code, n, scale, zero_point, options);
            case dequantize: return piquant_dequantize(context, in, code, out, real, n, scale, zero_point, options);
            default: return piquant_quantize_dequantize(context, in, out, real, code, n, scale, zero_point, options);
        }
    }
};

const char* const function_names[] = {"quantize", "dequantize", "quantize_dequantize"};

class Transforms : public testing::TestWithParam<int> {
protected:
    ContextPtr context = make_parallel_context(2);
    std::vector<float> in = std::vector<float>(64, 1.0f);
    std::vector<unsigned char> out = std::vector<unsigned char>(512, 0x5a);
    piquant_options_t options = default_options();

    Call call() { return {static_cast<Call::Function>(GetParam()), context.get(), in.data(), out.data()}; }

    void expect(const char* what, piquant_status_t status, const Call& c) {
        EXPECT_EQ(c(), status) << what << ": " << piquant_status_string(c());
        EXPECT_EQ(out, std::vector<unsigned char>(512, 0x5a)) << what << " wrote to the output";
        EXPECT_EQ(in, std::vector<float>(64, 1.0f)) << what << " wrote to the input";
    }
    void expect(const char* what, piquant_status_t status, const std::function<void(Call&)>& spoil) {
        Call c = call();
        spoil(c);
        expect(what, status, c);
    }
};

TEST_P(Transforms, GoodArgumentsWork) {
    EXPECT_EQ(call()(), PIQUANT_OK);
    EXPECT_NE(out, std::vector<unsigned char>(512, 0x5a));
}

TEST_P(Transforms, EveryBadArgumentIsNamedAndWritesNothing) {
    expect("context", PIQUANT_ERROR_CONTEXT, [](Call& c) { c.context = nullptr; });
    expect("in", PIQUANT_ERROR_NULL, [](Call& c) { c.in = nullptr; });
    expect("out", PIQUANT_ERROR_NULL, [](Call& c) { c.out = nullptr; });
    for (const int bad : {4, 15, 19, 20, 100, -1, INT32_MIN, INT32_MAX}) {
        expect("float dtype", PIQUANT_ERROR_FLOAT_DTYPE, [=](Call& c) { c.real = outside<piquant_dtype_t>(bad); });
    }
    for (const int bad : {0, 3, 20, 21, 100, -1, INT32_MIN, INT32_MAX}) {
        expect("code dtype", PIQUANT_ERROR_CODE_DTYPE, [=](Call& c) { c.code = outside<piquant_dtype_t>(bad); });
    }
    for (const size_t bad : {SIZE_MAX, SIZE_MAX / 4, SIZE_MAX / 8 + 1}) {
        expect("n", PIQUANT_ERROR_LENGTH, [=](Call& c) { c.n = bad; });
    }
    for (const double bad : {0.0, -0.0, -1.0, double{NAN}, double{INFINITY}, double{-INFINITY}, 1e-45, 1e-40, 1e39}) {
        expect("scale", PIQUANT_ERROR_SCALE, [=](Call& c) { c.scale = bad; });
    }
    for (const double bad : {0.0, -1.0, double{NAN}, double{INFINITY}, 1e-310}) {
        expect("float64 scale", PIQUANT_ERROR_SCALE, [=](Call& c) { c.real = PIQUANT_FLOAT64, c.scale = bad; });
    }
    for (const int64_t bad : {int64_t{-9}, int64_t{8}, INT64_MIN, INT64_MAX}) {
        expect("zero point", PIQUANT_ERROR_ZERO_POINT, [=](Call& c) { c.zero_point = bad; });
    }
    expect("overlap", PIQUANT_ERROR_OVERLAP, [this](Call& c) { c.out = in.data() + 1; });
    expect("overlap at the end", PIQUANT_ERROR_OVERLAP, [this](Call& c) { c.in = out.data(), c.out = out.data() + 6; });
}

// quantize_dequantize may write where it reads.
TEST(QuantizeDequantize, InPlace) {
    const ContextPtr context = make_parallel_context(2);
    std::vector<float> x(100003);
    for (size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(i % 331) * 0.17f - 20;
    }
    for (const piquant_dtype_t code :
         {PIQUANT_INT4, PIQUANT_UINT16, PIQUANT_INT32, PIQUANT_INT64, PIQUANT_INT2_UNPACKED}) {
        for (const piquant_round_mode_t round : {PIQUANT_NEAREST, PIQUANT_STOCHASTIC}) {
            piquant_options_t options = default_options();
            options.round_mode = round;
            std::vector<float> apart(x.size());
            std::vector<float> in_place = x;
            ASSERT_EQ(piquant_quantize_dequantize(context.get(), x.data(), apart.data(), PIQUANT_FLOAT32, code,
                                                  x.size(), 0.3, 1, &options),
                      PIQUANT_OK);
            ASSERT_EQ(piquant_quantize_dequantize(context.get(), in_place.data(), in_place.data(), PIQUANT_FLOAT32,
                                                  code, x.size(), 0.3, 1, &options),
                      PIQUANT_OK);
            EXPECT_EQ(apart, in_place) << code;
        }
    }
}

TEST_P(Transforms, EveryBadOptionIsNamedAndWritesNothing) {
    const auto expect_option = [&](const char* what, piquant_status_t status, auto spoil) {
        options = default_options();
        spoil(options);
        expect(what, status, [this](Call& c) { c.options = &options; });
    };
    using Options = piquant_options_t;
    for (const size_t bad : {size_t{0}, offsetof(Options, nan_scales) - 1, size_t{4097}}) {
        expect_option("struct_size", PIQUANT_ERROR_OPTIONS, [=](Options& o) { o.struct_size = bad; });
    }
    for (const int bad : {-1, 2, INT32_MAX}) {
        expect_option("round_mode", PIQUANT_ERROR_ROUND_MODE,
                      [=](Options& o) { o.round_mode = outside<piquant_round_mode_t>(bad); });
        expect_option("reduce_op", PIQUANT_ERROR_REDUCE_OP,
                      [=](Options& o) { o.reduce_op = outside<piquant_reduce_op_t>(bad); });
    }
    const int64_t bad_ranges[][2] = {{-9, 7}, {-8, 8}, {3, 3}, {3, 2}, {INT64_MIN, 7}, {-8, INT64_MAX}};
    for (const auto& bad : bad_ranges) {
        expect_option("range", PIQUANT_ERROR_QUANT_RANGE, [&](Options& o) {
            o.has_quant_min = o.has_quant_max = 1;
            o.quant_min = bad[0];
            o.quant_max = bad[1];
        });
    }
}

TEST_P(Transforms, NothingToDo) {
    expect("n = 0", PIQUANT_OK, [](Call& c) { c.n = 0; });
    expect("n = 0, null pointers", PIQUANT_OK, [](Call& c) { c.n = 0, c.in = nullptr, c.out = nullptr; });
    expect("n = 0, same pointers", PIQUANT_OK, [this](Call& c) { c.n = 0, c.out = in.data(); });
    expect("n = 0 excuses nothing else", PIQUANT_ERROR_SCALE, [](Call& c) { c.n = 0, c.scale = 0; });
}

TEST_P(Transforms, NullOptionsAreTheInitializer) {
    ASSERT_EQ(call()(), PIQUANT_OK);
    const std::vector<unsigned char> without = out;
    std::fill(out.begin(), out.end(), static_cast<unsigned char>(0x5a));
    Call c = call();
    c.options = &options;
    ASSERT_EQ(c(), PIQUANT_OK);
    EXPECT_EQ(out, without);
}

INSTANTIATE_TEST_SUITE_P(All, Transforms, testing::Range(0, 3),
                         [](const auto& instance) { return std::string(function_names[instance.param]); });

class ComputeParams : public testing::Test {
protected:
    ContextPtr context = make_parallel_context(2);
    std::vector<float> in = {1, -2, 3};
    piquant_options_t options = default_options();

    // The outputs must stay as they were.
    void expect(piquant_status_t status, piquant_context_t* c, const void* p, int real, int code, size_t n,
                const piquant_options_t* o = nullptr) {
        double scale = 12345.0;
        int64_t zero_point = 6789;
        EXPECT_EQ(piquant_compute_quant_params(c, p, outside<piquant_dtype_t>(real), outside<piquant_dtype_t>(code), n,
                                               o, &scale, &zero_point),
                  status)
            << piquant_status_string(status);
        EXPECT_EQ(scale, 12345.0);
        EXPECT_EQ(zero_point, 6789);
    }
};

TEST_F(ComputeParams, EveryBadArgument) {
    piquant_context_t* c = context.get();
    const float* p = in.data();
    expect(PIQUANT_ERROR_CONTEXT, nullptr, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3);
    expect(PIQUANT_ERROR_NULL, c, nullptr, PIQUANT_FLOAT32, PIQUANT_INT8, 3);
    expect(PIQUANT_ERROR_EMPTY, c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 0);
    expect(PIQUANT_ERROR_EMPTY, c, nullptr, PIQUANT_FLOAT32, PIQUANT_INT8, 0);
    expect(PIQUANT_ERROR_LENGTH, c, p, PIQUANT_FLOAT32, PIQUANT_INT8, SIZE_MAX);
    for (const int bad : {4, 20, -1, 1000}) {
        expect(PIQUANT_ERROR_FLOAT_DTYPE, c, p, bad, PIQUANT_INT8, 3);
    }
    for (const int bad : {3, 20, -1, 1000}) {
        expect(PIQUANT_ERROR_CODE_DTYPE, c, p, PIQUANT_FLOAT32, bad, 3);
    }
    options.struct_size = 1;
    expect(PIQUANT_ERROR_OPTIONS, c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3, &options);
    options = default_options();
    options.has_quant_min = options.has_quant_max = 1;
    options.quant_max = 128;
    expect(PIQUANT_ERROR_QUANT_RANGE, c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3, &options);
    options.quant_max = 127;
    options.symmetric = 1;  // 0 .. 127 has no code below the zero point
    expect(PIQUANT_ERROR_SYMMETRIC_RANGE, c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3, &options);

    double scale = 1;
    int64_t zero_point = 1;
    EXPECT_EQ(piquant_compute_quant_params(c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3, nullptr, nullptr, &zero_point),
              PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_compute_quant_params(c, p, PIQUANT_FLOAT32, PIQUANT_INT8, 3, nullptr, &scale, nullptr),
              PIQUANT_ERROR_NULL);
    EXPECT_EQ(scale, 1.0);
    EXPECT_EQ(zero_point, 1);
}

// Wherever it is: in whole vectors, in the rest, in another thread's chunk, beside a value of the other kind.
TEST_F(ComputeParams, NotFiniteDataAnywhere) {
    const auto check = [&](auto zero, int real) {
        using T = decltype(zero);
        for (const size_t n : {size_t{1}, size_t{7}, size_t{64}, size_t{1000}, size_t{70001}}) {
            std::vector<T> data(n, T{1});
            for (const size_t place : {size_t{0}, n / 2, n - 1, n * 7 / 8}) {
                for (const double bad : {double{NAN}, double{-NAN}, double{INFINITY}, double{-INFINITY}}) {
                    data[place] = static_cast<T>(bad);
                    expect(PIQUANT_ERROR_NOT_FINITE, context.get(), data.data(), real, PIQUANT_UINT8, n);
                }
                data[place] = T{1};
            }
        }
    };
    check(0.0f, PIQUANT_FLOAT32);
    check(0.0, PIQUANT_FLOAT64);
    for (const int pattern : {0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff, 0xfe00}) {
        const auto bad = static_cast<uint16_t>(pattern);
        expect(PIQUANT_ERROR_NOT_FINITE, context.get(), &bad, PIQUANT_FLOAT16, PIQUANT_UINT8, 1);
    }
    for (const int pattern : {0x7f80, 0xff80, 0x7f81, 0x7fc0, 0xffff}) {
        const auto bad = static_cast<uint16_t>(pattern);
        std::vector<uint16_t> data(300, 0);
        for (const size_t place : {size_t{0}, size_t{5}, size_t{299}}) {
            data[place] = bad;
            expect(PIQUANT_ERROR_NOT_FINITE, context.get(), data.data(), PIQUANT_BFLOAT16, PIQUANT_UINT8, 300);
            data[place] = 0;
        }
    }
}

TEST_F(ComputeParams, DataThatNoScaleCovers) {
    const float floats[] = {-FLT_MAX, FLT_MAX};
    const double doubles[] = {-DBL_MAX, DBL_MAX};
    options.has_quant_min = options.has_quant_max = 1;
    options.quant_min = 0;
    options.quant_max = 1;
    expect(PIQUANT_ERROR_DATA_RANGE, context.get(), floats, PIQUANT_FLOAT32, PIQUANT_UINT2, 2, &options);
    expect(PIQUANT_ERROR_DATA_RANGE, context.get(), doubles, PIQUANT_FLOAT64, PIQUANT_UINT2, 2, &options);
}

TEST(Describe, StatusStringsAreDistinctSentences) {
    std::set<std::string> seen;
    for (int s = PIQUANT_OK; s <= PIQUANT_ERROR_DEVICE; ++s) {
        const char* text = piquant_status_string(static_cast<piquant_status_t>(s));
        ASSERT_NE(text, nullptr);
        EXPECT_TRUE(seen.insert(text).second) << text;
        EXPECT_STRNE(text, "unknown status") << s;
    }
    for (const int s : {-1, PIQUANT_ERROR_DEVICE + 1, 1000, INT32_MIN}) {
        EXPECT_STREQ(piquant_status_string(outside<piquant_status_t>(s)), "unknown status");
    }
}

TEST(Describe, Dtypes) {
    const struct {
        const char* name;
        int bits;
        int bits_in_memory = 0;  // where they are others
    } rows[] = {{"float16", 16},
                {"bfloat16", 16},
                {"float32", 32},
                {"float64", 64},
                {"int2", 2},
                {"uint2", 2},
                {"int4", 4},
                {"uint4", 4},
                {"int8", 8},
                {"uint8", 8},
                {"int16", 16},
                {"uint16", 16},
                {"int32", 32},
                {"uint32", 32},
                {"int64", 64},
                {"uint64", 64},
                {"int2_unpacked", 2, 8},
                {"uint2_unpacked", 2, 8},
                {"int4_unpacked", 4, 8},
                {"uint4_unpacked", 4, 8}};
    for (int d = 0; d < dtype_count; ++d) {
        const auto dtype = static_cast<piquant_dtype_t>(d);
        EXPECT_STREQ(piquant_dtype_name(dtype), rows[d].name);
        EXPECT_EQ(piquant_dtype_bits(dtype), rows[d].bits);
        const int bits = rows[d].bits_in_memory != 0 ? rows[d].bits_in_memory : rows[d].bits;
        for (const size_t n : std::initializer_list<size_t>{0, 1, 2, 3, 4, 5, 1000003}) {
            EXPECT_EQ(piquant_size(dtype, n), (n * static_cast<size_t>(bits) + 7) / 8) << rows[d].name;
        }
        if (bits > 8) {
            const size_t bytes = static_cast<size_t>(bits) / 8;
            EXPECT_EQ(piquant_size(dtype, SIZE_MAX / bytes), SIZE_MAX / bytes * bytes);
            EXPECT_EQ(piquant_size(dtype, SIZE_MAX / bytes + 1), SIZE_MAX);
        } else {
            EXPECT_GT(piquant_size(dtype, SIZE_MAX), SIZE_MAX / 8);
        }
    }
    for (const int d : {-1, dtype_count, 1000, INT32_MIN}) {
        const auto dtype = outside<piquant_dtype_t>(d);
        EXPECT_EQ(piquant_dtype_name(dtype), nullptr);
        EXPECT_EQ(piquant_dtype_bits(dtype), 0);
        EXPECT_EQ(piquant_size(dtype, 10), 0u);
    }
}

TEST(Describe, Ranges) {
    for (int d = 0; d < dtype_count; ++d) {
        const DTypeInfo& type = dtype_infos[d];
        int64_t lowest = 99;
        int64_t highest = 99;
        const piquant_status_t status = piquant_dtype_range(static_cast<piquant_dtype_t>(d), &lowest, &highest);
        ASSERT_EQ(status, type.is_float ? PIQUANT_ERROR_CODE_DTYPE : PIQUANT_OK) << type.name;
        const int64_t half = type.is_float ? 0 : int64_t{1} << (type.bits - 2);  // a quarter of the codes
        EXPECT_EQ(lowest, type.is_float ? 99 : type.is_signed ? -2 * half : 0) << type.name;
        EXPECT_EQ(highest, type.is_float    ? 99
                           : type.is_signed ? half - 1 + half
                                            : static_cast<int64_t>(4 * static_cast<uint64_t>(half) - 1))
            << type.name;
    }
    int64_t one = 0;
    EXPECT_EQ(piquant_dtype_range(PIQUANT_INT8, nullptr, &one), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_dtype_range(PIQUANT_INT8, &one, nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_dtype_range(outside<piquant_dtype_t>(-1), &one, &one), PIQUANT_ERROR_CODE_DTYPE);
}

// What a call would say of its arguments, without arrays.
TEST(Check, SaysWhatACallWouldSay) {
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, -8, nullptr), PIQUANT_OK);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4_UNPACKED, 0.5, 7, &options), PIQUANT_OK);
    EXPECT_EQ(piquant_check(PIQUANT_INT4, PIQUANT_INT4, 0.5, -8, nullptr), PIQUANT_ERROR_FLOAT_DTYPE);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_FLOAT32, 0.5, -8, nullptr), PIQUANT_ERROR_CODE_DTYPE);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0, -8, nullptr), PIQUANT_ERROR_SCALE);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, -9, nullptr), PIQUANT_ERROR_ZERO_POINT);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT64, PIQUANT_INT4, 1e-300, 0, nullptr), PIQUANT_OK);
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 1e-300, 0, nullptr), PIQUANT_ERROR_SCALE);
    options.has_quant_max = 1;
    options.quant_max = 8;
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, 0, &options), PIQUANT_ERROR_QUANT_RANGE);
    options.struct_size = 8;
    EXPECT_EQ(piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, 0, &options), PIQUANT_ERROR_OPTIONS);
}

TEST(Describe, Version) {
    EXPECT_STREQ(piquant_version(), PIQUANT_VERSION);
}

// It only advises: any memory, any size, contents unchanged.
TEST(PrepareOutput, NeverFailsNorWrites) {
    piquant_prepare_output(nullptr, 0);
    piquant_prepare_output(nullptr, SIZE_MAX);
    std::vector<unsigned char> memory((size_t{9} << 20) + 3, 0x77);
    for (const size_t shift : std::initializer_list<size_t>{0, 1, 4095}) {
        piquant_prepare_output(memory.data() + shift, memory.size() - shift);
    }
    piquant_prepare_output(memory.data(), 10);
    EXPECT_EQ(memory, std::vector<unsigned char>(memory.size(), 0x77));
}

}  // namespace
}  // namespace piquant
