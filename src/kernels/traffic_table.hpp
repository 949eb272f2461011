// The table of traffic twins that each instruction set with vectors exports. Benchmarks and tests link them; the
// library does not.
#pragma once

#include "kernels/table.hpp"

namespace piquant {

struct TrafficTable {
    // By width_index() of both sides, one of which is a float type: [from][to][Reduce]. The others are null.
    Kernel convert[width_count][width_count][2];
    MinMaxKernel read;  // the twin of minmax; n in bytes
};

// In the order of isas[] in dispatch/dispatch.hpp; null for the scalar set, which has no vectors to compare with.
extern const TrafficTable* const traffic_tables[];

}  // namespace piquant
