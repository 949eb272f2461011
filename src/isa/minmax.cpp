// The kernels that find the extent of data. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise.hpp"
#else
#include "kernels/minmax.hpp"
#endif

namespace piquant::isa::PIQUANT_ISA {

#define OF(FLOAT, ...) PIQUANT_KERNELS::minmax<FLOAT>,

constinit const MinMaxKernels minmax = {PIQUANT_FLOAT_TYPES(OF)};

}  // namespace piquant::isa::PIQUANT_ISA
