// A job whose chunks wait for each other: it ends only where as many threads run side by side.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/thread_pool.hpp"

namespace piquant {

struct Meeting {
    explicit Meeting(size_t threads) : expected(threads) {}

    static void run(void* opaque, size_t, size_t participant) {
        auto& m = *static_cast<Meeting*>(opaque);
        m.strangers += (participant == 0) != (std::this_thread::get_id() == m.caller);
        m.arrived.fetch_add(1);
        while (m.arrived.load() < m.expected && !m.missed.load()) {
            std::this_thread::yield();
            if (std::chrono::steady_clock::now() > m.watchdog) {
                m.missed = true;
            }
        }
    }
    bool took_place() const { return arrived.load() == expected && !missed.load() && strangers.load() == 0; }

    const size_t expected;
    const std::thread::id caller = std::this_thread::get_id();
    // No test waits this long; it turns a hang into a failure.
    const std::chrono::steady_clock::time_point watchdog = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    std::atomic<size_t> arrived{0};
    std::atomic<bool> missed{false};
    std::atomic<int> strangers{0};  // participant 0 is the caller, and nobody else is
};

inline bool runs_side_by_side(ThreadPool& pool, size_t threads) {
    Meeting m(threads);
    pool.run(Meeting::run, &m, threads, threads);
    return m.took_place();
}

}  // namespace piquant
