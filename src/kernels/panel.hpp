// What kernels for blocks are given, and the table of them.
//
// A *panel* is a run of consecutive elements whose parameters lie side by side: one factor and one zero point for each
// block of elements, or for each element.
#pragma once

#include "core/types.hpp"

namespace piquant {

// The first element begins a block, unless one block covers them all. n elements begin with the first field of a byte.
struct PanelArgs {
    const void* in;
    void* out;
    size_t n;
    // Of each block, from the first on. Kernels may read `panel_slack` of them beyond the last.
    const void* factors;    // T: T(1 / scale) to quantize, T(scale) to dequantize
    const void* zeros;      // codes of at most 8 bits: uint8_t, code - lowest code of the type; else uint64_t patterns
    size_t block;           // elements of a block, see PanelKernels::granule
    const uint16_t* words;  // random words, one for each element; null where nothing is rounded stochastically
    uint64_t quant_min;     // patterns of the code type, see code_min
    uint64_t quant_max;
    bool is_signed;            // the code type
    bool non_temporal;         // stores of whole output lines bypass the caches, where `out` begins a line
    size_t prefetch_distance;  // bytes from what is read to what is prefetched meanwhile; 0: no prefetches
};
constexpr size_t panel_slack = 64;

using PanelKernel = void (*)(const PanelArgs&);
// Lowest and highest of each block's elements and zero, or only the largest magnitude, in the float type itself. A NaN in
// either stands for one in the block; the other is then meaningless.
using ExtentsKernel = void (*)(const void* in, size_t n, size_t block, void* lowest, void* highest);
// Extents that grow: of n elements each into its own, as patterns of the float type, from zero on. The largest as signed
// integers go to `tops`, the largest as unsigned ones to `bottoms`: see kernels/minmax.hpp, and NaNs show there, too.
using MergeKernel = void (*)(const void* in, size_t n, void* tops, void* bottoms);
// The random words of n elements from `index` on.
using WordsKernel = void (*)(uint64_t seed, uint64_t index, size_t n, uint16_t* words);

// Quantizes one panel while it finds the extents of the next, of the same length and blocks. Both are whole blocks, of a
// multiple of `granule` elements. Input of codes.in is not prefetched, since the call before has read it: the distance is
// for `next`.
struct DynamicArgs {
    PanelArgs codes;
    const void* next;
    void* lowest;  // as of ExtentsKernel; not used where parameters are symmetric
    void* highest;
};
using DynamicKernel = void (*)(const DynamicArgs&);

// Parameters of blocks from what an ExtentsKernel found in them: scale and zero point as core/parameters.hpp has them.
struct ParametersArgs {
    const void* lowest;  // null: symmetric parameters of the magnitudes in `highest`
    const void* highest;
    size_t count;     // blocks. Up to `panel_slack` more may be read, and written of all but the scales
    void* scales;     // float32; not aligned
    float* inverses;  // 1 / scale in float32
    uint8_t* zeros;   // as in PanelArgs
    int32_t start;    // quant_min - lowest code of the type; symmetric: the zero point - that
    int32_t codes;    // quant_max - quant_min; symmetric: symmetric_reach(), which is not 0
};
// Whether a block holds a NaN or an infinity, or needs a scale beyond float32. What was written is then meaningless.
using ParametersKernel = bool (*)(const ParametersArgs&);

// Where a set has none, the kernel of the scalar set, which has all, does the work.
struct PanelKernels {
    // Blocks that these kernels take: of a multiple of this many elements, of one, or of all n. The scalar set takes any.
    size_t granule;
    PanelKernel quantize[float_count][width_count][2];    // [from][to][Round]
    PanelKernel dequantize[width_count][float_count][2];  // [from][to][Reduce]
    ExtentsKernel extents[float_count];
    ExtentsKernel magnitudes[float_count];  // `lowest` is not used
    MergeKernel merge[float_count];
    WordsKernel words;
    DynamicKernel dynamic[float_count][width_count][2];  // [from][to][symmetric], rounding to nearest
    ParametersKernel parameters[float_count];            // of codes of at most 8 bits; none for float64
};

}  // namespace piquant
