// Calls on more elements than 31 and 32 bits count; see repeated.hpp.
//
// PIQUANT_SIZES=all runs every case; otherwise those that take a few seconds together.
#include <gtest/gtest.h>

#include "guarded_region.hpp"
#include "repeated.hpp"
#include "support.hpp"

namespace piquant {
namespace {

enum class Kind { quantize, dequantize, fused, parameters };

struct Case {
    Kind kind;
    DType real;
    DType code;
    size_t n;
    Round round;
    Reduce reduce;
    size_t threads;
    const char* isa;  // null: the best
};

std::string name_of(const Case& c) {
    const char* const kinds[] = {"quantize", "dequantize", "fused", "parameters"};
    return std::string(kinds[static_cast<int>(c.kind)]) + "_" + info(c.real).name + "_" + info(c.code).name + "_" +
           std::to_string(c.n) + (c.round == Round::stochastic ? "_stochastic" : "") +
           (c.reduce == Reduce::add ? "_add" : "") + "_threads" + std::to_string(c.threads) +
           (c.isa != nullptr ? std::string("_") + c.isa : "");
}

void PrintTo(const Case& c, std::ostream* out) {
    *out << name_of(c);
}

constexpr double scale = 0.25;
constexpr int64_t zero_point = 1;

piquant_status_t call(piquant_context_t* context, const Case& c, const void* in, void* out, size_t n, uint64_t offset) {
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.round_mode = static_cast<piquant_round_mode_t>(c.round);
    o.reduce_op = static_cast<piquant_reduce_op_t>(c.reduce);
    o.seed = 5;
    o.offset = offset;
    const auto real = static_cast<piquant_dtype_t>(c.real);
    const auto code = static_cast<piquant_dtype_t>(c.code);
    switch (c.kind) {
        case Kind::quantize: return piquant_quantize(context, in, real, out, code, n, scale, zero_point, &o);
        case Kind::dequantize: return piquant_dequantize(context, in, code, out, real, n, scale, zero_point, &o);
        default: return piquant_quantize_dequantize(context, in, out, real, code, n, scale, zero_point, &o);
    }
}

ContextPtr context_for(const Case& c) {
    ContextPtr context = make_context(c.threads);
    if (c.isa != nullptr) {
        EXPECT_EQ(piquant_context_set_isa(context.get(), c.isa), PIQUANT_OK);
    }
    return context;
}

Bytes data_for(DType type, size_t n, std::mt19937_64& random) {
    return info(type).is_float ? float_data(type, n, scale, random) : code_data(type, n, random);
}

class Sizes : public testing::TestWithParam<Case> {};

void check_transform(const Case& c) {
    const DType from = c.kind == Kind::dequantize ? c.code : c.real;
    const DType to = c.kind == Kind::quantize ? c.code : c.real;
    constexpr uint64_t offset = uint64_t{0} - two31 - 12345;  // runs over 2^64
    std::mt19937_64 random(c.n);
    const Repeated in(from, c.n);
    const Repeated out(to, c.n);
    const std::vector<size_t> starts = windows(c.n);
    const Bytes common = data_for(from, period, random);
    std::copy(common.begin(), common.end(), in.file());
    std::vector<Bytes> inputs;
    for (const size_t start : starts) {
        inputs.push_back(data_for(from, window, random));
        std::copy_n(inputs.back().begin(), in.bytes(in.elements_in(start)), in.at(start));
        std::memset(out.at(start), c.reduce == Reduce::add ? 0 : canary, out.mapped_in(start));
        std::memset(out.at(start) + out.bytes(out.elements_in(start)), canary,
                    out.mapped_in(start) - out.bytes(out.elements_in(start)));
    }
    const ContextPtr context = context_for(c);
    ASSERT_EQ(call(context.get(), c, in.data(), out.data(), c.n, offset), PIQUANT_OK);
    // The same in pieces that any counter holds, by the model.
    const ContextPtr model = make_context(1);
    ASSERT_EQ(piquant_context_set_isa(model.get(), "scalar"), PIQUANT_OK);
    for (size_t w = 0; w < starts.size(); ++w) {
        const size_t start = starts[w];
        const size_t n = out.elements_in(start);
        Bytes expected(out.bytes(n), 0);
        ASSERT_EQ(call(model.get(), c, inputs[w].data(), expected.data(), n, offset + start), PIQUANT_OK);
        ASSERT_EQ(std::memcmp(out.at(start), expected.data(), expected.size()), 0) << "window at " << start;
        for (size_t i = expected.size(); i < out.mapped_in(start); ++i) {
            ASSERT_EQ(out.at(start)[i], canary) << i - expected.size() << " bytes beyond the end";
        }
    }
    if (c.round == Round::nearest && c.reduce == Reduce::set && c.n >= 2 * two31) {
        Bytes expected(out.bytes(period), 0);
        ASSERT_EQ(call(model.get(), c, common.data(), expected.data(), period, 0), PIQUANT_OK);
        ASSERT_EQ(std::memcmp(out.file(), expected.data(), expected.size()), 0) << "what repeats";
    }
}

// The extremes stand in windows of their own at the ends and before the last multiple of 2^31, where a count that lost
// its upper bits would not look.
void check_parameters(const Case& c) {
    const Repeated in(c.real, c.n);
    const auto put = [&](size_t element, float x) {
        const uint16_t half = c.real == DType::float16 ? float32_to_float16(x) : float32_to_bfloat16(x);
        info(c.real).bits == 16 ? std::memcpy(in.at(element), &half, 2) : std::memcpy(in.at(element), &x, 4);
    };
    const ContextPtr context = context_for(c);
    double found_scale = 0;
    int64_t found_zero_point = 0;
    const size_t middle = c.n < two31 ? two31 - window : c.n / two31 * two31 - 1;
    for (const size_t low : {c.n - 1, size_t{0}, middle}) {
        const size_t high = c.n - 1 - low;
        put(low, -1);
        put(high, 254);
        ASSERT_EQ(piquant_compute_quant_params(context.get(), in.data(), static_cast<piquant_dtype_t>(c.real),
                                               PIQUANT_UINT8, c.n, nullptr, &found_scale, &found_zero_point),
                  PIQUANT_OK);
        EXPECT_EQ(found_scale, 1) << "low at " << low;
        EXPECT_EQ(found_zero_point, 1) << "low at " << low;
        put(low, 0);
        put(high, 0);
    }
}

TEST_P(Sizes, BeyondTheCountersOf32Bits) {
    report_faults();
    const Case& c = GetParam();
    c.kind == Kind::parameters ? check_parameters(c) : check_transform(c);
}

std::vector<Case> cases() {
    constexpr Round nearest = Round::nearest;
    constexpr Reduce set = Reduce::set;
    const bool all = std::getenv("PIQUANT_SIZES") != nullptr && std::string(std::getenv("PIQUANT_SIZES")) == "all";
    std::vector<Case> found = {
        {Kind::quantize, DType::float32, DType::uint8, two31 + 1, nearest, set, 2, nullptr},
        {Kind::quantize, DType::float16, DType::uint4, two32 + 5, nearest, set, 1, nullptr},
        {Kind::quantize, DType::bfloat16, DType::uint2, chunks_beyond, Round::stochastic, set, 2, nullptr},
        {Kind::dequantize, DType::float16, DType::uint8, chunks_beyond, nearest, set, 2, nullptr},
        {Kind::fused, DType::bfloat16, DType::uint8, two31 - 1, nearest, set, 1, nullptr},
        {Kind::parameters, DType::float16, DType::uint8, two32 + 5, nearest, set, 1, nullptr},
    };
    if (!all) {
        return found;
    }
    found.clear();
    const std::pair<DType, DType> types[] = {{DType::float32, DType::uint8},
                                             {DType::float16, DType::uint4},
                                             {DType::bfloat16, DType::uint2},
                                             {DType::float16, DType::int32}};
    for (const size_t n : {two31 - 1, two31 + 1, two32 + 5, chunks_beyond}) {
        for (const auto& [real, code] : types) {
            for (const size_t threads : {size_t{1}, size_t{2}}) {
                for (const Round round : {Round::nearest, Round::stochastic}) {
                    found.push_back({Kind::quantize, real, code, n, round, set, threads, nullptr});
                    found.push_back({Kind::fused, real, code, n, round, set, threads, nullptr});
                }
                for (const Reduce reduce : {Reduce::set, Reduce::add}) {
                    found.push_back({Kind::dequantize, real, code, n, nearest, reduce, threads, nullptr});
                }
            }
        }
        found.push_back({Kind::parameters, DType::float32, DType::uint8, n, nearest, set, 2, nullptr});
    }
    for (const Isa* isa : all_isas()) {
        for (const Kind kind : {Kind::quantize, Kind::dequantize, Kind::parameters}) {
            found.push_back({kind, DType::float16, DType::uint4, two32 + 5, nearest, set, 2, isa->name});
        }
    }
    return found;
}

INSTANTIATE_TEST_SUITE_P(Cases, Sizes, testing::ValuesIn(cases()),
                         [](const auto& instance) { return name_of(instance.param); });

}  // namespace
}  // namespace piquant
