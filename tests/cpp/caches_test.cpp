// What the last-level cache holds, of made-up machines; and what a call makes of it.
#include "cpu/caches.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "engine/schedule.hpp"
#include "fake_root.hpp"

namespace piquant {
namespace {

constexpr size_t MiB = size_t{1} << 20;

std::vector<size_t> cpus_from(size_t first, size_t count) {
    std::vector<size_t> cpus(count);
    std::iota(cpus.begin(), cpus.end(), first);
    return cpus;
}

// CPUs first .. last share an instance.
void add_instance(const FakeRoot& root, size_t first, size_t last, const std::string& size, const std::string& list) {
    for (size_t cpu = first; cpu <= last; ++cpu) {
        const std::string cache = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index3/";
        root.write(cache + "size", size);
        root.write(cache + "shared_cpu_list", list);
    }
}

void expect(const LastLevel& level, size_t bytes, size_t sharers, size_t instances) {
    EXPECT_EQ(level.bytes, bytes);
    EXPECT_EQ(level.sharers, sharers);
    EXPECT_EQ(level.instances, instances);
}

TEST(LastLevelCache, OneForAll) {
    const FakeRoot root;
    add_instance(root, 0, 1, "32768K\n", "0-1\n");
    const LastLevel level = last_level_cache({0, 1}, 2, root.path());
    expect(level, 32 * MiB, 2, 1);
    EXPECT_EQ(level.usable_cpus, 2u);
}

TEST(LastLevelCache, CountsInstancesOfUsableCpus) {
    const FakeRoot root;
    for (size_t i = 0; i < 4; ++i) {  // of eight CPUs each, the second half their second threads
        const std::string list = std::to_string(4 * i) + "-" + std::to_string(4 * i + 3) + "," +
                                 std::to_string(16 + 4 * i) + "-" + std::to_string(16 + 4 * i + 3) + "\n";
        add_instance(root, 4 * i, 4 * i + 3, "32768K\n", list);
        add_instance(root, 16 + 4 * i, 16 + 4 * i + 3, "32768K\n", list);
    }
    expect(last_level_cache(cpus_from(0, 32), 32, root.path()), 32 * MiB, 8, 4);
    expect(last_level_cache(cpus_from(0, 4), 4, root.path()), 32 * MiB, 8, 1);
    expect(last_level_cache({2, 18, 3}, 3, root.path()), 32 * MiB, 8, 1);
    expect(last_level_cache({0, 31}, 2, root.path()), 32 * MiB, 8, 2);
}

TEST(LastLevelCache, TheSmallestOfUnequalOnes) {
    const FakeRoot root;
    add_instance(root, 0, 7, "98304K\n", "0-7\n");
    add_instance(root, 8, 15, "32768K\n", "8-15\n");
    expect(last_level_cache(cpus_from(0, 16), 16, root.path()), 32 * MiB, 8, 2);
    expect(last_level_cache(cpus_from(0, 8), 8, root.path()), 96 * MiB, 8, 1);
}

TEST(LastLevelCache, WhereFilesDoNotTell) {
    const FakeRoot empty;
    expect(last_level_cache({0, 1}, 2, empty.path()), 32 * MiB, 2, 1);
    expect(last_level_cache({}, 3, empty.path()), 32 * MiB, 3, 1);
    for (const char* size : {"", "none\n", "0K\n", "-\n", "99999999999999999999999K\n", "18446744073709551615K\n"}) {
        const FakeRoot root;
        add_instance(root, 0, 1, size, "0-1\n");
        expect(last_level_cache({0, 1}, 2, root.path()), 32 * MiB, 2, 1);
    }
    for (const char* list : {"", "\n", "all\n", "3-1\n", "0-99999999999\n", "0,x\n"}) {
        const FakeRoot root;
        add_instance(root, 0, 1, "16384K\n", list);
        expect(last_level_cache({0, 1}, 2, root.path()), 16 * MiB, 2, 1);
    }
}

struct Machine {
    const char* what;
    LastLevel level;
    std::vector<std::pair<size_t, size_t>> by_threads;  // threads, MiB
};

const Machine machines[] = {
    {"two CPUs", {32 * MiB, 2, 1, 2}, {{1, 32}, {2, 32}, {8, 32}}},
    {"one CPU", {32 * MiB, 1, 1, 1}, {{1, 32}, {4, 32}}},
    {"a small cache", {8 * MiB, 4, 1, 4}, {{1, 8}, {4, 8}}},
    {"300 MiB for 16", {300 * MiB, 16, 1, 16}, {{1, 32}, {2, 64}, {4, 128}, {8, 256}, {16, 300}, {64, 300}}},
    {"eight of 32 MiB", {32 * MiB, 8, 8, 64}, {{1, 32}, {2, 64}, {8, 256}, {64, 256}}},
    {"two of 105 MiB", {105 * MiB, 56, 2, 112}, {{1, 32}, {2, 64}, {4, 128}, {8, 210}, {112, 210}}},
    {"24 of 16 MiB", {16 * MiB, 15, 24, 360}, {{1, 16}, {2, 32}, {64, 384}, {360, 384}}},
    {"a quota of 4 of 64 CPUs", {320 * MiB, 64, 1, 4}, {{1, 32}, {2, 32}, {4, 32}}},
    {"a quota of 16 of 64 CPUs", {320 * MiB, 64, 1, 16}, {{1, 32}, {2, 64}, {4, 80}, {16, 80}}},
    {"a quota of 2, eight of 32 MiB", {32 * MiB, 8, 8, 2}, {{1, 32}, {2, 32}}},
    {"half of an instance", {32 * MiB, 8, 1, 4}, {{1, 32}, {4, 32}}},
};

TEST(CachedTraffic, Machines) {
    for (const Machine& machine : machines) {
        for (const auto& [threads, mebibytes] : machine.by_threads) {
            EXPECT_EQ(cached_traffic(machine.level, threads), mebibytes * MiB) << machine.what << ", " << threads;
        }
    }
}

TEST(CachedTraffic, NeverFallsWithMoreThreads) {
    for (const Machine& machine : machines) {
        for (size_t threads = 1; threads < 400; ++threads) {
            EXPECT_LE(cached_traffic(machine.level, threads), cached_traffic(machine.level, threads + 1))
                << machine.what << ", " << threads;
        }
    }
}

// Those who take part count, not those who might: fewer where a thread would get too little.
TEST(CachedTraffic, IsThatOfTheThreadsThatTakePart) {
    const StreamThreshold automatic = {machines[3].level, false, 0};
    EXPECT_TRUE(make_schedule(32 * MiB, 1, MiB, automatic).is_far);
    EXPECT_FALSE(make_schedule(32 * MiB, 2, MiB, automatic).is_far);
    EXPECT_TRUE(make_schedule(130 * MiB, 4, MiB, automatic).is_far);
    EXPECT_FALSE(make_schedule(130 * MiB, 8, MiB, automatic).is_far);
    EXPECT_TRUE(make_schedule(64 * MiB, 16, 65 * MiB, automatic).is_far);  // below the cut-off there is one
    const StreamThreshold fixed = {machines[3].level, true, 40 * MiB};
    for (const size_t threads : std::initializer_list<size_t>{1, 2, 16}) {
        EXPECT_FALSE(make_schedule(40 * MiB - 1, threads, MiB, fixed).is_far);
        EXPECT_TRUE(make_schedule(40 * MiB, threads, MiB, fixed).is_far);
    }
}

}  // namespace
}  // namespace piquant
