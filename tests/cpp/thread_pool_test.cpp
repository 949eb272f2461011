// Every chunk runs exactly once, whoever comes to help.
#include "engine/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "meeting.hpp"

#if !defined(_WIN32)  // which has no signals that are sent to threads
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace piquant {
namespace {

// Counts what runs.
struct Tally {
    explicit Tally(size_t chunks) : counts(new std::atomic<int>[chunks]()), size(chunks) {}

    static void run(void* opaque, size_t chunk, size_t participant) {
        auto& t = *static_cast<Tally*>(opaque);
        t.counts[chunk].fetch_add(1);
        size_t seen = t.highest.load();
        while (participant > seen && !t.highest.compare_exchange_weak(seen, participant)) {
        }
    }
    bool each_once() const {
        for (size_t i = 0; i < size; ++i) {
            if (counts[i].load() != 1) {
                return false;
            }
        }
        return true;
    }

    std::unique_ptr<std::atomic<int>[]> counts;
    size_t size;
    std::atomic<size_t> highest{0};
};

TEST(ThreadPoolTest, EveryChunkOnceForAnyCounts) {
    ThreadPool pool;
    for (const size_t threads :
         std::initializer_list<size_t>{1, 2, 3, 4, 7, 16, 2, 1, 5}) {  // also: the count changes between calls
        for (const size_t chunks : std::initializer_list<size_t>{0, 1, 2, 3, 4, 5, 15, 16, 17, 100, 1001}) {
            for (int repeat = 0; repeat < 5; ++repeat) {
                Tally t(chunks);
                pool.run(Tally::run, &t, chunks, threads);
                ASSERT_TRUE(t.each_once()) << "chunks " << chunks << " threads " << threads;
                ASSERT_LT(t.highest.load(), threads);
            }
        }
    }
}

TEST(ThreadPoolTest, FarMoreThreadsThanCpus) {
    ThreadPool pool;
    for (int repeat = 0; repeat < 3; ++repeat) {
        Tally t(500);
        pool.run(Tally::run, &t, 500, 200);
        ASSERT_TRUE(t.each_once());
    }
}

TEST(ThreadPoolTest, ThreadsReallyRunSideBySide) {
    ThreadPool pool;
    for (const size_t threads : std::initializer_list<size_t>{2, 3, 8, 2}) {
        for (int repeat = 0; repeat < 20; ++repeat) {
            ASSERT_TRUE(runs_side_by_side(pool, threads)) << threads;
        }
    }
}

// More threads than processors, all of them asleep between jobs: those who are woken wake the rest, and everyone begins
// with a region of its own.
TEST(ThreadPoolTest, SleepersWakeEachOther) {
    constexpr size_t threads = 64;
    struct Roll {
        Meeting meeting{threads};
        std::atomic<int> strayed{0};
    };
    ThreadPool pool;
    for (int repeat = 0; repeat < 5; ++repeat) {
        Roll roll;
        pool.run(
            [](void* opaque, size_t chunk, size_t participant) {
                auto& r = *static_cast<Roll*>(opaque);
                r.strayed += chunk != participant;
                Meeting::run(&r.meeting, chunk, participant);
            },
            &roll, threads, threads);
        ASSERT_TRUE(roll.meeting.took_place());
        ASSERT_EQ(roll.strayed.load(), 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

TEST(ThreadPoolTest, ManyCallersShareOne) {
    ThreadPool pool;
    std::atomic<int> wrong{0};
    std::atomic<int> waiting{0};
    std::vector<std::thread> callers;
    for (size_t t = 0; t < 6; ++t) {
        callers.emplace_back([&, t] {
            for (++waiting; waiting.load() < 6;) {  // begin together
                std::this_thread::yield();
            }
            for (size_t i = 0; i < 3000; ++i) {
                const size_t chunks = 1 + (i * 7 + t) % 40;
                Tally tally(chunks);
                pool.run(Tally::run, &tally, chunks, 2 + i / 1000 % 3);
                wrong += !tally.each_once();
            }
        });
    }
    for (std::thread& t : callers) {
        t.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

// A chunk that uses the pool itself, and a caller that finds it taken, run alone instead of waiting.
TEST(ThreadPoolTest, NestedUseRunsAlone) {
    struct Outer {
        ThreadPool pool;
        std::atomic<int> wrong{0};
    } outer;
    const auto nested = [](void* opaque, size_t, size_t) {
        auto& o = *static_cast<Outer*>(opaque);
        Tally inner(10);
        o.pool.run(Tally::run, &inner, 10, 4);
        o.wrong += !inner.each_once() || inner.highest.load() != 0;
    };
    for (int repeat = 0; repeat < 20; ++repeat) {
        outer.pool.run(nested, &outer, 12, 3);
    }
    EXPECT_EQ(outer.wrong.load(), 0);
    EXPECT_TRUE(runs_side_by_side(outer.pool, 3)) << "the pool is whole again";
}

TEST(ThreadPoolTest, TakenPoolDoesNotBlockOthers) {
    ThreadPool pool;
    struct Gate {
        std::atomic<bool> inside{false};
        std::atomic<bool> open{false};
    } gate;
    std::thread owner([&] {
        pool.run(
            [](void* opaque, size_t, size_t) {
                auto& g = *static_cast<Gate*>(opaque);
                g.inside = true;
                while (!g.open.load()) {
                    std::this_thread::yield();
                }
            },
            &gate, 2, 2);
    });
    while (!gate.inside.load()) {
        std::this_thread::yield();
    }
    Tally t(20);
    pool.run(Tally::run, &t, 20, 2);  // returns although the owner's job cannot end yet
    EXPECT_TRUE(t.each_once());
    gate.open = true;
    owner.join();
}

// Jobs so short that workers mostly come too late, and between two of them.
TEST(ThreadPoolTest, ManyShortJobsInARow) {
    ThreadPool pool;
    for (int i = 0; i < 20000; ++i) {
        Tally t(3);
        pool.run(Tally::run, &t, 3, 3);
        ASSERT_TRUE(t.each_once()) << i;
    }
}

TEST(ThreadPoolTest, PoolsComeAndGo) {
    for (int i = 0; i < 20; ++i) {
        std::vector<std::unique_ptr<ThreadPool>> pools;
        for (size_t k = 0; k < 4; ++k) {
            pools.push_back(std::make_unique<ThreadPool>());
            Tally t(8);
            pools.back()->run(Tally::run, &t, 8, 1 + k);
            ASSERT_TRUE(t.each_once());
        }
        pools.erase(pools.begin() + i % 4);
    }
}

// Without yielding, which could hand the CPU to others for longer than jobs of one row may be apart.
void pass(std::chrono::microseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
    }
}
constexpr auto longer_than_workers_spin = std::chrono::microseconds(1000);

// A job that comes by itself and is not worth it leaves sleepers alone; the next one of a row wakes them.
TEST(ThreadPoolTest, RowsOfJobsWakeTheWorkers) {
    ThreadPool pool;
    ASSERT_TRUE(runs_side_by_side(pool, 2));
    pass(longer_than_workers_spin);  // the worker falls asleep
    std::atomic<int> helped{0};
    while (helped.load() == 0) {  // the watchdog ends it
        pool.run(
            [](void* opaque, size_t, size_t participant) {
                *static_cast<std::atomic<int>*>(opaque) += participant != 0;
                pass(std::chrono::microseconds(5));
            },
            &helped, 8, 2, 0);
    }
}

#if defined(__linux__)  // nothing else tells how often a thread fell asleep, and where
// What the system tells of a thread.
struct Task {
    char state = '?';
    int cpu = -1;
    long voluntary_switches = -1;

    explicit Task(pid_t id) {
        const std::string directory = "/proc/self/task/" + std::to_string(id);
        std::string stat;
        std::getline(std::ifstream(directory + "/stat"), stat);
        std::istringstream fields(stat.substr(stat.rfind(')') + 1));
        fields >> state;
        std::string field;
        for (int i = 4; i <= 39; ++i) {
            fields >> field;
        }
        cpu = std::stoi(field);
        std::ifstream status(directory + "/status");
        for (std::string line; std::getline(status, line);) {
            if (const std::string name = "voluntary_ctxt_switches:"; line.starts_with(name)) {
                voluntary_switches = std::stol(line.substr(name.size()));
            }
        }
    }
};

// The workers of a pool that is asleep, by participant; the first place is the caller's.
std::vector<pid_t> sleeping_workers(ThreadPool& pool, size_t threads) {
    struct Names {
        Meeting meeting;
        std::vector<pid_t> ids;
    } names{Meeting(threads), std::vector<pid_t>(threads)};
    pool.run(
        [](void* opaque, size_t chunk, size_t participant) {
            auto& n = *static_cast<Names*>(opaque);
            n.ids[participant] = gettid();
            Meeting::run(&n.meeting, chunk, participant);
        },
        &names, threads, threads);
    EXPECT_TRUE(names.meeting.took_place());
    for (size_t i = 1; i < threads; ++i) {
        while (Task(names.ids[i]).state != 'S') {  // the watchdog ends it
            std::this_thread::yield();
        }
    }
    return names.ids;
}

cpu_set_t affinity(pid_t thread = 0) {
    cpu_set_t cpus;
    EXPECT_EQ(sched_getaffinity(thread, sizeof cpus, &cpus), 0);
    return cpus;
}

// A worker that fell asleep on the CPU of the caller wakes on another: it may run wherever the caller may, but there.
// One that sleeps elsewhere stays as it is, and so does the caller.
TEST(ThreadPoolTest, SleepersLeaveTheCallersCpu) {
    const cpu_set_t all = affinity();
    ASSERT_GE(CPU_COUNT(&all), 2) << "a machine of one CPU cannot tell";
    ThreadPool pool;
    for (const bool together : {true, false}) {
        for (bool met = false; !met;) {  // until both are where they are sent; the watchdog ends it
            const pid_t worker = sleeping_workers(pool, 2)[1];
            const int slept_on = Task(worker).cpu;
            cpu_set_t there;
            CPU_ZERO(&there);
            CPU_SET(slept_on, &there);
            cpu_set_t elsewhere = all;
            CPU_CLR(slept_on, &elsewhere);
            ASSERT_EQ(sched_setaffinity(worker, sizeof all, &all), 0);
            ASSERT_EQ(sched_setaffinity(0, sizeof all, together ? &there : &elsewhere), 0);
            ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
            const int before = sched_getcpu();
            sleeping_workers(pool, 2);
            const cpu_set_t now = affinity(worker);
            met = sched_getcpu() == before && (before == slept_on) == together &&
                  CPU_EQUAL(&now, together ? &elsewhere : &all);
        }
    }
    const cpu_set_t caller = affinity();
    EXPECT_TRUE(CPU_EQUAL(&all, &caller));
}

// A job of two chunks has work for one worker, and lets the others sleep.
TEST(ThreadPoolTest, WakesNoMoreThanItNeeds) {
    ThreadPool pool;
    const std::vector<pid_t> ids = sleeping_workers(pool, 4);
    const long needed = Task(ids[1]).voluntary_switches;
    const long others[] = {Task(ids[2]).voluntary_switches, Task(ids[3]).voluntary_switches};
    while (Task(ids[1]).voluntary_switches == needed) {  // the watchdog ends it
        for (int i = 0; i < 100; ++i) {
            Tally t(2);
            pool.run(Tally::run, &t, 2, 4);
            ASSERT_TRUE(t.each_once());
        }
        pass(longer_than_workers_spin);  // whoever was woken falls asleep again, which is a switch
    }
    EXPECT_EQ(Task(ids[2]).voluntary_switches, others[0]);
    EXPECT_EQ(Task(ids[3]).voluntary_switches, others[1]);
}

// Three sleepers could help; one is worth waking.
TEST(ThreadPoolTest, WakesNoMoreThanPay) {
    ThreadPool pool;
    const std::vector<pid_t> ids = sleeping_workers(pool, 4);
    const auto switches = [&] {
        return std::vector<long>{Task(ids[1]).voluntary_switches, Task(ids[2]).voluntary_switches,
                                 Task(ids[3]).voluntary_switches};
    };
    const std::vector<long> before = switches();
    pass(longer_than_workers_spin);  // the job is not of a row
    Tally t(4);
    pool.run(Tally::run, &t, 4, 4, 1);
    EXPECT_TRUE(t.each_once());
    while (switches() == before) {  // the watchdog ends it
        std::this_thread::yield();
    }
    const std::vector<long> after = switches();
    EXPECT_EQ((after[0] != before[0]) + (after[1] != before[1]) + (after[2] != before[2]), 1);
}

// The same where those who are worth waking wake each other: no more of them than the caller wants.
TEST(ThreadPoolTest, WakingEachOtherWakesNoMoreThanPay) {
    constexpr size_t threads = 40;
    constexpr size_t worth_waking = 11;
    ThreadPool pool;
    const std::vector<pid_t> ids = sleeping_workers(pool, threads);
    const auto switches = [&] {
        std::vector<long> all;
        for (size_t i = 1; i < threads; ++i) {
            all.push_back(Task(ids[i]).voluntary_switches);
        }
        return all;
    };
    const std::vector<long> before = switches();
    Meeting meeting(worth_waking + 1);  // the first chunks last until all of them are there
    pool.run(Meeting::run, &meeting, threads, threads, worth_waking);
    EXPECT_FALSE(meeting.missed.load());
    size_t woken = 0;
    while (woken < worth_waking) {  // the watchdog ends it
        const std::vector<long> after = switches();
        woken = 0;
        for (size_t i = 0; i < after.size(); ++i) {
            woken += after[i] != before[i];
        }
    }
    EXPECT_EQ(woken, worth_waking);
}
#endif

#if !defined(_WIN32)
// Signals go to the application's threads, but those of a worker's own fault to the handler of the application.
TEST(ThreadPoolTest, WorkersBlockSignalsOfOthers) {
    ThreadPool pool;
    struct Check {
        Meeting meeting{3};
        std::atomic<int> wrong{0};
    } check;
    sigset_t before;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    pool.run(
        [](void* opaque, size_t chunk, size_t participant) {
            auto& c = *static_cast<Check*>(opaque);
            sigset_t set;
            pthread_sigmask(SIG_SETMASK, nullptr, &set);
            const bool blocked = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGUSR1) == 1 &&
                                 sigismember(&set, SIGSEGV) == 0 && sigismember(&set, SIGBUS) == 0;
            c.wrong += participant != 0 && !blocked;
            Meeting::run(&c.meeting, chunk, participant);
        },
        &check, 3, 3);
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    EXPECT_TRUE(check.meeting.took_place());
    EXPECT_EQ(check.wrong.load(), 0);
    for (const int signal : {SIGINT, SIGUSR1, SIGTERM}) {
        EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << "the caller's mask changed";
    }
}
#endif

}  // namespace
}  // namespace piquant
