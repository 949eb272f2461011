// Many callers at once, on contexts that they share and that come and go. What ThreadSanitizer is run on: as it sees no
// vector accesses wider than 16 bytes, this file keeps to the narrow instruction sets when built with it.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "held_call.hpp"
#include "kernel_data.hpp"
#include "platform.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t callers = 8;
constexpr size_t n = 20011;   // several chunks each of whole lines and of ragged ends
constexpr size_t rows = 149;  // some tiles, none of them whole
constexpr size_t columns = 131;
constexpr double scale = 0.37;

std::vector<const char*> instruction_sets() {
    std::vector<const char*> names;
    for (size_t i = 0; const char* name = piquant_available_isa(i); ++i) {
        if (!thread_sanitizer || (strcmp(name, "avx2") != 0 && strcmp(name, "avx512") != 0)) {
            names.push_back(name);
        }
    }
    return names;
}

// A framework's threads, of which any number of calls may want some at once: new ones for each call.
int run_on_new_threads(void*, size_t count, void (*task)(void* job, size_t i), void* job) {
    std::vector<std::thread> threads;
    for (size_t i = 1; i < count; ++i) {
        threads.emplace_back(task, job, i);
    }
    task(job, 0);
    for (std::thread& t : threads) {
        t.join();
    }
    return 0;
}
constexpr piquant_threads_t lent_threads = {sizeof(piquant_threads_t), [](void*) -> size_t { return 3; },
                                            run_on_new_threads, nullptr};

piquant_options_t options_on(const piquant_threads_t* threads) {
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.threads = threads;
    return options;
}

// Everything that a call computes from one array: codes, their sum with an accumulator, the fused result, parameters; and
// the same of a transposed matrix, by tiles: codes in odd rows, from there into every second element, and in place; and
// parameters and codes of blocks.
struct Results {
    std::vector<uint8_t> codes = std::vector<uint8_t>((n + 1) / 2);
    std::vector<float> sum = std::vector<float>(n, 1.0f);
    std::vector<float> fused = std::vector<float>(n);
    double found_scale = 0;
    int64_t found_zero_point = 0;
    std::vector<uint8_t> rows_of_codes = std::vector<uint8_t>(columns * ((rows + 1) / 2));
    std::vector<float> every_second = std::vector<float>(2 * rows * columns, 1.0f);
    std::vector<float> in_place;
    double transposed_scale = 0;
    int64_t transposed_zero_point = 0;
    std::vector<uint8_t> codes_by_group = std::vector<uint8_t>(columns * ((rows + 1) / 2));
    std::vector<float> group_scales = std::vector<float>(columns * ((rows + 31) / 32));
    std::vector<int8_t> group_zeros = std::vector<int8_t>(columns * ((rows + 31) / 32));
    std::vector<float> group_sum = std::vector<float>(rows * columns, 1.0f);
    std::vector<uint8_t> codes_by_channel = std::vector<uint8_t>(rows * columns);
    std::vector<float> channel_scales = std::vector<float>(rows);
    std::vector<uint8_t> channel_zeros = std::vector<uint8_t>(rows);

