// The kernels of quantize. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise.hpp"
#else
#include "kernels/quantize.hpp"
#endif

namespace piquant::isa::PIQUANT_ISA {

#define BOTH_MODES(BITS, FLOAT) \
    {PIQUANT_KERNELS::quantize<FLOAT, BITS, Round::nearest>, PIQUANT_KERNELS::quantize<FLOAT, BITS, Round::stochastic>},
#define ALL_WIDTHS(FLOAT, ...) {PIQUANT_CODE_WIDTHS(BOTH_MODES, FLOAT)},

constinit const QuantizeKernels quantize = {PIQUANT_FLOAT_TYPES(ALL_WIDTHS)};

}  // namespace piquant::isa::PIQUANT_ISA
