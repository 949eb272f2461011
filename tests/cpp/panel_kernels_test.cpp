// Every kernel for blocks of every instruction set equals the scalar one bit for bit, and writes nothing but its output.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernel_data.hpp"

namespace piquant {
namespace {

constexpr size_t margin = 192;

// `bytes` in a buffer of its own, `shift` bytes after a line, between canaries.
class Region {
public:
    Region(const Bytes& bytes, size_t shift) : size_(bytes.size()), memory_(bytes.size() + 2 * margin + 128, 0xa5) {
        start_ = margin + (64 - reinterpret_cast<uintptr_t>(memory_.data() + margin) % 64) % 64 + shift;
        std::copy(bytes.begin(), bytes.end(), data());
    }
    unsigned char* data() { return memory_.data() + start_; }
    Bytes bytes() { return Bytes(data(), data() + size_); }
    bool is_intact() const {
        const auto is_canary = [](unsigned char b) { return b == 0xa5; };
        const auto first = memory_.begin() + static_cast<ptrdiff_t>(start_);
        return std::all_of(memory_.begin(), first, is_canary) &&
               std::all_of(first + static_cast<ptrdiff_t>(size_), memory_.end(), is_canary);
    }

private:
    size_t size_;
    Bytes memory_;
    size_t start_;
};

size_t block_count(size_t n, size_t block) {
    return n == 0 ? 0 : (n - 1) / block + 1;
}

// Lengths of blocks that all sets take, or at least one.
std::vector<size_t> blocks_of(size_t granule, size_t n, std::mt19937_64& random) {
    std::vector<size_t> found = {1, n, n + 1, SIZE_MAX};
    for (const size_t block :
         std::initializer_list<size_t>{8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 1024}) {
        if (block % granule == 0) {
            found.push_back(block);
        }
    }
    const size_t any = found[random() % found.size()];
    return {1, n == 0 ? 1 : n, any, found[4 + random() % (found.size() - 4)], found[4 + random() % 5]};
}

// A length that is odd, or whole blocks, or small.
size_t length_of(size_t i, std::mt19937_64& random) {
    switch (i % 4) {
        case 0: return random() % 80;
        case 1: return 32 * (random() % 64);
        default: return random() % 2100;
    }
}

struct Parameters {
    std::vector<float> factors;
    std::vector<uint8_t> zeros;
};

// Only what kernels may read.
Parameters random_parameters(size_t count, int bits, bool inverse, std::mt19937_64& random) {
    const float scales[] = {1.0f, 0.1f, 0x1p-20f, 3e-5f, 1e3f, 0.37f, 2.5f};
    const float ends[] = {FLT_MIN, FLT_MAX, 1e-34f, 1e30f};
    const bool extreme = random() % 8 == 0;
    Parameters p{std::vector<float>(count + panel_slack, NAN), std::vector<uint8_t>(count + panel_slack, 0xff)};
    for (size_t k = 0; k < count; ++k) {
        const float scale = extreme && random() % 16 == 0 ? ends[random() % 4] : scales[random() % 7];
        p.factors[k] = inverse ? 1 / scale : scale;
        const auto highest = static_cast<uint32_t>((1u << bits) - 1);
        const uint32_t zeros[] = {0, highest, highest / 2, static_cast<uint32_t>(random()) & highest};
        p.zeros[k] = static_cast<uint8_t>(zeros[random() % 4]);
    }
    return p;
}

// Floats around the codes of scales like those above.
Bytes data_of(DType type, size_t n, std::mt19937_64& random) {
    const double scales[] = {1.0, 0.1, 0x1p-20, 3e-5, 1e3, 1e-36, 1e36};
    return float_data(type, n, scales[random() % 7], random);
}

struct PanelCase {
    PanelKernel expected;
    PanelKernel actual;
    DType from;
    DType to;
    int bits;        // of the code
    bool inverse;    // factors are inverses
    bool has_words;  // rounds stochastically
    std::string what;
};

Bytes run(PanelKernel kernel, PanelArgs a, const Bytes& in, size_t in_shift, const Bytes& before, size_t out_shift,
          const PanelCase& c) {
    Region from(in, in_shift);
    Region to(before, out_shift);
    a.in = from.data();
    a.out = to.data();
    kernel(a);
    EXPECT_TRUE(from.is_intact() && from.bytes() == in) << c.what << " changed its input";
    EXPECT_TRUE(to.is_intact()) << c.what << " wrote outside its output";
    return to.bytes();
}

void compare(const PanelCase& c, size_t n, size_t block, std::mt19937_64& random) {
    const Parameters p = random_parameters(block_count(n, block), c.bits, c.inverse, random);
    std::vector<uint16_t> words(n);
    for (uint16_t& word : words) {
        word = static_cast<uint16_t>(random() % 4 == 0 ? (random() % 2 == 0 ? 0 : 0xffff) : random());
    }
    PanelArgs a{};
    a.n = n;
    a.factors = p.factors.data();
    a.zeros = p.zeros.data();
    a.block = block;
    a.words = c.has_words ? words.data() : nullptr;
    a.is_signed = random() % 2 == 0;
    a.quant_min = code_min(c.bits, a.is_signed);
    a.quant_max = code_max(c.bits, a.is_signed);
    if (random() % 3 == 0) {
        a.quant_min += 1;
        a.quant_max -= c.bits == 2 ? 0 : 1 + random() % 3;
    }
    a.non_temporal = random() % 2 == 0;
    a.prefetch_distance = random() % 3 * 2048;
    const Bytes in = info(c.from).is_float ? data_of(c.from, n, random) : code_data(c.from, n, random);
    const Bytes before = info(c.to).is_float ? data_of(c.to, n, random) : Bytes(bytes_for(n, info(c.to).bits), 0x5a);
    const size_t in_shift = random() % 2 == 0 ? 0 : random() % 64;
    const size_t out_shift = random() % 2 == 0 ? 0 : random() % 64;
    const Bytes expected = run(c.expected, a, in, in_shift, before, out_shift, c);
    const Bytes actual = run(c.actual, a, in, in_shift, before, out_shift, c);
    if (expected != actual) {
        const auto at = std::mismatch(expected.begin(), expected.end(), actual.begin());
        ADD_FAILURE() << c.what << ": n " << n << ", block " << block << ", byte " << at.first - expected.begin()
                      << " is " << int{*at.second} << ", not " << int{*at.first};
    }
}

void sweep(const PanelCase& c, size_t granule, uint64_t seed) {
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < 90 && !testing::Test::HasFailure(); ++i) {
        const size_t n = length_of(i, random);
        for (const size_t block : blocks_of(granule, n, random)) {
            compare(c, n, block, random);
        }
    }
}

// Of every vector set that has one. Calls check(kernels, what).
template <class Check>
void for_vector_isas(const Check& check) {
    for (const Isa* isa : vector_isas()) {
        check(isa->table->panels, std::string(isa->name));
    }
}

class PanelMatrix : public testing::TestWithParam<std::tuple<int, int, int>> {
protected:
    size_t f() const { return static_cast<size_t>(std::get<0>(GetParam())); }
    size_t w() const { return static_cast<size_t>(std::get<1>(GetParam())); }
    size_t mode() const { return static_cast<size_t>(std::get<2>(GetParam())); }
    DType real() const { return static_cast<DType>(f()); }
    int bits() const { return 2 << w(); }
    DType code() const { return bits() == 2 ? DType::uint2 : bits() == 4 ? DType::uint4 : DType::uint8; }
    std::string named(const std::string& isa, const char* what) const {
        return isa + " " + what + " " + info(real()).name + " " + std::to_string(bits()) + " mode " +
               std::to_string(mode());
    }
};

TEST_P(PanelMatrix, Quantize) {
    for_vector_isas([&](const PanelKernels& panels, const std::string& isa) {
        ASSERT_NE(panels.quantize[f()][w()][mode()], nullptr) << isa;
        sweep({scalar_table().panels.quantize[f()][w()][mode()], panels.quantize[f()][w()][mode()], real(), code(),
               bits(), true, mode() == 1, named(isa, "quantize")},
              panels.granule, 1);
    });
}

TEST_P(PanelMatrix, Dequantize) {
    for_vector_isas([&](const PanelKernels& panels, const std::string& isa) {
        ASSERT_NE(panels.dequantize[w()][f()][mode()], nullptr) << isa;
        sweep({scalar_table().panels.dequantize[w()][f()][mode()], panels.dequantize[w()][f()][mode()], code(), real(),
               bits(), false, false, named(isa, "dequantize")},
              panels.granule, 2);
    });
}

INSTANTIATE_TEST_SUITE_P(All, PanelMatrix,
                         testing::Combine(testing::Range(0, 3), testing::Range(0, 3), testing::Range(0, 2)),
                         [](const auto& instance) {
                             return std::string(dtype_infos[std::get<0>(instance.param)].name) + "_" +
                                    std::to_string(2 << std::get<1>(instance.param)) + "_mode" +
                                    std::to_string(std::get<2>(instance.param));
                         });

float float_at(DType type, const Bytes& bytes, size_t i) {
    const unsigned char* p = bytes.data() + bytes_for(i, info(type).bits);
    return type == DType::float16    ? load_element<float16>(p)
           : type == DType::bfloat16 ? load_element<bfloat16>(p)
                                     : load_element<float32>(p);
}

struct Extents {
    Bytes lowest;
    Bytes highest;
};

Extents run_extents(ExtentsKernel kernel, const Bytes& in, size_t n, size_t block, size_t shift, const Bytes& before,
                    const std::string& what) {
    Region from(in, shift);
    Region low(before, shift % 4);
    Region high(before, shift % 8);
    kernel(from.data(), n, block, low.data(), high.data());
    EXPECT_TRUE(from.is_intact() && from.bytes() == in) << what << " changed its input";
    EXPECT_TRUE(low.is_intact() && high.is_intact()) << what << " wrote outside its output";
    return {low.bytes(), high.bytes()};
}

// Bit for bit, but any NaN in either output stands for any other.
void expect_same(DType type, const Extents& expected, const Extents& actual, size_t count, const std::string& what) {
    const size_t size = bytes_for(1, info(type).bits);
    for (size_t k = 0; k < count; ++k) {
        const auto nan = [&](const Extents& e) {
            return std::isnan(float_at(type, e.lowest, k)) || std::isnan(float_at(type, e.highest, k));
        };
        const bool is_nan = nan(expected);
        ASSERT_EQ(is_nan, nan(actual)) << what << ", block " << k;
        if (!is_nan) {
            ASSERT_EQ(std::memcmp(&expected.lowest[k * size], &actual.lowest[k * size], size), 0)
                << what << ", block " << k << ": lowest " << float_at(type, actual.lowest, k) << ", not "
                << float_at(type, expected.lowest, k);
            ASSERT_EQ(std::memcmp(&expected.highest[k * size], &actual.highest[k * size], size), 0)
                << what << ", block " << k << ": highest " << float_at(type, actual.highest, k) << ", not "
                << float_at(type, expected.highest, k);
        }
    }
}

// Few of the blocks hold NaN, some no negative element or no positive one.
Bytes extent_data(DType type, size_t n, std::mt19937_64& random) {
    const size_t size = bytes_for(1, info(type).bits);
    Bytes data = float_data(type, n, 1.0, random);
    const uint64_t kind = random() % 4;
    for (size_t i = 0; i < n; ++i) {
        unsigned char* top = data.data() + (i + 1) * size - 1;
        if (random() % 4096 != 0) {
            *top = static_cast<unsigned char>(*top & (random() % 4 == 0 ? 0x80 : 0xbf));  // finite; often nearly zero
        }
        *top = static_cast<unsigned char>(kind == 0 ? *top | 0x80 : kind == 1 ? *top & 0x7f : *top);
    }
    return data;
}

class PanelExtents : public testing::TestWithParam<int> {};

TEST_P(PanelExtents, EqualScalar) {
    const auto type = static_cast<DType>(GetParam());
    for_vector_isas([&](const PanelKernels& panels, const std::string& isa) {
        std::mt19937_64 random(3);
        for (size_t i = 0; i < 300 && !testing::Test::HasFailure(); ++i) {
            const size_t n = length_of(i, random);
            for (const size_t block : blocks_of(panels.granule, n, random)) {
                for (const bool magnitude : {false, true}) {
                    const auto kernel = [&](const PanelKernels& p) {
                        return magnitude ? p.magnitudes[GetParam()] : p.extents[GetParam()];
                    };
                    const Bytes in = extent_data(type, n, random);
                    const size_t count = block_count(n, block);
                    const Bytes before(bytes_for(count, info(type).bits), 0x33);
                    const std::string what = isa + (magnitude ? " magnitudes of " : " extents of ") + info(type).name +
                                             ", n " + std::to_string(n) + ", block " + std::to_string(block);
                    const size_t shift = random() % 2 == 0 ? 0 : random() % 64;
                    ASSERT_NE(kernel(panels), nullptr) << what;
                    expect_same(type, run_extents(kernel(scalar_table().panels), in, n, block, shift, before, what),
                                run_extents(kernel(panels), in, n, block, shift, before, what), count, what);
                }
            }
        }
    });
}

// One odd element among ones, at every position: no lane is left out.
TEST_P(PanelExtents, FindOneElementAnywhere) {
    const auto type = static_cast<DType>(GetParam());
    constexpr size_t n = 5 * 64 + 7;
    for_vector_isas([&](const PanelKernels& panels, const std::string& isa) {
        const size_t size = bytes_for(1, info(type).bits);
        const auto write = [&](Bytes& data, size_t i, float x) {
            const uint16_t h = type == DType::float16 ? float32_to_float16(x) : float32_to_bfloat16(x);
            std::memcpy(data.data() + i * size, type == DType::float32 ? static_cast<const void*>(&x) : &h, size);
        };
        for (const size_t block : {size_t{64}, size_t{192}, n}) {
            for (const float odd : {-2.0f, 3.0f, INFINITY, -INFINITY, NAN, -NAN}) {
                for (size_t i = 0; i < n; ++i) {
                    Bytes data(n * size);
                    for (size_t j = 0; j < n; ++j) {
                        write(data, j, j == i ? odd : 1.0f);
                    }
                    Extents e{Bytes(8 * size), Bytes(8 * size)};
                    Extents magnitude = e;
                    panels.extents[GetParam()](data.data(), n, block, e.lowest.data(), e.highest.data());
                    panels.magnitudes[GetParam()](data.data(), n, block, nullptr, magnitude.highest.data());
                    const size_t k = i / block;
                    const float low = float_at(type, e.lowest, k);
                    const float high = float_at(type, e.highest, k);
                    const float most = float_at(type, magnitude.highest, k);
                    const std::string what =
                        isa + " " + info(type).name + ", block " + std::to_string(block) + ", at " + std::to_string(i);
                    ASSERT_EQ(std::isnan(low) || std::isnan(high), std::isnan(odd)) << what;
                    ASSERT_EQ(std::isnan(most), std::isnan(odd)) << what;
                    if (!std::isnan(odd)) {
                        ASSERT_EQ(low, std::fmin(odd, 0.0f)) << what;
                        ASSERT_EQ(high, std::fmax(odd, 1.0f)) << what;
                        ASSERT_EQ(most, std::fmax(std::fabs(odd), 1.0f)) << what;
                    }
                }
            }
        }
    });
}

INSTANTIATE_TEST_SUITE_P(All, PanelExtents, testing::Range(0, 3),
                         [](const auto& instance) { return std::string(dtype_infos[instance.param].name); });

// Codes of this panel and extents of the next, each as of the kernel that does that alone.
TEST_P(PanelMatrix, Dynamic) {
    const bool symmetric = mode() == 1;
    const PanelKernels& model = scalar_table().panels;
    const size_t size = bytes_for(1, info(real()).bits);
    for_vector_isas([&](const PanelKernels& panels, const std::string& isa) {
        ASSERT_NE(panels.dynamic[f()][w()][mode()], nullptr) << isa;
        std::mt19937_64 random(6);
        for (size_t i = 0; i < 300 && !testing::Test::HasFailure(); ++i) {
            const size_t block = panels.granule * (i % 3 == 0 ? 1 + random() % 40 : size_t{1} << random() % 6);
            const size_t count = 1 + random() % (1 + 2048 / block);
            const size_t n = count * block;
            const std::string what =
                named(isa, "dynamic") + ", n " + std::to_string(n) + ", block " + std::to_string(block);
            const Parameters p = random_parameters(count, bits(), true, random);
            const Bytes in = data_of(real(), n, random);
            const Bytes next = extent_data(real(), n, random);
            DynamicArgs a{};
            a.codes.n = n;
            a.codes.block = block;
            a.codes.factors = p.factors.data();
            a.codes.zeros = p.zeros.data();
            a.codes.is_signed = random() % 2 == 0;
            a.codes.quant_min = code_min(bits(), a.codes.is_signed) + random() % 2;
            a.codes.quant_max = code_max(bits(), a.codes.is_signed);
            a.codes.non_temporal = random() % 2 == 0;
            a.codes.prefetch_distance = random() % 2 * 2048;
            Region from(in, random() % 64);
            Region following(next, random() % 64);
            a.codes.in = from.data();
            a.next = following.data();
            const auto run_one = [&](DynamicKernel kernel, size_t shift) {
                Region codes(Bytes(bytes_for(n, bits()), 0x5a), shift);
                Region low(Bytes(count * size, 0x33), shift);
                Region high(Bytes(count * size, 0x33), shift);
                a.codes.out = codes.data();
                a.lowest = symmetric ? nullptr : low.data();
                a.highest = high.data();
                kernel(a);
                EXPECT_TRUE(codes.is_intact() && low.is_intact() && high.is_intact()) << what;
                return std::pair(codes.bytes(), Extents{low.bytes(), high.bytes()});
            };
            const size_t shift = random() % 2 * 4 * (random() % 16);
            const auto expected = run_one(model.dynamic[f()][w()][mode()], shift);
            const auto actual = run_one(panels.dynamic[f()][w()][mode()], shift);
            ASSERT_EQ(expected.first, actual.first) << what;
            expect_same(real(), expected.second, actual.second, count, what);
        }
    });
}

struct Found {
    bool flag;
    std::vector<float> scales;
    std::vector<float> inverses;
    std::vector<uint8_t> zeros;
};

TEST(PanelParameters, EqualScalar) {
    for_vector_isas([](const PanelKernels& panels, const std::string& isa) {
        std::mt19937_64 random(7);
        size_t unfit = 0;
        size_t ties = 0;
        for (size_t i = 0; i < 3000 && !testing::Test::HasFailure(); ++i) {
            const size_t f = i % 3;
            const auto type = static_cast<DType>(f);
            const size_t size = bytes_for(1, info(type).bits);
            const size_t count = random() % 70;
            const bool symmetric = random() % 2 == 0;
            const int bits = 2 << random() % 3;
            const int32_t highest = (1 << bits) - 1;
            ParametersArgs a{};
            a.count = count;
            a.start = symmetric ? 1 << (bits - 1) : static_cast<int32_t>(random() % 3);
            a.codes = symmetric ? (1 << (bits - 1)) - 1 : highest - a.start - static_cast<int32_t>(random() % 2);
            a.codes = a.codes < 1 ? 1 : a.codes;
            // Ends of blocks; half of the calls have ties, others numbers near the ends of the type.
            const bool special = random() % 4 == 0;
            Bytes low((count + panel_slack) * size, 0xff);  // NaNs where nothing counts
            Bytes high((count + panel_slack) * size, 0xff);
            for (size_t k = 0; k < count; ++k) {
                double lo = -static_cast<double>(random() % 1024) / 4;
                double hi = static_cast<double>(random() % 1024) / 4;
                if (random() % 2 == 0) {  // steps of one: half of them above `start`
                    lo = -(static_cast<double>(random() % static_cast<uint64_t>(a.codes)) + 0.5);
                    hi = a.codes + lo;
                    ++ties;
                }
                const double factors[] = {1, 1, 0x1p-140, 3e-41, 0x1p-126, 1e-44, 0x1p118, 0x1p120};
                const double factor = special ? factors[random() % 8] : factors[0];
                lo = random() % 8 == 0 ? 0 : lo * factor;
                hi = random() % 8 == 0 ? 0 : hi * factor;
                if (random() % 2000 == 0) {
                    hi = INFINITY;
                }
                if (random() % 2000 == 0) {
                    (random() % 2 == 0 ? lo : hi) = NAN;
                }
                const auto write = [&](Bytes& bytes, float x) {
                    const uint16_t h = type == DType::float16 ? float32_to_float16(x) : float32_to_bfloat16(x);
                    std::memcpy(bytes.data() + k * size, type == DType::float32 ? static_cast<const void*>(&x) : &h,
                                size);
                };
                write(low, static_cast<float>(lo));
                write(high, static_cast<float>(hi));
            }
            const auto run_one = [&](ParametersKernel kernel) {
                Found found{false, std::vector<float>(count + panel_slack, 7.0f),
                            std::vector<float>(count + panel_slack), std::vector<uint8_t>(count + panel_slack)};
                a.lowest = symmetric ? nullptr : low.data();
                a.highest = high.data();
                a.scales = found.scales.data();
                a.inverses = found.inverses.data();
                a.zeros = found.zeros.data();
                found.flag = kernel(a);
                found.inverses.resize(count);
                found.zeros.resize(count);
                return found;
            };
            ASSERT_NE(panels.parameters[f], nullptr) << isa;
            const Found expected = run_one(scalar_table().panels.parameters[f]);
            const Found actual = run_one(panels.parameters[f]);
            const std::string what = isa + " " + info(type).name + ", " + std::to_string(count) + " blocks, start " +
                                     std::to_string(a.start) + ", codes " + std::to_string(a.codes);
            ASSERT_EQ(expected.flag, actual.flag) << what;
            unfit += expected.flag;
            if (expected.flag) {
                ASSERT_EQ(actual.scales[count], 7.0f) << what;
                continue;
            }
            ASSERT_EQ(expected.scales, actual.scales) << what;
            ASSERT_EQ(expected.inverses, actual.inverses) << what;
            ASSERT_EQ(expected.zeros, actual.zeros) << what;
        }
        EXPECT_GT(unfit, 20);
        EXPECT_GT(ties, 1000);
    });
}

TEST(PanelWords, EqualScalar) {
    for_vector_isas([](const PanelKernels& panels, const std::string& isa) {
        std::mt19937_64 random(5);
        ASSERT_NE(panels.words, nullptr) << isa;
        for (size_t i = 0; i < 400; ++i) {
            const uint64_t seed = random();
            // Anywhere, or shortly before the keys change.
            const uint64_t index = random() % 3 == 0   ? random()
                                   : random() % 2 == 0 ? random() % 70000
                                                       : 65536 * (1 + random() % 5) - random() % 300;
            const size_t n = i % 50 == 0 ? 140000 : length_of(i, random);
            Bytes before(2 * n, 0x17);
            Region expected(before, 0);
            Region actual(before, 2 * (random() % 32));
            scalar_table().panels.words(seed, index, n, reinterpret_cast<uint16_t*>(expected.data()));
            panels.words(seed, index, n, reinterpret_cast<uint16_t*>(actual.data()));
            ASSERT_TRUE(actual.is_intact()) << isa << " index " << index << ", n " << n;
            ASSERT_EQ(expected.bytes(), actual.bytes()) << isa << " index " << index << ", n " << n;
        }
    });
}

}  // namespace
}  // namespace piquant
