// Whichever allocation or thread creation fails: a status or a slower call, never a wrong result, and no lasting harm.
#include <gtest/gtest.h>

#if defined(__GLIBC__) || defined(_WIN32)  // elsewhere a program cannot stand between the library and pthread_create
#if defined(__GLIBC__)
#include <dlfcn.h>
#endif
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <atomic>
#include <new>
#include <vector>

#include "block_call.hpp"
#include "meeting.hpp"
#include "support.hpp"

namespace {

// Failures are armed for this thread alone; the allocator of gtest and of other threads is not disturbed.
thread_local bool armed = false;
thread_local bool once = false;  // only the one allocation fails, not those after it
thread_local long allocations_left = 0;
thread_local long failures_seen = 0;
thread_local bool is_caller = false;  // of what is being watched
std::atomic<bool> watched{false};
std::atomic<long> allocations_elsewhere{
    0};                              // by other threads than the caller, where an exception would end the process
std::atomic<long> threads_left{-1};  // -1: any number
std::atomic<long> creations_tried{0};

void* allocate(size_t size, size_t alignment) {
    allocations_elsewhere += watched && !is_caller ? 1 : 0;
    if (armed && allocations_left-- <= 0) {
        armed = !once;
        ++failures_seen;
        throw std::bad_alloc();
    }
    alignment = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    void* p = nullptr;
#if defined(_WIN32)
    p = _aligned_malloc(size != 0 ? size : 1, alignment);
#else
    p = posix_memalign(&p, alignment, size) == 0 ? p : nullptr;
#endif
    if (p == nullptr) {
        throw std::bad_alloc();
    }
    return p;
}

void deallocate(void* p) {
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}

using Create = decltype(pthread_create);

int create(Create* real, pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
    ++creations_tried;
    if (threads_left.load() == 0) {
        return EAGAIN;
    }
    if (threads_left.load() > 0) {
        --threads_left;
    }
    return real(thread, attributes, start, argument);
}

}  // namespace

