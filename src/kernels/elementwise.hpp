// Kernels as loops over the functions of core/semantics.hpp. They are the whole of the scalar instruction set, the
// model that every other set is compared with, and serve 64-bit codes everywhere: those need 64-bit saturating
// arithmetic that vector units lack, and eight bytes per element leave a scalar loop near store-bound.
#pragma once

#include <type_traits>

#include "core/packing.hpp"
#include "core/random.hpp"
#include "core/semantics.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {
namespace elementwise {

inline const unsigned char* element(const void* p, size_t i, int bits) {
    return static_cast<const unsigned char*>(p) + i * static_cast<size_t>(bits / 8);
}
inline unsigned char* element(void* p, size_t i, int bits) {
    return static_cast<unsigned char*>(p) + i * static_cast<size_t>(bits / 8);
}

inline CodeRange range_of(const KernelArgs& a) {
    return {a.zero_point, a.quant_min, a.quant_max, a.is_signed};
}

template <class Float, Reduce Reduction>
inline void reduce_element(unsigned char* p, typename Float::compute v) {
    store_element<Float>(p, Reduction == Reduce::set ? v : accumulate(load_element<Float>(p), v));
}

template <Round Rounding>
using WordsFor = std::conditional_t<Rounding == Round::stochastic, WordSequence, ZeroWords>;

template <class Float, int Bits, Round Rounding>
void quantize(const KernelArgs& a) {
    using T = typename Float::compute;
    const T inverse = static_cast<T>(a.inverse);
    const CodeRange range = range_of(a);
    auto* out = static_cast<unsigned char*>(a.out);
    WordsFor<Rounding> words(a.seed, a.offset, a.n);
    for (size_t i = 0; i < a.n; ++i) {
        const uint16_t u = words.next();
        const T x = load_element<Float>(element(a.in, i, Float::bits));
        store_code<Bits>(out, i, quantize_element<Rounding>(x, inverse, range, u));
    }
}

template <int Bits, class Float, Reduce Reduction>
void dequantize(const KernelArgs& a) {
    using T = typename Float::compute;
    const SignedScale<T> scale = signed_scale(static_cast<T>(a.scale));
    const uint64_t zero_point = a.zero_point - code_min(Bits, a.is_signed);
    const uint64_t sign = sign_bit(Bits, a.is_signed);
    const auto* in = static_cast<const unsigned char*>(a.in);
    for (size_t i = 0; i < a.n; ++i) {
        const uint64_t q = load_field<Bits>(in, i) ^ sign;
        reduce_element<Float, Reduction>(element(a.out, i, Float::bits), dequantize_element(q, scale, zero_point));
    }
}

// Of codes of every width: they are not stored.
template <class Float, Round Rounding, Reduce Reduction>
void quantize_dequantize(const KernelArgs& a) {
    using T = typename Float::compute;
    const T inverse = static_cast<T>(a.inverse);
    const SignedScale<T> scale = signed_scale(static_cast<T>(a.scale));
    const CodeRange range = range_of(a);
    const uint64_t mask = order_mask(a.is_signed);
    WordsFor<Rounding> words(a.seed, a.offset, a.n);
    for (size_t i = 0; i < a.n; ++i) {
        const uint16_t u = words.next();
        const T x = load_element<Float>(element(a.in, i, Float::bits));
        const uint64_t q = quantize_element<Rounding>(x, inverse, range, u);
        reduce_element<Float, Reduction>(element(a.out, i, Float::bits),
                                         dequantize_element(q ^ mask, scale, range.zero_point ^ mask));
    }
}

template <class Float>
Extent minmax(const void* in, size_t n) {
    using T = typename Float::compute;
    T lo = 0;
    T hi = 0;
    bool has_nan = false;
    for (size_t i = 0; i < n; ++i) {
        const T x = load_element<Float>(element(in, i, Float::bits));
        has_nan |= x != x;
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
    }
    return {lo, hi, has_nan};
}

}  // namespace elementwise
}  // namespace
}  // namespace piquant
