// Calls with blocks on any threads: more than there are CPUs, ones that the caller lends, and none after a fork. Results
// and parameters are those of one thread.
#include <gtest/gtest.h>

#if !defined(_WIN32)  // which has no fork()
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <thread>
#include <vector>

#include "block_call.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Call = BlockArguments;

struct Case {
    const char* name;
    BlockGrid grid;
    piquant_dtype_t code;
    bool transposed;
};
const Case cases[] = {{"groups", {{64, 1024}, {1, 32}}, PIQUANT_UINT4, false},
                      {"ragged groups", {{70, 1027}, {1, 50}}, PIQUANT_INT2, false},
                      {"long groups", {{3, 30000}, {1, 9000}}, PIQUANT_INT8, false},
                      {"columns", {{331, 257}, {331, 1}}, PIQUANT_INT8, false},
                      {"channels", {{5, 40, 500}, {5, 1, 500}}, PIQUANT_UINT16, false},
                      {"squares", {{300, 333}, {128, 128}}, PIQUANT_INT4, false},
                      {"one for all", {{300, 333}, {300, 333}}, PIQUANT_UINT8, false},
                      {"transposed", {{257, 331}, {16, 32}}, PIQUANT_INT8, true}};

// All functions on all of these: `same(call, before, expected)` is told what one thread makes of the arrays.
template <class Same>
void for_all_calls(const Same& same) {
    const ContextPtr alone = make_context(1);
    for (const Case& c : cases) {
        for (const Call::Function function : block_functions) {
            SCOPED_TRACE(std::string(name_of(function)) + ", " + c.name);
            const piquant_blocks_t blocks = c.grid.with(DType::float16, DType::int64);
            const auto size = static_cast<ptrdiff_t>(function == Call::dequantize ? piquant_size(c.code, 1) : 4);
            const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(c.grid.shape[0])};
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.round_mode = PIQUANT_STOCHASTIC;
            o.reduce_op = PIQUANT_ADD;
            o.offset = 65000;
            o.in_strides = c.transposed ? across : nullptr;
            const Call call = {function, alone.get(), PIQUANT_FLOAT32, c.code, &blocks, &o};
            Words words(6);
            const BlockArrays before(call, c.grid, DType::float16, DType::int64, words);
            BlockArrays expected = before;
            ASSERT_EQ(expected.of(call)(), PIQUANT_OK);
            same(call, before, expected);
        }
    }
}

TEST(BlockThreads, AnyCount) {
    const ContextPtr context = make_parallel_context(1);
    for_all_calls([&](Call call, const BlockArrays& before, const BlockArrays& expected) {
        call.context = context.get();
        for (const size_t threads : std::initializer_list<size_t>{2, 5, 1, 16, 33}) {
            ASSERT_EQ(piquant_context_set_num_threads(context.get(), threads), PIQUANT_OK);
            for (const size_t threshold : {SIZE_MAX, size_t{0}}) {
                ASSERT_EQ(piquant_context_set_stream_threshold(context.get(), threshold), PIQUANT_OK);
                BlockArrays found = before;
                ASSERT_EQ(found.of(call)(), PIQUANT_OK);
                ASSERT_TRUE(found == expected) << threads << " threads, threshold " << threshold;
            }
        }
    });
}

// A framework's threads, which do all of it, a part, or nothing.
struct Team {
    enum { willing, backwards, stops_early, refuses } mood;
    size_t runs = 0;

    static size_t count(void*) { return 3; }
    static int run(void* self, size_t n, void (*task)(void*, size_t), void* job) {
        auto& team = *static_cast<Team*>(self);
        ++team.runs;
        if (team.mood == refuses) {
            return -1;
        }
        if (team.mood == willing) {
            std::vector<std::thread> threads;
            for (size_t i = 0; i < n; ++i) {
                threads.emplace_back(task, job, i);
            }
            for (std::thread& t : threads) {
                t.join();
            }
            return 0;
        }
        const size_t last = team.mood == stops_early ? n - 1 : 0;
        for (size_t i = n; i-- > last;) {
            task(job, i);
        }
        return team.mood == stops_early ? 7 : 0;
    }
};

TEST(BlockThreads, LentOnes) {
    const ContextPtr context = make_parallel_context(1);
    for_all_calls([&](Call call, const BlockArrays& before, const BlockArrays& expected) {
        piquant_options_t o = *call.options;
        call.context = context.get();
        call.options = &o;
        for (const auto mood : {Team::willing, Team::backwards, Team::stops_early, Team::refuses}) {
            Team team{mood};
            const piquant_threads_t lent = {sizeof lent, Team::count, Team::run, &team};
            o.threads = &lent;
            BlockArrays found = before;
            ASSERT_EQ(found.of(call)(), PIQUANT_OK);
            ASSERT_TRUE(found == expected) << "mood " << mood;
            ASSERT_GT(team.runs, 0u) << "the team was not asked";
        }
    });
}

#if !defined(_WIN32)
// Children have none of the threads, and start their own; an alarm ends one that waits for others.
TEST(BlockThreads, InForkedChildren) {
    if (thread_sanitizer) {
        GTEST_SKIP() << "ThreadSanitizer ends children that start threads";
    }
    const ContextPtr context = make_parallel_context(3);
    for_all_calls([&](Call call, const BlockArrays& before, const BlockArrays& expected) {
        call.context = context.get();
        const auto is_right = [&] {
            BlockArrays found = before;
            return found.of(call)() == PIQUANT_OK && found == expected;
        };
        ASSERT_TRUE(is_right());
        const pid_t child = fork();
        if (child == 0) {
            alarm(120);
            _exit(is_right() ? 0 : 1);
        }
        int status = -1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
        ASSERT_TRUE(is_right()) << "the parent goes on";
    });
}
#endif

}  // namespace
}  // namespace piquant
