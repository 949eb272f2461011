// Which part of an exhaustive test a run does, and on how many threads.
//
//   PIQUANT_EXHAUSTIVE_PARTS   into how many parts the work is cut; 1 does all of it. Each test has its own default.
//   PIQUANT_EXHAUSTIVE_PART    which of them; any number, modulo the parts. A run in CI derives it from the commit,
//                              so that commits take turns. Both are printed, which replays a failure.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>
#include <vector>

namespace piquant {

// A whole number from the environment, decimal or 0x hexadecimal; anything else ends the run.
inline uint64_t number_from_environment(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    if (text == nullptr || *text == 0) {
        return otherwise;
    }
    char* end = nullptr;
    const uint64_t number = std::strtoull(text, &end, 0);
    if (*end != 0) {
        std::fprintf(stderr, "%s=%s is not a number\n", name, text);
        std::exit(2);
    }
    return number;
}

struct Share {
    uint64_t part;
    uint64_t parts;

    bool has(uint64_t item) const { return item % parts == part; }
};

inline Share share(uint64_t parts_by_default) {
    const uint64_t parts = std::max<uint64_t>(number_from_environment("PIQUANT_EXHAUSTIVE_PARTS", parts_by_default), 1);
    const Share s = {number_from_environment("PIQUANT_EXHAUSTIVE_PART", 0) % parts, parts};
    static std::set<uint64_t> told;
    if (told.insert(s.parts).second) {
        std::printf("PIQUANT_EXHAUSTIVE_PART=%llu PIQUANT_EXHAUSTIVE_PARTS=%llu\n",
                    static_cast<unsigned long long>(s.part), static_cast<unsigned long long>(s.parts));
        std::fflush(stdout);
    }
    return s;
}

// work(item) for every item below n on all CPUs, until a test has failed. Long runs tell how far they are.
template <class Work>
void parallel_for(size_t n, const Work& work) {
    using Clock = std::chrono::steady_clock;
    std::atomic<size_t> next{0};
    const auto loop = [&](bool tells) {
        Clock::time_point told = Clock::now();
        for (size_t item = next++; item < n && !testing::Test::HasFailure(); item = next++) {
            work(item);
            if (tells && Clock::now() - told > std::chrono::seconds(10)) {
                told = Clock::now();
                std::fprintf(stderr, "  %zu of %zu, %.1f%%\n", item, n,
                             100 * static_cast<double>(item) / static_cast<double>(n));
            }
        }
    };
    std::vector<std::thread> helpers;
    for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) {
        helpers.emplace_back(loop, false);
    }
    loop(true);
    for (std::thread& helper : helpers) {
        helper.join();
    }
}

}  // namespace piquant
