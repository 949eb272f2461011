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

struct TrafficSet {
    const char* name;
    const TrafficTable* twins;
};

// In the order of isas[] in dispatch/dispatch.hpp; nulls for the scalar set, the last, which has no vectors to compare
// with.
extern const TrafficSet traffic_sets[];

}  // namespace piquant
