// Kernels as plain loops over the functions of core/semantics.hpp. They are the whole of the scalar instruction set,
// the model that every other set is compared with, and serve 64-bit codes everywhere: those need 64-bit saturating
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
    return {a.zero_point, a.quant_min, a.quant_max};
}

template <class F, Reduce O>
inline void reduce_element(unsigned char* p, typename F::compute v) {
    store_element<F>(p, O == Reduce::set ? v : accumulate(load_element<F>(p), v));
}

template <Round R>
using WordsFor = std::conditional_t<R == Round::stochastic, WordSequence, ZeroWords>;

template <class F, class Q, Round R>
void quantize(const KernelArgs& a) {
    using T = typename F::compute;
    const T inverse = static_cast<T>(a.inverse);
    const CodeRange range = range_of(a);
    auto* out = static_cast<unsigned char*>(a.out);
    WordsFor<R> words(a.seed, a.offset, a.n);
    for (size_t i = 0; i < a.n; ++i) {
        const uint16_t u = words.next();
        const T x = load_element<F>(element(a.in, i, F::bits));
        store_code<Q>(out, i, quantize_element<Q, R>(x, inverse, range, u));
    }
}

template <class Q, class F, Reduce O>
void dequantize(const KernelArgs& a) {
    using T = typename F::compute;
    const T scale = static_cast<T>(a.scale);
    const uint64_t zero_point = a.zero_point;
    const auto* in = static_cast<const unsigned char*>(a.in);
    for (size_t i = 0; i < a.n; ++i) {
        reduce_element<F, O>(element(a.out, i, F::bits), dequantize_element<Q>(load_code<Q>(in, i), scale, zero_point));
    }
}

template <class F, class Q, Round R, Reduce O>
void requantize(const KernelArgs& a) {
    using T = typename F::compute;
    const T inverse = static_cast<T>(a.inverse);
    const T scale = static_cast<T>(a.scale);
    const CodeRange range = range_of(a);
    WordsFor<R> words(a.seed, a.offset, a.n);
    for (size_t i = 0; i < a.n; ++i) {
        const uint16_t u = words.next();
        const T x = load_element<F>(element(a.in, i, F::bits));
        const uint64_t q = quantize_element<Q, R>(x, inverse, range, u);
        reduce_element<F, O>(element(a.out, i, F::bits), dequantize_element<Q>(q, scale, range.zero_point));
    }
}

template <class F>
Extent minmax(const void* in, size_t n) {
    using T = typename F::compute;
    T lo = 0;
    T hi = 0;
    bool has_nan = false;
    for (size_t i = 0; i < n; ++i) {
        const T x = load_element<F>(element(in, i, F::bits));
        has_nan |= x != x;
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
    }
    return {lo, hi, has_nan};
}

}  // namespace elementwise
}  // namespace
}  // namespace piquant
