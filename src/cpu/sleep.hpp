// Threads that sleep until a number is another one.
#pragma once

#include <stdint.h>

#include <atomic>

namespace piquant {

// Returns when the number is not `value`: who changes it wakes the thread.
void sleep_while(const std::atomic<int32_t>& number, int32_t value);
void wake_sleeper(std::atomic<int32_t>& number);

}  // namespace piquant
