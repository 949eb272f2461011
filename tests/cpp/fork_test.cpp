// After fork() the child starts its own workers, and the parent does not notice. Children are watched by an alarm, so
// that a hang is a failure.
#include <gtest/gtest.h>

#if !defined(_WIN32)  // which has no fork()
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "engine/context.hpp"
#include "held_call.hpp"
#include "meeting.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

extern "C" __attribute__((weak)) void __gcov_dump();  // there while coverage is counted

namespace piquant {
namespace {

// Without the tests' clean-up. What ran in the child counts as covered.
[[noreturn]] void exit_child(int code) {
    if (__gcov_dump != nullptr) {
        __gcov_dump();
    }
    _exit(code);
}

constexpr int rounds = address_sanitizer ? 10 : 200;  // with it a fork takes long
constexpr unsigned watchdog = 120;                    // seconds; on a loaded machine a child may take some

class Fork : public testing::Test {
protected:
    void SetUp() override {
        if (thread_sanitizer) {
            GTEST_SKIP() << "ThreadSanitizer ends children that start threads";
        }
    }
};

// Exit status of a child that runs `body`; a hang ends as death by SIGALRM.
std::string in_child(const std::function<bool()>& body) {
    const pid_t child = fork();
    if (child < 0) {
        return "fork failed";
    }
    if (child == 0) {
        alarm(watchdog);
        exit_child(body() ? 0 : 1);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) {
        return "waitpid failed";
    }
    if (WIFSIGNALED(status)) {
        return "killed by signal " + std::to_string(WTERMSIG(status));
    }
    return WEXITSTATUS(status) == 0 ? "good" : "wrong result";
}

TEST_F(Fork, PoolThatNeverRan) {
    ThreadPool pool;
    for (int i = 0; i < rounds; ++i) {
        ASSERT_EQ(in_child([&] { return runs_side_by_side(pool, 3); }), "good");
    }
    EXPECT_TRUE(runs_side_by_side(pool, 3));
}

TEST_F(Fork, IdlePoolAfterUse) {
    ThreadPool pool;
    for (int i = 0; i < rounds; ++i) {
        EXPECT_TRUE(runs_side_by_side(pool, 3));
        ASSERT_EQ(in_child([&] { return runs_side_by_side(pool, 3) && runs_side_by_side(pool, 2); }), "good");
        EXPECT_TRUE(runs_side_by_side(pool, 3)) << "the parent's workers are still there";
    }
}

TEST_F(Fork, ChildOfAChild) {
    ThreadPool pool;
    EXPECT_TRUE(runs_side_by_side(pool, 2));
    for (int i = 0; i < rounds; ++i) {
        ASSERT_EQ(in_child([&] {
                      return runs_side_by_side(pool, 3) &&
                             in_child([&] { return runs_side_by_side(pool, 3); }) == "good" &&
                             runs_side_by_side(pool, 2);
                  }),
                  "good");
    }
    EXPECT_TRUE(runs_side_by_side(pool, 2));
}

TEST_F(Fork, GrandchildOfAnUnusedChild) {
    ThreadPool pool;
    EXPECT_TRUE(runs_side_by_side(pool, 2));
    ASSERT_EQ(in_child([&] { return in_child([&] { return runs_side_by_side(pool, 2); }) == "good"; }), "good");
}

// The fork comes while a job of another thread is certainly inside its chunks, on caller and worker.
TEST_F(Fork, WhileAnotherThreadRunsAJob) {
    for (int i = 0; i < rounds; ++i) {
        ThreadPool pool;
        struct Gate {
            std::atomic<int> inside{0};
            std::atomic<bool> open{false};
        } gate;
        std::thread owner([&] {
            pool.run(
                [](void* opaque, size_t, size_t) {
                    auto& g = *static_cast<Gate*>(opaque);
                    ++g.inside;
                    while (!g.open.load()) {
                        std::this_thread::yield();
                    }
                },
                &gate, 2, 2);
        });
        while (gate.inside.load() < 2) {
            std::this_thread::yield();
        }
        const std::string child = in_child([&] { return runs_side_by_side(pool, 2) && runs_side_by_side(pool, 3); });
        gate.open = true;
        owner.join();
        ASSERT_EQ(child, "good");
        EXPECT_TRUE(runs_side_by_side(pool, 2));
    }
}

// Forks at arbitrary moments of a thread that starts, uses, resizes and stops workers.
TEST_F(Fork, AtAnyMoment) {
    if (address_sanitizer) {
        GTEST_SKIP() << "its allocator, unlike glibc's, hangs in the child if another thread was inside it";
    }
    ThreadPool pool;
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        for (size_t i = 0; !stop.load(); ++i) {
            runs_side_by_side(pool, 2 + i % 2);
            ThreadPool short_lived;
            runs_side_by_side(short_lived, 2);
        }
    });
    for (int i = 0; i < rounds && !HasFailure(); ++i) {
        EXPECT_EQ(in_child([&] { return runs_side_by_side(pool, 2); }), "good");
    }
    stop = true;
    busy.join();
    EXPECT_TRUE(runs_side_by_side(pool, 2));
}

