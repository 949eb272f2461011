// What a kernel is given, and the table of kernels that each instruction set exports.
#pragma once

#include "core/types.hpp"
#include "kernels/panel.hpp"

namespace piquant {

// One struct for every operation, so that a new mode or parameter does not touch every signature.
struct KernelArgs {
    const void* in;
    void* out;
    size_t n;             // elements
    double scale;         // T(scale)
    double inverse;       // T(1 / scale)
    uint64_t zero_point;  // patterns of the code type, see code_min
    uint64_t quant_min;
    uint64_t quant_max;
    uint64_t seed;
    uint64_t offset;           // index of element 0 in the sequence of random words
    bool is_signed;            // the code type
    bool non_temporal;         // stores of whole output lines bypass the caches
    size_t prefetch_distance;  // bytes from what is read to what is prefetched meanwhile; 0: no prefetches
};

// Extent of data together with zero: lo = min(0, min x), hi = max(0, max x). Both are meaningless when the data holds a
// NaN; infinities show in them.
struct Extent {
    double lo;
    double hi;
    bool has_nan;
};

namespace {
inline Extent merge(const Extent& a, const Extent& b) {
    return {b.lo < a.lo ? b.lo : a.lo, b.hi > a.hi ? b.hi : a.hi, a.has_nan || b.has_nan};
}
}  // namespace

using Kernel = void (*)(const KernelArgs&);
using MinMaxKernel = Extent (*)(const void* in, size_t n);

// Rows of codes of 2 or 4 bits, each from a byte of its own, row_stride bytes apart, to or from a tile, where each code
// has a byte and rows lie side by side. Tiles may be read and written up to `tile_slack` bytes beyond their end, arrays
// may not.
using PackRows = void (*)(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows,
                          size_t columns);
using UnpackRows = void (*)(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows,
                            size_t columns, bool is_signed);
constexpr size_t tile_slack = 256;

struct RowKernels {
    PackRows pack[2];  // of codes of 2 bits, of 4
    UnpackRows unpack[2];
};

enum class Operation { quantize, dequantize, quantize_dequantize };

// Each is the work of one unit of src/isa. Widths by width_index(), classes of widths by code_width().
using QuantizeKernels = Kernel[float_count][width_count][2];                    // [from][to][Round]
using DequantizeKernels = Kernel[width_count][float_count][2];                  // [from][to][Reduce]
using QuantizeDequantizeKernels = Kernel[float_count][code_width_count][2][2];  // [float][code][Round][Reduce]
using MinMaxKernels = MinMaxKernel[float_count];

struct KernelTable {
    const char* name;
    uint64_t required;  // features of the CPU, see cpu/features.hpp
    const QuantizeKernels& quantize;
    const DequantizeKernels& dequantize;
    const QuantizeDequantizeKernels& quantize_dequantize;
    const MinMaxKernels& minmax;
    const RowKernels& rows;
    const PanelKernels& panels;
};

namespace {

// The kernel of an operation between a float type and a code type.
inline Kernel find_kernel(const KernelTable& table, Operation operation, DType float_dtype, DType code_dtype,
                          Round round_mode, Reduce reduce_op) {
    const int f = float_index(float_dtype);
    const int bits = info(code_dtype).bits;
    const int round = static_cast<int>(round_mode);
    const int reduce = static_cast<int>(reduce_op);
    switch (operation) {
        case Operation::quantize: return table.quantize[f][width_index(bits)][round];
        case Operation::dequantize: return table.dequantize[width_index(bits)][f][reduce];
        default: return table.quantize_dequantize[f][static_cast<int>(code_width(bits))][round][reduce];
    }
}

}  // namespace
}  // namespace piquant
