// Blocks whose parameters or data are bad: *bad_block is the first of them in row-major order, whatever the function, the
// blocks, the layout, the threads and their order; and an error leaves everything else alone, but for what quantize_dynamic
// may have written when it met the data.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "block_call.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Call = BlockArguments;

constexpr size_t no_block = 777;

template <class T>
void put(Bytes& array, size_t i, T x) {
    std::memcpy(&array[i * sizeof x], &x, sizeof x);
}

// A row of blocks of two elements, with parameters that are right until a test spoils some.
class GivenParameters : public testing::TestWithParam<Call::Function> {
protected:
    static constexpr size_t count = 700;  // more than are looked at together

    ContextPtr context = make_parallel_context(2);
    Bytes in = Bytes(16 * count, 0);
    Bytes out = Bytes(16 * count, 0x5a);
    Bytes scales;
    Bytes zeros = Bytes(8 * count, 0);
    size_t bad_block = no_block;

    void expect(piquant_status_t status, size_t block, piquant_dtype_t real, piquant_dtype_t code,
                piquant_dtype_t scale_dtype, piquant_dtype_t zero_dtype, const std::string& what) {
        const size_t shape[] = {2 * count};
        const size_t size[] = {2};
        const piquant_blocks_t blocks = {sizeof blocks, 1, shape, size, scale_dtype, zero_dtype, 0};
        const Bytes parameters[] = {scales, zeros};
        bad_block = no_block;
        std::fill(out.begin(), out.end(), 0x5a);
        const Call call = {GetParam(), context.get(), real,          code,         &blocks,   nullptr,
                           in.data(),  out.data(),    scales.data(), zeros.data(), &bad_block};
        EXPECT_EQ(call(), status) << what;
        EXPECT_EQ(bad_block, status == PIQUANT_OK ? no_block : block) << what;
        EXPECT_TRUE(status == PIQUANT_OK || out == Bytes(out.size(), 0x5a)) << what;
        EXPECT_TRUE(scales == parameters[0] && zeros == parameters[1]) << what;
    }

    // Each scale at the ends, in the middle, and before a second one that is bad, too.
    template <class T>
    void expect_scales(piquant_dtype_t dtype, T one, const std::vector<T>& bad, const std::vector<T>& bad_for_float32,
                       const std::vector<T>& good) {
        const auto expect_each = [&](const std::vector<T>& some, bool for_float32, bool for_float64) {
            for (const T x : some) {
                for (const size_t at : {size_t{0}, size_t{255}, size_t{256}, size_t{300}, count - 1}) {
                    scales.assign(count * sizeof x, 0);
                    for (size_t i = 0; i < count; ++i) {
                        put(scales, i, i == at || i == count - 1 ? x : one);
                    }
                    const std::string what =
                        std::string(piquant_dtype_name(dtype)) + " " + std::to_string(x) + " at " + std::to_string(at);
                    for (const piquant_dtype_t real : {PIQUANT_FLOAT16, PIQUANT_BFLOAT16, PIQUANT_FLOAT32}) {
                        expect(for_float32 ? PIQUANT_OK : PIQUANT_ERROR_SCALE, at, real, PIQUANT_UINT4, dtype,
                               PIQUANT_INT8, what);
                    }
                    expect(for_float64 ? PIQUANT_OK : PIQUANT_ERROR_SCALE, at, PIQUANT_FLOAT64, PIQUANT_UINT4, dtype,
                           PIQUANT_INT8, what + ", float64");
                }
            }
        };
        expect_each(bad, false, false);
        expect_each(bad_for_float32, false, true);
        expect_each(good, true, true);
    }
};

