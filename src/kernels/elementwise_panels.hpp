// Kernels for blocks as loops over the functions of core/semantics.hpp: the model of those of the vector sets, and what
// serves the types and blocks that these leave out.
#pragma once

#include <float.h>

#include <type_traits>

#include "core/parameters.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/panel.hpp"

namespace piquant {
namespace {
namespace elementwise {

// What PanelArgs::zeros holds.
template <int Bits>
using PanelZero = std::conditional_t<(Bits <= 8), uint8_t, uint64_t>;

template <int Bits>
inline uint64_t zero_pattern(const PanelArgs& a, size_t k) {
    const auto zero = static_cast<uint64_t>(static_cast<const PanelZero<Bits>*>(a.zeros)[k]);
    return Bits <= 8 ? zero + code_min(Bits, a.is_signed) : zero;
}

// Calls run(block, first, end) for each block of the panel.
template <class Run>
PIQUANT_INLINE void for_blocks(size_t n, size_t block, const Run& run) {
    for (size_t k = 0, first = 0; first < n; ++k) {
        const size_t end = n - first < block ? n : first + block;
        run(k, first, end);
        first = end;
    }
}

template <class Float, int Bits, Round Rounding>
void quantize_panel(const PanelArgs& a) {
    using T = typename Float::compute;
    auto* out = static_cast<unsigned char*>(a.out);
    for_blocks(a.n, a.block, [&](size_t k, size_t first, size_t end) {
        const T inverse = static_cast<const T*>(a.factors)[k];
        const CodeRange range{zero_pattern<Bits>(a, k), a.quant_min, a.quant_max, a.is_signed};
        for (size_t i = first; i < end; ++i) {
            const uint16_t u = Rounding == Round::stochastic ? a.words[i] : uint16_t{0};
            const T x = load_element<Float>(element(a.in, i, Float::bits));
            store_code<Bits>(out, i, quantize_element<Rounding>(x, inverse, range, u));
        }
    });
}

template <int Bits, class Float, Reduce Reduction>
void dequantize_panel(const PanelArgs& a) {
    using T = typename Float::compute;
    const uint64_t sign = sign_bit(Bits, a.is_signed);
    const auto* in = static_cast<const unsigned char*>(a.in);
    for_blocks(a.n, a.block, [&](size_t k, size_t first, size_t end) {
        const SignedScale<T> scale = signed_scale(static_cast<const T*>(a.factors)[k]);
        const uint64_t zero_point = zero_pattern<Bits>(a, k) - code_min(Bits, a.is_signed);
        for (size_t i = first; i < end; ++i) {
            const uint64_t q = load_field<Bits>(in, i) ^ sign;
            reduce_element<Float, Reduction>(element(a.out, i, Float::bits), dequantize_element(q, scale, zero_point));
        }
    });
}

template <class Float>
void extents(const void* in, size_t n, size_t block, void* lowest, void* highest) {
    using T = typename Float::compute;
    for_blocks(n, block, [&](size_t k, size_t first, size_t end) {
        const Extent e = minmax<Float>(element(in, first, Float::bits), end - first);
        store_element<Float>(element(lowest, k, Float::bits), static_cast<T>(e.has_nan ? __builtin_nan("") : e.lo));
        store_element<Float>(element(highest, k, Float::bits), static_cast<T>(e.hi));
    });
}

template <class Float>
void magnitudes(const void* in, size_t n, size_t block, void*, void* highest) {
    using T = typename Float::compute;
    for_blocks(n, block, [&](size_t k, size_t first, size_t end) {
        const Extent e = minmax<Float>(element(in, first, Float::bits), end - first);
        const double largest = -e.lo > e.hi ? -e.lo : e.hi;  // never -0
        store_element<Float>(element(highest, k, Float::bits), static_cast<T>(e.has_nan ? __builtin_nan("") : largest));
    });
}

template <class Float, int Bits, bool Symmetric>
void dynamic_panel(const DynamicArgs& a) {
    quantize_panel<Float, Bits, Round::nearest>(a.codes);
    (Symmetric ? magnitudes<Float> : extents<Float>)(a.next, a.codes.n, a.codes.block, a.lowest, a.highest);
}

// Integers as wide as the patterns of a float type.
template <int Bits>
struct PatternsOf {
    using Unsigned = std::conditional_t<Bits == 16, uint16_t, std::conditional_t<Bits == 32, uint32_t, uint64_t>>;
    using Signed = std::conditional_t<Bits == 16, int16_t, std::conditional_t<Bits == 32, int32_t, int64_t>>;
};

template <class Integer>
inline void keep_largest(const unsigned char* from, unsigned char* to) {
    Integer x;
    Integer largest;
    __builtin_memcpy(&x, from, sizeof x);
    __builtin_memcpy(&largest, to, sizeof largest);
    largest = x > largest ? x : largest;
    __builtin_memcpy(to, &largest, sizeof largest);
}

template <class Float>
void merge_extents(const void* in, size_t n, void* tops, void* bottoms) {
    using Patterns = PatternsOf<Float::bits>;
    for (size_t i = 0; i < n; ++i) {
        keep_largest<typename Patterns::Signed>(element(in, i, Float::bits), element(tops, i, Float::bits));
        keep_largest<typename Patterns::Unsigned>(element(in, i, Float::bits), element(bottoms, i, Float::bits));
    }
}

template <class Float>
bool parameters(const ParametersArgs& a) {
    const bool symmetric = a.lowest == nullptr;
    const auto start = static_cast<uint64_t>(a.start);
    const auto codes = static_cast<uint64_t>(a.codes);
    for (size_t k = 0; k < a.count; ++k) {
        const double hi = load_element<Float>(element(a.highest, k, Float::bits));
        const double lo = symmetric ? 0 : load_element<Float>(element(a.lowest, k, Float::bits));
        if (hi - hi != 0 || lo - lo != 0) {
            return true;
        }
        const QuantParams p = symmetric ? symmetric_params(lo, hi, false, start, codes)
                                        : affine_params(lo, hi, false, start, start + codes);
        if (p.scale > FLT_MAX) {
            return true;
        }
        const auto scale = static_cast<float>(p.scale);
        store_element<float32>(element(a.scales, k, float32::bits), scale);
        a.inverses[k] = 1 / scale;
        a.zeros[k] = static_cast<uint8_t>(p.zero_point);
    }
    return false;
}

inline void fill_words(uint64_t seed, uint64_t index, size_t n, uint16_t* words) {
    WordSequence sequence(seed, index, n);
    for (size_t i = 0; i < n; ++i) {
        words[i] = sequence.next();
    }
}

}  // namespace elementwise
}  // namespace
}  // namespace piquant