    void compute(piquant_context_t* c, const float* in, const piquant_threads_t* lent = nullptr) {
        piquant_options_t o = options_on(lent);
        o.round_mode = PIQUANT_STOCHASTIC;
        o.seed = 11;
        EXPECT_EQ(piquant_quantize(c, in, PIQUANT_FLOAT32, codes.data(), PIQUANT_UINT4, n, scale, 3, &o), PIQUANT_OK);
        o = options_on(lent);
        o.reduce_op = PIQUANT_ADD;
        EXPECT_EQ(piquant_dequantize(c, codes.data(), PIQUANT_UINT4, sum.data(), PIQUANT_FLOAT32, n, scale, 3, &o),
                  PIQUANT_OK);
        EXPECT_EQ(piquant_quantize_dequantize(c, in, fused.data(), PIQUANT_FLOAT32, PIQUANT_INT8, n, scale, 3, nullptr),
                  PIQUANT_OK);
        EXPECT_EQ(piquant_compute_quant_params(c, in, PIQUANT_FLOAT32, PIQUANT_INT8, n, nullptr, &found_scale,
                                               &found_zero_point),
                  PIQUANT_OK);
        compute_transposed(c, in, lent);
        compute_blocks(c, in, lent);
    }
    // In one pass, and back; in two, where a block's elements lie apart.
    void compute_blocks(piquant_context_t* c, const float* in, const piquant_threads_t* lent) {
        constexpr size_t shape[] = {columns, rows};
        constexpr size_t group[] = {1, 32};
        constexpr size_t channel[] = {columns, 1};
        const piquant_blocks_t groups = {sizeof groups, 2, shape, group, PIQUANT_FLOAT32, PIQUANT_INT8, 0};
        const piquant_blocks_t channels = {sizeof channels, 2, shape, channel, PIQUANT_FLOAT32, PIQUANT_UINT8, 0};
        piquant_options_t o = options_on(lent);
        o.round_mode = PIQUANT_STOCHASTIC;
        o.reduce_op = PIQUANT_ADD;
        EXPECT_EQ(piquant_quantize_dynamic(c, in, PIQUANT_FLOAT32, codes_by_group.data(), PIQUANT_INT4, &groups, &o,
                                           group_scales.data(), group_zeros.data(), nullptr),
                  PIQUANT_OK);
        EXPECT_EQ(piquant_dequantize_blocks(c, codes_by_group.data(), PIQUANT_INT4, group_sum.data(), PIQUANT_FLOAT32,
                                            &groups, group_scales.data(), group_zeros.data(), &o, nullptr),
                  PIQUANT_OK);
        EXPECT_EQ(piquant_quantize_dynamic(c, in, PIQUANT_FLOAT32, codes_by_channel.data(), PIQUANT_UINT8, &channels,
                                           &o, channel_scales.data(), channel_zeros.data(), nullptr),
                  PIQUANT_OK);
    }
    void compute_transposed(piquant_context_t* c, const float* in, const piquant_threads_t* lent) {
        constexpr size_t shape[] = {columns, rows};
        constexpr ptrdiff_t across[] = {4, 4 * columns};
        constexpr ptrdiff_t packed[] = {(rows + 1) / 2, 0};
        constexpr ptrdiff_t second[] = {8 * rows, 8};
        constexpr size_t elements = rows * columns;
        piquant_options_t o = options_on(lent);
        o.round_mode = PIQUANT_STOCHASTIC;
        o.seed = 12;
        o.rank = 2;
        o.shape = shape;
        o.in_strides = across;
        o.out_strides = packed;
        EXPECT_EQ(piquant_quantize(c, in, PIQUANT_FLOAT32, rows_of_codes.data(), PIQUANT_INT4, elements, scale, 3, &o),
                  PIQUANT_OK);
        EXPECT_EQ(piquant_compute_quant_params(c, in, PIQUANT_FLOAT32, PIQUANT_INT8, elements, &o, &transposed_scale,
                                               &transposed_zero_point),
                  PIQUANT_OK);
        in_place.assign(in, in + elements);
        o.out_strides = across;
        EXPECT_EQ(piquant_quantize_dequantize(c, in_place.data(), in_place.data(), PIQUANT_FLOAT32, PIQUANT_UINT2,
                                              elements, scale, 1, &o),
                  PIQUANT_OK);
        o.reduce_op = PIQUANT_ADD;
        o.in_strides = packed;
        o.out_strides = second;
        EXPECT_EQ(piquant_dequantize(c, rows_of_codes.data(), PIQUANT_INT4, every_second.data(), PIQUANT_FLOAT32,
                                     elements, scale, 3, &o),
                  PIQUANT_OK);
    }
    bool operator==(const Results&) const = default;
};

