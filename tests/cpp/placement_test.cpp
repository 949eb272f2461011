// Which CPUs a worker is left with.
#include "cpu/placement.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#if defined(__linux__)  // elsewhere the library does not place threads
#include <pthread.h>
#include <sched.h>

namespace piquant {
namespace {

cpu_set_t affinity(pthread_t thread) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    EXPECT_EQ(pthread_getaffinity_np(thread, sizeof cpus, &cpus), 0);
    return cpus;
}

class KeepOff : public testing::Test {
protected:
    ~KeepOff() override {
        end_ = true;
        end_.notify_one();
        sleeper_.join();
    }
    // What the sleeper may use after it was kept off a CPU, where each of so many threads is to have one.
    cpu_set_t left_without(int cpu, size_t threads) {
        keep_off(cpu, sleeper_, threads);
        return affinity(sleeper_.native_handle());
    }
    const cpu_set_t all_ = affinity(pthread_self());
    size_t count() const { return static_cast<size_t>(CPU_COUNT(&all_)); }

private:
    std::atomic<bool> end_ = false;
    std::thread sleeper_{[this] { end_.wait(false); }};
};

TEST_F(KeepOff, TheCpuOfTheCaller) {
    const int here = current_cpu();
    ASSERT_TRUE(CPU_ISSET(here, &all_));
    cpu_set_t others = all_;
    CPU_CLR(here, &others);
    if (count() == 1) {
        others = all_;  // there is no other to go to
    }
    const cpu_set_t left = left_without(here, 1);
    EXPECT_TRUE(CPU_EQUAL(&left, &others));
}

TEST_F(KeepOff, NothingWhereThreadsWouldShareWhatIsLeft) {
    const cpu_set_t left = left_without(current_cpu(), count());
    EXPECT_TRUE(CPU_EQUAL(&left, &all_));
}

TEST_F(KeepOff, NothingWhereTheCpuIsUnknown) {
    const cpu_set_t left = left_without(-1, 1);
    EXPECT_TRUE(CPU_EQUAL(&left, &all_));
}

TEST_F(KeepOff, ReturnsWhatItTookBefore) {
    constexpr int absent = CPU_SETSIZE - 1;
    ASSERT_FALSE(CPU_ISSET(absent, &all_));
    left_without(current_cpu(), 1);
    const cpu_set_t left = left_without(absent, 1);
    EXPECT_TRUE(CPU_EQUAL(&left, &all_));
}

}  // namespace
}  // namespace piquant
#endif
