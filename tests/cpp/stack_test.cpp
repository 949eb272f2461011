// What calls take of their caller's stack, of which threads of other languages and of servers often have little. Every
// function runs on a stack of 32 KiB that ends at an inaccessible page, and is measured there.
#include <gtest/gtest.h>

#if defined(__linux__)  // Windows gives no thread a stack in memory of the program's
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "block_call.hpp"
#include "kernel_data.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t stack_bytes = size_t{32} << 10;
// Clang keeps more of the registers of AVX-512 in memory. The first call, and creation, look how many CPUs there are: files
// and threads of musl and libc++ take more than those of glibc.
#if !defined(__GLIBC__)
constexpr size_t most_bytes = size_t{14} << 10;
#elif defined(__clang__)
constexpr size_t most_bytes = size_t{10} << 10;
#else
constexpr size_t most_bytes = size_t{8} << 10;
#endif
#if defined(__OPTIMIZE__)
constexpr bool is_measured = !address_sanitizer && !thread_sanitizer;
#else
constexpr bool is_measured = false;
#endif

// Whoever calls this is about to call what is measured.
thread_local const unsigned char* start = nullptr;
__attribute__((noinline)) void measure_from_here() {
    start = static_cast<unsigned char*>(__builtin_frame_address(0));
}

struct Measurement {
    const std::function<void()>* call;
    unsigned char* stack;
    size_t used;
};

// Paints what is free of the stack, calls, and looks for the lowest byte that is painted no more.
__attribute__((noinline)) void* measure(void* opaque) {
    auto& m = *static_cast<Measurement*>(opaque);
    constexpr unsigned char paint = 0xc5;
    auto* const here = static_cast<unsigned char*>(__builtin_frame_address(0));
    unsigned char* const painted_end = here - 512;  // what memset uses itself
    std::memset(m.stack, paint, static_cast<size_t>(painted_end - m.stack));
    (*m.call)();
    const unsigned char* const lowest = std::find_if(m.stack, painted_end, [](unsigned char b) { return b != paint; });
    m.used = static_cast<size_t>(start - lowest);
    return nullptr;
}

