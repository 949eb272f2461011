#include "cpu/sleep.hpp"

#if defined(_WIN32) && defined(__GLIBCXX__)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace piquant {

#if defined(_WIN32) && defined(__GLIBCXX__)

// libstdc++ has no such function of the system in its atomics on Windows. Its own (GCC 12) loses the wake-up that comes between
// its last look at the number and its sleep, and a call then waits for that worker until the process ends.
void sleep_while(const std::atomic<int32_t>& number, int32_t value) {
    static_assert(sizeof number == sizeof value);
    while (number.load(std::memory_order_acquire) == value) {
        WaitOnAddress(const_cast<std::atomic<int32_t>*>(&number), &value, sizeof value, INFINITE);
    }
}

void wake_sleeper(std::atomic<int32_t>& number) {
    WakeByAddressSingle(&number);
}

#else

void sleep_while(const std::atomic<int32_t>& number, int32_t value) {
    number.wait(value, std::memory_order_acquire);
}

void wake_sleeper(std::atomic<int32_t>& number) {
    number.notify_one();
}

#endif

}  // namespace piquant
