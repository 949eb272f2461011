// How many threads this process can keep busy.
#pragma once

#include <stddef.h>

#include <vector>

namespace piquant {

// min(CPUs in the scheduling affinity, max(1, floor(CPU quota of the cgroup))), at least 1. More threads than that do
// not run side by side: the scheduler parks some of them while the others wait. `root` is prefixed to the paths of
// /proc and /sys, for tests.
size_t usable_cpus(const char* root = "");

// The CPUs in the scheduling affinity, by number; empty where the system does not tell.
std::vector<size_t> allowed_cpus();

// The quota alone, rounded down, at least 1; 0 where no cgroup (version 1 or 2) limits this process.
size_t cgroup_cpus(const char* root);

}  // namespace piquant
