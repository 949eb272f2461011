// Through the public API: the result of any number of threads, with streaming stores or without, on any alignment, is
// that of one thread; and contexts are shared by many callers.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/context.hpp"
#include "kernel_data.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t most_elements = 120007;

// Inputs of every type, made once.
const Bytes& data_of(DType type) {
    static const std::vector<Bytes> all = [] {
        std::mt19937_64 random(1);
        std::vector<Bytes> made;
        for (int d = 0; d < float_count + code_count; ++d) {
            const auto t = static_cast<DType>(d);
            made.push_back(info(t).is_float ? float_data(t, most_elements, 0.37, random)
                                            : code_data(t, most_elements, random));
        }
        return made;
    }();
    return all[static_cast<size_t>(type)];
}

struct Variant {
    int operation;  // 0 quantize, 1 dequantize, 2 quantize_dequantize
    piquant_options_t options;
};

std::vector<Variant> variants() {
    std::vector<Variant> all;
    for (int round = 0; round < 2; ++round) {
        for (int reduce = 0; reduce < 2; ++reduce) {
            for (int operation = 0; operation < 3; ++operation) {
                if ((operation == 0 && reduce == 1) || (operation == 1 && round == 1)) {
                    continue;
                }
                piquant_options_t o = PIQUANT_OPTIONS_INIT;
                o.round_mode = static_cast<piquant_round_mode_t>(round);
                o.reduce_op = static_cast<piquant_reduce_op_t>(reduce);
                o.seed = 99;
                o.offset = uint64_t{0} - 50000;  // wraps inside the data
                all.push_back({operation, o});
            }
        }
    }
    return all;
}

// The whole output buffer, with margins, after one call at `shift` bytes from a line.
Bytes run(piquant_context_t* context, const Variant& v, DType real, DType code, size_t n, size_t shift) {
    const DType from = v.operation == 1 ? code : real;
    const DType to = v.operation == 0 ? code : real;
    const size_t size = bytes_for(n, info(to).bits);
    Bytes out(size + 256, 0xa5);
    unsigned char* line = out.data() + (64 - reinterpret_cast<uintptr_t>(out.data()) % 64) % 64;
    unsigned char* start = line + 64 + shift;
    if (info(to).is_float) {
        std::memcpy(start, data_of(to).data(), size);  // what "add" adds to
    }
    const auto r = static_cast<piquant_dtype_t>(real);
    const auto c = static_cast<piquant_dtype_t>(code);
    const void* in = data_of(from).data();
    const double scale = 0.37;
    const int64_t zero_point = 1;
    const piquant_status_t status =
        v.operation == 0   ? piquant_quantize(context, in, r, start, c, n, scale, zero_point, &v.options)
        : v.operation == 1 ? piquant_dequantize(context, in, c, start, r, n, scale, zero_point, &v.options)
                           : piquant_quantize_dequantize(context, in, start, r, c, n, scale, zero_point, &v.options);
    EXPECT_EQ(status, PIQUANT_OK);
    return Bytes(line, line + size + 128 + shift);
}

