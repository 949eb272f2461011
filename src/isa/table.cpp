// The table of an instruction set: its name, what it requires of the CPU, and the kernels of the other units. All units
// of a set are compiled with the same flags, so those of this one tell what the compiler was allowed to use.
#include "cpu/features.hpp"
#include "isa/unit.hpp"

#define PIQUANT_STRING2(x) #x
#define PIQUANT_STRING(x) PIQUANT_STRING2(x)

namespace piquant::isa::PIQUANT_ISA {

constinit const KernelTable table = {
    PIQUANT_STRING(PIQUANT_ISA), compiled_features(), quantize, dequantize, quantize_dequantize, minmax, rows, panels,
};

}  // namespace piquant::isa::PIQUANT_ISA
