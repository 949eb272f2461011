// Contexts on threads that the caller lends: every chunk runs once and results are the same, whatever the threads do.
#include "engine/lent_threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "engine/thread_pool.hpp"
#include "support.hpp"

#if !defined(_WIN32)  // which has no fork()
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace piquant {
namespace {

using Task = void (*)(void*, size_t);

// A framework's threads, and how they behave.
struct Team {
    size_t members = 3;
    enum { willing, serial, refuses, stops_early, counts_none } mood = willing;
    std::atomic<size_t> runs{0};
    std::atomic<size_t> largest{0};

    static size_t count(void* self) {
        const auto& team = *static_cast<const Team*>(self);
        return team.mood == counts_none ? 0 : team.members;
    }
    static int run(void* self, size_t n, Task task, void* job) {
        auto& team = *static_cast<Team*>(self);
        team.runs.fetch_add(1);
        team.largest.store(n);
        if (team.mood == refuses) {
            return -1;
        }
        if (team.mood == serial || team.mood == stops_early) {
            for (size_t i = 0; i < (team.mood == serial ? n : 1); ++i) {
                task(job, i);
            }
            return team.mood == serial ? 0 : 7;
        }
        std::vector<std::thread> threads;
        for (size_t i = 1; i < n; ++i) {
            threads.emplace_back(task, job, i);
        }
        task(job, 0);
        for (std::thread& t : threads) {
            t.join();
        }
        return 0;
    }
    piquant_threads_t lent() { return {sizeof(piquant_threads_t), count, run, this}; }
};

piquant_options_t options_on(const piquant_threads_t& lent) {
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.threads = &lent;
    return options;
}

TEST(LentThreads, EveryChunkOnceWhateverTheyDo) {
    struct Counts {
        std::atomic<int> of[1001] = {};
        std::atomic<size_t> highest{0};
    };
    for (const auto mood : {Team::willing, Team::serial, Team::refuses, Team::stops_early}) {
        for (const size_t threads : std::initializer_list<size_t>{1, 2, 3, 16, 17, 60}) {
            for (const size_t chunks : std::initializer_list<size_t>{0, 1, 2, 5, 16, 100, 1001}) {
                Team team;
                team.mood = mood;
                const piquant_threads_t lent = team.lent();
                LentThreads executor(&lent);
                Counts counts;
                executor.run(
                    [](void* job, size_t chunk, size_t participant) {
                        auto& c = *static_cast<Counts*>(job);
                        c.of[chunk].fetch_add(1);
                        size_t seen = c.highest.load();
                        while (participant > seen && !c.highest.compare_exchange_weak(seen, participant)) {
                        }
                    },
                    &counts, chunks, threads, SIZE_MAX);
                for (size_t i = 0; i < 1001; ++i) {
                    ASSERT_EQ(counts.of[i].load(), i < chunks ? 1 : 0) << "mood " << mood << " chunk " << i;
                }
                ASSERT_LT(counts.highest.load(), threads);
                ASSERT_EQ(team.runs.load(), threads > 1 && chunks > 1 ? 1u : 0u);
            }
        }
    }
}

// Conversions, tiled ones too, and parameters, against a context's own pool.
TEST(LentThreads, ResultsAreTheSame) {
    constexpr size_t n = 300006;
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i) {
        x[i] = static_cast<float>(i % 4099) * 0.013f - 25;
    }
    const ContextPtr context = make_parallel_context(2);
    const size_t shape[] = {3, n / 3};
    const ptrdiff_t strides[] = {4, 12};
    for (const auto mood : {Team::willing, Team::serial, Team::refuses, Team::stops_early, Team::counts_none}) {
        Team team;
        team.mood = mood;
        const piquant_threads_t lent = team.lent();
        for (const size_t rank : {size_t{0}, size_t{2}}) {
            std::vector<unsigned char> codes[2];
            double scale[2];
            int64_t zero[2];
            for (const bool on_team : {false, true}) {
                piquant_options_t options = on_team ? options_on(lent) : default_options();
                options.round_mode = PIQUANT_STOCHASTIC;
                options.seed = 5;
                options.rank = rank;
                options.shape = shape;
                options.in_strides = strides;
                codes[on_team].resize(n);
                ASSERT_EQ(piquant_quantize(context.get(), x.data(), PIQUANT_FLOAT32, codes[on_team].data(),
                                           PIQUANT_UINT8, n, 0.3, 7, &options),
                          PIQUANT_OK);
                ASSERT_EQ(piquant_compute_quant_params(context.get(), x.data(), PIQUANT_FLOAT32, PIQUANT_UINT8, n,
                                                       &options, &scale[on_team], &zero[on_team]),
                          PIQUANT_OK);
            }
            ASSERT_EQ(codes[0], codes[1]) << "mood " << mood;
            ASSERT_EQ(scale[0], scale[1]);
            ASSERT_EQ(zero[0], zero[1]);
        }
        EXPECT_EQ(team.runs.load(), mood == Team::counts_none ? 0u : 4u);
    }
}

class LentThreadsOfCalls : public testing::Test {
protected:
    // On how many of the team's threads n elements are quantized; 0 if the team was not asked.
    size_t threads_for(const ContextPtr& context, size_t n) {
        const piquant_threads_t lent = team.lent();
        const piquant_options_t options = options_on(lent);
        team.largest.store(0);
        EXPECT_EQ(
            piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, n, 1, 0, &options),
            PIQUANT_OK);
        EXPECT_EQ(out[n - 1], 1);
        return team.largest.load();
    }

    Team team;
    std::vector<float> in = std::vector<float>(1 << 20, 1.0f);
    std::vector<unsigned char> out = std::vector<unsigned char>(1 << 20);
};

