// The contract a second time, quick enough for billions of values and in other terms than the code: float32 steps are
// computed in float64, where they are exact, and rounded once; integers do the rest. semantics_test has the slower
// model in wide integers, for the values that decide.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "exact.hpp"
#include "kernel_data.hpp"
#include "random_model.hpp"

namespace piquant {
namespace reference {

// A value of a 16-bit format from its pattern, as arithmetic on its fields.
inline double half_value(uint16_t pattern, DType type) {
    const int mantissa_bits = type == DType::float16 ? 10 : 7;
    const int highest = (1 << (15 - mantissa_bits)) - 1;
    const int exponent = (pattern & 0x7fff) >> mantissa_bits;
    const int mantissa = pattern & ((1 << mantissa_bits) - 1);
    const int bias = highest / 2;
    const double magnitude = exponent == highest ? (mantissa != 0 ? NAN : INFINITY)
                             : exponent == 0
                                 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                 : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return pattern >= 0x8000 ? -magnitude : magnitude;
}

// The pattern of the nearest value of a 16-bit format, half to even: a multiple of the spacing of numbers that large.
inline uint16_t half_pattern(double x, DType type) {
    const int mantissa_bits = type == DType::float16 ? 10 : 7;
    const int bias = (1 << (14 - mantissa_bits)) - 1;
    const unsigned sign = std::signbit(x) ? 0x8000 : 0;
    const auto infinity = static_cast<unsigned>(2 * bias + 1) << mantissa_bits;
    const double magnitude = std::fabs(x);
    if (magnitude == 0 || std::isinf(x)) {
        return static_cast<uint16_t>(magnitude == 0 ? sign : sign | infinity);
    }
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    exponent = std::max(exponent - 1, 1 - bias);
    // In units of the spacing, normal numbers begin at 2^mantissa_bits; a carry into the exponent field is the next
    // one.
    const auto units =
        exponent > bias ? 0 : static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent)));
    const unsigned binade = static_cast<unsigned>(exponent + bias - 1) << mantissa_bits;
    return static_cast<uint16_t>(sign | (exponent > bias ? infinity : std::min(binade + units, infinity)));
}

// Integers so far out that they saturate all codes of 32 bits and less stand for everything beyond; -far for NaN.
constexpr double far = 0x1p40;

inline int64_t floor_of(double y) {
    const auto truncated = static_cast<int64_t>(y);
    return truncated - (static_cast<double>(truncated) > y);
}

inline int64_t nearest(double y) {
    const int64_t below = floor_of(y);
    const double rest = y - static_cast<double>(below);
    return below + (rest > 0.5 || (rest == 0.5 && below % 2 != 0));
}

inline int64_t stochastic(double y, unsigned word) {
    const int64_t below = floor_of(y);
    return below + (nearest((y - static_cast<double>(below)) * 65536) + word >= 65536);
}

// x * inverse in float32, one rounding, brought within reach.
inline double product(double x, float inverse) {
    const double y = static_cast<float>(x * static_cast<double>(inverse));
    return y > far ? far : y >= -far ? y : -far;
}

// Integers r of n values in both modes.
struct Rounded {
    std::vector<int64_t> r[2];

    void compute(const double* x, float inverse, const uint16_t* words, size_t n) {
        r[0].resize(n);
        r[1].resize(n);
        for (size_t i = 0; i < n; ++i) {
            const double y = product(x[i], inverse);
            r[0][i] = nearest(y);
            r[1][i] = stochastic(y, words[i]);
        }
    }
};

// Integers to codes of at most 32 bits: add, clamp, pack.
class Coder {
public:
    Coder(DType code, const KernelArgs& a)
        : bits_(info(code).bits),
          is_signed_(info(code).is_signed),
          zero_(number(a.zero_point)),
          lowest_(number(a.quant_min)),
          highest_(number(a.quant_max)) {}

    int64_t operator()(int64_t r) const {
        const int64_t q = r + zero_;
        return q < lowest_ ? lowest_ : q > highest_ ? highest_ : q;
    }

    void pack(const std::vector<int64_t>& r, Bytes& out) const {
        const size_t n = r.size();
        out.assign(bytes_for(n, bits_), 0);
        switch (bits_) {
            case 8: store<uint8_t>(r, out); break;
            case 16: store<uint16_t>(r, out); break;
            case 32: store<uint32_t>(r, out); break;
            default:
                const auto per_byte = static_cast<size_t>(8 / bits_);
                const unsigned mask = (1u << bits_) - 1;
                for (size_t i = 0; i < n; ++i) {
                    const unsigned field = static_cast<unsigned>((*this)(r[i])) & mask;
                    unsigned char& byte = out[i / per_byte];
                    byte = static_cast<unsigned char>(byte | field << (i % per_byte * static_cast<size_t>(bits_)));
                }
        }
    }

    int64_t zero() const { return zero_; }

private:
    template <class Storage>
    void store(const std::vector<int64_t>& r, Bytes& out) const {
        for (size_t i = 0; i < r.size(); ++i) {
            const auto stored = static_cast<Storage>((*this)(r[i]));
            std::memcpy(out.data() + i * sizeof stored, &stored, sizeof stored);
        }
    }

    int64_t number(uint64_t pattern) const { return static_cast<int64_t>(exact::value_of(pattern, is_signed_)); }

    int bits_;
    bool is_signed_;
    int64_t zero_;
    int64_t lowest_;
    int64_t highest_;
};

// d * scale in T = float32; d below 2^33, whose conversion rounds.
inline float value32(int64_t d, float scale) {
    return static_cast<float>(static_cast<double>(static_cast<float>(d)) * static_cast<double>(scale));
}

inline double value64(int64_t d, double scale) {
    return static_cast<double>(static_cast<exact::Wide>(d) * static_cast<exact::Wide>(scale));
}

// Zero points at the ends and in the middle.
inline std::vector<uint64_t> edge_zero_points(DType code) {
    const DTypeInfo& type = info(code);
    const uint64_t lowest = code_min(type.bits, type.is_signed);
    const uint64_t span = code_max(type.bits, type.is_signed) - lowest;
    return {lowest, lowest + span / 2 + 1, lowest + span};
}

// Empty if equal.
inline std::string difference(const Bytes& actual, const Bytes& expected, int bits) {
    if (actual.size() == expected.size() && std::memcmp(actual.data(), expected.data(), actual.size()) == 0) {
        return {};
    }
    size_t byte = 0;
    while (actual[byte] == expected[byte]) {
        ++byte;
    }
    return "element " + std::to_string(byte * 8 / static_cast<size_t>(bits)) + " (byte " + std::to_string(byte) +
           ") is " + std::to_string(actual[byte]) + ", not " + std::to_string(expected[byte]);
}

}  // namespace reference
}  // namespace piquant
