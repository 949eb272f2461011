// Which instruction sets this CPU can run.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpu/features.hpp"
#include "kernels/table.hpp"

namespace piquant {

struct Isa {
    const char* name;
    const uint64_t& required;  // of the table: what its compiler flags allowed the compiler to use
    const KernelTable* table;
};

// All that were compiled in, best first. Ends with scalar, which requires what the whole build was compiled for:
// nothing beyond the architecture, unless the builder asked for more (CXXFLAGS=-march=...).
extern const Isa isas[];
extern const size_t isa_count;

// Whether this CPU runs the library at all. Code that may meet a CPU which does not is compiled for the architecture's
// baseline (PIQUANT_BASELINE_FLAGS in cmake/isa.cmake), and asks before it calls any other.
bool cpu_runs_this_build();

// Position of the best ISA that `features` allow and that is not better than `limit`; limit may be null. isa_count if
// there is none, or limit names no ISA that this library knows on any machine.
size_t select_isa(uint64_t features, const char* limit);

}  // namespace piquant
