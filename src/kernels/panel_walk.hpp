// How the kernels for blocks walk over a panel, and where a step finds the parameters of its elements.
//
// An operation is a class like those of kernels/walk.hpp, made of the arguments, whose run() takes the parameters of the
// next elements from one of three sources:
//
//   Operation::Block    one block has all of the step: its parameters, made ready for the step
//   EachPair            2 * lanes elements have parameters of their own: broadcast for each pair of vectors
//   EachLane            every element has: they are loaded as vectors
//
//   run(const unsigned char* in, unsigned char* out, const uint16_t* words, Source& source, bool bypasses)
//
// What is there once, and knows operations by numbers and pointers, picks the source and handles the incomplete step.
#pragma once

#include "kernels/panel.hpp"
#include "kernels/walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

constexpr size_t pair_elements = 2 * simd::lanes;

// take(): the factors and zero points of the next pair of vectors, in the order of the pair.
class EachPair {
public:
    static constexpr bool is_block = false;

    // `within`: elements of the first block that lie before.
    EachPair(const PanelArgs& a, size_t within)
        : factors_(static_cast<const float*>(a.factors)),
          zeros_(static_cast<const uint8_t*>(a.zeros)),
          pairs_(a.block / pair_elements),
          left_(pairs_ - within / pair_elements) {}

    template <bool>
    PIQUANT_INLINE void take(simd::f32& factor, simd::f32& next_factor, simd::i32& zero, simd::i32& next_zero) {
        factor = next_factor = simd::splat(factors_[k_]);
        zero = next_zero = simd::splat_i32(zeros_[k_]);
        // Without a branch: blocks of two or three pairs would have it go either way.
        const bool ends = --left_ == 0;
        k_ += ends;
        left_ = ends ? pairs_ : left_;
    }

private:
    const float* factors_;
    const uint8_t* zeros_;
    size_t k_ = 0;
    size_t pairs_;
    size_t left_;  // pairs until the next block
};

class EachLane {
public:
    static constexpr bool is_block = false;

    EachLane(const PanelArgs& a, size_t)
        : factors_(static_cast<const unsigned char*>(a.factors)), zeros_(static_cast<const unsigned char*>(a.zeros)) {}

    template <bool Interleaved>
    PIQUANT_INLINE void take(simd::f32& factor, simd::f32& next_factor, simd::i32& zero, simd::i32& next_zero) {
        simd::load_pair<float32, Interleaved>(factors_, factor, next_factor);
        simd::i32 zeros[4];
        simd::load_codes4<8, Interleaved>(zeros_, zeros);  // of which two are used
        zero = zeros[0];
        next_zero = zeros[1];
        factors_ += 2 * simd::width;
        zeros_ += pair_elements;
    }

private:
    const unsigned char* factors_;
    const unsigned char* zeros_;
};

// Whole lines of output bypass the caches only from the start of a line on.
inline bool bypasses_caches(const PanelArgs& a) {
    return a.non_temporal && reinterpret_cast<uintptr_t>(a.out) % line_bytes == 0;
}

// Where a step is in a panel.
template <class Operation>
struct Place {
    static constexpr size_t in_bytes = bytes_for(Operation::elements, Operation::in_bits);
    static constexpr size_t out_bytes = bytes_for(Operation::elements, Operation::out_bits);

    explicit Place(const PanelArgs& a)
        : in(static_cast<const unsigned char*>(a.in)),
          out(static_cast<unsigned char*>(a.out)),
          words(a.words),
          bypasses(bypasses_caches(a)) {}

    template <class Source>
    PIQUANT_INLINE void run(const Operation& operation, Source& source) {
        operation.run(in, out, words, source, bypasses);
        in += in_bytes;
        out += out_bytes;
        if constexpr (Operation::reads_words) {
            words += Operation::elements;
        }
    }

    const unsigned char* in;
    unsigned char* out;
    const uint16_t* words;
    bool bypasses;
};