// The list of pools, which the child walks, is whole and unlocked there.
TEST_F(Fork, WhileAnotherThreadCreatesPools) {
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        while (!stop.load()) {
            const ThreadPool short_lived;
        }
    });
    for (int i = 0; i < rounds && !HasFailure(); ++i) {
        EXPECT_EQ(in_child([] { return (ThreadPool(), true); }), "good");
    }
    stop = true;
    busy.join();
}

TEST_F(Fork, PoolsCanBeDestroyedInTheChild) {
    auto* pool = new ThreadPool;
    ThreadPool other;
    EXPECT_TRUE(runs_side_by_side(*pool, 2));
    ASSERT_EQ(in_child([&] {
                  delete pool;
                  ThreadPool fresh;
                  return runs_side_by_side(fresh, 2) && runs_side_by_side(other, 2);
              }),
              "good");
    EXPECT_TRUE(runs_side_by_side(*pool, 2));
    delete pool;
}

bool quantizes(piquant_context_t* context) {
    std::vector<float> in(100003);
    std::iota(in.begin(), in.end(), 0.0f);
    std::vector<uint8_t> out(in.size());
    if (piquant_quantize(context, in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, in.size(), 1000.0, 0,
                         nullptr) != PIQUANT_OK) {
        return false;
    }
    for (size_t i = 0; i < in.size(); ++i) {
        if (out[i] != static_cast<uint8_t>(std::nearbyint(in[i] * 0.001f))) {
            return false;
        }
    }
    constexpr size_t rows = 100;
    constexpr size_t columns = 1000;
    const size_t shape[] = {rows, columns};
    const ptrdiff_t across[] = {4, 4 * rows};
    piquant_options_t transposed = PIQUANT_OPTIONS_INIT;
    transposed.rank = 2;
    transposed.shape = shape;
    transposed.in_strides = across;
    if (piquant_quantize(context, in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, rows * columns, 1000.0, 0,
                         &transposed) != PIQUANT_OK) {
        return false;
    }
    for (size_t i = 0; i < rows * columns; ++i) {
        if (out[i] != static_cast<uint8_t>(std::nearbyint(in[i / columns + i % columns * rows] * 0.001f))) {
            return false;
        }
    }
    return true;
}

TEST_F(Fork, Contexts) {
    const ContextPtr context = make_parallel_context(3);
    for (int i = 0; i < rounds; ++i) {
        EXPECT_TRUE(quantizes(context.get()));
        ASSERT_EQ(in_child([&] { return quantizes(context.get()); }), "good");
    }
}

// Two threads of another call are inside its kernel for as long as the forks go on.
TEST_F(Fork, WhileAnotherThreadIsInsideAKernel) {
    constexpr size_t n = size_t{1} << 20;
    HeldMemory held(n * sizeof(float));
    const ContextPtr context = make_context(2);
    std::vector<uint8_t> out(n, 0xff);
    piquant_status_t status = PIQUANT_ERROR_MEMORY;
    std::thread caller([&] {
        status = piquant_quantize(context.get(), held.floats(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, n, 1.0, 7,
                                  nullptr);
    });
    held.wait_for(2);
    for (int i = 0; i < rounds && !HasFailure(); ++i) {
        EXPECT_EQ(in_child([&] {
                      return piquant_context_set_serial_cutoff(context.get(), 0) == PIQUANT_OK &&
                             quantizes(context.get()) && in_child([&] { return quantizes(context.get()); }) == "good";
                  }),
                  "good");
    }
    held.release();
    caller.join();
    EXPECT_EQ(status, PIQUANT_OK);
    EXPECT_EQ(out, std::vector<uint8_t>(n, 7));
    EXPECT_TRUE(quantizes(context.get()));
}

TEST_F(Fork, FromTwoThreadsAtOnce) {
    if (address_sanitizer) {
        GTEST_SKIP() << "its allocator, unlike glibc's, hangs in the child if another thread was inside it";
    }
    const ContextPtr context = make_parallel_context(2);
    std::vector<std::thread> forkers;
    for (int t = 0; t < 2; ++t) {
        forkers.emplace_back([&] {
            for (int i = 0; i < rounds && !HasFailure(); ++i) {
                EXPECT_TRUE(quantizes(context.get()));
                EXPECT_EQ(in_child([&] { return quantizes(context.get()); }), "good");
            }
        });
    }
    for (std::thread& t : forkers) {
        t.join();
    }
    EXPECT_TRUE(quantizes(context.get()));
}

// In the child no other thread is inside a call, whatever the parent's threads were doing.
TEST_F(Fork, ChildDestroysAContextThatWasInUse) {
    piquant_context_t* context = nullptr;
    ASSERT_EQ(piquant_context_create(&context, 2), PIQUANT_OK);
    auto& users = reinterpret_cast<Context*>(context)->users();
    ++users;  // as another thread's call does for as long as it runs
    ASSERT_EQ(in_child([&] { return piquant_context_destroy(context) == PIQUANT_OK; }), "good");
    EXPECT_EQ(piquant_context_destroy(context), PIQUANT_ERROR_BUSY) << "in the parent it still is";
    --users;
    EXPECT_EQ(piquant_context_destroy(context), PIQUANT_OK);
}

}  // namespace
}  // namespace piquant
#endif