// A call below twice the cut-off asks nobody, and none takes more threads than have something to do.
TEST_F(LentThreadsOfCalls, BySize) {
    team.members = 8;
    const ContextPtr context = make_context(2);
    ASSERT_EQ(piquant_context_set_serial_cutoff(context.get(), 100000), PIQUANT_OK);
    EXPECT_EQ(threads_for(context, 39999), 0u);  // 5 bytes each
    EXPECT_EQ(threads_for(context, 40000), 2u);
    EXPECT_LE(threads_for(context, 60000), 3u);
    EXPECT_EQ(threads_for(context, 1 << 20), 8u);
    team.members = 5;  // the framework's number counts, as it is when a call begins
    EXPECT_EQ(threads_for(context, 1 << 20), 5u);
    team.members = 1;
    ASSERT_EQ(piquant_context_set_serial_cutoff(context.get(), 0), PIQUANT_OK);
    EXPECT_EQ(threads_for(context, 1 << 20), 0u);
}

TEST_F(LentThreadsOfCalls, TheEnvironmentLimitsThem) {
    team.members = 8;
    const ScopedEnvironment environment("PIQUANT_NUM_THREADS", "3");
    const ContextPtr context = make_context(0);
    EXPECT_EQ(threads_for(context, 1 << 20), 3u);
    ASSERT_EQ(piquant_context_set_num_threads(context.get(), 1), PIQUANT_OK);  // of the own pool
    EXPECT_EQ(threads_for(context, 1 << 20), 3u);
}

TEST(LentThreads, BadOnesAreRefused) {
    Team team;
    const ContextPtr context = make_context(1);
    const float in = 1;
    unsigned char out = 77;
    const auto status = [&](const piquant_threads_t& lent) {
        const piquant_options_t options = options_on(lent);
        return piquant_quantize(context.get(), &in, PIQUANT_FLOAT32, &out, PIQUANT_UINT8, 1, 1, 0, &options);
    };
    piquant_threads_t lent = team.lent();
    lent.count = nullptr;
    EXPECT_EQ(status(lent), PIQUANT_ERROR_OPTIONS);
    lent = team.lent();
    lent.run = nullptr;
    EXPECT_EQ(status(lent), PIQUANT_ERROR_OPTIONS);
    lent = team.lent();
    lent.struct_size -= 1;
    EXPECT_EQ(status(lent), PIQUANT_ERROR_OPTIONS);
    EXPECT_EQ(out, 77);
}

#if !defined(_WIN32)
// A child of fork() has none of the framework's threads, and leaves them alone.
TEST_F(LentThreadsOfCalls, NotInForkedChildren) {
    const ContextPtr context = make_parallel_context(2);
    ASSERT_EQ(threads_for(context, 100000), 3u);
    const pid_t child = fork();
    if (child == 0) {
        const ContextPtr another = make_parallel_context(2);
        _exit(threads_for(context, 100000) == 0 && threads_for(another, 100000) == 0 && !HasFailure() ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(threads_for(context, 100000), 3u) << "the parent goes on";
}
#endif

}  // namespace
}  // namespace piquant
