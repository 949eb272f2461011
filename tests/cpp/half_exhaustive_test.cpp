// All 65,536 patterns of float16 and bfloat16 through 512 scales, edge zero points and all codes, on every instruction
// set, against the reference; fused passes too. 64-bit codes are the scalar loops on every set, and semantics_test's.
#include <gtest/gtest.h>

#include "reference.hpp"
#include "share.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t patterns = 65536;
constexpr size_t scale_count = 512;

// Half of them such that codes tell many inputs apart, half over all that is valid; round ones, thirds and random ones.
double scale_number(DType real, size_t k) {
    std::mt19937_64 random(k);
    const double mantissas[] = {1.0, 4.0 / 3, 1.6, 1 + static_cast<double>(random() >> 12) * 0x1p-52};
    const bool is_float16 = real == DType::float16;
    const int valid = static_cast<int>(random() % 251) - 125;
    const int telling = is_float16 ? static_cast<int>(random() % 42) - 26 : static_cast<int>(random() % 60) - 40;
    const double extremes[] = {FLT_MIN, FLT_MAX, 0x1p-126, 0x1p127, 0x1p-112, 0x1p-111, 0x1.8p-112, 1.0};
    return k < std::size(extremes) ? extremes[k] : std::ldexp(mantissas[k % 4], k % 8 < 4 ? telling : valid);
}

struct Inputs {
    Bytes bytes = Bytes(2 * patterns);
    std::vector<double> values = std::vector<double>(patterns);

    explicit Inputs(DType real) {
        for (size_t i = 0; i < patterns; ++i) {
            const auto pattern = static_cast<uint16_t>(i);
            std::memcpy(bytes.data() + 2 * i, &pattern, 2);
            values[i] = reference::half_value(pattern, real);
        }
    }
};

class HalfExhaustive : public testing::TestWithParam<DType> {
protected:
    const DType real = GetParam();
    const Inputs inputs{real};
    const std::vector<const Isa*> here = all_isas();

    static void set_up(KernelArgs& args, size_t k) {
        args.n = patterns;
        args.seed = k * 0x9e3779b97f4a7c15;
        args.offset = 40000 + k * 12345;
    }

    std::string what(const Isa& isa, DType code, int round, const KernelArgs& args) const {
        char scale[40];
        std::snprintf(scale, sizeof scale, "%a", args.scale);
        return std::string(isa.name) + ", " + info(real).name + ", " + info(code).name +
               (round == 1 ? ", stochastic" : ", nearest") + ", scale " + scale + ", zero point " +
               std::to_string(static_cast<int64_t>(args.zero_point)) + ": ";
    }

    reference::Rounded rounded(const KernelArgs& args) const {
        std::vector<uint16_t> words(patterns);
        model::model_words(args.seed, args.offset, words.data(), patterns);
        reference::Rounded found;
        found.compute(inputs.values.data(), static_cast<float>(1 / args.scale), words.data(), patterns);
        return found;
    }
};

TEST_P(HalfExhaustive, Quantize) {
    const Share part = share(1);
    parallel_for(scale_count, [&](size_t k) {
        if (!part.has(k)) {
            return;
        }
        KernelArgs args = kernel_args(real, DType::uint8, scale_number(real, k), 0);
        set_up(args, k);
        const reference::Rounded r = rounded(args);
        Bytes expected;
        for (int q = 0; q < code_count && info(static_cast<DType>(float_count + q)).bits <= 32; ++q) {
            const auto code = static_cast<DType>(float_count + q);
            Bytes actual(bytes_for(patterns, info(code).bits));
            for (const uint64_t zero_point : reference::edge_zero_points(code)) {
                args = kernel_args(real, code, args.scale, zero_point);
                set_up(args, k);
                args.in = inputs.bytes.data();
                args.out = actual.data();
                args.non_temporal = k % 2 == 0;
                args.quant_min += k % 4 == 3;  // the kernels that clamp below
                for (int round = 0; round < 2; ++round) {
                    reference::Coder(code, args).pack(r.r[round], expected);
                    for (const Isa* isa : here) {
                        quantize_kernel(*isa->table, real, code, round)(args);
                        const std::string wrong = reference::difference(actual, expected, info(code).bits);
                        EXPECT_EQ(wrong, "") << what(*isa, code, round, args);
                    }
                }
            }
        }
    });
}

