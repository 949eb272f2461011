// A small pool for short data-parallel jobs.
//
// A job is a number of chunks. Every participant, the caller included, owns a contiguous region of them, works it off
// front to back, then helps the others. Claiming a chunk is one atomic increment; nothing else is shared. The caller
// never waits for a worker that has not begun: what nobody has claimed it does itself, and then waits only for chunks
// in progress. So a parked, throttled or missing worker costs nothing but its help.
//
// Workers spin for some tens of microseconds after a job, for the next one, then sleep in the kernel. A job wakes those
// who own a region of it; one that lies asleep on the caller's CPU is sent to another first, on Linux and if there are
// enough. A job that comes by itself wakes no more of them than pay: none, if it is over before they arrive. The caller
// wakes two at most. Each worker that arrives wakes up to two more, then begins to work.
//
// One job at a time: a caller that finds the pool taken runs its job alone rather than wait.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>

#include "engine/executor.hpp"

namespace piquant {

// Whether this process is a child of fork() that has gone on without exec(): it has none of its parent's threads.
bool is_forked_child();

class ThreadPool final : public Executor {
public:
    ThreadPool();
    ~ThreadPool() override;
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // Threads start here, the first time. There are fewer, if the system grants fewer; then it is asked again some jobs
    // later. Of those who sleep, a job that comes by itself wakes no more than are worth waking.
    void run(Run function, void* job, size_t chunks, size_t threads, size_t worth_waking = SIZE_MAX) override;

    // Calls in progress on the owner of this pool, who counts them. It is here because a forked child has to forget
    // those of the threads that it did not inherit.
    std::atomic<size_t> users{0};

private:
    friend struct ForkRegistry;
    struct alignas(64) Worker {
        std::thread thread;
        // 1: it waits for a change of this, or is about to, and nobody woke it yet. Of the one type that libc++ waits on by
        // its own address: others share what they wait on, so that workers would wake who should sleep on.
        std::atomic<int32_t> asleep{0};
        std::atomic<int> cpu{-1};  // where it went to sleep
    };

    void abandon_after_fork();
    void start_workers(size_t threads);
    void stop_workers();
    bool call_workers(size_t worth_waking);
    void wake_some();
    static bool wake(Worker& w);
    uint32_t await_ticket(Worker& self, uint32_t seen);
    void work(Worker& self, size_t participant, uint32_t ticket);
    // The first of participants 1, 2, .. .
    std::span<Worker> first_workers(size_t count) { return {workers_, count}; }
    // Pools of one process, for fork.
    ThreadPool* next_ = nullptr;
    ThreadPool** link_ = nullptr;

    // 1 while a caller owns the pool.
    std::atomic<uint32_t> taken_{0};
    size_t wanted_ = 1;        // threads the workers were started for; guarded by taken_
    uint32_t short_jobs_ = 0;  // jobs since then that had fewer; guarded by taken_

    Worker* workers_ = nullptr;  // guarded by taken_; leaked in a forked child, where the threads do not exist

    // Bit 0: a job is open. The rest, times two: workers inside. A worker that finds it open may read the job until it
    // leaves; the owner closes it and waits for the count to fall to zero before the job goes out of scope.
    alignas(64) std::atomic<uint64_t> gate_{0};
    alignas(64) std::atomic<uint32_t> ticket_{0};  // changes with every job
    // Participants 1 + wake_next_ .. wake_end_ are to be woken, if they sleep: part of the job, like the regions.
    alignas(64) std::atomic<size_t> wake_next_{0};
    std::atomic<size_t> wake_end_{0};
    alignas(64) std::atomic<bool> stop_{false};
    bool may_spin_ = false;
    std::chrono::steady_clock::time_point last_lone_job_;  // end of the last that let workers sleep; guarded by taken_

    Run run_ = nullptr;
    void* job_ = nullptr;
    size_t participants_ = 1;  // threads that exist, caller included
    size_t region_count_ = 0;
    std::unique_ptr<Region[]> regions_;
};

}  // namespace piquant
