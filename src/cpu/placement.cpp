#include "cpu/placement.hpp"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace piquant {

#if defined(__linux__)

int current_cpu() {
    return sched_getcpu();
}

void keep_off(int cpu, std::thread& thread, size_t threads) {
    // What this thread may use now: later changes of its affinity reach the worker when it is sent away again.
    cpu_set_t cpus;
    if (cpu < 0 || sched_getaffinity(0, sizeof cpus, &cpus) != 0) {
        return;
    }
    CPU_CLR(cpu, &cpus);
    if (static_cast<size_t>(CPU_COUNT(&cpus)) >= threads) {
        (void)pthread_setaffinity_np(thread.native_handle(), sizeof cpus, &cpus);  // a wish: a refusal is harmless
    }
}

#else

int current_cpu() {
    return -1;
}

void keep_off(int, std::thread&, size_t) {}

#endif

}  // namespace piquant
