#include "cpu/caches.hpp"

#include <stdint.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "cpu/first_line.hpp"

namespace piquant {
namespace {

constexpr size_t common_bytes = size_t{32} << 20;
constexpr size_t bytes_per_thread = size_t{32} << 20;

// "32768K"; the kernel writes no other unit.
size_t size_in(const std::string& text) {
    std::istringstream line(text);
    size_t kibibytes = 0;
    return line >> kibibytes && kibibytes <= SIZE_MAX >> 10 ? kibibytes << 10 : 0;
}

// "0-7,64-71", in ascending order. Empty if it is anything else.
std::vector<size_t> cpus_in(const std::string& text) {
    constexpr size_t most_cpus = size_t{1} << 20;
    std::vector<size_t> cpus;
    std::istringstream ranges(text);
    for (std::string range; std::getline(ranges, range, ',');) {
        std::istringstream ends(range);
        size_t first = 0;
        size_t last = 0;
        char dash = 0;
        if (!(ends >> first)) {
            return {};
        }
        last = ends >> dash >> last && dash == '-' ? last : first;
        if (last < first || last >= most_cpus) {
            return {};
        }
        for (size_t cpu = first; cpu <= last; ++cpu) {
            cpus.push_back(cpu);
        }
    }
    return cpus;
}

}  // namespace

LastLevel last_level_cache(const std::vector<size_t>& cpus, size_t usable_cpus, const char* root) {
    LastLevel level = {0, 0, 0, usable_cpus};
    // The kernel's own description; sysconf adds up what a virtual machine's host has, not what this machine shares.
    const std::string directory = std::string(root) + "/sys/devices/system/cpu/cpu";
    std::vector<size_t> seen;  // CPUs of the instances that are counted
    for (const size_t cpu : cpus) {
        if (std::find(seen.begin(), seen.end(), cpu) != seen.end()) {
            continue;
        }
        const std::string cache = directory + std::to_string(cpu) + "/cache/index3";
        const size_t bytes = size_in(first_line(cache + "/size"));
        const std::vector<size_t> sharers = cpus_in(first_line(cache + "/shared_cpu_list"));
        if (bytes == 0) {
            continue;
        }
        // Where instances differ, the smallest counts: which of them a thread runs on is not known.
        level.bytes = level.instances == 0 ? bytes : std::min(level.bytes, bytes);
        level.sharers = std::max(level.sharers, sharers.size());
        ++level.instances;
        if (sharers.empty()) {
            break;  // which CPUs share it is not told, so it may be the only one
        }
        seen.insert(seen.end(), sharers.begin(), sharers.end());
    }
    if (level.instances == 0) {
        level.bytes = common_bytes;
        level.instances = 1;
    }
    if (level.sharers == 0) {
        level.sharers = usable_cpus;
    }
    return level;
}

size_t cached_traffic(const LastLevel& level, size_t threads) {
    const size_t one_thread = std::min(level.bytes, bytes_per_thread);
    const size_t reached = level.bytes * std::min(level.instances, threads);
    const size_t part = level.usable_cpus >= level.sharers * level.instances
                            ? reached
                            : level.bytes / level.sharers * level.usable_cpus;
    return std::max(one_thread, std::min({reached, part, threads * bytes_per_thread}));
}

}  // namespace piquant
