// How a call is spread over threads, and how it treats memory, by the bytes that it moves.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <algorithm>

#include "cpu/caches.hpp"

namespace piquant {

struct Schedule {
    size_t traffic;            // bytes read plus written
    size_t threads;            // that share the call, the caller included
    size_t worth_waking;       // of those that sleep
    bool is_far;               // the call is taken to work in memory, beyond the caches
    size_t prefetch_distance;  // bytes; 0: a near cache holds the input
};

// From how much traffic on a call is taken to work in memory: a number that somebody set, or what the caches say.
struct StreamThreshold {
    LastLevel level;
    bool is_fixed;
    size_t fixed;

    size_t of(size_t threads) const { return is_fixed ? fixed : cached_traffic(level, threads); }
};

inline Schedule make_schedule(size_t traffic, size_t num_threads, size_t serial_cutoff,
                              const StreamThreshold& stream_threshold) {
    // A thread that sleeps pays at 2 to 4 MiB, 8 times the cut-off. To wake it costs the caller 7 to 16 us on a virtual
    // machine, and it comes 16 to 90 us after.
    constexpr size_t cutoffs_per_sleeper = 8;
    // How far ahead what no near cache holds is prefetched, from memory and from the last-level cache, and the share of a
    // thread from which on that pays; measured. Prefetchers of the hardware follow addresses to the end of their 4 KiB and
    // start over in the next page; two pages ahead, memory is under way before they come to it.
    constexpr size_t memory_distance = 8192;
    constexpr size_t cache_distance = 2048;
    constexpr size_t far_share = size_t{1} << 20;
    // A thread that has less to do than half of the cut-off is not worth its coming: at the cut-off there are two.
    const size_t least_share = serial_cutoff / 2;
    const size_t threads = traffic < serial_cutoff ? 1
                           : least_share == 0      ? num_threads
                                                   : std::min(num_threads, traffic / least_share);
    const bool is_far = traffic >= stream_threshold.of(threads);
    const size_t distance = is_far ? memory_distance : traffic / threads >= far_share ? cache_distance : 0;
    const size_t worth_waking = serial_cutoff == 0 ? SIZE_MAX : traffic / cutoffs_per_sleeper / serial_cutoff;
    return {traffic, threads, worth_waking, is_far, distance};
}

}  // namespace piquant
