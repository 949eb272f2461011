// Blocks whose data are not finite, where the options say nan_scales: a NaN for their scale, a zero point and codes of 0, and
// NaNs again when they are dequantized. All other blocks are what they are without them, on every instruction set, for all
// types, layouts and roundings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "block_call.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Call = BlockArguments;

struct Geometry {
    const char* name;
    BlockGrid grid;
    bool transposed;  // the columns of the floats lie side by side
};
void PrintTo(const Geometry& g, std::ostream* out) {
    *out << g.name;
}
const Geometry geometries[] = {
    {"groups", {{3, 4096}, {1, 32}}, false},
    {"long_groups", {{2, 9000}, {1, 256}}, false},
    {"one_long_block", {{1, 70000}, {1, 66000}}, false},
    {"groups_within_bytes", {{5, 261}, {1, 7}}, false},
    {"rows", {{9, 130}, {1, 130}}, false},
    {"columns", {{20, 67}, {20, 1}}, false},
    {"rectangles", {{35, 97}, {16, 48}}, false},
    {"transposed", {{23, 90}, {1, 30}}, true},
    {"of_an_element", {{6, 90}, {1, 1}}, false},
};

size_t block_of(const BlockGrid& g, size_t element) {
    const size_t across = (g.shape[1] + g.block_size[1] - 1) / g.block_size[1];
    return element / g.shape[1] / g.block_size[0] * across + element % g.shape[1] / g.block_size[1];
}

bool is_bad(size_t block, size_t blocks) {
    return block == 0 || block == blocks - 1 || block % 3 == 1;
}

void put_number(Bytes& array, DType type, size_t i, double x) {
    const auto narrow = static_cast<float>(x);
    uint32_t pattern;
    std::memcpy(&pattern, &narrow, sizeof pattern);
    const auto half = static_cast<uint16_t>(type == DType::bfloat16 ? pattern >> 16
                                            : x == 0                ? 0
                                            : std::isnan(x)         ? 0x7e00
                                                                    : 0x7c00 | (x < 0 ? 0x8000 : 0));
    switch (type) {
        case DType::float64: std::memcpy(&array[8 * i], &x, 8); break;
        case DType::float32: std::memcpy(&array[4 * i], &pattern, 4); break;
        default: std::memcpy(&array[2 * i], &half, 2);
    }
}

// The one that blocks are dequantized to.
uint64_t default_nan(DType type) {
    switch (type) {
        case DType::float64: return 0xfff8000000000000;
        case DType::float32: return 0xffc00000;
        case DType::float16: return 0xfe00;
        default: return 0xffc0;
    }
}

uint64_t pattern_of(const Bytes& array, DType type, size_t i) {
    const size_t size = info(type).format.bytes;
    uint64_t pattern = 0;
    std::memcpy(&pattern, &array[i * size], size);
    return pattern;
}

// NaNs with either sign and some payload, signalling ones among them.
void put_odd_nan(Bytes& array, DType type, size_t i) {
    const uint64_t pattern = default_nan(type) ^ uint64_t { i % 2 } << (info(type).bits - 1) ^
                             uint64_t { i % 4 / 2 } << (mantissa_bits_of(type) - 1) ^ (3 + i % 5);
    std::memcpy(&array[i * info(type).format.bytes], &pattern, info(type).format.bytes);
}

bool is_nan(const Bytes& array, DType type, size_t i) {
    const uint64_t pattern = pattern_of(array, type, i);
    const int bits = info(type).bits;
    const uint64_t infinity = ((uint64_t{1} << (bits - 1 - mantissa_bits_of(type))) - 1) << mantissa_bits_of(type);
    return (pattern & ~(uint64_t{1} << (bits - 1))) > infinity;
}

