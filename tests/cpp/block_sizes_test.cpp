// Blocks of more elements than 31 and 32 bits count; see repeated.hpp. Each block is as long as a window, and parameters
// repeat with the data.
#include <gtest/gtest.h>

#include "guarded_region.hpp"
#include "repeated.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t blocks_in_file = period / window;

// float16 or bfloat16, finite: without the highest bit of their exponents.
Bytes finite_halves(size_t n, std::mt19937_64& random) {
    Bytes data = code_data(DType::uint16, n, random);
    for (size_t i = 1; i < data.size(); i += 2) {
        data[i] &= 0xbf;
    }
    return data;
}

// Input and output of n elements, and what its blocks are.
class BlockSizes : public testing::Test {
protected:
    static constexpr size_t n = two32 + 3 * window + 5;
    static constexpr DType real = DType::bfloat16;
    static constexpr piquant_dtype_t code = PIQUANT_UINT4;
    static constexpr size_t shape[] = {n};
    static constexpr size_t block[] = {window};
    static constexpr size_t count = (n - 1) / window + 1;

    void SetUp() override {
        report_faults();
        std::copy(common.begin(), common.end(), in.file());
        for (const size_t start : windows(n)) {
            own.push_back(finite_halves(window, random));
            std::copy_n(own.back().begin(), in.bytes(in.elements_in(start)), in.at(start));
            std::memset(out.at(start), canary, out.mapped_in(start));
        }
    }

    // Of the elements of one block, by the function for one scale.
    Bytes expected(const unsigned char* data, size_t elements, double scale, int64_t zero_point, size_t start) {
        Bytes codes(out.bytes(elements));
        piquant_options_t o = options;
        o.offset += start;
        EXPECT_EQ(piquant_quantize(model.get(), data, static_cast<piquant_dtype_t>(real), codes.data(), code, elements,
                                   scale, zero_point, &o),
                  PIQUANT_OK);
        return codes;
    }
    // All windows, and nothing behind the last one, for parameters(data, elements, block, scale, zero point).
    template <class Parameters>
    void expect_windows(const Parameters& parameters) {
        const std::vector<size_t> starts = windows(n);
        for (size_t w = 0; w < starts.size(); ++w) {
            const size_t start = starts[w];
            const size_t elements = out.elements_in(start);
            double scale;
            int64_t zero_point;
            parameters(own[w].data(), elements, start / window, scale, zero_point);
            const Bytes codes = expected(own[w].data(), elements, scale, zero_point, start);
            ASSERT_EQ(std::memcmp(out.at(start), codes.data(), codes.size()), 0) << "window at " << start;
            for (size_t i = codes.size(); i < out.mapped_in(start); ++i) {
                ASSERT_EQ(out.at(start)[i], canary) << i - codes.size() << " bytes beyond the end";
            }
        }
    }
    bool is_window(size_t b) const {
        const std::vector<size_t> starts = windows(n);
        return std::find(starts.begin(), starts.end(), b * window) != starts.end();
    }

    std::mt19937_64 random{3};
    const Bytes common = finite_halves(period, random);
    const Repeated in{real, n};
    const Repeated out{DType::uint4, n};
    std::vector<Bytes> own;  // of each window
    const ContextPtr context = make_context(2);
    const ContextPtr model = [] {
        ContextPtr c = make_context(1);
        EXPECT_EQ(piquant_context_set_isa(c.get(), "scalar"), PIQUANT_OK);
        return c;
    }();
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
};

TEST_F(BlockSizes, GivenParameters) {
    std::vector<float> scales(count);
    std::vector<uint8_t> zeros(count);
    for (size_t b = 0; b < count; ++b) {
        scales[b] = 0.001f * static_cast<float>(1 + b % blocks_in_file);
        zeros[b] = static_cast<uint8_t>(b % blocks_in_file % 16);
    }
    options.round_mode = PIQUANT_STOCHASTIC;
    options.offset = uint64_t{0} - two31 - 12345;  // runs over 2^64
    const piquant_blocks_t blocks = {sizeof blocks, 1, shape, block, PIQUANT_FLOAT32, PIQUANT_UINT8, 0};
    ASSERT_EQ(piquant_quantize_blocks(context.get(), in.data(), static_cast<piquant_dtype_t>(real), out.data(), code,
                                      &blocks, scales.data(), zeros.data(), &options, nullptr),
              PIQUANT_OK);
    expect_windows([&](const unsigned char*, size_t, size_t b, double& scale, int64_t& zero_point) {
        scale = static_cast<double>(scales[b]);
        zero_point = zeros[b];
    });
}

TEST_F(BlockSizes, FoundParameters) {
    std::vector<float> scales(count);
    std::vector<uint8_t> zeros(count);
    const piquant_blocks_t blocks = {sizeof blocks, 1, shape, block, PIQUANT_FLOAT32, PIQUANT_UINT8, 0};
    ASSERT_EQ(piquant_quantize_dynamic(context.get(), in.data(), static_cast<piquant_dtype_t>(real), out.data(), code,
                                       &blocks, &options, scales.data(), zeros.data(), nullptr),
              PIQUANT_OK);
    const auto find = [&](const unsigned char* data, size_t elements, size_t b, double& scale, int64_t& zero_point) {
        ASSERT_EQ(piquant_compute_quant_params(model.get(), data, static_cast<piquant_dtype_t>(real), code, elements,
                                               &options, &scale, &zero_point),
                  PIQUANT_OK);
        ASSERT_EQ(static_cast<double>(scales[b]), scale) << "block " << b;
        ASSERT_EQ(zeros[b], zero_point) << "block " << b;
    };
    expect_windows(find);
    for (size_t k = 0; k < blocks_in_file; ++k) {
        const unsigned char* const data = common.data() + in.bytes(k * window);
        for (size_t b = k; b < count; b += blocks_in_file) {
            if (!is_window(b)) {
                ASSERT_EQ(scales[b], scales[blocks_in_file * 2 + k]) << "block " << b;
                ASSERT_EQ(zeros[b], zeros[blocks_in_file * 2 + k]) << "block " << b;
            }
        }
        double scale;
        int64_t zero_point;
        find(data, window, blocks_in_file * 2 + k, scale, zero_point);
        const Bytes codes = expected(data, window, scale, zero_point, 0);
        ASSERT_EQ(std::memcmp(out.file() + out.bytes(k * window), codes.data(), codes.size()), 0) << "what repeats";
    }
}

}  // namespace
}  // namespace piquant
