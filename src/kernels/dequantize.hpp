// Codes -> float over vectors: widen, subtract the zero point, convert, multiply; set or add.
#pragma once

#include "kernels/drive.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/rounding.hpp"

namespace piquant {
namespace {
namespace simd {

// Two codes to a lane, the even one below the odd one, of 4 or 16 bits: pair k at p.
template <class Q>
PIQUANT_INLINE auto paired_codes(Q type, const unsigned char* p, int k) {
    if constexpr (Q::bits == 4) {
        return paired_fields(type, p, k);
    } else {
        return as_words(type, p + bytes_for(static_cast<size_t>(2 * k) * lanes, Q::bits));
    }
}
// Two pairs of evens and odds, extended where they lie: codes, and entries of a table.
template <class Q>
PIQUANT_INLINE void load_codes4_interleaved(Q type, const unsigned char* p, i32 (&c)[4]) {
    PIQUANT_UNROLL
    for (int k = 0; k < 2; ++k) {
        constexpr int bits = Q::bits == 4 ? 4 : 16;
        const auto x = paired_codes(type, p, k);
        if constexpr (Q::is_signed) {
            c[2 * k] = shift_right_arithmetic<32 - bits>(shift_left<32 - bits>(x));
            c[2 * k + 1] = shift_right_arithmetic<32 - bits>(shift_left<32 - 2 * bits>(x));
        } else {
            c[2 * k] = x & splat_i32((1 << bits) - 1);
            c[2 * k + 1] = shift_right_logical<bits>(x);
        }
    }
}
template <class Q>
PIQUANT_INLINE void lookup_interleaved(Q type, const unsigned char* p, table32 t, f32 (&v)[4]) {
    PIQUANT_UNROLL
    for (int k = 0; k < 2; ++k) {
        const auto fields = paired_fields(type, p, k);
        v[2 * k] = entries_of(fields, t);
        v[2 * k + 1] = entries_of(shift_right_logical<Q::bits>(fields), t);
    }
}

}  // namespace simd

namespace vectorized {

// A pair of vectors of results into the output, by the reduce operator. Interleaved: as load_pair deals F out, not in
// element order.
template <class F, Reduce O, simd::Store S, bool Interleaved = false>
PIQUANT_INLINE void reduce2(unsigned char* out, simd::vec<F> a, simd::vec<F> b) {
    if constexpr (O == Reduce::add) {
        simd::vec<F> before_a;
        simd::vec<F> before_b;
        simd::load_pair<F, Interleaved>(out, before_a, before_b);
        a = simd::accumulate(before_a, a);
        b = simd::accumulate(before_b, b);
    }
    simd::store2<S, Interleaved>(F{}, out, a, b);
}

template <class Q, class F, Reduce O>
class DequantizeOp {
    using T = typename F::compute;
    using V = simd::vec<F>;

public:
    static constexpr int in_bits = Q::bits;
    static constexpr int out_bits = F::bits;
    static constexpr size_t block = 4 * simd::lanes;
    static constexpr bool reads_output = O == Reduce::add;
    using Words = NoWords;

    explicit DequantizeOp(const KernelArgs& a)
        : scale_(simd::splat(static_cast<T>(a.scale))),
          zero_(simd::splat_i32(static_cast<int32_t>(static_cast<uint32_t>(a.zero_point)))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, NoWords&) const {
        constexpr bool interleaved = simd::interleaved<F>;
        simd::i32 codes[4];
        if constexpr (interleaved) {
            simd::load_codes4_interleaved(Q{}, in, codes);
        } else {
            simd::load_codes4(Q{}, in, codes);
        }
        reduce2<F, O, S, interleaved>(out, value(codes[0]), value(codes[1]));
        reduce2<F, O, S, interleaved>(out + bytes_for(2 * simd::lanes, F::bits), value(codes[2]), value(codes[3]));
    }

private:
    PIQUANT_INLINE V value(simd::i32 code) const { return simd::to<V>(code - zero_) * scale_; }

