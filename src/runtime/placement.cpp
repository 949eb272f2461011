#include "runtime/placement.hpp"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace piquant {

#if defined(__linux__)

void Placement::keep_off_this_cpu(std::vector<std::thread>& threads) {
    const int cpu = sched_getcpu();  // -1 where the system does not tell
    // What this thread may use now, so that later changes of the affinity of the process hold for the workers too.
    cpu_set_t cpus;
    if (cpu == kept_off_ || sched_getaffinity(0, sizeof cpus, &cpus) != 0) {
        return;
    }
    CPU_CLR(cpu, &cpus);
    if (static_cast<size_t>(CPU_COUNT(&cpus)) < threads.size()) {
        return;
    }
    for (std::thread& t : threads) {
        (void)pthread_setaffinity_np(t.native_handle(), sizeof cpus, &cpus);  // a wish: a refusal is harmless
    }
    kept_off_ = cpu;
}

#else

void Placement::keep_off_this_cpu(std::vector<std::thread>&) {}

#endif

}  // namespace piquant
