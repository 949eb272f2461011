// The 16-bit float formats, every bit pattern: the scalar functions among themselves, and each vector instruction set
// against the scalar one through its kernels.
#include <gtest/gtest.h>

#include "kernel_data.hpp"

namespace piquant {
namespace {

constexpr size_t patterns = 65536;

// All patterns of a 16-bit type, ascending; neighbours fill the vectors.
Bytes all_patterns() {
    Bytes bytes(2 * patterns);
    for (size_t i = 0; i < patterns; ++i) {
        const auto pattern = static_cast<uint16_t>(i);
        std::memcpy(bytes.data() + 2 * i, &pattern, 2);
    }
    return bytes;
}

Bytes run(Kernel kernel, KernelArgs args, const Bytes& in, Bytes out) {
    args.in = in.data();
    args.out = out.data();
    kernel(args);
    return out;
}

void expect_equal(const Bytes& expected, const Bytes& actual, int bits, const std::string& what) {
    if (expected == actual) {
        return;
    }
    size_t byte = 0;
    while (expected[byte] == actual[byte]) {
        ++byte;
    }
    ADD_FAILURE() << what << ": element " << byte * 8 / static_cast<size_t>(bits) << ", byte " << byte << " is "
                  << int{actual[byte]} << ", not " << int{expected[byte]};
}

template <class Float>
void expect_round_trip(uint32_t exponent, uint16_t quiet) {
    for (uint32_t i = 0; i < patterns; ++i) {
        auto pattern = static_cast<uint16_t>(i);
        const typename Float::compute x = load_element<Float>(&pattern);
        const bool is_nan = (i & exponent) == exponent && (i & 0x7fff) != exponent;
        EXPECT_EQ(x != x, is_nan);
        uint16_t back = 0;
        store_element<Float>(&back, x);
        EXPECT_EQ(back, is_nan ? i | quiet : i);
    }
}

TEST(FloatFormats, WideningAndNarrowingIsTheIdentityButQuietsNan) {
    expect_round_trip<float16>(0x7c00, 0x0200);
    expect_round_trip<bfloat16>(0x7f80, 0x0040);
}

// Between two neighbours a and b, narrowing goes to the nearer one, and from the middle to the even one.
template <class Float>
void expect_nearest_even(uint16_t largest) {
    for (uint32_t i = 0; i < largest; ++i) {
        const auto a = static_cast<uint16_t>(i);
        const auto b = static_cast<uint16_t>(i + 1);
        const float middle = load_element<Float>(&a) / 2 + load_element<Float>(&b) / 2;
        const float around[] = {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, INFINITY)};
        const uint16_t expected[] = {a, i % 2 == 0 ? a : b, b};
        for (size_t k = 0; k < 3; ++k) {
            uint16_t narrow = 0;
            store_element<Float>(&narrow, around[k]);
            EXPECT_EQ(narrow, expected[k]) << "above pattern " << i;
            store_element<Float>(&narrow, -around[k]);
            EXPECT_EQ(narrow, expected[k] | 0x8000) << "below pattern " << (i | 0x8000);
        }
    }
}

TEST(FloatFormats, NarrowingRoundsHalfToEven) {
    expect_nearest_even<float16>(0x7bff);
    expect_nearest_even<bfloat16>(0x7f7f);
    EXPECT_EQ(float32_to_float16(65519.996f), 0x7bff);
    EXPECT_EQ(float32_to_float16(65520.0f), 0x7c00);
    EXPECT_EQ(float32_to_float16(0x1p-25f), 0);
    EXPECT_EQ(float32_to_bfloat16(FLT_MAX), 0x7f80);
}

class FloatFormatsIsa : public testing::TestWithParam<DType> {
protected:
    static std::vector<KernelArgs> arguments(DType real, DType code) {
        const DTypeInfo& type = info(code);
        const uint64_t lowest = code_min(type.bits, type.is_signed);
        std::vector<KernelArgs> all;
        for (double scale : {1.0, 0.1, 0x1p-24, 1e-5, 700.0, 1e36}) {
            for (uint64_t zero_point : {uint64_t{0}, lowest + (uint64_t{1} << (type.bits - 1)) - 1}) {
                KernelArgs args = kernel_args(real, code, scale, zero_point);
                args.n = patterns;
                args.seed = 11;
                all.push_back(args);
            }
        }
        return all;
    }

