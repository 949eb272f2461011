// On which CPUs a pool's threads run.
//
// Linux on a virtual machine takes a virtual CPU that is halted for one whose time another guest has, and likes to wake a
// thread on the CPU of whoever wakes it rather than there. A worker that is woken behind its caller waits for milliseconds,
// while the other CPU stands idle.
#pragma once

#include <thread>
#include <vector>

namespace piquant {

class Placement {
public:
    // Lets the threads run where this one may, but on the CPU that it is on; unless that leaves fewer CPUs than threads. A
    // system call per thread when the CPU is another than the last time.
    void keep_off_this_cpu(std::vector<std::thread>& threads);

    // For threads that are new.
    void forget() { kept_off_ = -1; }

private:
    int kept_off_ = -1;
};

}  // namespace piquant
