// Which instruction sets this CPU can run.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/table.hpp"

namespace piquant {

// CPU features that some table is compiled for. A bit is set only if the operating system also saves the registers
// that go with it.
enum CpuFeature : uint32_t {
    cpu_sse42 = 1u << 0,  // SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT
    cpu_avx2 = 1u << 1,
    cpu_f16c = 1u << 2,
    cpu_avx512 = 1u << 3,  // F, BW, DQ, VL
    cpu_neon = 1u << 4,
};

struct Isa {
    const char* name;
    uint32_t required;  // every feature that the compiler flags of its unit name
    const KernelTable* table;
};

// All that were compiled in, best first; ends with scalar, which requires nothing.
extern const Isa isas[];
extern const size_t isa_count;

// Features of this CPU, read once.
uint32_t cpu_features();

// Position of the best ISA that `features` allow and that is not better than `limit`; limit may be null. isa_count if
// limit names no ISA that this library knows on any machine.
size_t select_isa(uint32_t features, const char* limit);

}  // namespace piquant
