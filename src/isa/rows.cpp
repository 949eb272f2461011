// The kernels that pack and unpack rows. See isa/unit.hpp.
#include "isa/unit.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise_rows.hpp"
#else
#include "kernels/rows.hpp"
#endif

namespace piquant::isa::PIQUANT_ISA {

constinit const RowKernels rows = {{PIQUANT_KERNELS::pack_rows<2>, PIQUANT_KERNELS::pack_rows<4>},
                                   {PIQUANT_KERNELS::unpack_rows<2>, PIQUANT_KERNELS::unpack_rows<4>}};

}  // namespace piquant::isa::PIQUANT_ISA
