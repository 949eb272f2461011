// Codes -> float over vectors: widen, subtract the zero point, multiply by the scale; set or add.
//
// Fields are extended with zeros, whether codes are signed or not. An exclusive or with the sign bit, which is 0 for
// unsigned codes, makes offset binary of them: code + bias, where the bias is 2^(bits - 1) or 0. That becomes a float
// without a conversion, as the low bits of one whose unit in the last place is 1:
//
//   float32   0 10010110 ffffffffffffffff       2^23 + f: the exclusive or writes the exponent, too
//   float64   0 10000110011 0000..ffffffff      2^52 + f: upper halves of lanes twice as wide
//
// One subtraction, of 2^23 + bias + zero_point, leaves the difference of code and zero point. All numbers in it are
// integers below 2^24 or 2^53, so it is exact. So signedness as data costs nothing here: as many instructions as
// extension by sign, an integer subtraction and a conversion.
#pragma once

#include "core/packing.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/reduce.hpp"
#include "kernels/walk.hpp"

namespace piquant {
namespace {
namespace simd {

// Of zero-extended fields, code - zero_point as T.
template <class T>
class Difference {
    static constexpr bool in_float32 = sizeof(T) == sizeof(float);
    using Vector = decltype(splat(T{}));

public:
    Difference(const KernelArgs& a, int bits)
        : mask_(splat_i32(static_cast<int32_t>(static_cast<uint32_t>(sign_bit(bits, a.is_signed)) | exponent))),
          zero_(splat(unit + static_cast<T>(static_cast<int64_t>(a.zero_point - code_min(bits, a.is_signed))))) {}

    PIQUANT_INLINE Vector operator()(i32 field) const { return from_pattern<Vector>(field ^ mask_) - zero_; }

private:
    static constexpr uint32_t exponent = in_float32 ? 0x4b000000 : 0;
    static constexpr T unit = in_float32 ? T{8388608} : static_cast<T>(4503599627370496.0);  // 2^23, 2^52
    i32 mask_;
    Vector zero_;
};

}  // namespace simd

namespace vectorized {

// Codes of at most 16 bits.
template <int Bits, class Float, Reduce Reduction>
class DequantizeStep {
    using T = typename Float::compute;
    using Vector = simd::vec<Float>;

public:
    static constexpr int in_bits = Bits;
    static constexpr int out_bits = Float::bits;
    static constexpr size_t elements = 4 * simd::lanes;
    static constexpr bool reads_output = Reduction == Reduce::add;
    using Words = NoWords;

    explicit DequantizeStep(const KernelArgs& a) : difference_(a, Bits), scale_(simd::splat(static_cast<T>(a.scale))) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, NoWords&) const {
        constexpr bool interleaved = simd::interleaved<Float>;
        simd::i32 codes[4];
        simd::load_codes4<Bits, interleaved>(in, codes);
        reduce_pair<Float, Reduction, Storing, interleaved>(out, value(codes[0]), value(codes[1]));
        reduce_pair<Float, Reduction, Storing, interleaved>(out + bytes_for(2 * simd::lanes, Float::bits),
                                                            value(codes[2]), value(codes[3]));
    }

private:
    PIQUANT_INLINE Vector value(simd::i32 field) const { return difference_(field) * scale_; }

