// Every code with every zero point through dequantize, set and add, to every float type, on every instruction set,
// against the reference: all pairs for codes of at most 8 bits; for 16 bits all codes with the edge zero points and
// some others, and all 2^32 pairs with PIQUANT_EXHAUSTIVE_PARTS=1.
#include <gtest/gtest.h>

#include <array>

#include "reference.hpp"
#include "share.hpp"

namespace piquant {
namespace {

constexpr double scales[] = {1.0, 0.1, 1.2e-38, 3e38, 6e-8, 700.0};

// What output may hold before a sum: numbers around the values, of both signs, finite in every type.
double before_at(size_t i, double scale) {
    const double factors[] = {0, -0.0, 1, -3, 0.5, -127.5, 1000.1, -1e-6};
    return factors[i % 8] * std::min(scale, 30.0);
}

// A float type in its bytes: value of T to pattern, and back for numbers of the type.
struct FloatType {
    DType type;

    size_t size() const { return bytes_for(1, info(type).bits); }

    void write(unsigned char* p, double x) const {
        if (type == DType::float64) {
            std::memcpy(p, &x, 8);
        } else if (type == DType::float32) {
            const auto narrow = static_cast<float>(x);
            std::memcpy(p, &narrow, 4);
        } else {
            const uint16_t pattern = reference::half_pattern(static_cast<double>(static_cast<float>(x)), type);
            std::memcpy(p, &pattern, 2);
        }
    }
    double read(const unsigned char* p) const {
        double x = 0;
        float f = 0;
        uint16_t h = 0;
        switch (type) {
            case DType::float64: std::memcpy(&x, p, 8); return x;
            case DType::float32: std::memcpy(&f, p, 4); return static_cast<double>(f);
            default: std::memcpy(&h, p, 2); return reference::half_value(h, type);
        }
    }
    // T(d) * T(scale), for d of at most 17 bits.
    double value(int64_t d, double scale) const {
        return type == DType::float64 ? reference::value64(d, scale)
                                      : static_cast<double>(reference::value32(d, static_cast<float>(scale)));
    }
    // Rounded to T, the sum of two numbers of T: the wider type's own rounding cannot be seen in the narrower's.
    double sum(double a, double b) const {
        return type == DType::float64 ? static_cast<double>(static_cast<exact::Wide>(a) + static_cast<exact::Wide>(b))
                                      : static_cast<double>(static_cast<float>(a + b));
    }
};

class DequantizeExhaustive : public testing::TestWithParam<std::tuple<DType, DType>> {
protected:
    const DType code = std::get<0>(GetParam());
    const FloatType real = {std::get<1>(GetParam())};
    const DTypeInfo& type = info(code);
    const size_t codes = size_t{1} << type.bits;
    // At least a whole turn of codes, and of what is added to.
    const size_t n = std::max<size_t>(codes, 64);
    const std::vector<const Isa*> here = all_isas();

    Bytes in;      // all codes in order of their patterns, again and again
    Bytes before;  // of one scale

    void SetUp() override {
        in.assign(bytes_for(n, type.bits), 0);
        for (size_t i = 0; i < n; ++i) {
            const size_t bit = i * static_cast<size_t>(type.bits);
            const size_t field = i % codes;
            in[bit / 8] = static_cast<unsigned char>(in[bit / 8] | field << bit % 8);
            if (type.bits == 16) {
                in[2 * i + 1] = static_cast<unsigned char>(field >> 8);
            }
        }
    }

    int64_t number(size_t field) const {
        const auto x = static_cast<int64_t>(field);
        const auto span = static_cast<int64_t>(codes);
        return type.is_signed && x >= span / 2 ? x - span : x;
    }

    void set_scale(double scale) {
        before.resize(n * real.size());
        for (size_t i = 0; i < n; ++i) {
            // Another turn of what is added to for each turn of the codes.
            real.write(before.data() + i * real.size(), before_at(i + i / codes, scale));
        }
    }

    // What every difference becomes, as bytes, from the lowest on.
    Bytes table_of(double scale) const {
        Bytes table((2 * codes) * real.size());
        for (size_t k = 0; k < 2 * codes; ++k) {
            real.write(table.data() + k * real.size(),
                       real.value(static_cast<int64_t>(k) - static_cast<int64_t>(codes), scale));
        }
        return table;
    }

    void check(size_t zero_field, double scale, int reduce, const Bytes& table) const {
        const int64_t zero = number(zero_field);
        KernelArgs args = kernel_args(real.type, code, scale, static_cast<uint64_t>(zero));
        args.in = in.data();
        args.n = n;
        args.non_temporal = zero_field % 2 == 0;
        Bytes expected(n * real.size());
        for (size_t i = 0; i < n; ++i) {
            const int64_t d = number(i % codes) - zero;
            unsigned char* p = expected.data() + i * real.size();
            if (reduce == 0) {
                std::memcpy(p, table.data() + static_cast<size_t>(d + static_cast<int64_t>(codes)) * real.size(),
                            real.size());
            } else {
                real.write(p, real.sum(real.read(before.data() + i * real.size()), real.value(d, args.scale)));
            }
        }
        for (const Isa* isa : here) {
            Bytes actual = before;
            args.out = actual.data();
            dequantize_kernel(*isa->table, code, real.type, reduce)(args);
            EXPECT_EQ(reference::difference(actual, expected, info(real.type).bits), "")
                << isa->name << ", " << type.name << " -> " << info(real.type).name << (reduce == 1 ? " add" : " set")
                << ", scale " << scale << ", zero point " << zero;
        }
    }
};

TEST_P(DequantizeExhaustive, EveryCodeWithEveryZeroPoint) {
    const bool wide = type.bits > 8;
    const Share part = wide ? share(8192) : Share{0, 1};
    for (size_t s = 0; s < std::size(scales); ++s) {
        const double scale = kernel_args(real.type, code, scales[s], 0).scale;
        set_scale(scale);
        const Bytes table = table_of(scale);
        parallel_for(codes, [&](size_t zero_field) {
            const size_t edges[] = {0, codes / 2 - 1, codes / 2, codes - 1};
            const bool is_edge = std::find(std::begin(edges), std::end(edges), zero_field) != std::end(edges);
            if (wide && !is_edge && !(part.has(zero_field) && (s + zero_field) % std::size(scales) == 0)) {
                return;  // one scale for each of the other pairs
            }
            check(zero_field, scale, 0, table);
            // The reference of a sum is slow, and the addition is the same whatever the zero point.
            if (!wide || is_edge) {
                check(zero_field, scale, 1, table);
            }
        });
    }
}

INSTANTIATE_TEST_SUITE_P(Types, DequantizeExhaustive,
                         testing::Combine(testing::Values(DType::int2, DType::uint2, DType::int4, DType::uint4,
                                                          DType::int8, DType::uint8, DType::int16, DType::uint16),
                                          testing::Values(DType::float16, DType::bfloat16, DType::float32,
                                                          DType::float64)),
                         [](const auto& instance) {
                             return std::string(dtype_infos[static_cast<int>(std::get<0>(instance.param))].name) + "_" +
                                    dtype_infos[static_cast<int>(std::get<1>(instance.param))].name;
                         });

}  // namespace
}  // namespace piquant