// Puts 0 for code i of rows that begin with a byte each.
void clear_code(Bytes& codes, DType type, const BlockGrid& g, size_t i) {
    const DTypeInfo& t = info(type);
    const size_t row = i / g.shape[1] * bytes_for(g.shape[1], t.format);
    const size_t column = i % g.shape[1];
    if (t.format.elements == 1) {
        std::memset(&codes[row + column * t.format.bytes], 0, t.format.bytes);
        return;
    }
    const auto bits = static_cast<size_t>(t.bits);
    const unsigned field = ((1u << bits) - 1) << column * bits % 8;
    codes[row + column * bits / 8] &= static_cast<unsigned char>(~field);
}

// The first byte in which they differ, or their size.
size_t first_difference(const Bytes& a, const Bytes& b) {
    return a == b ? a.size() : static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
}

class NanScales : public testing::TestWithParam<Geometry> {
protected:
    const BlockGrid& g = GetParam().grid;
    const size_t n = g.elements();
    const size_t count = g.blocks();
    std::vector<size_t> bad_elements;

    NanScales() {
        for (size_t i = 0; i < n; ++i) {
            if (is_bad(block_of(g, i), count)) {
                bad_elements.push_back(i);
            }
        }
    }

    struct Kind {
        const char* isa;
        DType real;
        DType code;
        DType scale;
        bool symmetric;
        bool stochastic;

        std::string text() const {
            return std::string(isa) + ", " + info(real).name + " to " + info(code).name + ", scales " +
                   info(scale).name + (symmetric ? ", symmetric" : "") + (stochastic ? ", stochastic" : "");
        }
    };

    void expect(const Kind& k, size_t threads) {
        SCOPED_TRACE(k.text());
        Words words(7);
        const ContextPtr context = make_parallel_context(threads);
        ASSERT_EQ(piquant_context_set_isa(context.get(), k.isa), PIQUANT_OK);
        const piquant_blocks_t blocks = g.with(k.scale, plain(k.code));
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.symmetric = k.symmetric;
        o.round_mode = k.stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
        o.seed = 5;
        const auto size = static_cast<ptrdiff_t>(info(k.real).format.bytes);
        const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(g.shape[0])};
        const bool turned = GetParam().transposed;
        o.in_strides = turned ? across : nullptr;
        const auto place = [&](size_t i) { return turned ? i % g.shape[1] * g.shape[0] + i / g.shape[1] : i; };

        Bytes good = numbers(k.real, n, 4, words);
        Bytes bad = good;
        std::vector<size_t> seen(count);
        const double specials[] = {NAN, INFINITY, -INFINITY};
        for (const size_t i : bad_elements) {
            const size_t b = block_of(g, i);
            put_number(good, k.real, place(i), 0);
            // Not all of the block, and among others its first element; of some the last one alone.
            const bool chosen = b % 2 == 0 ? seen[b] % 5 == 0 : i + 1 == n || block_of(g, i + 1) != b;
            if (chosen) {
                put_number(bad, k.real, place(i), specials[(i + b) % 3]);
            }
            ++seen[b];
        }
        const size_t scale_bytes = count * info(k.scale).format.bytes;
        const size_t zero_bytes = count * info(plain(k.code)).format.bytes;
        struct Results {
            Bytes codes;
            Bytes scales;
            Bytes zeros;
        } expected{Bytes(g.bytes_of(k.code), 0x5a), Bytes(scale_bytes, 0x5a), Bytes(zero_bytes, 0x5a)},
            found = expected;
        const auto dynamic = [&](const Bytes& in, Results& r) {
            return Call{Call::quantize_dynamic,
                        context.get(),
                        static_cast<piquant_dtype_t>(k.real),
                        static_cast<piquant_dtype_t>(k.code),
                        &blocks,
                        &o,
                        in.data(),
                        r.codes.data(),
                        r.scales.data(),
                        r.zeros.data(),
                        nullptr}();
        };
        ASSERT_EQ(dynamic(good, expected), PIQUANT_OK);
        ASSERT_EQ(dynamic(bad, found), PIQUANT_ERROR_NOT_FINITE);
        o.nan_scales = 1;
        ASSERT_EQ(dynamic(bad, found), PIQUANT_OK);
        const auto expect_parameters = [&](const Results& r) {
            const size_t one = info(k.scale).format.bytes;
            for (size_t b = 0; b < count; ++b) {
                if (is_bad(b, count)) {
                    ASSERT_TRUE(is_nan(r.scales, k.scale, b)) << "scale of block " << b;
                    put_number(expected.scales, k.scale, b, NAN);
                    std::memset(&expected.zeros[b * info(plain(k.code)).format.bytes], 0,
                                info(plain(k.code)).format.bytes);
                }
                ASSERT_EQ(std::memcmp(&r.scales[b * one], &expected.scales[b * one], one), 0) << "scale of block " << b;
            }
            ASSERT_TRUE(r.zeros == expected.zeros);
        };
        expect_parameters(found);
        for (const size_t i : bad_elements) {
            clear_code(expected.codes, k.code, g, i);
        }
        ASSERT_EQ(first_difference(found.codes, expected.codes), found.codes.size());

