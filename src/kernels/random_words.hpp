// Random words for consecutive elements: the vector form of WordSequence in core/random.hpp.
//
// The wheels lie on the stack, in the first-level cache. The words themselves never leave the registers: computing them
// and waiting for memory overlap.
#pragma once

#include "core/random.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {

// What operations without random words are given.
struct NoWords {
    struct Source {
        Source(uint64_t, uint64_t, size_t) {}
    };
    explicit NoWords(const Source&) {}
};

// The wheels for elements index .. index + n - 1, which share a key period, each from where the first element
// meets it. An object apart from the positions of the loop: its address escapes, so the compiler has to assume that
// every store may change it.
class Wheels {
public:
    // Each wheel is continued beyond its end for as long as take() reads, so that the end can lie within a read.
    static constexpr size_t beyond = 2 * simd::lanes;
    static_assert(beyond <= left_wheel && beyond <= right_wheel && beyond <= factor_wheel);

    // Out of line: one copy serves all kernels.
    __attribute__((noinline)) Wheels(uint64_t seed, uint64_t index, size_t n)
        : odd(index % 2 != 0), keys_(period_keys(seed, index >> key_period_bits)) {
        const auto pair = static_cast<uint32_t>(index % key_period) >> 1;
        const size_t count = n / 2 + (odd ? 1 : 0);
        fill<left_wheel>(left, 0, pair, count);
        fill<right_wheel>(right, left_wheel, pair, count);
        fill<factor_wheel, true>(factor, left_wheel + right_wheel, pair, count);
    }

    // From the start of a line: registers then go in and out without crossing lines, at first.
    alignas(64) uint32_t left[left_wheel + beyond];
    alignas(64) uint32_t right[right_wheel + beyond];
    alignas(64) uint32_t factor[factor_wheel + beyond];
    bool odd;

private:
    // What `count` pairs need of a wheel, by whole vectors: what these write too much is overwritten or never read.
    template <uint32_t Size, bool Factor = false>
    void fill(uint32_t (&wheel)[Size + beyond], uint32_t first_entry, uint32_t pair, size_t count) {
        using namespace simd;
        const size_t needed = count < Size ? count : Size;
        size_t position = pair % Size;
        for (size_t made = 0; made < needed; position = 0) {
            const size_t run = needed - made < Size - position ? needed - made : Size - position;
            i32 counter = counters(first_entry + static_cast<uint32_t>(position));
            for (size_t k = 0; k < run; k += lanes) {
                const i32 entry = mixed(counter);
                put<Store::cached>(wheel + made + k, Factor ? entry + entry + splat_i32(1) : entry);
                counter = counter + steps(lanes);
            }
            made += run;
        }
        if (count > Size) {
            __builtin_memcpy(wheel + Size, wheel, beyond * sizeof wheel[0]);
        }
    }

    static simd::i32 steps(uint32_t n) { return simd::splat_i32(static_cast<int32_t>(counter_step * n)); }
    simd::i32 counters(uint32_t first) const {
        return simd::mul_low(simd::lane_numbers(), steps(1)) +
               simd::splat_i32(static_cast<int32_t>(keys_.k0 + first * counter_step));
    }
    // mix() of core/random.hpp.
    simd::i32 mixed(simd::i32 x) const {
        using namespace simd;
        x = mul_low(x ^ shift_right_logical<16>(x), splat_i32(static_cast<int32_t>(mix_multiplier1)));
        x = mul_low(xor3(x, shift_right_logical<15>(x), splat_i32(static_cast<int32_t>(keys_.k1))),
                    splat_i32(static_cast<int32_t>(mix_multiplier2)));
        return x ^ shift_right_logical<16>(x);
    }

    PeriodKeys keys_;
};

template <bool Interleaved>
class WordStream {
public:
    using Source = Wheels;

    explicit WordStream(const Wheels& wheels) : wheels_(wheels), odd_(wheels.odd) {}

    // Of the next 2 * lanes elements, and as many again: one or two registers of words.
    PIQUANT_INLINE simd::words<Interleaved> take() {
        const auto found = words_at(0);
        turn(simd::lanes);
        return found;
    }
    PIQUANT_INLINE void take(simd::words<Interleaved>& first, simd::words<Interleaved>& second) {
        first = words_at(0);
        second = words_at(simd::lanes);
        turn(2 * simd::lanes);
    }

private:
    // The words of elements from that many pairs after the position on. An odd start takes the upper half of one pair's
    // word and the lower half of the next one's, at twice the cost.
    PIQUANT_INLINE simd::words<Interleaved> words_at(size_t pairs) const {
        using namespace simd;
        i32 x = product(pairs);
        const i32 lower = shift_right_logical<16>(x);
        i32 upper = lower;
        if (odd_) [[unlikely]] {
            const i32 following = product(pairs + 1);
            x = shift_left<16>(following ^ shift_right_logical<16>(following));
            upper = shift_right_logical<16>(x);
        }
        return make_words<Interleaved>(x, lower, upper);
    }

    // The word of a pair but for its last step, which leaves the upper half alone.
    PIQUANT_INLINE simd::i32 product(size_t pairs) const {
        using namespace simd;
        return mul_low(at(wheels_.left, left_, pairs) ^ at(wheels_.right, right_, pairs),
                       at(wheels_.factor, factor_, pairs));
    }

    // Positions count bytes from the end of the wheel, so below zero: addresses take them as they are, and the sign of
    // a sum tells whether the wheel has come round, without a comparison.
    template <uint32_t Size>
    static constexpr ptrdiff_t start = -static_cast<ptrdiff_t>(Size * sizeof(uint32_t));
    template <size_t Length>
    PIQUANT_INLINE static simd::i32 at(const uint32_t (&wheel)[Length], ptrdiff_t position, size_t pairs) {
        constexpr size_t size = Length - Wheels::beyond;
        return simd::load_i32(reinterpret_cast<const unsigned char*>(wheel + size + pairs) + position);
    }

    PIQUANT_INLINE void turn(size_t pairs) {
        left_ = turned<left_wheel>(left_, pairs);
        right_ = turned<right_wheel>(right_, pairs);
        factor_ = turned<factor_wheel>(factor_, pairs);
    }
    template <uint32_t Size>
    PIQUANT_INLINE static ptrdiff_t turned(ptrdiff_t position, size_t pairs) {
        const ptrdiff_t next = position + static_cast<ptrdiff_t>(pairs * sizeof(uint32_t));
        return next < 0 ? next : next + start<Size>;
    }

    const Wheels& wheels_;
    ptrdiff_t left_ = start<left_wheel>;
    ptrdiff_t right_ = start<right_wheel>;
    ptrdiff_t factor_ = start<factor_wheel>;
    bool odd_;
};

}  // namespace
}  // namespace piquant
