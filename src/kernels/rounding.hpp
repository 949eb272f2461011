// The vector twin of rounded() in core/semantics.hpp: x -> integer, at three widths. How far the codes reach decides
// which one a kernel uses; each agrees with the scalar function on every value that can matter to such codes.
#pragma once

#include <type_traits>

#include "kernels/random_words.hpp"
#include "kernels/table.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {

// Whether inverse * 65536 is finite in T. It is not for scales of at most 2^-112 (float32) or 2^-1007; those are left
// to the element loops.
template <class Float>
inline bool stochastic_inverse_fits(const KernelArgs& a) {
    using T = typename Float::compute;
    const T scaled = static_cast<T>(a.inverse) * T{65536};
    return scaled - scaled == 0;
}

namespace simd {

template <class Float>
using vec = decltype(splat(typename Float::compute{}));

// 2 * lanes elements in order, where the instruction set has nothing better for Float.
template <class Float>
PIQUANT_INLINE void load2(Float type, const void* p, vec<Float>& a, vec<Float>& b) {
    a = load(type, p);
    b = load(type, static_cast<const unsigned char*>(p) + bytes_for(lanes, Float::bits));
}

// 2 * lanes elements at p as a pair.
template <class Float, bool Interleaved = interleaved<Float>>
PIQUANT_INLINE void load_pair(const unsigned char* p, vec<Float>& a, vec<Float>& b) {
    if constexpr (Interleaved) {
        load_interleaved(Float{}, p, a, b);
    } else {
        load2(Float{}, p, a, b);
    }
}

// Whether a kernel for codes of such a width takes the elements of Float as evens and odds.
template <class Float, CodeWidth Width>
constexpr bool interleaved_for = Width != CodeWidth::up_to_32 && interleaved<Float>;

template <class Float, CodeWidth Width, Round Rounding>
using WordsFor = std::conditional_t<Rounding == Round::stochastic, WordStream<interleaved_for<Float, Width>>, NoWords>;

// Rounds 2 * lanes elements at p into a pair of vectors: rounder(p, words, a, b). Capped: no integer exceeds what makes
// quant_max of the zero point. Without it a vector saves an instruction, where conversion saturates.
template <class Float, CodeWidth Width, Round Rounding, bool Capped = true>
class Rounder;

// Largest and smallest integer that r may be, for clamp(r + zero_point, quant_min, quant_max).
template <class T>
inline T highest_integer(const KernelArgs& a) {
    return static_cast<T>(static_cast<int64_t>(a.quant_max - a.zero_point));
}
template <class T>
inline T lowest_integer(const KernelArgs& a) {
    return static_cast<T>(static_cast<int64_t>(a.quant_min - a.zero_point));
}

// For codes of at most 8 bits, and stochastically for integers from -2^15 on. The upper clamp comes first, in float,
// because conversion turns overflow into the lowest integer; its bound is an integer, so that rounding, which is
// monotone, cannot leave it. Below, the result is exact for y > -2^15, and beyond a number of at most -2^15 + 1, which
// saturates any such code; NaN is the lowest integer. Stochastic rounding is one addition in fixed point, whose carry
// is the rounding:
//
//   y * 65536      iiiiiiiiiiiiiiii.ffffffffffffffff
//   random word    0000000000000000.uuuuuuuuuuuuuuuu
//
// The factor goes into the inverse, which is exact (see stochastic_inverse_fits): x * (inverse * 65536) rounds like
// (x * inverse) * 65536, except where the latter is subnormal, and both round to zero.
template <class Float, Round Rounding, bool Capped>
class Rounder<Float, CodeWidth::up_to_8, Rounding, Capped> {
    static_assert(Capped || (simd::conversion_saturates<Float> && Rounding == Round::nearest));
    using T = typename Float::compute;

public:
    explicit Rounder(const KernelArgs& a)
        : inverse_(splat(static_cast<T>(a.inverse) * factor)), limit_(splat(highest_integer<T>(a) * factor)) {}