// The whole test program's; arrays and nothrow forms go through them. Visible to the shared libraries too, or memory of
// one allocator would reach another.
#pragma GCC visibility push(default)
void* operator new(size_t size) {
    return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept {
    deallocate(p);
}
void operator delete(void* p, size_t) noexcept {
    deallocate(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    deallocate(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
    deallocate(p);
}

#if defined(_WIN32)
// The linker has everyone come here, where it is told to by --wrap.
extern "C" Create __real_pthread_create;
extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                                     void* argument) {
    return create(__real_pthread_create, thread, attributes, start, argument);
}
#else
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) noexcept {
    static const auto real = reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_create"));
    return create(real, thread, attributes, start, argument);
}
#endif
#pragma GCC visibility pop

namespace piquant {
namespace {

// Runs body with the k-th allocation failing; false once there are not that many.
template <class Body>
bool with_failure(long k, bool only_one, Body body) {
    failures_seen = 0;
    allocations_left = k;
    once = only_one;
    armed = true;
    body();
    armed = false;
    return failures_seen != 0;
}

TEST(AllocationFailure, ContextCreation) {
    for (const bool only_one : {false, true}) {
        long k = 0;
        for (bool failed = true; failed; ++k) {
            piquant_context_t* context = nullptr;
            piquant_status_t status = PIQUANT_OK;
            failed = with_failure(k, only_one, [&] { status = piquant_context_create(&context, 0); });
            // Reading of cgroup files may do without an allocation; the context itself may not.
            ASSERT_TRUE(status == PIQUANT_OK || (failed && status == PIQUANT_ERROR_MEMORY)) << k;
            ASSERT_EQ(context != nullptr, status == PIQUANT_OK);
            piquant_context_destroy(context);
        }
        EXPECT_GT(k, 1) << "no allocation failed";
    }
}

TEST(AllocationFailure, ParallelCalls) {
    const std::vector<float> in(200001, 2.6f);
    for (const bool only_one : {false, true}) {
        long k = 0;
        for (bool failed = true; failed; ++k) {
            const ContextPtr context = make_parallel_context(3);
            std::vector<uint8_t> out(in.size(), 0x5a);
            double scale = 0;
            int64_t zero_point = -1;
            piquant_status_t statuses[2] = {};
            failed = with_failure(k, only_one, [&] {
                statuses[0] = piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8,
                                               in.size(), 1.0, 0, nullptr);
                statuses[1] = piquant_compute_quant_params(context.get(), in.data(), PIQUANT_FLOAT32, PIQUANT_UINT8,
                                                           in.size(), nullptr, &scale, &zero_point);
            });
            ASSERT_TRUE(statuses[0] == PIQUANT_OK || statuses[0] == PIQUANT_ERROR_MEMORY) << k;
            ASSERT_TRUE(out == std::vector<uint8_t>(in.size(), statuses[0] == PIQUANT_OK ? 3 : 0x5a)) << k;
            ASSERT_EQ(statuses[1] == PIQUANT_OK, scale == static_cast<double>(2.6f / 255) && zero_point == 0) << k;
        }
        EXPECT_GT(k, 1) << "no allocation failed";
    }
}

// Tiles need memory of their own, and so do layouts of many dimensions; what fails has not touched the output.
TEST(AllocationFailure, CallsWithLayouts) {
    constexpr size_t rows = 301;
    constexpr size_t columns = 127;
    constexpr size_t n = rows * columns;
    const std::vector<float> in(n, 2.6f);
    const auto rows_of = [](size_t bytes) { return static_cast<ptrdiff_t>(bytes); };
    std::vector<size_t> shape = {rows, columns};
    std::vector<ptrdiff_t> across = {4, rows_of(4 * rows)};
    std::vector<ptrdiff_t> packed = {rows_of((columns + 1) / 2), 0};
    std::vector<ptrdiff_t> back = {rows_of(4 * columns), 4};
    const std::vector<uint8_t> untouched(rows * (columns + 1) / 2, 0x5a);
    for (const size_t rank : {size_t{2}, size_t{PIQUANT_MAX_RANK}}) {
        for (std::vector<ptrdiff_t>* strides : {&across, &packed, &back}) {
            strides->insert(strides->begin(), rank - strides->size(), 0);
        }
        shape.insert(shape.begin(), rank - shape.size(), 1);
        piquant_options_t quantize = PIQUANT_OPTIONS_INIT;
        quantize.rank = rank;
        quantize.shape = shape.data();
        quantize.in_strides = across.data();
        quantize.out_strides = packed.data();
        piquant_options_t dequantize = quantize;
        dequantize.in_strides = packed.data();
        dequantize.out_strides = back.data();
        for (const size_t threads : {size_t{1}, size_t{3}}) {
            for (const bool only_one : {false, true}) {
                long k = 0;
                bool refused = false;
                for (bool failed = true; failed; ++k) {
                    const ContextPtr context = make_parallel_context(threads);
                    std::vector<uint8_t> codes = untouched;
                    std::vector<float> numbers = in;
                    double scale = 0;
                    int64_t zero_point = -1;
                    const std::vector<uint8_t> all(untouched.size(), 0x33);
                    piquant_status_t statuses[3] = {};
                    failed = with_failure(k, only_one, [&] {
                        statuses[0] = piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, codes.data(),
                                                       PIQUANT_UINT4, n, 1.0, 0, &quantize);
                        statuses[1] = piquant_dequantize(context.get(), all.data(), PIQUANT_UINT4, numbers.data(),
                                                         PIQUANT_FLOAT32, n, 1.0, 0, &dequantize);
                        statuses[2] = piquant_compute_quant_params(context.get(), in.data(), PIQUANT_FLOAT32,
                                                                   PIQUANT_UINT8, n, &quantize, &scale, &zero_point);
                    });
                    for (const piquant_status_t status : statuses) {
                        ASSERT_TRUE(status == PIQUANT_OK || (failed && status == PIQUANT_ERROR_MEMORY)) << k;
                    }
                    std::vector<uint8_t> expected = statuses[0] == PIQUANT_OK ? all : untouched;
                    for (size_t i = columns / 2; i < expected.size() && statuses[0] == PIQUANT_OK;
                         i += (columns + 1) / 2) {
                        expected[i] = 0x03;  // rows are padded
                    }
                    ASSERT_TRUE(codes == expected) << k;
                    ASSERT_TRUE(numbers == (statuses[1] == PIQUANT_OK ? std::vector<float>(n, 3.0f) : in)) << k;
                    ASSERT_EQ(statuses[2] == PIQUANT_OK, scale == static_cast<double>(2.6f / 255) && zero_point == 0)
                        << k;
                    refused = refused || (failed && statuses[0] == PIQUANT_ERROR_MEMORY);
                }
                EXPECT_GT(k, 2) << "hardly an allocation failed";
                EXPECT_TRUE(refused) << "no call said that it had no memory";
            }
        }
    }
}

// Blocks need memory for their parameters. What fails has touched neither these nor the output, whichever pass it was in.
TEST(AllocationFailure, CallsWithBlocks) {
    const struct {
        const char* name;
        BlockGrid grid;
        piquant_dtype_t code;
        bool transposed;
    } cases[] = {{"groups", {{40, 1024}, {1, 32}}, PIQUANT_UINT4, false},
                 {"ragged groups", {{40, 1025}, {1, 33}}, PIQUANT_UINT4, false},
                 {"columns", {{300, 128}, {300, 1}}, PIQUANT_INT8, false},
                 {"squares", {{300, 200}, {128, 128}}, PIQUANT_INT4, false},
                 {"transposed", {{300, 128}, {1, 32}}, PIQUANT_INT4_UNPACKED, true}};
    for (const auto& c : cases) {
        for (const BlockArguments::Function function : block_functions) {
            SCOPED_TRACE(std::string(name_of(function)) + ", " + c.name);
            const piquant_blocks_t blocks = c.grid.with(DType::bfloat16, DType::int64);
            const bool from_codes = function == BlockArguments::dequantize;
            const auto size = static_cast<ptrdiff_t>(from_codes ? piquant_size(c.code, 1) : sizeof(float));
            const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(c.grid.shape[0])};
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.round_mode = PIQUANT_STOCHASTIC;
            o.in_strides = c.transposed ? across : nullptr;
            const ContextPtr alone = make_context(1);
            BlockArguments call = {function, alone.get(), PIQUANT_FLOAT32, c.code, &blocks, &o};
            Words words(5);
            const BlockArrays before(call, c.grid, DType::bfloat16, DType::int64, words);
            BlockArrays expected = before;
            ASSERT_EQ(expected.of(call)(), PIQUANT_OK);
            int touched = 0;
            for (const size_t threads : {size_t{1}, size_t{3}}) {
                for (const bool only_one : {false, true}) {
                    long k = 0;
                    for (bool failed = true; failed; ++k) {
                        const ContextPtr context = make_parallel_context(threads);
                        BlockArrays arrays = before;
                        call = arrays.of(call);
                        call.context = context.get();
                        piquant_status_t status = PIQUANT_OK;
                        is_caller = watched = true;
                        failed = with_failure(k, only_one, [&] { status = call(); });
                        watched = false;
                        ASSERT_TRUE(status == PIQUANT_OK || (failed && status == PIQUANT_ERROR_MEMORY)) << k;
                        ASSERT_TRUE(status != PIQUANT_OK || arrays == expected) << k;
                        touched += status != PIQUANT_OK && !(arrays == before);
                    }
                    EXPECT_GT(k, 1) << "no allocation failed";
                }
            }
            EXPECT_EQ(touched, 0) << "calls wrote, and then had no memory";
            EXPECT_EQ(allocations_elsewhere.exchange(0), 0) << "workers allocated";
        }
    }
}

