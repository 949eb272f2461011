// The traffic of a conversion without the conversion: the same loads and stores (widths, non-temporal policy,
// prefetches), threads and partition, and no arithmetic. From memory a kernel is judged against it, in the same run.
#pragma once

#include <piquant/quant.h>

#include <cstddef>

#include "engine/thread_pool.hpp"

namespace piquant::benchmark {

// What the engine decides by. Take the numbers of the context that the twin is compared with.
struct TrafficSettings {
    std::size_t num_threads = 1;
    std::size_t serial_cutoff = 0;     // bytes read plus written, from which on threads share the work
    std::size_t stream_threshold = 0;  // the same, from which on stores are non-temporal
};

// Moves what quantize (in_dtype is a float type) or dequantize (out_dtype is one) of n elements would move, on the
// threads of `pool`, by the loops of instruction set `isa`. `out` holds nothing meaningful afterwards. With out null it
// reads only, as compute_quant_params does. PIQUANT_ERROR_ISA for a set that this machine lacks, and for the scalar
// one, which has no twins.
piquant_status_t move_traffic(ThreadPool& pool, const TrafficSettings& settings, const char* isa, const void* in,
                              int in_dtype, void* out, int out_dtype, std::size_t n, int reduce_op);

}  // namespace piquant::benchmark
