// Lowest and highest of blocks, or their largest magnitude: two integer maxima of float patterns, as in
// kernels/minmax.hpp, or one of patterns without signs. Zero is always among the elements.
#pragma once

#include "kernels/minmax.hpp"
#include "kernels/panel_walk.hpp"

namespace piquant {
namespace {
namespace vectorized {

// Maxima of the registers that were added.
template <int Bits, bool Magnitude>
class Maxima {
    using Unsigned = typename Patterns<Bits>::Unsigned;
    static constexpr uint32_t sign = uint32_t{1} << (Bits - 1);

public:
    static constexpr size_t per_register = simd::width * 8 / Bits;

    PIQUANT_INLINE void add(const unsigned char* p) {
        if constexpr (Magnitude) {
            top_ = simd::higher<Bits>(simd::load_bytes(p) & simd::splat_pattern(~signs()), top_);
        } else {
            const simd::bytes x = simd::load_bytes(p);
            top_ = simd::higher<Bits>(x, top_);
            bottom_ = simd::lower<Bits>(x, bottom_);
        }
    }

    // As a tree: one step waits for the step before instead of four.
    PIQUANT_INLINE void add4(const unsigned char* p) {
        Maxima ab = *this;
        ab.add(p);
        ab.add(p + simd::width);
        Maxima cd;
        cd.add(p + 2 * simd::width);
        cd.add(p + 3 * simd::width);
        top_ = simd::higher<Bits>(ab.top_, cd.top_);
        if constexpr (!Magnitude) {
            bottom_ = simd::lower<Bits>(ab.bottom_, cd.bottom_);
        }
    }

    // As element k of both arrays, and forgets them.
    PIQUANT_INLINE void store(void* lowest, void* highest, size_t k) {
        uint32_t top;
        uint32_t bottom;
        if constexpr (Magnitude) {
            simd::ends<Bits>(top_, top_, top, bottom);
        } else {
            simd::ends<Bits>(top_, bottom_, top, bottom);
            const auto low = static_cast<Unsigned>(bottom);
            put(lowest, k, low > sign ? low : Unsigned{0});
        }
        put(highest, k, static_cast<Unsigned>(top));
        *this = Maxima();
    }

    static constexpr uint32_t signs() { return Bits == 16 ? 0x80008000 : 0x80000000; }

private:
    PIQUANT_INLINE static void put(void* array, size_t k, Unsigned pattern) {
        __builtin_memcpy(static_cast<unsigned char*>(array) + k * sizeof pattern, &pattern, sizeof pattern);
    }

    simd::bytes top_ = simd::splat_pattern(0);
    simd::bytes bottom_ = simd::splat_pattern(0);
};

template <class Float, bool Magnitude>
void block_extents(const void* in, size_t n, size_t block, void* lowest, void* highest) {
    using Block = Maxima<Float::bits, Magnitude>;
    const auto* p = static_cast<const unsigned char*>(in);
    for (size_t k = 0, left = n; left != 0; ++k) {
        const size_t run = left < block ? left : block;
        left -= run;
        Block maxima;
        size_t i = run;
        for (; i >= 4 * Block::per_register; i -= 4 * Block::per_register, p += 4 * simd::width) {
            maxima.add4(p);
        }
        for (; i >= Block::per_register; i -= Block::per_register, p += simd::width) {
            maxima.add(p);
        }
        if (i != 0) {
            unsigned char last[simd::width] = {};
            __builtin_memcpy(last, p, i * sizeof(typename Float::storage));
            maxima.add(last);
        }
        maxima.store(lowest, highest, k);
    }
}

// Blocks of one element. Registers of output hold as many elements as those of input.
template <class Float, bool Magnitude>
void element_extents(const void* in, size_t n, void* lowest, void* highest) {
    constexpr int bits = Float::bits;
    const auto run = [](const void* from, void* low, void* high) {
        const simd::bytes x = simd::load_bytes(from);
        if constexpr (Magnitude) {
            simd::put<simd::Store::cached>(high, x & simd::splat_pattern(~Maxima<bits, true>::signs()));
        } else {
            simd::put<simd::Store::cached>(low, simd::below_zero<bits>(x));
            simd::put<simd::Store::cached>(high, simd::higher<bits>(x, simd::splat_pattern(0)));
        }
    };
    const auto* p = static_cast<const unsigned char*>(in);
    auto* low = static_cast<unsigned char*>(lowest);
    auto* high = static_cast<unsigned char*>(highest);
    const size_t bytes = n * sizeof(typename Float::storage);
    const size_t whole = bytes / simd::width * simd::width;
    for (size_t i = 0; i < whole; i += simd::width) {
        run(p + i, low + (Magnitude ? 0 : i), high + i);
    }
    if (whole != bytes) {
        unsigned char last[3][simd::width] = {};
        __builtin_memcpy(last[0], p + whole, bytes - whole);
        run(last[0], last[1], last[2]);
        if (!Magnitude) {
            __builtin_memcpy(low + whole, last[1], bytes - whole);
        }
        __builtin_memcpy(high + whole, last[2], bytes - whole);
    }
}

template <class Float, bool Magnitude>
void extents(const void* in, size_t n, size_t block, void* lowest, void* highest) {
    block == 1 ? element_extents<Float, Magnitude>(in, n, lowest, highest)
               : block_extents<Float, Magnitude>(in, n, block, lowest, highest);
}

}  // namespace vectorized
}  // namespace
}  // namespace piquant