    // A kernel of every vector set against the scalar set's, which takes the longest and runs once for all of them.
    template <class Choose>
    static void compare(const Choose& kernel, const KernelArgs& args, const Bytes& in, const Bytes& out, int bits,
                        const std::string& what) {
        const Bytes expected = run(kernel(scalar_table()), args, in, out);
        for (const Isa* isa : vector_isas()) {
            expect_equal(expected, run(kernel(*isa->table), args, in, out), bits, std::string(isa->name) + " " + what);
        }
    }
};

TEST_P(FloatFormatsIsa, EveryInputQuantizes) {
    const DType real = GetParam();
    const Bytes in = all_patterns();
    for (int q = 0; q < code_count; ++q) {
        const auto code = static_cast<DType>(float_count + q);
        const Bytes codes(bytes_for(patterns, info(code).bits));
        for (const KernelArgs& args : arguments(real, code)) {
            const std::string what = std::string(info(code).name) + ", scale " + std::to_string(args.scale) +
                                     ", zero point " + std::to_string(args.zero_point);
            for (int round = 0; round < 2; ++round) {
                const auto quantize = [&](const KernelTable& table) {
                    return quantize_kernel(table, real, code, round);
                };
                compare(quantize, args, in, codes, info(code).bits, what);
                for (int reduce = 0; reduce < 2; ++reduce) {
                    const auto fused = [&](const KernelTable& table) {
                        return quantize_dequantize_kernel(table, real, code, round, reduce);
                    };
                    compare(fused, args, in, in, 16, what + ", fused");
                }
            }
        }
    }
}

TEST_P(FloatFormatsIsa, EveryPreviousOutputIsAddedTo) {
    const DType real = GetParam();
    const Bytes before = all_patterns();
    std::mt19937_64 random(12);
    for (int q = 0; q < code_count; ++q) {
        const auto code = static_cast<DType>(float_count + q);
        const Bytes in = code_data(code, patterns, random);
        for (const KernelArgs& args : arguments(real, code)) {
            for (int reduce = 0; reduce < 2; ++reduce) {
                const auto dequantize = [&](const KernelTable& table) {
                    return dequantize_kernel(table, code, real, reduce);
                };
                compare(dequantize, args, in, before, 16,
                        std::string(info(code).name) + (reduce == 1 ? " add" : " set") + ", scale " +
                            std::to_string(args.scale));
            }
        }
    }
}

// 15-bit magnitudes at every power of two, so every way to round off, at all sizes: subnormal, normal, overflowing.
TEST_P(FloatFormatsIsa, EveryBinadeRounds) {
    const DType real = GetParam();
    const Bytes in = all_patterns();
    const Bytes out(2 * patterns);
    for (int exponent = -126; exponent < 127; ++exponent) {
        KernelArgs args = kernel_args(real, DType::int16, std::ldexp(1.0, exponent), 0);
        args.n = patterns;
        const auto dequantize = [&](const KernelTable& table) {
            return dequantize_kernel(table, DType::int16, real, 0);
        };
        compare(dequantize, args, in, out, 16, "scale 2^" + std::to_string(exponent));
    }
}

INSTANTIATE_TEST_SUITE_P(Types, FloatFormatsIsa, testing::Values(DType::float16, DType::bfloat16),
                         [](const auto& instance) {
                             return std::string(dtype_infos[static_cast<int>(instance.param)].name);
                         });

}  // namespace
}  // namespace piquant
