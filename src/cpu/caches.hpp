// What this machine's caches hold.
#pragma once

#include <stddef.h>

#include <vector>

namespace piquant {

// The last level of cache, as this process meets it.
struct LastLevel {
    size_t bytes;        // of one instance; a machine may have several
    size_t sharers;      // CPUs of the machine that share one instance
    size_t instances;    // those with a CPU that this process may run on
    size_t usable_cpus;  // CPUs that this process can keep busy, at most
};

// Read from the files of Linux for the CPUs that this process may run on. Where they do not tell: one instance of a
// common size, shared by the usable CPUs. `root` is prefixed to the path of /sys, for tests.
LastLevel last_level_cache(const std::vector<size_t>& cpus, size_t usable_cpus, const char* root = "");

// How many bytes a call on so many threads can move before the last-level cache has lost them again: from there on it is
// better to write around the caches, for whoever reads the output next, too.
//
// Measured: 32 MiB with 32 MiB of cache for two CPUs, whether one or both take part; with 300 MB for 16 CPUs, 32 MiB for
// each thread. So a thread makes use of 32 MiB of cache, even if the level is larger; and all together make use of no
// more than the instances hold that they can run on.
//
// A process that may use only some of the CPUs that share the cache, as in a container on a larger host, has neighbours
// there. It is taken to hold its part of the cache, by the number of CPUs; but never less than one thread makes use of.
size_t cached_traffic(const LastLevel& level, size_t threads);

}  // namespace piquant