TEST_P(GivenParameters, ScalesThatAreNone) {
    expect_scales<uint16_t>(PIQUANT_FLOAT16, 0x3c00,
                            {0, 0x8000, 0xbc00, 0x8001, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff}, {},
                            {1, 0x03ff, 0x0400, 0x7bff});
    expect_scales<uint16_t>(PIQUANT_BFLOAT16, 0x3f80,
                            {0, 0x8000, 0xbf80, 0x8001, 0x7f80, 0xff80, 0x7f81, 0x7fc0, 0xffff}, {1, 0x007f},
                            {0x0080, 0x7f7f});
    expect_scales<float>(PIQUANT_FLOAT32, 1.0f, {0.0f, -0.0f, -1.0f, INFINITY, -INFINITY, NAN, -NAN},
                         {1e-45f, 0x1.fffffcp-127f}, {FLT_MIN, FLT_MAX});
    // The last two of a float32 are what they round to.
    expect_scales<double>(PIQUANT_FLOAT64, 1.0,
                          {0.0, -0.0, -1.0, double{INFINITY}, -double{INFINITY}, double{NAN}, 4.9e-324, 1e-310},
                          {1e-300, 1e-45, 0x1.fffffcp-127, 1e39, DBL_MAX, DBL_MIN, 0x1.ffffffp127},
                          {double{FLT_MIN}, double{FLT_MAX}, 0x1.ffffffp-127, 0x1.fffffefp127});
}

// Each dtype of zero points with each of codes: all numbers around the ends of both.
TEST_P(GivenParameters, ZeroPointsThatAreNoCodes) {
    scales.assign(count * 4, 0);
    for (size_t i = 0; i < count; ++i) {
        put(scales, i, 1.0f);
    }
    size_t turn = 0;
    int refused = 0;
    for (int z = PIQUANT_INT8; z <= PIQUANT_UINT64; ++z) {
        const auto zero_dtype = static_cast<piquant_dtype_t>(z);
        const size_t size = piquant_size(zero_dtype, 1);
        const Ends numbers = ends_of(zero_dtype);
        for (int q = PIQUANT_INT2; q <= PIQUANT_UINT4_UNPACKED; ++q) {
            const auto code = static_cast<piquant_dtype_t>(q);
            const Ends codes = ends_of(code);
            for (const exact::Integer around :
                 {numbers.lowest, numbers.highest, codes.lowest, codes.highest, exact::Integer{0}}) {
                for (const int off : {-1, 0, 1}) {
                    const exact::Integer zero = around + off;
                    if (!numbers.hold(zero)) {
                        continue;
                    }
                    const bool is_code = codes.hold(zero);
                    const auto pattern = static_cast<uint64_t>(zero);
                    const size_t places[] = {0, 255, 256, count - 1};
                    const size_t at = places[turn++ % 4];
                    std::fill(zeros.begin(), zeros.end(), 0);
                    std::memcpy(&zeros[at * size], &pattern, size);
                    std::memcpy(&zeros[(count - 1) * size], &pattern, size);
                    expect(is_code ? PIQUANT_OK : PIQUANT_ERROR_ZERO_POINT, at, PIQUANT_FLOAT64, code, PIQUANT_FLOAT32,
                           zero_dtype,
                           std::string(piquant_dtype_name(code)) + ", " + piquant_dtype_name(zero_dtype) + " " +
                               std::to_string(static_cast<int64_t>(zero)));
                    refused += !is_code;
                }
            }
        }
    }
    EXPECT_GT(refused, 300);
}

