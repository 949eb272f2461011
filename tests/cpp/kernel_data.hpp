// Inputs that reach every branch of the contract.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/float_formats.hpp"
#include "core/types.hpp"
#include "dispatch/dispatch.hpp"

namespace piquant {

using Bytes = std::vector<unsigned char>;

// n elements of a float type as bytes: ties, values around both ends of the code range, specials, random patterns.
inline Bytes float_data(DType type, size_t n, double scale, std::mt19937_64& random) {
    const double specials[] = {0.0,     -0.0,     INFINITY,     -INFINITY,     NAN,         -NAN,   FLT_MAX,  -FLT_MAX,
                               DBL_MAX, -DBL_MAX, FLT_MIN,      -FLT_MIN,      1e-45,       -1e-45, 4.9e-324, 65504,
                               65520,   -65520,   6e-8,         1e10,          -1e10,       9.3e18, -9.3e18,  1.9e19,
                               -1e-30,  1e-30,    2147483647.5, -2147483648.5, 4294967295.5};
    Bytes bytes(bytes_for(n, info(type).bits));
    for (size_t i = 0; i < n; ++i) {
        const uint64_t bits = random();
        double x = 0;
        switch (bits % 8) {
            case 0: x = specials[(bits >> 8) % std::size(specials)]; break;
            case 1: x = (static_cast<double>((bits >> 8) % 1024) - 512 + 0.5) * scale; break;  // ties
            case 2: x = (static_cast<double>((bits >> 8) % 262144) - 131072 + 0.5) * scale; break;
            case 3: x = specials[(bits >> 8) % std::size(specials)] * scale; break;
            default: x = (static_cast<double>(bits >> 11) * 0x1p-53 - 0.5) * 600 * scale; break;
        }
        unsigned char* p = bytes.data() + bytes_for(i, info(type).bits);
        const bool any_pattern = bits % 8 == 7;
        if (type == DType::float64) {
            any_pattern ? std::memcpy(p, &bits, 8) : std::memcpy(p, &x, 8);
        } else if (type == DType::float32) {
            const float f = static_cast<float>(x);
            any_pattern ? std::memcpy(p, &bits, 4) : std::memcpy(p, &f, 4);
        } else {
            const uint16_t h = any_pattern              ? static_cast<uint16_t>(bits >> 16)
                               : type == DType::float16 ? float32_to_float16(static_cast<float>(x))
                                                        : float32_to_bfloat16(static_cast<float>(x));
            std::memcpy(p, &h, 2);
        }
    }
    return bytes;
}

inline Bytes code_data(DType type, size_t n, std::mt19937_64& random) {
    Bytes bytes(bytes_for(n, info(type).bits));
    for (unsigned char& b : bytes) {
        b = static_cast<unsigned char>(random());
    }
    return bytes;
}

// Kernel arguments for a scale of the compute type and a zero point pattern.
inline KernelArgs kernel_args(DType real, DType code, double scale, uint64_t zero_point) {
    KernelArgs a{};
    const DTypeInfo& type = info(code);
    if (real == DType::float64) {
        a.scale = scale;
        a.inverse = 1.0 / scale;
    } else {
        a.scale = static_cast<double>(static_cast<float>(scale));
        a.inverse = static_cast<double>(static_cast<float>(1.0 / scale));
    }
    a.zero_point = zero_point;
    a.quant_min = code_min(type.bits, type.is_signed);
    a.quant_max = code_max(type.bits, type.is_signed);
    a.is_signed = type.is_signed;
    return a;
}

// Kernels by types, and modes as numbers.
inline Kernel quantize_kernel(const KernelTable& table, DType real, DType code, int round) {
    return find_kernel(table, Operation::quantize, real, code, static_cast<Round>(round), Reduce::set);
}
inline Kernel dequantize_kernel(const KernelTable& table, DType code, DType real, int reduce) {
    return find_kernel(table, Operation::dequantize, real, code, Round::nearest, static_cast<Reduce>(reduce));
}
inline Kernel quantize_dequantize_kernel(const KernelTable& table, DType real, DType code, int round, int reduce) {
    return find_kernel(table, Operation::quantize_dequantize, real, code, static_cast<Round>(round),
                       static_cast<Reduce>(reduce));
}

inline const KernelTable& scalar_table() {
    return *isas[isa_count - 1].table;
}

// Every instruction set but the scalar one that this machine runs.
inline std::vector<const Isa*> vector_isas() {
    std::vector<const Isa*> found;
    for (size_t i = 0; i + 1 < isa_count; ++i) {
        if ((isas[i].required & ~cpu_features()) == 0) {
            found.push_back(&isas[i]);
        }
    }
    return found;
}

// And the scalar one.
inline std::vector<const Isa*> all_isas() {
    std::vector<const Isa*> found = vector_isas();
    found.push_back(&isas[isa_count - 1]);
    return found;
}

}  // namespace piquant
