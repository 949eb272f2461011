// What a kernel is given, and the table of kernels that each instruction set exports.
#pragma once

#include "core/types.hpp"

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
    uint64_t offset;  // index of element 0 in the sequence of random words
    bool is_signed;   // the code type
    bool stream;      // non-temporal stores for whole output lines
    size_t ahead;     // bytes that what is read is prefetched ahead of its use; 0: not at all
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

constexpr int width_count = 6;  // 2, 4, 8, 16, 32, 64 bits

constexpr int width_index(int bits) {
    int i = 0;
    while ((2 << i) != bits) {
        ++i;
    }
    return i;
}

enum class Operation { quantize, dequantize, quantize_dequantize };

struct KernelTable {
    const char* name;
    uint64_t required;                                 // features of the CPU, see cpu/features.hpp
    Kernel quantize[float_count][code_count][2];       // [from][to][Round]
    Kernel dequantize[code_count][float_count][2];     // [from][to][Reduce]
    Kernel requantize[float_count][code_count][2][2];  // [float][code][Round][Reduce]
    MinMaxKernel minmax[float_count];
    // Twins of quantize and dequantize, by width_index; null for the scalar set, which has no vectors to compare with.
    Kernel traffic[width_count][width_count][2];  // [from][to][Reduce]
    MinMaxKernel read_traffic;                    // n in bytes
};

namespace {

// The kernel of an operation between a float type and a code type.
inline Kernel find_kernel(const KernelTable& table, Operation operation, DType real, DType code, Round round_mode,
                          Reduce reduce_op) {
    const int f = float_index(real);
    const int q = code_index(code);
    const int round = static_cast<int>(round_mode);
    const int reduce = static_cast<int>(reduce_op);
    return operation == Operation::quantize     ? table.quantize[f][q][round]
           : operation == Operation::dequantize ? table.dequantize[q][f][reduce]
                                                : table.requantize[f][q][round][reduce];
}

}  // namespace

}  // namespace piquant