// The first n elements, in whole steps, of which the first begins `within` elements after the start of its block;
// by_block: 0. The arguments are never copied: loads of whole registers from what was just written by other sizes wait
// for the stores, a tenth of the time of a panel.
template <class Operation>
__attribute__((noinline)) void by_block(const PanelArgs& a, size_t n, size_t) {
    const Operation operation(a);
    Place<Operation> place(a);
    const auto* factor = static_cast<const float*>(a.factors);
    const auto* zero = static_cast<const uint8_t*>(a.zeros);
    const size_t distance = a.prefetch_distance;
    const size_t block = a.block;
    // One loop over all blocks: many of them are a step or two.
    typename Operation::Block source(*factor, *zero);
    for (size_t i = 0, next = block; i < n; i += Operation::elements) {
        prefetch_step<Operation>(place.in, place.out, distance);
        if (i == next) {
            source = typename Operation::Block(*++factor, *++zero);
            next += block;
        }
        place.run(operation, source);
    }
}
template <class Operation, class Source>
__attribute__((noinline)) void by_source(const PanelArgs& a, size_t n, size_t within) {
    const Operation operation(a);
    Place<Operation> place(a);
    Source source(a, within);
    const size_t distance = a.prefetch_distance;
    for (size_t i = 0; i < n; i += Operation::elements) {
        prefetch_step<Operation>(place.in, place.out, distance);
        place.run(operation, source);
    }
}

// An operation as the walk sees it.
struct PanelOperation {
    using Steps = void (*)(const PanelArgs& a, size_t n, size_t within);
    unsigned in_bits;
    unsigned out_bits;
    size_t elements;
    bool reads_output;
    bool reads_words;
    Steps by_block;
    Steps by_pair;
    Steps by_lane;
};

template <class Operation>
constexpr PanelOperation panel_operation = {
    Operation::in_bits,
    Operation::out_bits,
    Operation::elements,
    Operation::reads_output,
    Operation::reads_words,
    by_block<Operation>,
    by_source<Operation, EachPair>,
    by_source<Operation, EachLane>,
};

// The last n elements, fewer than a step, through padded copies of all that their elements have each; at `whole`
// elements after the start of the panel.
__attribute__((noinline)) inline void incomplete_panel_step(const PanelOperation& o, const PanelArgs& panel,
                                                            size_t whole) {
    constexpr size_t most_elements = 4 * simd::width;  // as codes of two bits fill a register
    constexpr size_t most_bytes = sizeof(float) * most_elements;
    const size_t n = panel.n - whole;
    const auto bytes = [](size_t count, unsigned bits) { return (count * bits + 7) / 8; };
    alignas(line_bytes) unsigned char from[most_bytes];
    alignas(line_bytes) unsigned char to[4 * simd::width];
    uint16_t words[most_elements];
    float factors[most_elements];
    uint8_t zeros[most_elements + pair_elements];  // as many as loads of four vectors read

    PanelArgs a = panel;
    a.in = from;
    a.out = to;
    a.non_temporal = false;
    a.prefetch_distance = 0;
    const auto copy = [&](void* padded, const void* array, unsigned bits) {
        const size_t used = bytes(n, bits);
        __builtin_memcpy(padded, static_cast<const unsigned char*>(array) + bytes(whole, bits), used);
        __builtin_memset(static_cast<unsigned char*>(padded) + used, 0, bytes(o.elements, bits) - used);
    };
    copy(from, panel.in, o.in_bits);
    if (o.reads_output) {
        copy(to, panel.out, o.out_bits);
    }
    if (o.reads_words) {
        copy(words, panel.words, 16);
        a.words = words;
    }
    if (panel.block == 1 && panel.n > 1) {
        copy(factors, panel.factors, 32);
        copy(zeros, panel.zeros, 8);
        a.factors = factors;
        a.zeros = zeros;
        o.by_lane(a, o.elements, 0);
    } else {
        const size_t k = panel.n <= panel.block ? 0 : whole / panel.block;
        const size_t within = whole - k * panel.block;
        a.factors = static_cast<const float*>(panel.factors) + k;
        a.zeros = static_cast<const uint8_t*>(panel.zeros) + k;
        if (n <= panel.block - within) {
            a.block = o.elements;  // one block has what is left
            o.by_block(a, o.elements, 0);
        } else {
            o.by_pair(a, o.elements, within);
        }
    }
    if (const size_t used = n * o.out_bits % 8; used != 0) {
        to[n * o.out_bits / 8] &= static_cast<unsigned char>((1u << used) - 1);
    }
    __builtin_memcpy(static_cast<unsigned char*>(panel.out) + bytes(whole, o.out_bits), to, bytes(n, o.out_bits));
}

__attribute__((noinline)) inline void walk_panel(const PanelOperation& o, const PanelArgs& panel) {
    const size_t whole = panel.n & ~(o.elements - 1);
    if (whole != 0) {
        if (panel.n <= panel.block || (panel.block & (o.elements - 1)) == 0) {
            o.by_block(panel, whole, 0);
        } else if (panel.block == 1) {
            o.by_lane(panel, whole, 0);
        } else {
            o.by_pair(panel, whole, 0);
        }
    }
    if (panel.n != whole) {
        incomplete_panel_step(o, panel, whole);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