        // Parameters alone, then codes with them.
        Results apart{Bytes(g.bytes_of(k.code), 0x5a), Bytes(scale_bytes, 0x5a), Bytes(zero_bytes, 0x5a)};
        Call call = {Call::compute_quant_params,
                     context.get(),
                     static_cast<piquant_dtype_t>(k.real),
                     static_cast<piquant_dtype_t>(k.code),
                     &blocks,
                     &o,
                     bad.data(),
                     nullptr,
                     apart.scales.data(),
                     apart.zeros.data(),
                     nullptr};
        ASSERT_EQ(call(), PIQUANT_OK);
        expect_parameters(apart);
        call.function = Call::quantize;
        call.out = apart.codes.data();
        ASSERT_EQ(call(), PIQUANT_OK);
        ASSERT_EQ(first_difference(apart.codes, expected.codes), apart.codes.size());
        o.nan_scales = 0;
        ASSERT_EQ(call(), PIQUANT_ERROR_SCALE);

        // And back.
        Bytes finite_scales = found.scales;
        for (size_t b = 0; b < count; ++b) {
            if (is_bad(b, count)) {
                std::memset(&finite_scales[b * info(k.scale).format.bytes], 0, info(k.scale).format.bytes);
                finite_scales[(b + 1) * info(k.scale).format.bytes - 1] = 0x3c;
            }
        }
        Bytes nan_scales = found.scales;
        for (size_t b = 0; b < count; ++b) {
            if (is_bad(b, count)) {
                put_odd_nan(nan_scales, k.scale, b);
            }
        }
        struct Back {
            Call::Function function;
            piquant_reduce_op_t reduce;
        };
        for (const Back b :
             {Back{Call::dequantize, PIQUANT_SET}, Back{Call::dequantize, PIQUANT_ADD},
              Back{Call::quantize_dequantize, PIQUANT_SET}, Back{Call::quantize_dequantize, PIQUANT_ADD}}) {
            piquant_options_t back = PIQUANT_OPTIONS_INIT;
            back.reduce_op = b.reduce;
            Bytes before = numbers(k.real, n, 4, words);
            for (size_t i = 2; i < n; i += 7) {
                put_odd_nan(before, k.real, i);
            }
            Bytes wanted = before;
            Bytes out = before;
            call = {b.function,
                    context.get(),
                    static_cast<piquant_dtype_t>(k.real),
                    static_cast<piquant_dtype_t>(k.code),
                    &blocks,
                    &back,
                    b.function == Call::dequantize ? found.codes.data() : good.data(),
                    wanted.data(),
                    finite_scales.data(),
                    found.zeros.data(),
                    nullptr};
            ASSERT_EQ(call(), PIQUANT_OK);
            call.scale = nan_scales.data();
            call.out = out.data();
            ASSERT_EQ(call(), PIQUANT_ERROR_SCALE);
            back.nan_scales = 1;
            ASSERT_EQ(call(), PIQUANT_OK);
            const uint64_t quiet = uint64_t{1} << (mantissa_bits_of(k.real) - 1);
            for (const size_t i : bad_elements) {
                const bool keeps = b.reduce == PIQUANT_ADD && is_nan(before, k.real, i);
                const uint64_t made = keeps ? pattern_of(before, k.real, i) | quiet : default_nan(k.real);
                std::memcpy(&wanted[i * info(k.real).format.bytes], &made, info(k.real).format.bytes);
            }
            ASSERT_EQ(first_difference(out, wanted), out.size());
        }
    }
};

