// Codes -> float over vectors: widen, subtract the zero point, convert, multiply; set or add.
#pragma once

#include "kernels/drive.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"

namespace piquant {
namespace {
namespace vectorized {

// Two vectors of results into the output, by the reduce operator.
template <class F, Reduce O, simd::Store S>
PIQUANT_INLINE void reduce2(unsigned char* out, simd::vec<F> a, simd::vec<F> b) {
    if constexpr (O == Reduce::set) {
        simd::store2<S>(F{}, out, a, b);
    } else {
        const simd::vec<F> sum_a = simd::accumulate(simd::load(F{}, out), a);
        const simd::vec<F> sum_b = simd::accumulate(simd::load(F{}, out + bytes_for(simd::lanes, F::bits)), b);
        simd::store2<S>(F{}, out, sum_a, sum_b);
    }
}

template <class Q, class F, Reduce O>
class DequantizeOp {
    using T = typename F::compute;
    using V = simd::vec<F>;

public:
    static constexpr int in_bits = Q::bits;
    static constexpr int out_bits = F::bits;
    static constexpr size_t block = 4 * simd::lanes;
    static constexpr bool stochastic = false;
    static constexpr bool reads_output = O == Reduce::add;

    explicit DequantizeOp(const KernelArgs& a)
        : scale_(simd::splat(static_cast<T>(a.scale))),
          zero_(simd::splat_i32(static_cast<int32_t>(static_cast<uint32_t>(a.zero_point)))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, const uint16_t*) const {
        simd::i32 codes[4];
        simd::load_codes4(Q{}, in, codes);
        reduce2<F, O, S>(out, value(codes[0]), value(codes[1]));
        reduce2<F, O, S>(out + bytes_for(2 * simd::lanes, F::bits), value(codes[2]), value(codes[3]));
    }

private:
    PIQUANT_INLINE V value(simd::i32 code) const { return simd::to<V>(code - zero_) * scale_; }

    V scale_;
    simd::i32 zero_;
};

// 32-bit codes: differences need 33 bits, which float64 holds exactly.
template <class Q, class F, Reduce O>
class DequantizeOp32 {
    using T = typename F::compute;
    using V = simd::vec<F>;

public:
    static constexpr int in_bits = 32;
    static constexpr int out_bits = F::bits;
    static constexpr size_t block = 2 * simd::lanes;
    static constexpr bool stochastic = false;
    static constexpr bool reads_output = O == Reduce::add;

    explicit DequantizeOp32(const KernelArgs& a)
        : scale_(simd::splat(static_cast<T>(a.scale))),
          top_bit_(simd::splat_i32(INT32_MIN)),
          zero_(simd::splat(static_cast<double>(static_cast<int64_t>(a.zero_point)) -
                            (Q::is_signed ? 0.0 : 2147483648.0))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, const uint16_t*) const {
        reduce2<F, O, S>(out, value(in), value(in + bytes_for(simd::lanes, 32)));
    }

private:
    PIQUANT_INLINE V value(const unsigned char* in) const {
        const simd::i32 code = simd::load_codes(in);
        return simd::to<V>(simd::to<simd::f64>(Q::is_signed ? code : code ^ top_bit_) - zero_) * scale_;
    }

    V scale_;
    simd::i32 top_bit_;
    simd::f64 zero_;
};

template <class Q, class F, Reduce O>
void dequantize(const KernelArgs& a) {
    if constexpr (Q::bits == 64) {
        elementwise::dequantize<Q, F, O>(a);
    } else if constexpr (Q::bits == 32) {
        Drive<DequantizeOp32<Q, F, O>>::run(a);
    } else {
        Drive<DequantizeOp<Q, F, O>>::run(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
