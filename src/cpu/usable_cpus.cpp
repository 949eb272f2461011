#include "cpu/usable_cpus.hpp"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>

#include "cpu/first_line.hpp"

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX 1
#include <windows.h>
#endif

namespace piquant {
namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

// cgroup v2, cpu.max: "<quota or max> <period>", both in microseconds.
double quota_v2(const std::string& directory) {
    std::istringstream line(first_line(directory + "/cpu.max"));
    double quota = 0;
    double period = 0;
    return line >> quota >> period && quota > 0 && period > 0 ? quota / period : unlimited;
}

// cgroup v1: two files; a quota of -1 is none.
double quota_v1(const std::string& directory) {
    std::istringstream quota_line(first_line(directory + "/cpu.cfs_quota_us"));
    std::istringstream period_line(first_line(directory + "/cpu.cfs_period_us"));
    double quota = 0;
    double period = 0;
    return quota_line >> quota && period_line >> period && quota > 0 && period > 0 ? quota / period : unlimited;
}

// Every ancestor limits too, and a container may see its own group mounted as the root.
template <class Quota>
double tightest(const std::string& mount, std::string group, Quota quota) {
    double tight = quota(mount);
    while (group.size() > 1) {
        tight = std::min(tight, quota(mount + group));
        group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
    return tight;
}

bool lists_cpu(const std::string& controllers) {
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
        if (name == "cpu") {
            return true;
        }
    }
    return false;
}

}  // namespace

std::vector<size_t> allowed_cpus() {
    std::vector<size_t> allowed;
#if defined(__linux__)
    // The kernel's mask may be longer than cpu_set_t; grow until it fits.
    for (int cpus = CPU_SETSIZE; cpus <= (1 << 20); cpus *= 4) {
        cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpus));
        if (set == nullptr) {
            break;
        }
        const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
        const bool read = sched_getaffinity(0, bytes, set) == 0;
        try {
            for (size_t cpu = 0; read && cpu < static_cast<size_t>(cpus); ++cpu) {
                if (CPU_ISSET_S(cpu, bytes, set)) {
                    allowed.push_back(cpu);
                }
            }
        } catch (...) {
            CPU_FREE(set);
            throw;
        }
        CPU_FREE(set);
        if (read) {
            break;
        }
    }
#elif defined(_WIN32)
    // Of the process, in its group of processors; nothing where it has threads in several groups.
    DWORD_PTR process = 0;
    DWORD_PTR system = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system) != 0) {
        for (size_t cpu = 0; cpu < 8 * sizeof process; ++cpu) {
            if ((process >> cpu & 1) != 0) {
                allowed.push_back(cpu);
            }
        }
    }
#endif
    return allowed;
}

size_t cgroup_cpus(const char* root) {
    const std::string prefix(root);
    std::ifstream groups(prefix + "/proc/self/cgroup");
    double tight = unlimited;
    // hierarchy:controllers:path, where version 2 is "0::path"
    for (std::string line; std::getline(groups, line);) {
        const size_t first = line.find(':');
        const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) {
            continue;
        }
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const std::string group = line.substr(second + 1);
        const std::string mounts = prefix + "/sys/fs/cgroup";
        if (controllers.empty()) {
            tight =
                std::min({tight, tightest(mounts, group, quota_v2), tightest(mounts + "/unified", group, quota_v2)});
        } else if (lists_cpu(controllers)) {
            tight = std::min({tight, tightest(mounts + "/cpu", group, quota_v1),
                              tightest(mounts + "/" + controllers, group, quota_v1)});
        }
    }
    return tight == unlimited ? 0 : static_cast<size_t>(std::max(1.0, tight));
}

size_t usable_cpus(const char* root) {
    const size_t quota = cgroup_cpus(root);
    const size_t allowed = allowed_cpus().size();
    const size_t cpus = allowed != 0 ? allowed : std::max<size_t>(1, std::thread::hardware_concurrency());
    return quota == 0 ? cpus : std::min(cpus, quota);
}

}  // namespace piquant