class ParallelPairs : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(ParallelPairs, EqualsOneThread) {
    const auto real = static_cast<DType>(std::get<0>(GetParam()));
    const auto code = static_cast<DType>(float_count + std::get<1>(GetParam()));
    const ContextPtr serial = make_context(1);
    static const ContextPtr parallel = make_parallel_context(2);  // keeps its workers from pair to pair
    const struct {
        size_t n;
        size_t shift;
        size_t threads;
        size_t threshold;
    } cases[] = {
        {most_elements, 0, 3, SIZE_MAX},
        {most_elements, 0, 3, 0},
        {most_elements - 2, 5, 3, 0},
        {60001, 24, 3, 0},
        {4096 * 4, 0, 3, 0},
        {1, 0, 3, 0},
    };
    for (const Variant& v : variants()) {
        for (const auto& c : cases) {
            ASSERT_EQ(piquant_context_set_num_threads(parallel.get(), c.threads), PIQUANT_OK);
            ASSERT_EQ(piquant_context_set_stream_threshold(parallel.get(), c.threshold), PIQUANT_OK);
            ASSERT_EQ(piquant_context_set_stream_threshold(serial.get(), SIZE_MAX), PIQUANT_OK);
            ASSERT_TRUE(run(serial.get(), v, real, code, c.n, c.shift) ==
                        run(parallel.get(), v, real, code, c.n, c.shift))
                << "operation " << v.operation << " round " << v.options.round_mode << " reduce " << v.options.reduce_op
                << " n " << c.n << " shift " << c.shift << " threshold " << c.threshold;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, ParallelPairs,
                         testing::Combine(testing::Range(0, float_count), testing::Range(0, code_count)),
                         [](const auto& instance) {
                             return std::string(dtype_infos[std::get<0>(instance.param)].name) + "_" +
                                    dtype_infos[float_count + std::get<1>(instance.param)].name;
                         });

// Thread counts, more of them than CPUs, and changes between calls.
TEST(Parallel, AnyThreadCount) {
    const ContextPtr context = make_parallel_context(1);
    for (const Variant& v : variants()) {
        const Bytes expected = run(context.get(), v, DType::float32, DType::uint4, most_elements, 3);
        for (const size_t threads : std::initializer_list<size_t>{2, 5, 1, 16, 2, 33}) {
            ASSERT_EQ(piquant_context_set_num_threads(context.get(), threads), PIQUANT_OK);
            ASSERT_TRUE(run(context.get(), v, DType::float32, DType::uint4, most_elements, 3) == expected) << threads;
        }
        ASSERT_EQ(piquant_context_set_num_threads(context.get(), 1), PIQUANT_OK);
    }
}

// A slice quantized with the slice's offset is the slice of the whole.
TEST(Parallel, SlicesWithOffsets) {
    const ContextPtr context = make_parallel_context(3);
    Variant v = {0, PIQUANT_OPTIONS_INIT};
    v.options.round_mode = PIQUANT_STOCHASTIC;
    v.options.seed = 5;
    v.options.offset = 123456789;
    Bytes whole(most_elements);
    Bytes sliced(most_elements);
    const auto quantize = [&](size_t begin, size_t end, unsigned char* out) {
        piquant_options_t o = v.options;
        o.offset += begin;
        EXPECT_EQ(piquant_quantize(context.get(), data_of(DType::float32).data() + begin * 4, PIQUANT_FLOAT32,
                                   out + begin, PIQUANT_UINT8, end - begin, 0.37, 3, &o),
                  PIQUANT_OK);
    };
    quantize(0, most_elements, whole.data());
    size_t begin = 0;
    for (const size_t length : {size_t{1}, size_t{7}, size_t{64}, size_t{50001}, size_t{2}, most_elements - 50075}) {
        quantize(begin, begin + length, sliced.data());
        begin += length;
    }
    ASSERT_EQ(begin, most_elements);
    EXPECT_TRUE(whole == sliced);
}

TEST(Parallel, ParametersEqualOneThread) {
    std::mt19937_64 random(2);
    const ContextPtr serial = make_context(1);
    const ContextPtr parallel = make_parallel_context(4);
    std::vector<float> data(100003);
    for (float& x : data) {
        x = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 - 0.25);
    }
    for (const size_t place : {size_t{0}, size_t{50000}, size_t{99999}, size_t{100002}}) {
        data[place] = 3.0f + static_cast<float>(place);
        data[data.size() - 1 - place / 2] = -7.0f - static_cast<float>(place);
        for (const size_t n : {data.size(), data.size() - 1, size_t{32768}, size_t{1}}) {
            double scale[2];
            int64_t zero[2];
            ASSERT_EQ(piquant_compute_quant_params(serial.get(), data.data(), PIQUANT_FLOAT32, PIQUANT_UINT8, n,
                                                   nullptr, &scale[0], &zero[0]),
                      PIQUANT_OK);
            ASSERT_EQ(piquant_compute_quant_params(parallel.get(), data.data(), PIQUANT_FLOAT32, PIQUANT_UINT8, n,
                                                   nullptr, &scale[1], &zero[1]),
                      PIQUANT_OK);
            ASSERT_EQ(scale[0], scale[1]) << n;
            ASSERT_EQ(zero[0], zero[1]) << n;
        }
    }
}

// Callers that share a context, and one that keeps changing its settings, disturb nobody's result.
TEST(Parallel, ContextsAreShared) {
    const ContextPtr context = make_parallel_context(2);
    const std::vector<Variant> all = variants();
    std::vector<Bytes> expected;
    for (const Variant& v : all) {
        expected.push_back(run(context.get(), v, DType::bfloat16, DType::int8, 60001, 1));
    }
    std::atomic<int> wrong{0};
    std::atomic<int> running{4};
    std::vector<std::thread> callers;
    for (int t = 0; t < 4; ++t) {
        callers.emplace_back([&] {
            for (int i = 0; i < 10; ++i) {
                for (size_t k = 0; k < all.size(); ++k) {
                    wrong += run(context.get(), all[k], DType::bfloat16, DType::int8, 60001, 1) != expected[k];
                }
            }
            --running;
        });
    }
    for (size_t i = 0; running.load() != 0; ++i) {
        EXPECT_EQ(piquant_context_set_num_threads(context.get(), 1 + i % 4), PIQUANT_OK);
        EXPECT_EQ(piquant_context_set_isa(context.get(), piquant_available_isa(i % 2)), PIQUANT_OK);
        EXPECT_EQ(piquant_context_set_stream_threshold(context.get(), i % 3 == 0 ? 0 : SIZE_MAX), PIQUANT_OK);
        std::this_thread::yield();
    }
    for (std::thread& t : callers) {
        t.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

TEST(Parallel, ContextsComeAndGo) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([] {
            const Variant v = variants()[0];
            for (int i = 0; i < 10; ++i) {
                const ContextPtr context = make_parallel_context(3);
                run(context.get(), v, DType::float32, DType::int8, 60001, 0);
            }
        });
    }
    for (std::thread& t : threads) {
        t.join();
    }
}

TEST(Parallel, DestroyRefusesWhileInUse) {
    piquant_context_t* context = nullptr;
    ASSERT_EQ(piquant_context_create(&context, 1), PIQUANT_OK);
    auto& users = reinterpret_cast<Context*>(context)->users();
    ++users;  // as another thread's call does for as long as it runs
    EXPECT_EQ(piquant_context_destroy(context), PIQUANT_ERROR_BUSY);
    run(context, variants()[0], DType::float32, DType::int8, 100, 0);
    EXPECT_EQ(users.load(), 1u) << "a call leaves the count as it was";
    EXPECT_EQ(piquant_quantize(context, nullptr, PIQUANT_FLOAT32, nullptr, PIQUANT_INT8, 1, 1.0, 0, nullptr),
              PIQUANT_ERROR_NULL);
    EXPECT_EQ(users.load(), 1u) << "a failing call leaves the count as it was";
    --users;
    EXPECT_EQ(piquant_context_destroy(context), PIQUANT_OK);
}

}  // namespace
}  // namespace piquant
