// The kernels of quantize_dequantize. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise.hpp"
#else
#include "kernels/quantize_dequantize.hpp"
#endif

namespace piquant {
namespace {

// The scalar kernels serve codes of every width, and 64-bit codes on every set.
template <class Float, CodeWidth Width, Round Rounding, Reduce Reduction>
constexpr Kernel kernel() {
#ifdef PIQUANT_SIMD_SCALAR
    return elementwise::quantize_dequantize<Float, Rounding, Reduction>;
#else
    if constexpr (Width == CodeWidth::up_to_64) {
        return elementwise::quantize_dequantize<Float, Rounding, Reduction>;
    } else {
        return vectorized::quantize_dequantize<Float, Width, Rounding, Reduction>;
    }
#endif
}

}  // namespace

namespace isa::PIQUANT_ISA {

#define ALL_MODES(FLOAT, WIDTH)                                                                                  \
    {{kernel<FLOAT, WIDTH, Round::nearest, Reduce::set>(), kernel<FLOAT, WIDTH, Round::nearest, Reduce::add>()}, \
     {kernel<FLOAT, WIDTH, Round::stochastic, Reduce::set>(),                                                    \
      kernel<FLOAT, WIDTH, Round::stochastic, Reduce::add>()}},
#define ALL_WIDTHS(FLOAT, ...)                                                                                        \
    {ALL_MODES(FLOAT, CodeWidth::up_to_8) ALL_MODES(FLOAT, CodeWidth::up_to_16) ALL_MODES(FLOAT, CodeWidth::up_to_32) \
         ALL_MODES(FLOAT, CodeWidth::up_to_64)},

constinit const QuantizeDequantizeKernels quantize_dequantize = {PIQUANT_FLOAT_TYPES(ALL_WIDTHS)};

}  // namespace isa::PIQUANT_ISA
}  // namespace piquant
