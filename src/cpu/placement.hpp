// On which CPUs a pool's threads run.
//
// Linux on a virtual machine takes a virtual CPU that is halted for one whose time another guest has, and wakes a
// thread where it slept rather than there. A worker that wakes behind its caller has to wait for it, for milliseconds,
// while another CPU stands idle: two threads are no faster than one. So it is told to run elsewhere, for good: given
// the CPU back once it is awake, it is there again the next time.
#pragma once

#include <cstddef>
#include <thread>

namespace piquant {

// The CPU that the calling thread is on; -1 where the system does not tell.
int current_cpu();

// Lets a thread run where the calling one may, but for `cpu`; unless that leaves fewer CPUs than `threads`. Costs two
// system calls; for a thread that sleeps, it decides where it wakes.
void keep_off(int cpu, std::thread& thread, size_t threads);

}  // namespace piquant