    template <class Words>
    PIQUANT_INLINE void operator()(const unsigned char* p, [[maybe_unused]] Words& words, i32& a, i32& b) const {
        fixed_point(p, a, b);
        if constexpr (Rounding == Round::stochastic) {
            i32 u;
            i32 v;
            expand(words.take(), u, v);
            a = shift_right_arithmetic<16>(a + u);
            b = shift_right_arithmetic<16>(b + v);
        }
    }

    // Nearest: the integers themselves. Stochastic: they are the upper halves of the lanes, once a random word is
    // added.
    PIQUANT_INLINE void fixed_point(const unsigned char* p, i32& a, i32& b) const {
        vec<Float> x;
        vec<Float> y;
        load_pair<Float>(p, x, y);
        a = integer(x * inverse_);
        b = integer(y * inverse_);
    }

private:
    PIQUANT_INLINE i32 integer(vec<Float> y) const {
        if constexpr (Capped) {
            y = min_or_nan(y, limit_);
        }
        return to_i32(y);
    }

    static constexpr T factor = Rounding == Round::nearest ? 1 : 65536;
    vec<Float> inverse_;
    vec<Float> limit_;
};

// For codes of 16 bits. Nearest as above, exact for y > -2^31. Stochastic rounding needs the remainder apart, since
// integer and fraction no longer share 32 bits; there y is clamped at both ends, and NaN is the lower.
template <class Float, Round Rounding>
class Rounder<Float, CodeWidth::up_to_16, Rounding> {
    using T = typename Float::compute;

public:
    explicit Rounder(const KernelArgs& a)
        : nearest_(a),
          inverse_(splat(static_cast<T>(a.inverse))),
          lowest_(splat(lowest_integer<T>(a))),
          highest_(splat(highest_integer<T>(a))),
          two16_(splat(T{65536})) {}

    template <class Words>
    PIQUANT_INLINE void operator()(const unsigned char* p, Words& words, i32& a, i32& b) const {
        if constexpr (Rounding == Round::nearest) {
            nearest_(p, words, a, b);
        } else {
            vec<Float> x;
            vec<Float> y;
            load_pair<Float>(p, x, y);
            i32 u;
            i32 v;
            expand(words.take(), u, v);
            a = rounded(x, u);
            b = rounded(y, v);
        }
    }

private:
    PIQUANT_INLINE i32 rounded(vec<Float> x, i32 word) const {
        const vec<Float> y = min_number(max_number(x * inverse_, lowest_), highest_);
        const i32 nearest = to_i32(y);
        const i32 remainder = to_i32((y - to<vec<Float>>(nearest)) * two16_);
        return nearest + shift_right_arithmetic<16>(remainder + word);
    }

    Rounder<Float, CodeWidth::up_to_8, Round::nearest> nearest_;
    vec<Float> inverse_;
    vec<Float> lowest_;
    vec<Float> highest_;
    vec<Float> two16_;
};

// Integral doubles, which hold any 32-bit code plus any 32-bit zero point exactly; NaN and infinities stay.
template <class Float, Round Rounding>
class Rounder<Float, CodeWidth::up_to_32, Rounding> {
    using T = typename Float::compute;

public:
    explicit Rounder(const KernelArgs& a) : inverse_(splat(static_cast<T>(a.inverse))), two16_(splat(65536.0)) {}

    template <class Words>
    PIQUANT_INLINE void operator()(const unsigned char* p, [[maybe_unused]] Words& words, f64& a, f64& b) const {
        vec<Float> first;
        vec<Float> second;
        load2(Float{}, p, first, second);
        const f64 x = to<f64>(first * inverse_);
        const f64 y = to<f64>(second * inverse_);
        a = round_even(x);
        b = round_even(y);
        if constexpr (Rounding == Round::stochastic) {
            i32 u;
            i32 v;
            expand(words.take(), u, v);
            a = stochastic(x, a, u);
            b = stochastic(y, b, v);
        }
    }

private:
    PIQUANT_INLINE f64 stochastic(f64 y, f64 nearest, i32 word) const {
        const i32 remainder = to_i32((y - nearest) * two16_);
        return nearest + to<f64>(shift_right_arithmetic<16>(remainder + word));
    }

    vec<Float> inverse_;
    f64 two16_;
};

}  // namespace simd
}  // namespace
}  // namespace piquant