// All types on every instruction set, and modes in turn, others for each set and layout. What is slow takes a part of them.
TEST_P(NanScales, OnEveryIsa) {
    const size_t step = address_sanitizer || emulated ? 7 : 1;
    for (size_t i = 0; const char* isa = piquant_available_isa(i); ++i) {
        size_t turn = 3 * i + count;
        for (int f = 0; f < float_count; ++f) {
            for (int q = float_count; q < dtype_count; ++q, ++turn) {
                if (turn % step != 0) {
                    continue;
                }
                const DType real = static_cast<DType>(f);
                const DType code = static_cast<DType>(q);
                const DType scale = turn % 3 == 0 ? DType::float64 : turn % 5 == 0 ? real : DType::float32;
                expect({isa, real, code, scale, turn % 2 == 0, turn / 2 % 2 == 0}, 1 + turn % 2);
                if (HasFatalFailure()) {
                    return;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, NanScales, testing::ValuesIn(geometries),
                         [](const auto& instance) { return std::string(instance.param.name); });

// Data beyond what a scale of its dtype can cover is as data that is not finite.
TEST(NanScalesOfNarrowTypes, BeyondTheirRange) {
    const size_t shape[] = {4};
    const size_t size[] = {2};
    const piquant_blocks_t blocks = {sizeof blocks, 1, shape, size, PIQUANT_FLOAT32, PIQUANT_INT8, 0};
    const double data[] = {1e300, 1.0, 1.0, -2.0};
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.symmetric = 1;
    float scales[2] = {};
    signed char codes[4] = {9, 9, 9, 9};
    const auto call = [&] {
        return piquant_quantize_dynamic(make_context(1).get(), data, PIQUANT_FLOAT64, codes, PIQUANT_INT8, &blocks, &o,
                                        scales, nullptr, nullptr);
    };
    EXPECT_EQ(call(), PIQUANT_ERROR_DATA_RANGE);
    o.nan_scales = 1;
    EXPECT_EQ(call(), PIQUANT_OK);
    EXPECT_TRUE(std::isnan(scales[0]));
    EXPECT_GE(static_cast<double>(scales[1]), 2.0 / 127);
    EXPECT_LT(static_cast<double>(std::nextafter(scales[1], 0.0f)), 2.0 / 127);
    EXPECT_EQ(codes[0], 0);
    EXPECT_EQ(codes[1], 0);
    EXPECT_EQ(codes[3], -127);
}

// Callers of the version without the field.
TEST(NanScalesOfOldCallers, AreOff) {
    const size_t shape[] = {2};
    const piquant_blocks_t blocks = {sizeof blocks, 1, shape, shape, PIQUANT_FLOAT32, PIQUANT_INT8, 0};
    const float data[] = {1.0f, NAN};
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.struct_size = offsetof(piquant_options_t, nan_scales);
    o.symmetric = 1;
    o.nan_scales = 1;
    float scale = 0;
    signed char codes[2] = {};
    EXPECT_EQ(piquant_quantize_dynamic(make_context(1).get(), data, PIQUANT_FLOAT32, codes, PIQUANT_INT8, &blocks, &o,
                                       &scale, nullptr, nullptr),
              PIQUANT_ERROR_NOT_FINITE);
}

}  // namespace
}  // namespace piquant
