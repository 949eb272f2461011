// Extents that grow, element by element: those of the channels of a last axis, say, row by row.
#pragma once

#include "kernels/elementwise_panels.hpp"
#include "simd/vocabulary.hpp"

namespace piquant {
namespace {
namespace vectorized {

template <class Float>
void merge_extents(const void* in, size_t n, void* tops, void* bottoms) {
    constexpr int bits = Float::bits;
    const auto* x = static_cast<const unsigned char*>(in);
    auto* top = static_cast<unsigned char*>(tops);
    auto* bottom = static_cast<unsigned char*>(bottoms);
    const size_t whole = bytes_for(n, bits) / simd::width * simd::width;
    for (size_t i = 0; i < whole; i += simd::width) {
        const simd::bytes pattern = simd::load_bytes(x + i);
        simd::put<simd::Store::cached>(top + i, simd::higher<bits>(pattern, simd::load_bytes(top + i)));
        simd::put<simd::Store::cached>(bottom + i, simd::lower<bits>(pattern, simd::load_bytes(bottom + i)));
    }
    elementwise::merge_extents<Float>(x + whole, n - whole / (bits / 8), top + whole, bottom + whole);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
