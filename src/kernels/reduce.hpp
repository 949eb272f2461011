// Results into the output, by the reduce operator.
#pragma once

#include "kernels/rounding.hpp"

namespace piquant {
namespace {
namespace vectorized {

// A pair of vectors. Interleaved: the even and the odd elements, as load_pair gives them, not in element order.
template <class Float, Reduce Reduction, simd::Store Storing, bool Interleaved = false>
PIQUANT_INLINE void reduce_pair(unsigned char* out, simd::vec<Float> a, simd::vec<Float> b) {
    if constexpr (Reduction == Reduce::add) {
        simd::vec<Float> before_a;
        simd::vec<Float> before_b;
        simd::load_pair<Float, Interleaved>(out, before_a, before_b);
        a = simd::accumulate(before_a, a);
        b = simd::accumulate(before_b, b);
    }
    simd::store2<Storing, Interleaved>(Float{}, out, a, b);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