size_t stack_of(const std::function<void()>& call) {
    call();  // functions of shared libraries are looked up the first time, which takes stack of its own
    constexpr size_t guard = 4096;
    auto* const memory = static_cast<unsigned char*>(
        mmap(nullptr, guard + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(mprotect(memory, guard, PROT_NONE), 0);
    Measurement m = {&call, memory + guard, 0};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, m.stack, stack_bytes);
    pthread_t thread;
    EXPECT_EQ(pthread_create(&thread, &attributes, measure, &m), 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    munmap(memory, guard + stack_bytes);
    return m.used;
}

class Stack : public testing::Test {
protected:
    void SetUp() override {
        if (!is_measured) {
            GTEST_SKIP() << "sanitizers, and code that is not optimized, take more";
        }
    }
    void TearDown() override { std::printf("most: %zu bytes, %s\n", most_, most_of_.c_str()); }

    void expect_little(const std::string& what, const std::function<void()>& call) {
        const size_t used = stack_of(call);
        EXPECT_LE(used, most_bytes) << what;
        if (used > most_) {
            most_ = used;
            most_of_ = what;
        }
    }

    // All operations on one pair of types. A layout of rank PIQUANT_MAX_RANK has most of its dimensions in front.
    void expect_little_of_calls(piquant_context_t* c, const char* isa, piquant_dtype_t real, piquant_dtype_t code,
                                int kind) {
        constexpr size_t rows = 66;
        constexpr size_t columns = 77;
        constexpr size_t n = rows * columns;
        static std::vector<double> floats(n * 2, 0.25);
        static std::vector<double> sums(n * 2, 0.5);
        static std::vector<uint64_t> codes(n * 2, 0);
        const auto float_size = static_cast<ptrdiff_t>(piquant_size(real, 1));
        const auto code_size = static_cast<ptrdiff_t>(piquant_size(code, 1));
        std::vector<size_t> shape = {rows, columns};
        std::vector<ptrdiff_t> floats_at = {2 * float_size * static_cast<ptrdiff_t>(columns), 2 * float_size};
        std::vector<ptrdiff_t> codes_at = {code_size * static_cast<ptrdiff_t>(columns), code_size};
        if (kind > 1) {  // transposed
            floats_at = {float_size, float_size * static_cast<ptrdiff_t>(rows)};
        }
        if (kind > 2) {
            shape.insert(shape.begin(), PIQUANT_MAX_RANK - 2, 1);
            floats_at.insert(floats_at.begin(), PIQUANT_MAX_RANK - 2, 0);
            codes_at.insert(codes_at.begin(), PIQUANT_MAX_RANK - 2, 0);
        }
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.round_mode = PIQUANT_STOCHASTIC;
        o.reduce_op = PIQUANT_ADD;
        o.rank = kind == 0 ? 0 : shape.size();
        o.shape = shape.data();
        o.in_strides = floats_at.data();
        o.out_strides = codes_at.data();
        const std::string name = std::string(isa) + ", " + piquant_dtype_name(real) + " and " +
                                 piquant_dtype_name(code) + ", layout " + std::to_string(kind);
        expect_little("quantize, " + name, [&] {
            measure_from_here();
            EXPECT_EQ(piquant_quantize(c, floats.data(), real, codes.data(), code, n, 0.37, 1, &o), PIQUANT_OK);
        });
        expect_little("compute_quant_params, " + name, [&] {
            double scale;
            int64_t zero_point;
            measure_from_here();
            EXPECT_EQ(
                piquant_compute_quant_params(c, sums.data(), PIQUANT_FLOAT64, code, 1, nullptr, &scale, &zero_point),
                PIQUANT_OK);
            piquant_compute_quant_params(c, floats.data(), real, code, n, &o, &scale, &zero_point);
        });
        expect_little("quantize_dequantize, " + name, [&] {
            piquant_options_t both = o;
            both.out_strides = o.in_strides;
            measure_from_here();
            EXPECT_EQ(piquant_quantize_dequantize(c, floats.data(), sums.data(), real, code, n, 0.37, 1, &both),
                      PIQUANT_OK);
        });
        expect_little("dequantize, " + name, [&] {
            piquant_options_t back = o;
            std::swap(back.in_strides, back.out_strides);
            measure_from_here();
            EXPECT_EQ(piquant_dequantize(c, codes.data(), code, sums.data(), real, n, 0.37, 1, &back), PIQUANT_OK);
        });
    }

    // All functions with blocks of one kind, of one pair of types.
    void expect_little_of_blocks(piquant_context_t* c, const char* isa, piquant_dtype_t real, piquant_dtype_t code,
                                 int kind) {
        const BlockGrid grids[] = {{{40, 100}, {1, 32}},
                                   {{40, 100}, {1, 7}},
                                   {{40, 100}, {40, 1}},
                                   {{64, 100}, {10, 10}},
                                   {{1, 2, 1, 5, 1, 4, 3, 33}, {1, 1, 1, 2, 1, 3, 2, 16}}};
        const BlockGrid& grid = grids[kind];
        const DType zero_dtype = info(static_cast<DType>(code)).is_signed ? DType::int64 : DType::uint64;
        const piquant_blocks_t blocks = grid.with(DType::float64, zero_dtype);
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.round_mode = PIQUANT_STOCHASTIC;
        o.reduce_op = PIQUANT_ADD;
        for (const BlockArguments::Function function : block_functions) {
            const ptrdiff_t size =
                static_cast<ptrdiff_t>(piquant_size(function == BlockArguments::dequantize ? code : real, 1));
            const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(grid.shape[0])};
            const bool transposed = kind == 3 && (function != BlockArguments::dequantize || code >= PIQUANT_INT8);
            o.in_strides = transposed ? across : nullptr;
            Words words(9);
            BlockArguments call = {function, c, real, code, &blocks, &o};
            BlockArrays arrays(call, grid, DType::float64, zero_dtype, words);
            call = arrays.of(call);
            expect_little(std::string(name_of(function)) + " with blocks, " + isa + ", " + piquant_dtype_name(real) +
                              " and " + piquant_dtype_name(code) + ", blocks " + std::to_string(kind),
                          [&] {
                              measure_from_here();
                              EXPECT_EQ(call(), PIQUANT_OK);
                          });
        }
    }

private:
    size_t most_ = 0;
    std::string most_of_;
};

TEST_F(Stack, OfSettings) {
    expect_little("create and destroy", [] {
        measure_from_here();
        make_context(2);
    });
    expect_little("the rest", [] {
        piquant_context_t* c = nullptr;
        piquant_context_create(&c, 0);
        size_t number = 0;
        const char* name = nullptr;
        int64_t ends[2];
        measure_from_here();
        piquant_context_set_num_threads(c, 0);
        piquant_context_get_num_threads(c, &number);
        piquant_context_get_isa(c, &name);
        piquant_context_set_isa(c, name);
        piquant_context_set_serial_cutoff(c, 1);
        piquant_context_get_serial_cutoff(c, &number);
        piquant_context_set_stream_threshold(c, 1);
        piquant_context_get_stream_threshold(c, &number);
        piquant_available_isa(0);
        piquant_status_string(PIQUANT_ERROR_MEMORY);
        piquant_version();
        piquant_dtype_name(PIQUANT_INT4);
        piquant_dtype_bits(PIQUANT_INT4);
        piquant_size(PIQUANT_INT4, 9);
        piquant_dtype_range(PIQUANT_INT4, &ends[0], &ends[1]);
        piquant_check(PIQUANT_FLOAT32, PIQUANT_INT8, 1, 0, nullptr);
        std::vector<unsigned char> memory(size_t{8} << 20);
        piquant_prepare_output(memory.data(), memory.size());
        piquant_context_destroy(c);
    });
}

// Every pair of types on every instruction set, by one thread; some of them by three.
template <class Check>
void on_all_types(const Check& check) {
    for (const size_t threads : std::initializer_list<size_t>{1, 3}) {
        for (const Isa* isa : all_isas()) {
            const ContextPtr c = make_parallel_context(threads);
            ASSERT_EQ(piquant_context_set_isa(c.get(), isa->name), PIQUANT_OK);
            for (int f = PIQUANT_FLOAT16; f <= PIQUANT_FLOAT64; ++f) {
                for (int q = PIQUANT_INT2; q <= PIQUANT_UINT4_UNPACKED; q += threads == 1 ? 1 : 7) {
                    check(c.get(), isa->name, static_cast<piquant_dtype_t>(f), static_cast<piquant_dtype_t>(q));
                }
            }
        }
    }
}

// Without a layout, and with those that tiles are made for: strided, transposed, of the highest rank, in odd rows.
TEST_F(Stack, OfCalls) {
    on_all_types([&](piquant_context_t* c, const char* isa, piquant_dtype_t real, piquant_dtype_t code) {
        for (const int kind : {0, 1, 2, 3}) {
            expect_little_of_calls(c, isa, real, code, kind);
        }
    });
}

// Groups, ragged ones, columns, squares of a transposed array, and the highest rank.
TEST_F(Stack, OfCallsWithBlocks) {
    on_all_types([&](piquant_context_t* c, const char* isa, piquant_dtype_t real, piquant_dtype_t code) {
        for (const int kind : {0, 1, 2, 3, 4}) {
            expect_little_of_blocks(c, isa, real, code, kind);
        }
    });
}

// Workers start, and the library looks how many CPUs it may use, within the call.
TEST_F(Stack, OfTheFirstParallelCall) {
    std::vector<float> in(100000, 1.0f);
    std::vector<uint8_t> out(in.size());
    ContextPtr c;
    expect_little("the first parallel call", [&] {
        c = make_parallel_context(3);
        measure_from_here();
        EXPECT_EQ(
            piquant_quantize(c.get(), in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_UINT8, in.size(), 1, 0, nullptr),
            PIQUANT_OK);
    });
}

}  // namespace
}  // namespace piquant
#endif
