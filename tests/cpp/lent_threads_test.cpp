// Contexts on threads that the caller lends: every chunk runs once and results are the same, whatever the threads do.
#include "engine/lent_threads.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "engine/thread_pool.hpp"
#include "support.hpp"

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

ContextPtr context_on(Team& team, size_t num_threads = 0) {
    piquant_context_t* context = nullptr;
    const piquant_threads_t lent = team.lent();
    EXPECT_EQ(piquant_context_create_on(&context, &lent, num_threads), PIQUANT_OK);
    return ContextPtr(context);
}

size_t threads_of(const ContextPtr& context) {
    size_t n = 0;
    EXPECT_EQ(piquant_context_get_num_threads(context.get(), &n), PIQUANT_OK);
    return n;
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
                LentThreads executor(lent);
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

// All operations, against a context with a pool of its own.
TEST(LentThreads, ResultsAreTheSame) {
    constexpr size_t n = 300007;
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i) {
        x[i] = static_cast<float>(i % 4099) * 0.013f - 25;
    }
    const ContextPtr own = make_parallel_context(2);
    piquant_options_t options = default_options();
    options.round_mode = PIQUANT_STOCHASTIC;
    options.seed = 5;
    const size_t shape[] = {3, 100002};
    const ptrdiff_t strides[] = {4, 12};
    for (const auto mood : {Team::willing, Team::serial, Team::refuses, Team::stops_early, Team::counts_none}) {
        Team team;
        team.mood = mood;
        const ContextPtr lent = context_on(team);
        ASSERT_EQ(piquant_context_set_serial_cutoff(lent.get(), 0), PIQUANT_OK);
        for (const bool transposed : {false, true}) {
            options.rank = transposed ? 2 : 0;
            options.shape = shape;
            options.in_strides = strides;
            const size_t count = transposed ? 300006 : n;
            std::vector<unsigned char> expected(n);
            std::vector<unsigned char> codes(n);
            ASSERT_EQ(piquant_quantize(own.get(), x.data(), PIQUANT_FLOAT32, expected.data(), PIQUANT_UINT8, count, 0.3, 7, &options),
                      PIQUANT_OK);
            ASSERT_EQ(piquant_quantize(lent.get(), x.data(), PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT8, count, 0.3, 7, &options),
                      PIQUANT_OK);
            ASSERT_EQ(codes, expected) << "mood " << mood;
            double scale[2];
            int64_t zero[2];
            ASSERT_EQ(piquant_compute_quant_params(own.get(), x.data(), PIQUANT_FLOAT32, PIQUANT_UINT8, count, &options, &scale[0],
                                                   &zero[0]),
                      PIQUANT_OK);
            ASSERT_EQ(piquant_compute_quant_params(lent.get(), x.data(), PIQUANT_FLOAT32, PIQUANT_UINT8, count, &options, &scale[1],
                                                   &zero[1]),
                      PIQUANT_OK);
            ASSERT_EQ(scale[0], scale[1]);
            ASSERT_EQ(zero[0], zero[1]);
        }
        EXPECT_EQ(team.runs.load() != 0, mood != Team::counts_none);
    }
}

TEST(LentThreads, HowManyAreUsed) {
    Team team;
    team.members = 8;
    const ContextPtr context = context_on(team);
    EXPECT_EQ(threads_of(context), 8u);
    team.members = 5;  // the framework's number counts, as it is when a call begins
    EXPECT_EQ(threads_of(context), 5u);
    ASSERT_EQ(piquant_context_set_num_threads(context.get(), 2), PIQUANT_OK);
    EXPECT_EQ(threads_of(context), 2u);
    ASSERT_EQ(piquant_context_set_num_threads(context.get(), 0), PIQUANT_OK);
    EXPECT_EQ(threads_of(context), 5u);
    {
        const ScopedEnvironment environment("PIQUANT_NUM_THREADS", "3");
        EXPECT_EQ(threads_of(context_on(team)), 3u);
        team.members = 2;
        EXPECT_EQ(threads_of(context_on(team)), 2u);
    }
    EXPECT_EQ(threads_of(context_on(team, 1)), 1u);
    team.mood = Team::counts_none;
    EXPECT_EQ(threads_of(context), threads_of(make_context(0)));
}

// A small call asks nobody, and a call takes no more threads than have something to do.
TEST(LentThreads, BySize) {
    Team team;
    team.members = 8;
    const ContextPtr context = context_on(team);
    ASSERT_EQ(piquant_context_set_serial_cutoff(context.get(), 100000), PIQUANT_OK);
    const std::vector<float> in(1 << 20, 1.0f);
    std::vector<unsigned char> out(1 << 20);
    const auto quantize = [&](size_t n) {
        team.largest.store(0);
        EXPECT_EQ(piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, n, 1, 0, nullptr), PIQUANT_OK);
        return team.largest.load();
    };
    EXPECT_EQ(quantize(19999), 0u);
    EXPECT_LE(quantize(20000), 2u);
    EXPECT_LE(quantize(60000), 6u);
    EXPECT_EQ(quantize(1 << 20), 8u);
}

TEST(LentThreads, BadArguments) {
    Team team;
    piquant_context_t* context = nullptr;
    piquant_threads_t lent = team.lent();
    EXPECT_EQ(piquant_context_create_on(nullptr, &lent, 0), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_create_on(&context, nullptr, 0), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_create_on(&context, &lent, PIQUANT_MAX_THREADS + 1), PIQUANT_ERROR_NUM_THREADS);
    lent.count = nullptr;
    EXPECT_EQ(piquant_context_create_on(&context, &lent, 0), PIQUANT_ERROR_NULL);
    lent = team.lent();
    lent.run = nullptr;
    EXPECT_EQ(piquant_context_create_on(&context, &lent, 0), PIQUANT_ERROR_NULL);
    lent = team.lent();
    lent.struct_size -= 1;
    EXPECT_EQ(piquant_context_create_on(&context, &lent, 0), PIQUANT_ERROR_OPTIONS);
    EXPECT_EQ(context, nullptr);
}

// A child of fork() has none of the framework's threads, and leaves them alone.
TEST(LentThreads, NotInForkedChildren) {
    Team team;
    const ContextPtr context = context_on(team);
    ASSERT_EQ(piquant_context_set_serial_cutoff(context.get(), 0), PIQUANT_OK);
    const std::vector<float> in(100000, 1.0f);
    std::vector<unsigned char> out(100000);
    const auto quantize = [&](piquant_context_t* c) {
        return piquant_quantize(c, in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, in.size(), 1, 0, nullptr);
    };
    ASSERT_EQ(quantize(context.get()), PIQUANT_OK);
    ASSERT_EQ(team.runs.load(), 1u);
    const pid_t child = fork();
    if (child == 0) {
        piquant_context_t* another = nullptr;
        const piquant_threads_t lent = team.lent();
        const bool right = quantize(context.get()) == PIQUANT_OK &&
                           piquant_context_create_on(&another, &lent, 2) == PIQUANT_OK && quantize(another) == PIQUANT_OK &&
                           team.runs.load() == 1 && out[99999] == 1;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    ASSERT_EQ(quantize(context.get()), PIQUANT_OK);
    EXPECT_EQ(team.runs.load(), 2u) << "the parent goes on";
}

}  // namespace
}  // namespace piquant
