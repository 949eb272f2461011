#include "engine/thread_pool.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "cpu/pause.hpp"
#include "cpu/placement.hpp"
#include "cpu/sleep.hpp"
#include "cpu/usable_cpus.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace piquant {

// Every live pool, so that a forked child can drop the workers that it did not inherit. The handlers hold the lock
// across fork(), so the child sees the list whole.
std::atomic<bool> in_forked_child{false};

struct ForkRegistry {
    std::mutex lock;
    ThreadPool* first = nullptr;

    static ForkRegistry& get() {
        static auto* registry = new ForkRegistry;  // never destroyed: pools may outlive static destructors
        return *registry;
    }

    ForkRegistry() {
#if !defined(_WIN32)
        (void)pthread_atfork([] { get().lock.lock(); }, [] { get().lock.unlock(); },
                             [] {
                                 in_forked_child.store(true, std::memory_order_relaxed);
                                 for (ThreadPool* p = get().first; p != nullptr; p = p->next_) {
                                     p->abandon_after_fork();
                                 }
                                 get().lock.unlock();
                             });
#endif
    }

    void add(ThreadPool* p) {
        const std::lock_guard guard(lock);
        p->next_ = first;
        p->link_ = &first;
        if (first != nullptr) {
            first->link_ = &p->next_;
        }
        first = p;
    }
    void remove(ThreadPool* p) {
        const std::lock_guard guard(lock);
        *p->link_ = p->next_;
        if (p->next_ != nullptr) {
            p->next_->link_ = p->link_;
        }
    }
};

bool is_forked_child() {
    return in_forked_child.load(std::memory_order_relaxed);
}

namespace {

// From the beginning on: a child has to know that it is one, even if its parent had no pool.
[[maybe_unused]] const ForkRegistry& registered = ForkRegistry::get();

// Longer than the gap between calls of a busy loop, shorter than anyone notices.
constexpr auto spin_time = std::chrono::microseconds(50);

// Jobs with less between them are a row of jobs, where workers spin. Less than the spin: who wakes for one meets the
// next awake. With more between them every job would pay for a wake-up, up to three times its own time, and have no
// help.
constexpr auto row_gap = std::chrono::microseconds(40);

// Sleepers that each participant wakes. A wake-up costs a system call of some microseconds. Shared out, 63 sleepers take
// five rounds of two, not 63 calls of one thread.
constexpr size_t wakes_each = 2;

// Jobs that a pool short of workers runs before it tries again to start them all: a shortage passes unnoticed, and one
// that lasts costs little.
constexpr uint32_t retry_interval = 256;

// Signals are the application's: workers block them, so that handlers run on its threads. Not those that a fault of the
// worker itself raises: were they blocked, the kernel would end the process without asking its handlers.
class SignalsBlocked {
public:
#if defined(_WIN32)
    SignalsBlocked() = default;
#else
    SignalsBlocked() {
        sigset_t others;
        sigfillset(&others);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
            sigdelset(&others, fault);
        }
        blocked_ = pthread_sigmask(SIG_SETMASK, &others, &before_) == 0;
    }
    ~SignalsBlocked() {
        if (blocked_) {
            pthread_sigmask(SIG_SETMASK, &before_, nullptr);
        }
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
    bool blocked_;
#endif
};

}  // namespace

ThreadPool::ThreadPool() {
    ForkRegistry::get().add(this);
}

ThreadPool::~ThreadPool() {
    ForkRegistry::get().remove(this);
    stop_workers();
}

void ThreadPool::abandon_after_fork() {
    workers_ = nullptr;
    wanted_ = 1;
    gate_.store(0);
    stop_.store(false);
    taken_.store(0);
    users.store(0);
}

void ThreadPool::run(Run function, void* job, size_t chunks, size_t threads, size_t worth_waking) {
    const bool alone = threads < 2 || chunks < 2 || taken_.exchange(1, std::memory_order_acquire) != 0;
    if (!alone && (threads != wanted_ || (participants_ < wanted_ && ++short_jobs_ == retry_interval))) {
        stop_workers();
        start_workers(threads);
    }
    if (alone || participants_ < 2) {
        run_alone(function, job, chunks);
        if (!alone) {
            taken_.store(0, std::memory_order_release);
        }
        return;
    }
    run_ = function;
    job_ = job;
    region_count_ = chunks < participants_ ? chunks : participants_;
    open_regions(regions_.get(), region_count_, chunks);
    wake_next_.store(0, std::memory_order_relaxed);
    wake_end_.store(0, std::memory_order_relaxed);
    gate_.fetch_or(1, std::memory_order_release);
    const bool left_sleepers = call_workers(worth_waking);
    work_off(regions_.get(), region_count_, 0, function, job);
    gate_.fetch_and(~uint64_t{1}, std::memory_order_acq_rel);
    for (int spins = 0; gate_.load(std::memory_order_acquire) != 0; ++spins) {
        // A worker that lost its CPU inside a chunk may need this one.
        spins < 4096 ? pause() : std::this_thread::yield();
    }
    if (left_sleepers) {
        last_lone_job_ = std::chrono::steady_clock::now();
    }
    taken_.store(0, std::memory_order_release);
}