    V scale_;
    simd::i32 zero_;
};

// 2- and 4-bit codes have so few values that a register holds them all: dequantization to 32 bits or less is a table
// lookup by the raw field, and the sign costs nothing. Only AVX2 calculates float32, and sums of the 16-bit formats,
// from 4-bit codes faster (looks_up_floats). Entry k of the table is what field k % 2^bits stands for.
template <class Q, class F>
class DequantizeTable {
    using Entry = typename F::storage;

public:
    explicit DequantizeTable(const KernelArgs& a) {
        for (unsigned k = 0; k < 16; ++k) {
            const uint64_t code = field_to_code<Q>(k % (1u << Q::bits));
            store_element<F>(&entries_[k], dequantize_element<Q>(code, static_cast<float>(a.scale), a.zero_point));
        }
    }
    const Entry (&entries() const)[16] { return entries_; }

private:
    Entry entries_[16];
};

// To float32, and to the 16-bit formats where a sum needs float32 values.
template <class Q, class F, Reduce O>
class DequantizeFields {
public:
    static constexpr int in_bits = Q::bits;
    static constexpr int out_bits = F::bits;
    static constexpr size_t block = 4 * simd::lanes;
    static constexpr bool reads_output = O == Reduce::add;
    using Words = NoWords;

    explicit DequantizeFields(const KernelArgs& a)
        : table_(simd::make_table(DequantizeTable<Q, float32>(a).entries())) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, NoWords&) const {
        constexpr bool interleaved = simd::interleaved<F>;
        simd::f32 v[4];
        if constexpr (interleaved) {
            simd::lookup_interleaved(Q{}, in, table_, v);
        } else {
            simd::lookup(Q{}, in, table_, v);
        }
        reduce2<F, O, S, interleaved>(out, v[0], v[1]);
        reduce2<F, O, S, interleaved>(out + bytes_for(2 * simd::lanes, F::bits), v[2], v[3]);
    }

private:
    simd::table32 table_;
};

// To the 16-bit formats: the table holds finished patterns, and no float arithmetic is left.
template <class Q, class F>
class DequantizeFields16 {
public:
    static constexpr int in_bits = Q::bits;
    static constexpr int out_bits = 16;
    static constexpr size_t block = 4 * simd::lanes;
    static constexpr bool reads_output = false;
    using Words = NoWords;

    explicit DequantizeFields16(const KernelArgs& a) : table_(simd::make_table(DequantizeTable<Q, F>(a).entries())) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, NoWords&) const {
        simd::bytes v[2];
        simd::lookup(Q{}, in, table_, v);
        simd::put<S>(out, v[0]);
        simd::put<S>(out + simd::width, v[1]);
    }

private:
    simd::table16 table_;
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
    static constexpr bool reads_output = O == Reduce::add;
    using Words = NoWords;

    explicit DequantizeOp32(const KernelArgs& a)
        : scale_(simd::splat(static_cast<T>(a.scale))),
          top_bit_(simd::splat_i32(INT32_MIN)),
          zero_(simd::splat(static_cast<double>(static_cast<int64_t>(a.zero_point)) -
                            (Q::is_signed ? 0.0 : 2147483648.0))) {}

    template <simd::Store S>
    PIQUANT_INLINE void block_at(const unsigned char* in, unsigned char* out, NoWords&) const {
        const V a = value(in);
        const V b = value(in + bytes_for(simd::lanes, 32));
        reduce2<F, O, S>(out, a, b);
    }

private:
    PIQUANT_INLINE V value(const unsigned char* in) const {
        const simd::i32 code = simd::load_i32(in);
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
        drive<DequantizeOp32<Q, F, O>>(a);
    } else if constexpr (Q::bits < 8 && F::bits == 16 && O == Reduce::set) {
        drive<DequantizeFields16<Q, F>>(a);
    } else if constexpr (Q::bits < 8 && F::bits < 64 && simd::looks_up_floats<Q::bits>) {
        drive<DequantizeFields<Q, F, O>>(a);
    } else {
        drive<DequantizeOp<Q, F, O>>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