TEST_P(HalfExhaustive, QuantizeDequantize) {
    const Share part = share(1);
    parallel_for(scale_count, [&](size_t k) {
        if (!part.has(k)) {
            return;
        }
        // Codes, zero points and the sum take turns: one kernel serves all codes of one CodeWidth.
        const DType codes[] = {k % 2 == 0 ? DType::uint8 : DType::int4, k % 2 == 0 ? DType::uint16 : DType::int32};
        KernelArgs args = kernel_args(real, DType::uint8, scale_number(real, k), 0);
        set_up(args, k);
        const reference::Rounded r = rounded(args);
        const auto scale = static_cast<float>(args.scale);
        Bytes expected(2 * patterns);
        for (const DType code : codes) {
            const std::vector<uint64_t> zeros = reference::edge_zero_points(code);
            args = kernel_args(real, code, args.scale, zeros[k % zeros.size()]);
            set_up(args, k);
            args.in = inputs.bytes.data();
            const reference::Coder coder(code, args);
            for (int round = 0; round < 2; ++round) {
                for (size_t i = 0; i < patterns; ++i) {
                    const float value = reference::value32(coder(r.r[round][i]) - coder.zero(), scale);
                    const uint16_t pattern = reference::half_pattern(static_cast<double>(value), real);
                    std::memcpy(expected.data() + 2 * i, &pattern, 2);
                }
                for (const Isa* isa : here) {
                    Bytes actual(2 * patterns);
                    args.out = actual.data();
                    quantize_dequantize_kernel(*isa->table, real, code, round, 0)(args);
                    EXPECT_EQ(reference::difference(actual, expected, 16), "")
                        << what(*isa, code, round, args) << "fused";
                }
            }
        }
    });
}

// Through blocks: a row of all patterns for each of some scales, in blocks of several lengths, by the C API. Each is what the
// function for one scale makes of it. Code types take turns.
TEST_P(HalfExhaustive, Blocks) {
    constexpr size_t rows = 8;
    const Share part = share(1);
    Bytes in;
    for (size_t r = 0; r < rows; ++r) {
        in.insert(in.end(), inputs.bytes.begin(), inputs.bytes.end());
    }
    parallel_for(scale_count / rows, [&](size_t k) {
        if (!part.has(k)) {
            return;
        }
        const auto real_dtype = static_cast<piquant_dtype_t>(real);
        const auto code = static_cast<DType>(float_count + k % 10);  // of up to 32 bits
        const auto code_dtype = static_cast<piquant_dtype_t>(code);
        const std::vector<uint64_t> edges = reference::edge_zero_points(code);
        const bool fused = k / 10 % 2 != 0;
        const piquant_dtype_t to = fused ? real_dtype : code_dtype;
        piquant_options_t o = default_options();
        o.round_mode = k % 4 < 2 ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
        o.seed = k;
        const ContextPtr model = make_context(1);
        ASSERT_EQ(piquant_context_set_isa(model.get(), "scalar"), PIQUANT_OK);
        double scales[rows];
        int64_t zeros[rows];
        Bytes expected(rows * piquant_size(to, patterns));
        for (size_t r = 0; r < rows; ++r) {
            scales[r] = scale_number(real, k * rows + r);
            zeros[r] = static_cast<int64_t>(edges[r % edges.size()]);
            unsigned char* const out = expected.data() + r * piquant_size(to, patterns);
            o.offset = 40000 + r * patterns;
            ASSERT_EQ(fused ? piquant_quantize_dequantize(model.get(), in.data(), out, real_dtype, code_dtype, patterns,
                                                          scales[r], zeros[r], &o)
                            : piquant_quantize(model.get(), in.data(), real_dtype, out, code_dtype, patterns, scales[r],
                                               zeros[r], &o),
                      PIQUANT_OK);
        }
        o.offset = 40000;
        for (const size_t block : {patterns, size_t{4096}, size_t{64}, size_t{32}, size_t{7}, size_t{1}}) {
            const size_t shape[] = {rows, patterns};
            const size_t size[] = {1, block};
            const size_t in_row = (patterns - 1) / block + 1;
            std::vector<double> block_scales;
            std::vector<int64_t> block_zeros;
            for (size_t r = 0; r < rows; ++r) {
                block_scales.insert(block_scales.end(), in_row, scales[r]);
                block_zeros.insert(block_zeros.end(), in_row, zeros[r]);
            }
            const piquant_blocks_t blocks = {sizeof blocks, 2, shape, size, PIQUANT_FLOAT64, PIQUANT_INT64, 0};
            for (const Isa* isa : here) {
                const ContextPtr context = make_context(1);
                ASSERT_EQ(piquant_context_set_isa(context.get(), isa->name), PIQUANT_OK);
                Bytes actual(expected.size());
                ASSERT_EQ(fused
                              ? piquant_quantize_dequantize_blocks(context.get(), in.data(), actual.data(), real_dtype,
                                                                   code_dtype, &blocks, block_scales.data(),
                                                                   block_zeros.data(), &o, nullptr)
                              : piquant_quantize_blocks(context.get(), in.data(), real_dtype, actual.data(), code_dtype,
                                                        &blocks, block_scales.data(), block_zeros.data(), &o, nullptr),
                          PIQUANT_OK);
                EXPECT_EQ(reference::difference(actual, expected, info(static_cast<DType>(to)).bits), "")
                    << isa->name << ", " << info(real).name << ", " << info(code).name << (fused ? ", fused" : "")
                    << ", blocks of " << block << ", rows from scale " << k * rows << " on";
            }
        }
    });
}

INSTANTIATE_TEST_SUITE_P(Types, HalfExhaustive, testing::Values(DType::float16, DType::bfloat16),
                         [](const auto& instance) {
                             return std::string(dtype_infos[static_cast<int>(instance.param)].name);
                         });

}  // namespace
}  // namespace piquant