// Hands out a new ticket, and has the owners of regions who sleep woken; but if the job comes by itself, no more than
// are worth it. The second of a row of jobs has the rest woken. Returns whether any was left asleep.
bool ThreadPool::call_workers(size_t worth_waking) {
    ticket_.fetch_add(1, std::memory_order_seq_cst);
    const std::span<Worker> owners = first_workers(region_count_ - 1);
    const auto sleeps = [](const Worker& w) { return w.asleep.load(std::memory_order_seq_cst) != 0; };
    const auto sleepers = static_cast<size_t>(std::count_if(owners.begin(), owners.end(), sleeps));
    const bool lone =
        sleepers > worth_waking && (!may_spin_ || std::chrono::steady_clock::now() - last_lone_job_ > row_gap);
    size_t wanted = lone ? worth_waking : sleepers;
    if (wanted != 0) {
        const int here = current_cpu();
        size_t end = 0;
        for (; wanted != 0 && end < owners.size(); ++end) {
            Worker& w = owners[end];
            if (sleeps(w)) {
                --wanted;
                if (w.cpu.load(std::memory_order_relaxed) == here) {
                    keep_off(here, w.thread, participants_ - 1);
                }
            }
        }
        wake_end_.store(end, std::memory_order_release);
        wake_some();
    }
    return lone;
}

// Wakes a few of the sleepers that the caller wants, and leaves the rest to those. Called while the job is open, by the
// caller and by workers inside. Nobody depends on a worker that was woken but gets no CPU: whoever comes goes on from
// the same place.
void ThreadPool::wake_some() {
    const size_t end = wake_end_.load(std::memory_order_acquire);
    size_t woken = 0;
    while (woken < wakes_each && wake_next_.load(std::memory_order_relaxed) < end) {
        const size_t i = wake_next_.fetch_add(1, std::memory_order_relaxed);
        if (i >= end) {
            return;
        }
        woken += wake(workers_[i]) ? 1 : 0;
    }
}

// Wakes a worker that sleeps, once: one that has been woken but has no CPU yet would cost a system call with every job.
bool ThreadPool::wake(Worker& w) {
    if (w.asleep.load(std::memory_order_seq_cst) == 0 || w.asleep.exchange(0, std::memory_order_seq_cst) == 0) {
        return false;
    }
    wake_sleeper(w.asleep);
    return true;
}

// Waits for a ticket other than `seen`. Between two looks it reads the clock, which takes as long as a pause
// instruction. Thousands of those in a row are how a hypervisor knows a thread that waits for a lock: it interrupts the
// virtual CPU, and the next job begins microseconds later there.
uint32_t ThreadPool::await_ticket(Worker& self, uint32_t seen) {
    if (may_spin_) {
        const auto deadline = std::chrono::steady_clock::now() + spin_time;
        do {
            const uint32_t ticket = ticket_.load(std::memory_order_acquire);
            if (ticket != seen) {
                return ticket;
            }
        } while (std::chrono::steady_clock::now() < deadline);
    }
    for (;;) {
        self.cpu.store(current_cpu(), std::memory_order_relaxed);
        // Whoever changes the ticket after this look at it sees the sleeper, and wakes it if it is wanted.
        self.asleep.store(1, std::memory_order_seq_cst);
        const uint32_t ticket = ticket_.load(std::memory_order_seq_cst);
        if (ticket != seen) {
            self.asleep.store(0, std::memory_order_relaxed);
            return ticket;
        }
        // Woken for the ticket that it has, by someone who was slow to do it, it reports itself again.
        sleep_while(self.asleep, 1);
    }
}

void ThreadPool::work(Worker& self, size_t participant, uint32_t ticket) {
    for (;;) {
        ticket = await_ticket(self, ticket);
        if (stop_.load(std::memory_order_acquire)) {
            return;
        }
        if ((gate_.fetch_add(2, std::memory_order_acq_rel) & 1) != 0) {
            wake_some();
            work_off(regions_.get(), region_count_, participant, run_, job_);
        }
        gate_.fetch_sub(2, std::memory_order_release);
    }
}

void ThreadPool::start_workers(size_t threads) {
    wanted_ = threads;
    short_jobs_ = 0;
    participants_ = 1;
    try {
        may_spin_ = threads <= usable_cpus();
        regions_ = std::make_unique<Region[]>(threads);
        workers_ = new Worker[threads - 1];
        [[maybe_unused]] const SignalsBlocked blocked;
        const uint32_t ticket = ticket_.load(std::memory_order_relaxed);
        for (size_t i = 1; i < threads; ++i) {
            Worker& w = workers_[i - 1];
            w.thread = std::thread(&ThreadPool::work, this, std::ref(w), i, ticket);
            participants_ = i + 1;
        }
    } catch (const std::bad_alloc&) {
    } catch (const std::system_error&) {
        // Fewer workers, or none: participants_ counts those that exist.
    }
}

void ThreadPool::stop_workers() {
    if (workers_ != nullptr) {
        stop_.store(true, std::memory_order_release);
        ticket_.fetch_add(1, std::memory_order_seq_cst);
        const std::span<Worker> workers = first_workers(participants_ - 1);
        for (Worker& w : workers) {
            wake(w);
        }
        for (Worker& w : workers) {
            w.thread.join();
        }
        delete[] workers_;
        workers_ = nullptr;
        stop_.store(false, std::memory_order_relaxed);
    }
    wanted_ = 1;
}

}  // namespace piquant
