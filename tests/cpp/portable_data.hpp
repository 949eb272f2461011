// Inputs that come from integer arithmetic alone, so that no library and no rounding takes part in them.
#pragma once

#include "kernel_data.hpp"

namespace piquant {
namespace {

// SplitMix64.
class Words {
public:
    explicit Words(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    uint64_t below(uint64_t n) { return next() % n; }

private:
    uint64_t state_;
};

inline int mantissa_bits_of(DType type) {
    return type == DType::float64 ? 52 : type == DType::float32 ? 23 : type == DType::float16 ? 10 : 7;
}

// Floats as patterns: sign, then an exponent within `reach` powers of two of `center`, then a mantissa that is random,
// or short (so that multiples of powers of two, and with them ties, are common); or one of the ends of the format; or
// any pattern at all.
inline Bytes patterns(DType type, size_t n, int center, int reach, Words& words) {
    const int bits = info(type).bits;
    const int mantissa_bits = mantissa_bits_of(type);
    const int exponent_bits = bits - 1 - mantissa_bits;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int highest = (1 << exponent_bits) - 1;  // infinities and NaNs
    const uint64_t infinity = static_cast<uint64_t>(highest) << mantissa_bits;
    const uint64_t quiet = infinity | (uint64_t{1} << (mantissa_bits - 1));
    const uint64_t one = static_cast<uint64_t>(bias) << mantissa_bits;
    const uint64_t ends[] = {0,
                             1,
                             2,
                             (uint64_t{1} << mantissa_bits) - 1,
                             uint64_t{1} << mantissa_bits,
                             infinity,
                             quiet,
                             one,
                             infinity | 1,
                             quiet | 5,
                             one + 1,
                             infinity - 1};
    Bytes bytes(bytes_for(n, bits));
    for (size_t i = 0; i < n; ++i) {
        const uint64_t word = words.next();
        const uint64_t kind = words.below(16);
        uint64_t pattern = words.next();
        if (kind != 0) {
            int exponent = center + bias + static_cast<int>(words.below(static_cast<uint64_t>(2 * reach))) - reach;
            exponent = exponent < 0 ? 0 : exponent >= highest ? highest - 1 : exponent;
            const int kept = kind < 8 ? static_cast<int>(words.below(10)) : mantissa_bits;
            const uint64_t low_zeros = mantissa_bits > kept ? uint64_t{1} << (mantissa_bits - kept) : 1;
            const uint64_t mantissa = (word & ((uint64_t{1} << mantissa_bits) - 1)) / low_zeros * low_zeros;
            pattern = (static_cast<uint64_t>(exponent) << mantissa_bits) | mantissa;
            pattern = kind == 1 ? ends[words.below(std::size(ends))] : pattern;
            pattern |= (word >> 63) << (bits - 1);
        }
        std::memcpy(bytes.data() + bytes_for(i, bits), &pattern, static_cast<size_t>(bits / 8));  // little-endian
    }
    return bytes;
}

inline Bytes codes(DType type, size_t n, Words& words) {
    Bytes bytes(bytes_for(n, info(type).bits));
    for (unsigned char& b : bytes) {
        b = static_cast<unsigned char>(words.next() >> 56);
    }
    return bytes;
}

// Finite floats of exponents within `reach` of 0, as patterns.
inline Bytes numbers(DType type, size_t n, uint64_t reach, Words& words) {
    const int bits = info(type).bits;
    const int mantissa_bits = mantissa_bits_of(type);
    const uint64_t bias = (uint64_t{1} << (bits - 2 - mantissa_bits)) - 1;
    Bytes bytes(bytes_for(n, bits));
    for (size_t i = 0; i < n; ++i) {
        const uint64_t word = words.next();
        const uint64_t exponent = bias - reach + words.below(2 * reach);
        const uint64_t pattern =
            (word >> 63) << (bits - 1) | exponent << mantissa_bits | (word & ((uint64_t{1} << mantissa_bits) - 1));
        std::memcpy(bytes.data() + bytes_for(i, bits), &pattern, static_cast<size_t>(bits / 8));  // little-endian
    }
    return bytes;
}

}  // namespace
}  // namespace piquant