TEST(Callers, ShareContextsAndChangeThemAndComeAndGo) {
    const int rounds = thread_sanitizer ? 60 : address_sanitizer ? 20 : 200;
    const std::vector<const char*> sets = instruction_sets();
    std::mt19937_64 random(4);
    const Bytes data = float_data(DType::float32, n, scale, random);
    std::vector<float> in(n);
    std::memcpy(in.data(), data.data(), n * sizeof(float));
    for (float& x : in) {
        x = x - x == 0 ? x : 1.0f;  // parameters are of finite data
    }
    Results expected;
    expected.compute(make_context(1).get(), in.data());

    const ContextPtr shared[2] = {make_parallel_context(2), make_parallel_context(3)};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < callers; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937_64 choose(t);
            ContextPtr own = make_parallel_context(2);
            for (int i = 0; i < rounds; ++i) {
                const uint64_t choice = choose();
                if (choice % 8 == 0) {
                    own = make_parallel_context(1 + choice / 8 % 3);
                }
                piquant_context_t* c = choice % 3 == 0 ? own.get() : shared[choice % 2].get();
                const size_t count = 1 + choice / 64 % 4;
                const char* isa = sets[choice / 256 % sets.size()];
                const size_t threshold = choice / 1024 % 2 != 0 ? 0 : SIZE_MAX;
                EXPECT_EQ(piquant_context_set_num_threads(c, count), PIQUANT_OK);
                EXPECT_EQ(piquant_context_set_isa(c, isa), PIQUANT_OK);
                EXPECT_EQ(piquant_context_set_stream_threshold(c, threshold), PIQUANT_OK);
                EXPECT_EQ(piquant_context_set_serial_cutoff(c, choice / 2048 % 4 != 0 ? 0 : n), PIQUANT_OK);
                Results found;
                found.compute(c, in.data(), choice / 8192 % 4 == 0 ? &lent_threads : nullptr);
                wrong += !(found == expected);
                size_t read = 0;
                EXPECT_EQ(piquant_context_get_num_threads(c, &read), PIQUANT_OK);
                EXPECT_EQ(piquant_context_get_isa(c, &isa), PIQUANT_OK);
                EXPECT_TRUE(c != own.get() || read == count) << "nobody else changes it";
                EXPECT_EQ(piquant_context_get_serial_cutoff(c, &read), PIQUANT_OK);
                EXPECT_EQ(piquant_context_get_stream_threshold(c, &read), PIQUANT_OK);
            }
        });
    }
    for (std::thread& t : threads) {
        t.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

#if defined(PIQUANT_TESTS_COUNT_RESOURCES)
TEST(Callers, ThreadCountsTakeEffectWithTheNextCall) {
    const std::vector<float> in(n, 1.0f);
    const size_t before = resources().threads;
    {
        const ContextPtr c = make_parallel_context(1);
        for (const size_t count : std::initializer_list<size_t>{1, 4, 2, 7, 3}) {
            EXPECT_EQ(piquant_context_set_num_threads(c.get(), count), PIQUANT_OK);
            Results().compute(c.get(), in.data());
            EXPECT_EQ(resources().threads, before + count - 1) << count;
        }
    }
    EXPECT_EQ(resources().threads, before) << "a destroyed context leaves no thread";
}
#endif

// Inside a kernel, by the caller's thread and by a worker, and by two callers.
TEST(Callers, ContextsInUseAreNotDestroyed) {
    constexpr size_t large = size_t{1} << 20;
    for (const size_t calls : std::initializer_list<size_t>{1, 2}) {
        HeldMemory held(large * sizeof(float));
        piquant_context_t* context = nullptr;
        ASSERT_EQ(piquant_context_create(&context, 2), PIQUANT_OK);
        std::vector<std::vector<uint8_t>> out(calls, std::vector<uint8_t>(large, 0xff));
        std::vector<piquant_status_t> statuses(calls, PIQUANT_ERROR_MEMORY);
        std::vector<std::thread> threads;
        for (size_t t = 0; t < calls; ++t) {
            threads.emplace_back([&, t] {
                statuses[t] = piquant_quantize(context, held.floats(), PIQUANT_FLOAT32, out[t].data(), PIQUANT_UINT8,
                                               large, 1.0, 7, nullptr);
            });
        }
        held.wait_for(calls + 1);
        for (int i = 0; i < 1000; ++i) {
            ASSERT_EQ(piquant_context_destroy(context), PIQUANT_ERROR_BUSY);
        }
        EXPECT_EQ(piquant_context_set_num_threads(context, 3), PIQUANT_OK) << "settings may change meanwhile";
        held.release();
        for (std::thread& t : threads) {
            t.join();
        }
        EXPECT_EQ(statuses, std::vector<piquant_status_t>(calls, PIQUANT_OK));
        EXPECT_EQ(out, std::vector<std::vector<uint8_t>>(calls, std::vector<uint8_t>(large, 7)));
        EXPECT_EQ(piquant_context_destroy(context), PIQUANT_OK);
    }
}

}  // namespace
}  // namespace piquant
