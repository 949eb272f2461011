// All 2^32 patterns of float32 through the main conversions, on every instruction set, against the reference. A run in
// CI does one part of 128; PIQUANT_EXHAUSTIVE_PARTS=1 does all.
#include <gtest/gtest.h>

#include "reference.hpp"
#include "share.hpp"

namespace piquant {
namespace {

constexpr size_t chunk = 16384;
constexpr DType codes[] = {DType::uint8, DType::int8, DType::uint4, DType::uint2, DType::int16};

// How many patterns a part has.
uint64_t patterns_of(const Share& part) {
    constexpr uint64_t all = uint64_t{1} << 32;
    return all / part.parts + (part.part < all % part.parts);
}

// One of each `parts` neighbouring patterns; which one changes along the way, so that every part has all exponents and
// all low bits, and all parts together have every pattern once.
uint32_t pattern_at(uint64_t k, const Share& part) {
    const bool whole = (k + 1) * part.parts <= uint64_t{1} << 32;
    const uint64_t turn = whole ? (k * 0x9e3779b97f4a7c15) >> 40 : 0;
    return static_cast<uint32_t>(k * part.parts + (part.part + turn) % part.parts);
}

// Patterns k .. k + n - 1 of the part.
struct Input {
    std::vector<float> floats;
    std::vector<double> values;

    Input(uint64_t first, size_t n, const Share& part) : floats(n), values(n) {
        for (size_t i = 0; i < n; ++i) {
            floats[i] = float_of(pattern_at(first + i, part));
            values[i] = static_cast<double>(floats[i]);
        }
    }
};

// Of the last 100,000 patterns, and of the first: all parts together have each once.
TEST(Float32Parts, HaveEveryPatternOnce) {
    constexpr uint64_t all = uint64_t{1} << 32;
    for (const uint64_t parts : {1u, 3u, 64u, 100u, 128u}) {
        for (const uint64_t first : {uint64_t{0}, all - 100000}) {
            std::vector<int> met(100000);
            for (uint64_t part = 0; part < parts; ++part) {
                const Share share = {part, parts};
                for (uint64_t k = first / parts; k < std::min(first / parts + 100000, patterns_of(share)); ++k) {
                    const uint64_t at = pattern_at(k, share) - first;
                    if (at < met.size()) {
                        ++met[at];
                    }
                }
            }
            EXPECT_EQ(std::count(met.begin(), met.end(), 1), 100000) << parts << " parts, from " << first;
        }
    }
}

// A round scale, whose products are exact, and one that rounds; small zero points, so that both ends clamp.
class Float32Exhaustive : public testing::TestWithParam<double> {};

void check_quantize(const Isa& isa, DType code, int round, const KernelArgs& args, const Bytes& expected,
                    Bytes& actual) {
    quantize_kernel(*isa.table, DType::float32, code, round)(args);
    const std::string wrong = reference::difference(actual, expected, info(code).bits);
    EXPECT_EQ(wrong, "") << isa.name << ", " << info(code).name << (round == 1 ? ", stochastic" : ", nearest")
                         << ", offset " << args.offset;
}

void check_fused(const Isa& isa, DType code, int round, const KernelArgs& args, const std::vector<int64_t>& r,
                 Bytes& expected, Bytes& actual) {
    const reference::Coder coder(code, args);
    const auto scale = static_cast<float>(args.scale);
    for (size_t i = 0; i < args.n; ++i) {
        const float value = reference::value32(coder(r[i]) - coder.zero(), scale);
        std::memcpy(expected.data() + 4 * i, &value, 4);
    }
    quantize_dequantize_kernel(*isa.table, DType::float32, code, round, 0)(args);
    EXPECT_EQ(reference::difference(actual, expected, 32), "")
        << isa.name << ", fused by " << info(code).name << (round == 1 ? ", stochastic" : ", nearest") << ", offset "
        << args.offset;
}

TEST_P(Float32Exhaustive, EveryPattern) {
    const Share part = share(128);
    const uint64_t all = patterns_of(part);
    const std::vector<const Isa*> here = all_isas();
    // Random words for chunks to start in, anywhere.
    constexpr uint64_t seed = 99;
    std::vector<uint16_t> words(65536 + chunk);
    model::model_words(seed, 0, words.data(), words.size());
    parallel_for((all + chunk - 1) / chunk, [&](size_t item) {
        const uint64_t first = item * chunk;
        const size_t n = static_cast<size_t>(std::min<uint64_t>(chunk, all - first));
        const Input input(first, n, part);
        const uint64_t offset = first * 0x9e3779b97f4a7c15 >> 48;
        reference::Rounded rounded;
        Bytes expected;
        Bytes actual(4 * n);
        for (const DType code : codes) {
            const DTypeInfo& type = info(code);
            KernelArgs args = kernel_args(DType::float32, code, GetParam(), type.is_signed ? uint64_t{0} - 1 : 1);
            args.in = input.floats.data();
            args.out = actual.data();
            args.n = n;
            args.seed = seed;
            args.offset = offset;
            if (code == codes[0]) {
                rounded.compute(input.values.data(), static_cast<float>(1 / args.scale), words.data() + offset, n);
            }
            for (int round = 0; round < 2; ++round) {
                reference::Coder(code, args).pack(rounded.r[round], expected);
                actual.resize(expected.size());
                for (const Isa* isa : here) {
                    check_quantize(*isa, code, round, args, expected, actual);
                }
                if (code == DType::uint8 || code == DType::int16) {
                    expected.resize(4 * n);
                    actual.resize(4 * n);
                    const Isa& isa = *here[item % here.size()];  // the codes of all were compared; these take turns
                    check_fused(isa, code, round, args, rounded.r[round], expected, actual);
                }
            }
        }
    });
}

INSTANTIATE_TEST_SUITE_P(Scales, Float32Exhaustive, testing::Values(1.0, 0.0037),
                         [](const auto& instance) { return instance.index == 0 ? "one" : "rounding"; });

}  // namespace
}  // namespace piquant
