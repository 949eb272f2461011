// How many threads can run side by side: fake cgroup trees, and the scheduling affinity.
#include "cpu/usable_cpus.hpp"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "fake_root.hpp"

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX 1
#include <windows.h>
#endif

namespace piquant {
namespace {

struct Tree {
    const char* what;
    size_t cpus;
    std::vector<std::pair<std::string, std::string>> files;
};

const std::string self = "proc/self/cgroup";
const std::string fs = "sys/fs/cgroup";

const Tree trees[] = {
    {"no files at all", 0, {}},
    {"version 2, none set", 0, {{self, "0::/\n"}, {fs + "/cpu.max", "max 100000\n"}}},
    {"version 2, own group mounted as the root", 2, {{self, "0::/\n"}, {fs + "/cpu.max", "200000 100000\n"}}},
    {"version 2, rounds down", 2, {{self, "0::/\n"}, {fs + "/cpu.max", "299999 100000\n"}}},
    {"version 2, less than one CPU is one", 1, {{self, "0::/\n"}, {fs + "/cpu.max", "20000 100000\n"}}},
    {"version 2, own group", 3, {{self, "0::/a/b\n"}, {fs + "/a/b/cpu.max", "300000 100000\n"}}},
    {"version 2, parent is tighter",
     2,
     {{self, "0::/a/b\n"}, {fs + "/a/b/cpu.max", "800000 100000"}, {fs + "/a/cpu.max", "200000 100000"}}},
    {"version 2, child is tighter",
     2,
     {{self, "0::/a/b\n"}, {fs + "/a/b/cpu.max", "200000 100000"}, {fs + "/a/cpu.max", "800000 100000"}}},
    {"version 2, parent only",
     4,
     {{self, "0::/a/b\n"}, {fs + "/a/b/cpu.max", "max 100000"}, {fs + "/a/cpu.max", "400000 100000"}}},
    {"version 2, a sibling does not matter", 0, {{self, "0::/a/b\n"}, {fs + "/a/c/cpu.max", "100000 100000"}}},
    {"version 2, other period", 4, {{self, "0::/\n"}, {fs + "/cpu.max", "40000 10000\n"}}},
    {"version 2, period of zero", 0, {{self, "0::/\n"}, {fs + "/cpu.max", "40000 0\n"}}},
    {"version 2, quota of zero", 0, {{self, "0::/\n"}, {fs + "/cpu.max", "0 100000\n"}}},
    {"version 2, no period", 0, {{self, "0::/\n"}, {fs + "/cpu.max", "40000\n"}}},
    {"version 2, empty and broken files",
     0,
     {{self, "0::/a\n"}, {fs + "/cpu.max", ""}, {fs + "/a/cpu.max", "much ado\n"}}},
    {"hybrid, unified mount", 2, {{self, "1:cpu:/x\n0::/y\n"}, {fs + "/unified/y/cpu.max", "200000 100000"}}},
    {"version 1",
     2,
     {{self, "4:memory:/m\n3:cpu,cpuacct:/d\n"},
      {fs + "/cpu/d/cpu.cfs_quota_us", "250000\n"},
      {fs + "/cpu/d/cpu.cfs_period_us", "100000\n"}}},
    {"version 1, directory named after its controllers",
     3,
     {{self, "3:cpu,cpuacct:/d\n"},
      {fs + "/cpu,cpuacct/d/cpu.cfs_quota_us", "300000\n"},
      {fs + "/cpu,cpuacct/d/cpu.cfs_period_us", "100000\n"}}},
    {"version 1, cpu listed last",
     3,
     {{self, "3:cpuacct,cpu:/\n"},
      {fs + "/cpuacct,cpu/cpu.cfs_quota_us", "300000\n"},
      {fs + "/cpuacct,cpu/cpu.cfs_period_us", "100000\n"}}},
    {"version 1, none set",
     0,
     {{self, "3:cpu:/\n"}, {fs + "/cpu/cpu.cfs_quota_us", "-1\n"}, {fs + "/cpu/cpu.cfs_period_us", "100000\n"}}},
    {"version 1, no period", 0, {{self, "3:cpu:/\n"}, {fs + "/cpu/cpu.cfs_quota_us", "200000\n"}}},
    {"version 1, broken period",
     0,
     {{self, "3:cpu:/\n"}, {fs + "/cpu/cpu.cfs_quota_us", "200000\n"}, {fs + "/cpu/cpu.cfs_period_us", "long\n"}}},
    {"version 1, period of zero",
     0,
     {{self, "3:cpu:/\n"}, {fs + "/cpu/cpu.cfs_quota_us", "200000\n"}, {fs + "/cpu/cpu.cfs_period_us", "0\n"}}},
    {"version 1, cpuset and cpuacct are not cpu",
     0,
     {{self, "3:cpuset,cpuacct:/\n"},
      {fs + "/cpuset,cpuacct/cpu.cfs_quota_us", "100000\n"},
      {fs + "/cpuset,cpuacct/cpu.cfs_period_us", "100000\n"},
      {fs + "/cpu/cpu.cfs_quota_us", "100000\n"},
      {fs + "/cpu/cpu.cfs_period_us", "100000\n"}}},
    {"both versions, the tighter one",
     2,
     {{self, "1:cpu:/\n0::/\n"},
      {fs + "/cpu.max", "700000 100000"},
      {fs + "/cpu/cpu.cfs_quota_us", "200000\n"},
      {fs + "/cpu/cpu.cfs_period_us", "100000\n"}}},
    {"broken lines of /proc/self/cgroup", 2, {{self, "\nx\n7:\n0::/\n"}, {fs + "/cpu.max", "200000 100000"}}},
};

TEST(CgroupCpus, Trees) {
    for (const Tree& tree : trees) {
        const FakeRoot root;
        for (const auto& [name, text] : tree.files) {
            root.write(name, text);
        }
        EXPECT_EQ(cgroup_cpus(root.path()), tree.cpus) << tree.what;
    }
}

TEST(UsableCpus, QuotaAndAffinityBothLimit) {
    const FakeRoot unlimited;
    const FakeRoot one;
    one.write(self, "0::/\n");
    one.write(fs + "/cpu.max", "100000 100000\n");
    const FakeRoot many;
    many.write(self, "0::/\n");
    many.write(fs + "/cpu.max", "999900000 100000\n");
    const size_t cpus = usable_cpus(unlimited.path());
    EXPECT_GE(cpus, 1u);
    EXPECT_LE(cpus, std::max(1u, std::thread::hardware_concurrency()));
    EXPECT_EQ(usable_cpus(one.path()), 1u);
    EXPECT_EQ(usable_cpus(many.path()), cpus);
}

#if defined(__linux__)
TEST(UsableCpus, FollowsTheAffinity) {
    const FakeRoot unlimited;
    // Affinity belongs to a thread: this one goes away, and the rest of the tests keep theirs.
    std::thread([&] {
        cpu_set_t all;
        ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
        cpu_set_t some;
        CPU_ZERO(&some);
        size_t expected = 0;
        for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &all)) {
                CPU_SET(cpu, &some);
                ASSERT_EQ(sched_setaffinity(0, sizeof some, &some), 0);
                EXPECT_EQ(usable_cpus(unlimited.path()), ++expected);
            }
        }
    }).join();
}
#elif defined(_WIN32)
// There it belongs to the process.
TEST(UsableCpus, FollowsTheAffinity) {
    const FakeRoot unlimited;
    DWORD_PTR all = 0;
    DWORD_PTR system = 0;
    ASSERT_NE(GetProcessAffinityMask(GetCurrentProcess(), &all, &system), 0);
    DWORD_PTR some = 0;
    size_t expected = 0;
    for (DWORD_PTR cpu = 1; cpu != 0; cpu <<= 1) {
        if ((all & cpu) != 0) {
            some |= cpu;
            ASSERT_NE(SetProcessAffinityMask(GetCurrentProcess(), some), 0);
            EXPECT_EQ(usable_cpus(unlimited.path()), ++expected);
        }
    }
}
#endif

}  // namespace
}  // namespace piquant
