// The kernels for blocks. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise_panels.hpp"
#else
#include "kernels/panel_dequantize.hpp"
#include "kernels/panel_dynamic.hpp"
#include "kernels/panel_merge.hpp"
#include "kernels/panel_parameters.hpp"
#include "kernels/panel_words.hpp"
#endif

namespace piquant::isa::PIQUANT_ISA {

#define BOTH_ROUNDS(BITS, FLOAT)                                   \
    {PIQUANT_KERNELS::quantize_panel<FLOAT, BITS, Round::nearest>, \
     PIQUANT_KERNELS::quantize_panel<FLOAT, BITS, Round::stochastic>},
#define BOTH_REDUCES(FLOAT, BITS)                                 \
    {PIQUANT_KERNELS::dequantize_panel<BITS, FLOAT, Reduce::set>, \
     PIQUANT_KERNELS::dequantize_panel<BITS, FLOAT, Reduce::add>},
#define BOTH_KINDS(BITS, FLOAT) \
    {PIQUANT_KERNELS::dynamic_panel<FLOAT, BITS, false>, PIQUANT_KERNELS::dynamic_panel<FLOAT, BITS, true>},

#ifdef PIQUANT_SIMD_SCALAR

#define QUANTIZE(FLOAT, ...) {PIQUANT_CODE_WIDTHS(BOTH_ROUNDS, FLOAT)},
#define FROM_WIDTH(FLOAT, BITS, STORAGE, COMPUTE, WIDTH) BOTH_REDUCES(FLOAT, WIDTH)
#define DEQUANTIZE(BITS) {PIQUANT_FLOAT_TYPES(FROM_WIDTH, BITS)},
#define DYNAMIC(FLOAT, ...) {PIQUANT_CODE_WIDTHS(BOTH_KINDS, FLOAT)},
#define EXTENTS(FLOAT, ...) elementwise::extents<FLOAT>,
#define MAGNITUDES(FLOAT, ...) elementwise::magnitudes<FLOAT>,
#define MERGE(FLOAT, ...) elementwise::merge_extents<FLOAT>,

constinit const PanelKernels panels = {
    1,
    {PIQUANT_FLOAT_TYPES(QUANTIZE)},
    {PIQUANT_CODE_WIDTHS(DEQUANTIZE)},
    {PIQUANT_FLOAT_TYPES(EXTENTS)},
    {PIQUANT_FLOAT_TYPES(MAGNITUDES)},
    {PIQUANT_FLOAT_TYPES(MERGE)},
    elementwise::fill_words,
    {PIQUANT_FLOAT_TYPES(DYNAMIC)},
    {elementwise::parameters<float16>, elementwise::parameters<bfloat16>, elementwise::parameters<float32>},
};

#else

// Codes of up to 8 bits, and floats of up to 32: the first ones of their lists.
#define QUANTIZE(FLOAT) {BOTH_ROUNDS(2, FLOAT) BOTH_ROUNDS(4, FLOAT) BOTH_ROUNDS(8, FLOAT)},
#define DEQUANTIZE(BITS) {BOTH_REDUCES(float16, BITS) BOTH_REDUCES(bfloat16, BITS) BOTH_REDUCES(float32, BITS)},
#define DYNAMIC(FLOAT) {BOTH_KINDS(2, FLOAT) BOTH_KINDS(4, FLOAT) BOTH_KINDS(8, FLOAT)},
#define EXTENTS(FLOAT, MAGNITUDE) vectorized::extents<FLOAT, MAGNITUDE>,

constinit const PanelKernels panels = {
    vectorized::pair_elements,
    {QUANTIZE(float16) QUANTIZE(bfloat16) QUANTIZE(float32)},
    {DEQUANTIZE(2) DEQUANTIZE(4) DEQUANTIZE(8)},
    {EXTENTS(float16, false) EXTENTS(bfloat16, false) EXTENTS(float32, false)},
    {EXTENTS(float16, true) EXTENTS(bfloat16, true) EXTENTS(float32, true)},
    {vectorized::merge_extents<float16>, vectorized::merge_extents<bfloat16>, vectorized::merge_extents<float32>},
    vectorized::fill_words,
    {DYNAMIC(float16) DYNAMIC(bfloat16) DYNAMIC(float32)},
    {vectorized::parameters<float16>, vectorized::parameters<bfloat16>, vectorized::parameters<float32>},
};

#endif

}  // namespace piquant::isa::PIQUANT_ISA