    simd::Difference<T> difference_;
    Vector scale_;
};

// 2- and 4-bit codes have so few values that a register holds them all: dequantization to 32 bits or less is a table
// lookup by the raw field. Only AVX2 calculates float32, and sums of the 16-bit formats, from 4-bit codes faster
// (looks_up_floats). Entry k of the table is what field k % 2^bits stands for, calculated by vectors too: with the
// scalar function, making it took a tenth of the time of 1,024 elements.
template <int Bits, class Float>
class DequantizeTable {
    using Entry = typename Float::storage;

public:
    explicit DequantizeTable(const KernelArgs& a) {
        const simd::Difference<float> difference(a, Bits);
        const simd::f32 scale = simd::splat(static_cast<float>(a.scale));
        const simd::i32 field_bits = simd::splat_i32((1 << Bits) - 1);
        for (size_t k = 0; k < 16; k += 2 * simd::lanes) {
            const simd::i32 fields = simd::lane_numbers() + simd::splat_i32(static_cast<int32_t>(k));
            const simd::i32 next = fields + simd::splat_i32(simd::lanes);
            simd::store2<simd::Store::cached, false>(Float{}, &entries_[k], difference(fields & field_bits) * scale,
                                                     difference(next & field_bits) * scale);
        }
    }
    const Entry (&entries() const)[16] { return reinterpret_cast<const Entry(&)[16]>(entries_); }

private:
    Entry entries_[2 * simd::lanes > 16 ? 2 * simd::lanes : 16];
};

// To float32, and to the 16-bit formats where a sum needs float32 values.
template <int Bits, class Float, Reduce Reduction>
class LookupStep {
public:
    static constexpr int in_bits = Bits;
    static constexpr int out_bits = Float::bits;
    static constexpr size_t elements = 4 * simd::lanes;
    static constexpr bool reads_output = Reduction == Reduce::add;
    using Words = NoWords;

    explicit LookupStep(const KernelArgs& a) : table_(simd::make_table(DequantizeTable<Bits, float32>(a).entries())) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, NoWords&) const {
        constexpr bool interleaved = simd::interleaved<Float>;
        simd::f32 v[4];
        simd::lookup<Bits, interleaved>(in, table_, v);
        reduce_pair<Float, Reduction, Storing, interleaved>(out, v[0], v[1]);
        reduce_pair<Float, Reduction, Storing, interleaved>(out + bytes_for(2 * simd::lanes, Float::bits), v[2], v[3]);
    }

private:
    simd::table32 table_;
};

// To the 16-bit formats: the table holds finished patterns, and no float arithmetic is left.
template <int Bits, class Float>
class Lookup16Step {
public:
    static constexpr int in_bits = Bits;
    static constexpr int out_bits = 16;
    static constexpr size_t elements = 4 * simd::lanes;
    static constexpr bool reads_output = false;
    using Words = NoWords;

    explicit Lookup16Step(const KernelArgs& a) : table_(simd::make_table(DequantizeTable<Bits, Float>(a).entries())) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, NoWords&) const {
        simd::bytes v[2];
        simd::lookup<Bits>(in, table_, v);
        simd::put<Storing>(out, v[0]);
        simd::put<Storing>(out + simd::width, v[1]);
    }

private:
    simd::table16 table_;
};

// 32-bit codes: differences need 33 bits, which float64 holds exactly.
template <class Float, Reduce Reduction>
class Dequantize32Step {
    using T = typename Float::compute;
    using Vector = simd::vec<Float>;

public:
    static constexpr int in_bits = 32;
    static constexpr int out_bits = Float::bits;
    static constexpr size_t elements = 2 * simd::lanes;
    static constexpr bool reads_output = Reduction == Reduce::add;
    using Words = NoWords;

    explicit Dequantize32Step(const KernelArgs& a) : difference_(a, 32), scale_(simd::splat(static_cast<T>(a.scale))) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, NoWords&) const {
        const Vector a = value(in);
        const Vector b = value(in + bytes_for(simd::lanes, 32));
        reduce_pair<Float, Reduction, Storing>(out, a, b);
    }

private:
    PIQUANT_INLINE Vector value(const unsigned char* in) const {
        return simd::to<Vector>(difference_(simd::load_i32(in))) * scale_;
    }

    simd::Difference<double> difference_;
    Vector scale_;
};

template <int Bits, class Float, Reduce Reduction>
void dequantize(const KernelArgs& a) {
    if constexpr (Bits == 64) {
        elementwise::dequantize<Bits, Float, Reduction>(a);
    } else if constexpr (Bits == 32) {
        walk<Dequantize32Step<Float, Reduction>>(a);
    } else if constexpr (Bits < 8 && Float::bits == 16 && Reduction == Reduce::set) {
        walk<Lookup16Step<Bits, Float>>(a);
    } else if constexpr (Bits < 8 && Float::bits < 64 && simd::looks_up_floats<Bits>) {
        walk<LookupStep<Bits, Float, Reduction>>(a);
    } else {
        walk<DequantizeStep<Bits, Float, Reduction>>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
