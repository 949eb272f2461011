// Traffic twins: the loads and stores of a conversion (widths, non-temporal policy, prefetches) and no arithmetic. What
// a kernel takes beyond its twin is its own cost; what the twin takes is the memory's.
#pragma once

#include "kernels/walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <int InBits, int OutBits, Reduce Reduction>
class TrafficStep {
public:
    static constexpr int in_bits = InBits;
    static constexpr int out_bits = OutBits;
    // Whole registers on both sides.
    static constexpr size_t elements = simd::width * 8 / (InBits < OutBits ? InBits : OutBits);
    static constexpr bool reads_output = Reduction == Reduce::add;
    using Words = NoWords;

    explicit TrafficStep(const KernelArgs&) : pattern_(simd::splat_pattern(0x5a5a5a5a)) {}

    template <simd::Store Storing>
    PIQUANT_INLINE void run(const unsigned char* in, unsigned char* out, NoWords&) const {
        load<bytes_for(elements, InBits) / simd::width>(in);
        store<Storing, bytes_for(elements, OutBits) / simd::width>(out);
    }

private:
    // 1 to 32 registers. A loop would cost more than what it repeats, and GCC warns of PIQUANT_UNROLL before a single
    // turn.
    template <size_t Registers>
    PIQUANT_INLINE static void load(const unsigned char* in) {
        simd::touch(simd::load_bytes(in));
        if constexpr (Registers > 1) {
            load<Registers - 1>(in + simd::width);
        }
    }
    template <simd::Store Storing, size_t Registers>
    PIQUANT_INLINE void store(unsigned char* out) const {
        if constexpr (Reduction == Reduce::add) {
            simd::touch(simd::load_bytes(out));
        }
        simd::put<Storing>(out, pattern_);
        if constexpr (Registers > 1) {
            store<Storing, Registers - 1>(out + simd::width);
        }
    }

    simd::bytes pattern_;
};

template <int InBits, int OutBits, Reduce Reduction>
void traffic(const KernelArgs& a) {
    walk<TrafficStep<InBits, OutBits, Reduction>>(a);
}

// The twin of minmax.
inline Extent read_traffic(const void* in, size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(in);
    const size_t stride = bytes / (4 * simd::width) * simd::width;
    for (size_t i = 0; i < stride; i += simd::width) {
        PIQUANT_UNROLL
        for (size_t k = 0; k < 4; ++k) {
            simd::touch(simd::load_bytes(p + i + k * stride));
        }
    }
    return {0, 0, false};
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