// Of a bad scale and a bad zero point the one of the earlier block, and of one block the scale.
TEST_P(GivenParameters, TheFirstOfBoth) {
    for (const size_t bad_scale : {size_t{0}, size_t{3}, size_t{500}, count - 1}) {
        for (const size_t bad_zero : {size_t{0}, size_t{3}, size_t{500}, count - 1}) {
            scales.assign(count * 4, 0);
            std::fill(zeros.begin(), zeros.end(), 0);
            for (size_t i = 0; i < count; ++i) {
                put(scales, i, i == bad_scale ? 0.0f : 1.0f);
            }
            zeros[bad_zero] = 16;
            expect(bad_scale <= bad_zero ? PIQUANT_ERROR_SCALE : PIQUANT_ERROR_ZERO_POINT,
                   std::min(bad_scale, bad_zero), PIQUANT_FLOAT32, PIQUANT_UINT4, PIQUANT_FLOAT32, PIQUANT_INT8,
                   std::to_string(bad_scale) + " and " + std::to_string(bad_zero));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, GivenParameters,
                         testing::Values(Call::quantize, Call::dequantize, Call::quantize_dequantize),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

// Threads that work one after the other, the last one first: they find the last bad block before the others.
struct BackwardsTeam {
    static size_t count(void*) { return 4; }
    static int run(void*, size_t n, void (*task)(void*, size_t), void* job) {
        while (n-- > 0) {
            task(job, n);
        }
        return 0;
    }
    piquant_threads_t lent{sizeof lent, count, run, nullptr};
};

struct Geometry {
    const char* name;
    BlockGrid grid;
    bool transposed;  // the input's columns lie side by side
};
void PrintTo(const Geometry& g, std::ostream* out) {
    *out << g.name;
}
const Geometry geometries[] = {
    {"groups", {{64, 2048}, {1, 32}}, false},
    {"ragged groups", {{64, 2050}, {1, 33}}, false},
    {"long groups", {{8, 16384}, {1, 5000}}, false},
    {"rows", {{256, 512}, {1, 512}}, false},
    {"columns", {{256, 512}, {256, 1}}, false},
    {"channels", {{4, 64, 512}, {4, 1, 512}}, false},
    {"squares", {{256, 512}, {128, 128}}, false},
    {"transposed groups", {{512, 256}, {1, 32}}, true},
    {"transposed squares", {{512, 256}, {50, 70}}, true},
    {"of an element each", {{64, 2048}, {1, 1}}, false},
};

class BadData : public testing::TestWithParam<Geometry> {
protected:
    const BlockGrid& g = GetParam().grid;
    const bool is_transposed = GetParam().transposed;
    const size_t n = g.elements();
    const size_t count = g.blocks();
    std::vector<float> data = std::vector<float>(n, 1.0f);
    const std::vector<ptrdiff_t> strides = {4, static_cast<ptrdiff_t>(4 * g.shape[0])};

    // An element of a block: the last one, in row-major order.
    float& last_of(size_t block) {
        size_t index = 0;
        size_t step = 1;
        for (size_t d = g.shape.size(); d-- > 0;) {
            const size_t along = (g.shape[d] + g.block_size[d] - 1) / g.block_size[d];
            const size_t at = std::min((block % along + 1) * g.block_size[d], g.shape[d]) - 1;
            index += at * step;
            step *= g.shape[d];
            block /= along;
        }
        return data[is_transposed ? index % g.shape[1] * g.shape[0] + index / g.shape[1] : index];
    }

    void expect(piquant_context_t* context, const piquant_options_t& options, piquant_status_t status, size_t block,
                piquant_dtype_t scale_dtype, const std::string& what) {
        const piquant_blocks_t blocks = g.with(static_cast<DType>(scale_dtype), DType::uint8);
        for (const Call::Function function : {Call::compute_quant_params, Call::quantize_dynamic}) {
            Bytes out(n, 0x5a);
            Bytes scales(count * 8, 0x5a);
            Bytes zeros(count, 0x5a);
            size_t bad_block = no_block;
            piquant_options_t o = options;
            o.in_strides = is_transposed ? strides.data() : nullptr;
            const Call call = {function,    context,    PIQUANT_FLOAT32, PIQUANT_UINT8, &blocks,   &o,
                               data.data(), out.data(), scales.data(),   zeros.data(),  &bad_block};
            EXPECT_EQ(call(), status) << name_of(function) << ", " << what;
            EXPECT_EQ(bad_block, status == PIQUANT_OK ? no_block : block) << name_of(function) << ", " << what;
        }
    }
    // With some threads, and with those that begin at the end.
    void expect_first(piquant_status_t status, size_t block, piquant_dtype_t scale_dtype, const std::string& what) {
        for (const size_t threads : {size_t{1}, size_t{2}, size_t{5}}) {
            expect(make_parallel_context(threads).get(), default_options(), status, block, scale_dtype,
                   what + ", threads " + std::to_string(threads));
        }
        const BackwardsTeam team;
        piquant_options_t options = default_options();
        options.threads = &team.lent;
        expect(make_parallel_context(1).get(), options, status, block, scale_dtype, what + ", backwards");
    }
};

TEST_P(BadData, TheFirstBlockOfIt) {
    expect_first(PIQUANT_OK, no_block, PIQUANT_FLOAT16, "all good");
    const size_t places[] = {0, 1, count / 3, count / 2, count - 2, count - 1};
    const float kinds[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t first = 0; first < std::size(places); ++first) {
        for (size_t second = first; second < std::size(places); second += 2) {
            const size_t a = places[first];
            const size_t b = places[second];
            last_of(b) = kinds[second % 4];
            last_of(a) = kinds[first % 4];
            expect_first(PIQUANT_ERROR_NOT_FINITE, a, PIQUANT_FLOAT32, std::to_string(a) + " and " + std::to_string(b));
            last_of(a) = 1.0f;
            last_of(b) = 1.0f;
            if (HasFailure()) {
                return;
            }
        }
    }
}

// As with one scale for all, parameters are written where there are some for every block.
TEST_P(BadData, NoParametersAreWrittenAlone) {
    const piquant_blocks_t blocks = g.with(DType::float16, DType::uint8);
    piquant_options_t options = default_options();
    options.in_strides = is_transposed ? strides.data() : nullptr;
    for (const size_t threads : {size_t{1}, size_t{3}}) {
        const ContextPtr context = make_parallel_context(threads);
        for (const float bad : {NAN, FLT_MAX}) {
            last_of(count - 1) = bad;
            Bytes scales(count * 2, 0x5a);
            Bytes zeros(count, 0x5a);
            EXPECT_EQ(piquant_compute_quant_params_blocks(context.get(), data.data(), PIQUANT_FLOAT32, PIQUANT_UINT8,
                                                          &blocks, &options, scales.data(), zeros.data(), nullptr),
                      std::isnan(bad) ? PIQUANT_ERROR_NOT_FINITE : PIQUANT_ERROR_DATA_RANGE);
            EXPECT_TRUE(scales == Bytes(count * 2, 0x5a));
            EXPECT_TRUE(zeros == Bytes(count, 0x5a));
        }
    }
}

// The largest float16 is 65504, of which 255 steps are a little more than 1.67e7.
TEST_P(BadData, ScalesBeyondTheirDtype) {
    const size_t a = count / 3;
    const size_t b = count - 1;
    last_of(a) = 65504.0f * 255;
    expect_first(PIQUANT_OK, no_block, PIQUANT_FLOAT16, "the largest");
    last_of(a) = std::nextafter(65504.0f * 255, INFINITY);
    expect_first(PIQUANT_ERROR_DATA_RANGE, a, PIQUANT_FLOAT16, "beyond it");
    expect_first(PIQUANT_OK, no_block, PIQUANT_BFLOAT16, "beyond it");
    last_of(b) = NAN;
    expect_first(PIQUANT_ERROR_DATA_RANGE, a, PIQUANT_FLOAT16, "before a NaN");
    last_of(0) = NAN;
    expect_first(PIQUANT_ERROR_NOT_FINITE, 0, PIQUANT_FLOAT16, "behind a NaN");
}

INSTANTIATE_TEST_SUITE_P(All, BadData, testing::ValuesIn(geometries), [](const auto& instance) {
    std::string name = instance.param.name;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
});

}  // namespace
}  // namespace piquant
