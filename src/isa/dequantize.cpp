// The kernels of dequantize. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise.hpp"
#else
#include "kernels/dequantize.hpp"
#endif

namespace piquant::isa::PIQUANT_ISA {

#define BOTH_OPERATORS(FLOAT, FLOAT_BITS, STORAGE, COMPUTE, BITS) \
    {PIQUANT_KERNELS::dequantize<BITS, FLOAT, Reduce::set>, PIQUANT_KERNELS::dequantize<BITS, FLOAT, Reduce::add>},
#define ALL_FLOATS(BITS) {PIQUANT_FLOAT_TYPES(BOTH_OPERATORS, BITS)},

constinit const DequantizeKernels dequantize = {PIQUANT_CODE_WIDTHS(ALL_FLOATS)};

}  // namespace piquant::isa::PIQUANT_ISA
