#include "cpu/caches.hpp"

#include <fstream>

namespace piquant {

size_t last_level_cache_bytes() {
    constexpr size_t common = size_t{32} << 20;
#if defined(__linux__)
    // The kernel's own description; sysconf adds up what a virtual machine's host has, not what this machine shares.
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
    size_t kibibytes = 0;
    return file >> kibibytes && kibibytes > 0 ? kibibytes << 10 : common;
#else
    return common;
#endif
}

}  // namespace piquant