TEST(AllocationFailure, PoolRecovers) {
    for (const bool only_one : {false, true}) {
        long k = 0;
        for (bool failed = true; failed; ++k) {
            ThreadPool pool;
            failed = with_failure(k, only_one, [&] {
                try {
                    std::atomic<int> ran{0};
                    pool.run([](void* p, size_t, size_t) { ++*static_cast<std::atomic<int>*>(p); }, &ran, 10, 3);
                    armed = false;
                    EXPECT_EQ(ran.load(), 10);
                } catch (const std::bad_alloc&) {
                }
            });
            ASSERT_TRUE(runs_side_by_side(pool, 2)) << "the pool did not recover from failure " << k;
        }
        EXPECT_GT(k, 1) << "no allocation failed";
    }
}

TEST(ThreadCreationFailure, FewerWorkersOrNoneDoTheJob) {
    for (long granted = 0; granted < 6; ++granted) {
        ThreadPool pool;
        struct Job {
            std::atomic<int> ran[40] = {};
            std::atomic<size_t> highest{0};
        } job;
        threads_left = granted;
        pool.run(
            [](void* p, size_t chunk, size_t participant) {
                auto& j = *static_cast<Job*>(p);
                ++j.ran[chunk];
                if (participant > j.highest.load()) {
                    j.highest = participant;
                }
            },
            &job, 40, 5);
        threads_left = -1;
        for (const auto& count : job.ran) {
            ASSERT_EQ(count.load(), 1) << "granted " << granted;
        }
        ASSERT_LE(job.highest.load(), static_cast<size_t>(granted));
        ASSERT_TRUE(runs_side_by_side(pool, 3)) << "granted " << granted;
    }
}

// A shortage that has passed is over for the pool too; one that lasts costs it few attempts.
TEST(ThreadCreationFailure, IsTriedAgainAfterSomeJobs) {
    constexpr long jobs = 10000;
    ThreadPool pool;
    for (const long granted : {0L, 2L}) {
        const auto run_jobs = [&](long count) {
            const long before = creations_tried.load();
            for (long i = 0; i < count; ++i) {
                pool.run([](void*, size_t, size_t) {}, nullptr, 5, 5);
            }
            return creations_tried.load() - before;
        };
        const auto run_jobs_short_of_threads = [&] {
            long tried = 0;
            for (long i = 0; i < jobs; ++i) {
                threads_left = granted;
                tried += run_jobs(1);
            }
            threads_left = -1;
            return tried;
        };
        const long tried = run_jobs_short_of_threads();
        EXPECT_GT(tried, granted + 1) << "never again";
        EXPECT_LT(tried, jobs / 20) << "all the time";
        EXPECT_EQ(run_jobs(jobs), 4) << "once, for all four workers";
        EXPECT_TRUE(runs_side_by_side(pool, 5));
        EXPECT_TRUE(runs_side_by_side(pool, 2)) << "for the next round, other workers";
    }
}

}  // namespace
}  // namespace piquant
#endif
