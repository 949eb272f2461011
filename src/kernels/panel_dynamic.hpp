// Codes of one panel while the extents of the next are found: in two loops memory idles during the second.
#pragma once

#include "kernels/panel_extents.hpp"
#include "kernels/panel_quantize.hpp"

namespace piquant {
namespace {
namespace vectorized {

// The next panel, block by block as it is read, and what was found in it.
template <class Operation, bool Magnitude>
class NextPanel {
    static constexpr int bits = Operation::in_bits;
    static constexpr size_t step_bytes = bytes_for(Operation::elements, bits);
    static constexpr size_t pair_bytes = bytes_for(pair_elements, bits);

public:
    explicit NextPanel(const DynamicArgs& a)
        : next_(static_cast<const unsigned char*>(a.next)),
          lowest_(a.lowest),
          highest_(a.highest),
          distance_(a.codes.prefetch_distance) {}

    PIQUANT_INLINE void prefetch() const { prefetch_step<Operation>(next_, nullptr, distance_); }
    PIQUANT_INLINE void read_step() {
        constexpr size_t fours = step_bytes / (4 * simd::width);
        PIQUANT_UNROLL
        for (size_t i = 0; i < fours; ++i) {
            maxima_.add4(next_ + 4 * simd::width * i);
        }
        if constexpr (fours == 0) {
            maxima_.add(next_);
            maxima_.add(next_ + simd::width);
        }
        next_ += step_bytes;
    }
    PIQUANT_INLINE void read_pair() {
        PIQUANT_UNROLL
        for (size_t i = 0; i < pair_bytes; i += simd::width) {
            maxima_.add(next_ + i);
        }
        next_ += pair_bytes;
    }
    PIQUANT_INLINE void end_block() { maxima_.store(lowest_, highest_, k_++); }

private:
    Maxima<bits, Magnitude> maxima_;
    const unsigned char* next_;
    void* lowest_;
    void* highest_;
    size_t k_ = 0;
    size_t distance_;
};

// What is quantized was the next panel before, and is in a cache: nothing of it is prefetched.

// Blocks of whole steps.
template <class Operation, bool Magnitude>
__attribute__((noinline)) void dynamic_by_block(const DynamicArgs& d) {
    const PanelArgs& a = d.codes;
    const Operation operation(a);
    Place<Operation> place(a);
    NextPanel<Operation, Magnitude> next(d);
    const auto* factor = static_cast<const float*>(a.factors);
    const auto* zero = static_cast<const uint8_t*>(a.zeros);
    const size_t steps = a.block / Operation::elements;
    typename Operation::Block source(*factor, *zero);
    for (size_t i = 0, n = a.n, left = steps; i < n; i += Operation::elements) {
        next.prefetch();
        next.read_step();
        place.run(operation, source);
        if (--left == 0) {
            next.end_block();
            source = typename Operation::Block(*++factor, *++zero);  // of the slack, at the end
            left = steps;
        }
    }
}

// Blocks of whole pairs, which begin and end anywhere in a step, and n elements that need not be whole steps.
template <class Operation, bool Magnitude>
__attribute__((noinline)) void dynamic_by_pair(const DynamicArgs& d) {
    const PanelArgs& a = d.codes;
    const Operation operation(a);
    Place<Operation> place(a);
    NextPanel<Operation, Magnitude> next(d);
    EachPair source(a, 0);
    const size_t pairs = a.block / pair_elements;
    size_t left = pairs;  // until the end of the block
    for (size_t i = 0, n = a.n; i < n;) {
        next.prefetch();
        const size_t start = i;
        const size_t end = n - i < Operation::elements ? n : i + Operation::elements;
        for (; i < end; i += pair_elements) {  // a loop: the end of a block is code that need not be there eight times
            next.read_pair();
            if (--left == 0) {
                next.end_block();
                left = pairs;
            }
        }
        if (end - start == Operation::elements) {
            place.run(operation, source);
        } else {
            incomplete_panel_step(panel_operation<Operation>, a, start);
        }
    }
}

template <class Float, int Bits, bool Symmetric>
void dynamic_panel(const DynamicArgs& a) {
    using Operation = PanelQuantize<Float, Bits, Round::nearest>;
    if (a.codes.block % Operation::elements == 0) {
        dynamic_by_block<Operation, Symmetric>(a);
    } else {
        dynamic_by_pair<Operation, Symmetric>(a);
    }
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
