// The caller's floating-point state neither changes a result nor is changed: each rounding mode with and without
// flushing of subnormal results and inputs, raised flags, unmasked exceptions; on every instruction set, by one thread
// and by a pool.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "block_call.hpp"
#include "kernel_data.hpp"
#include "support.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace piquant {
namespace {

#if defined(__x86_64__)
uint64_t control_word() {
    return _mm_getcsr();
}
void set_control_word(uint64_t word) {
    _mm_setcsr(static_cast<unsigned>(word));
}
std::vector<uint64_t> control_words() {
    constexpr uint64_t reset = 0x1f80;
    std::vector<uint64_t> words;
    for (uint64_t rounding = 0; rounding < 4; ++rounding) {
        for (const uint64_t flush : {0x0000u, 0x8000u, 0x0040u, 0x8040u}) {  // results, inputs
            words.push_back(reset | rounding << 13 | flush);
        }
    }
    words.push_back(reset | 0x3f);  // every sticky flag raised
    words.push_back(reset | 0x01);  // one of them
    words.push_back(0);             // every exception unmasked: a kernel that raised one would kill the process
    return words;
}
#elif defined(__aarch64__)
uint64_t control_word() {
    uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
void set_control_word(uint64_t word) {
    __asm__ volatile("msr fpcr, %0" : : "r"(word));
}
std::vector<uint64_t> control_words() {
    std::vector<uint64_t> words;
    for (uint64_t rounding = 0; rounding < 4; ++rounding) {
        for (const uint64_t flush : {0, 1 << 24, 1 << 19, 1 << 25}) {  // FZ, FZ16, and default NaNs
            words.push_back(rounding << 22 | flush);
        }
    }
    return words;
}
#elif defined(__riscv_flen)
uint64_t control_word() {
    uint64_t word;
    __asm__ volatile("frcsr %0" : "=r"(word));
    return word;
}
void set_control_word(uint64_t word) {
    __asm__ volatile("fscsr %0" : : "r"(word));
}
std::vector<uint64_t> control_words() {
    std::vector<uint64_t> words{0x1f};                        // every sticky flag raised
    for (uint64_t rounding = 0; rounding <= 4; ++rounding) {  // the last one to nearest, ties away from zero
        words.push_back(rounding << 5);
    }
    return words;
}
#elif defined(__powerpc64__)
uint64_t control_word() {
    return __builtin_bit_cast(uint64_t, __builtin_mffs());
}
void set_control_word(uint64_t word) {
    __builtin_mtfsf(0xff, __builtin_bit_cast(double, word));
}
std::vector<uint64_t> control_words() {
    return {0, 1, 2, 3, 0x02000000};  // rounding modes, and the sticky flag of inexact results
}
#endif

// Digest of every output that depends on rounding or on subnormals.
class Digest {
public:
    void add(const void* p, size_t n) {
        const auto* bytes = static_cast<const unsigned char*>(p);
        for (size_t i = 0; i < n; i += 8) {  // by eight: byte by byte it would take longer than what is tested
            uint64_t word = 0;
            std::memcpy(&word, bytes + i, std::min<size_t>(8, n - i));
            value_ = (value_ ^ word) * 0x9e3779b97f4a7c15;
            value_ ^= value_ >> 32;
        }
    }
    uint64_t value() const { return value_; }

private:
    uint64_t value_ = 0xcbf29ce484222325;
};

// All patterns of the 16-bit floats; of the wider ones those around a scale of 1.2e-38, little above the smallest
// normal number, so that inputs and sums are subnormal. Two chunks and more for a pool.
struct Input {
    size_t n;
    Bytes bytes;
};

const std::vector<Input>& inputs() {
    static const std::vector<Input> made = [] {
        std::mt19937_64 random(1);
        std::vector<Input> all;
        for (int f = 0; f < float_count; ++f) {
            const auto real = static_cast<DType>(f);
            Input input{14003, {}};
            if (info(real).bits == 16) {
                input.n = 65536;
                input.bytes.resize(2 * input.n);
                for (size_t i = 0; i < input.n; ++i) {
                    const auto pattern = static_cast<uint16_t>(i);
                    std::memcpy(input.bytes.data() + 2 * i, &pattern, 2);
                }
            } else {
                input.bytes = float_data(real, input.n, 1.2e-38, random);
            }
            all.push_back(input);
        }
        return all;
    }();
    return made;
}

// A call, which leaves the control word as it was.
template <class Call>
void expect(piquant_status_t status, const Call& call) {
    const uint64_t before = control_word();
    const piquant_status_t actual = call();
    const uint64_t after = control_word();
    EXPECT_EQ(actual, status);
    EXPECT_EQ(after, before);
}

void transforms(piquant_context_t* context, Digest& digest) {
    // The inverse of 2e38 is subnormal.
    const struct {
        piquant_round_mode_t round;
        piquant_reduce_op_t reduce;
        double scale;
    } modes[] = {{PIQUANT_NEAREST, PIQUANT_SET, 1.2e-38},
                 {PIQUANT_STOCHASTIC, PIQUANT_SET, 1.2e-38},
                 {PIQUANT_NEAREST, PIQUANT_ADD, 1.2e-38},
                 {PIQUANT_STOCHASTIC, PIQUANT_ADD, 0.1},
                 {PIQUANT_NEAREST, PIQUANT_SET, 2e38}};
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<piquant_dtype_t>(f);
        const Input& input = inputs()[static_cast<size_t>(f)];
        const size_t n = input.n;
        const Bytes& in = input.bytes;
        for (const piquant_dtype_t code : {PIQUANT_UINT4, PIQUANT_INT16, PIQUANT_UINT32, PIQUANT_INT64}) {
            for (const auto& mode : modes) {
                const double scale = mode.scale;
                piquant_options_t o = PIQUANT_OPTIONS_INIT;
                o.round_mode = mode.round;
                o.reduce_op = mode.reduce;
                Bytes codes(piquant_size(code, n));
                Bytes sum = in;
                expect(PIQUANT_OK,
                       [&] { return piquant_quantize(context, in.data(), real, codes.data(), code, n, scale, 1, &o); });
                expect(PIQUANT_OK, [&] {
                    return piquant_dequantize(context, codes.data(), code, sum.data(), real, n, scale, 0, &o);
                });
                digest.add(codes.data(), codes.size());
                digest.add(sum.data(), sum.size());
                expect(PIQUANT_OK, [&] {
                    return piquant_quantize_dequantize(context, in.data(), sum.data(), real, code, n, scale, 1, &o);
                });
                digest.add(sum.data(), sum.size());
            }
            expect(PIQUANT_ERROR_SCALE, [&] {
                unsigned char out[64];
                return piquant_quantize(context, in.data(), real, out, code, 1, 0.0, 1, nullptr);
            });
        }
    }
}

// The same by tiles: codes that a transposed matrix becomes, packed in odd rows, or each in a byte; and their sum with
// what was there.
void tiles(piquant_context_t* context, Digest& digest) {
    constexpr size_t rows = 133;
    constexpr size_t columns = 105;
    static_assert(rows * columns <= 14003);
    constexpr size_t n = rows * columns;
    constexpr size_t shape[] = {columns, rows};
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<piquant_dtype_t>(f);
        const auto size = static_cast<ptrdiff_t>(piquant_size(real, 1));
        const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(columns)};
        // Of 16 bits, every fourth pattern at least.
        const size_t apart = inputs()[static_cast<size_t>(f)].n / n;
        const ptrdiff_t apart_strides[] = {across[0] * static_cast<ptrdiff_t>(apart),
                                           across[1] * static_cast<ptrdiff_t>(apart)};
        const Bytes& in = inputs()[static_cast<size_t>(f)].bytes;
        for (const piquant_dtype_t code : {PIQUANT_INT4, PIQUANT_UINT2_UNPACKED, PIQUANT_INT32}) {
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.round_mode = PIQUANT_STOCHASTIC;
            o.reduce_op = PIQUANT_ADD;
            o.rank = 2;
            o.shape = shape;
            o.in_strides = apart_strides;
            Bytes codes(columns * piquant_size(code, rows));
            Bytes sum = in;
            expect(PIQUANT_OK,
                   [&] { return piquant_quantize(context, in.data(), real, codes.data(), code, n, 1.2e-38, 1, &o); });
            o.in_strides = nullptr;
            o.out_strides = apart_strides;
            expect(PIQUANT_OK, [&] {
                return piquant_dequantize(context, codes.data(), code, sum.data(), real, n, 1.2e-38, 0, &o);
            });
            digest.add(codes.data(), codes.size());
            digest.add(sum.data(), sum.size());
            o.in_strides = apart_strides;
            expect(PIQUANT_OK, [&] {
                return piquant_quantize_dequantize(context, sum.data(), sum.data(), real, code, n, 1.2e-38, 1, &o);
            });
            digest.add(sum.data(), sum.size());
        }
        expect(PIQUANT_ERROR_STRIDES, [&] {
            unsigned char out[64];
            const ptrdiff_t repeated[] = {0, 1};
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.rank = 2;
            o.shape = shape;
            o.out_strides = repeated;
            return piquant_quantize(context, in.data(), real, out, PIQUANT_INT8, n, 0.1, 1, &o);
        });
    }
}

// Extents, by float type: subnormal, of a scale below the smallest normal one, and of an inexact quotient.
template <class F>
std::vector<Input> extents(std::initializer_list<double> sizes) {
    std::vector<Input> made;
    const size_t bytes = bytes_for(1, F::bits);
    for (const double largest : sizes) {
        Input input{14003, {}};
        input.bytes.resize(input.n * bytes);
        const std::pair<size_t, double> elements[] = {
            {7, largest / 4}, {input.n / 2, -largest}, {input.n - 1, largest}};
        for (const auto& [i, x] : elements) {
            store_element<F>(input.bytes.data() + i * bytes, static_cast<typename F::compute>(x));
        }
        made.push_back(input);
    }
    return made;
}

void parameters(piquant_context_t* context, Digest& digest) {
    static const std::vector<Input> made[float_count] = {
        extents<float16>({0x1p-24, 0x1p-15, 1.0}), extents<bfloat16>({0x1p-130, 0x1p-124, 1.0}),
        extents<float32>({0x1p-140, 0x1p-124, 1.0}), extents<float64>({0x1p-1060, 0x1p-1020, 1.0})};
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<piquant_dtype_t>(f);
        for (const Input& input : made[f]) {
            for (const int symmetric : {0, 1}) {
                for (const piquant_dtype_t code : {PIQUANT_UINT4, PIQUANT_INT8, PIQUANT_INT32}) {
                    piquant_options_t o = PIQUANT_OPTIONS_INIT;
                    o.symmetric = symmetric;
                    double scale = 0;
                    int64_t zero_point = 0;
                    expect(PIQUANT_OK, [&] {
                        return piquant_compute_quant_params(context, input.bytes.data(), real, code, input.n, &o,
                                                            &scale, &zero_point);
                    });
                    digest.add(&scale, sizeof scale);
                    digest.add(&zero_point, sizeof zero_point);
                }
            }
        }
    }
}

// Blocks that rounding or subnormals decide about, each in a block of its own: subnormal data, data of a scale below the
// smallest normal one, an inexact quotient, a scale that is subnormal as float16.
constexpr size_t block = 64;
size_t block_rows(size_t float_bytes) {
    return 2048 / float_bytes;  // two chunks for a pool
}

const std::vector<Bytes>& block_data() {
    static const std::vector<Bytes> made = [] {
        constexpr int exponents[float_count][4] = {
            {-20, -15, 0, -9}, {-130, -124, 0, -9}, {-140, -124, 0, -9}, {-1060, -1020, 0, -9}};
        Words words(8);
        std::vector<Bytes> all;
        for (int f = 0; f < float_count; ++f) {
            const auto real = static_cast<DType>(f);
            const size_t bytes = bytes_for(1, info(real).bits);
            const size_t n = block_rows(bytes) * block;
            Bytes data(n * bytes);
            for (size_t i = 0; i < n; ++i) {
                const double x =
                    std::ldexp(static_cast<double>(words.below(2000)) / 1000 - 0.75, exponents[f][i / block % 4]);
                unsigned char* const p = &data[i * bytes];
                switch (real) {
                    case DType::float16: store_element<float16>(p, static_cast<float>(x)); break;
                    case DType::bfloat16: store_element<bfloat16>(p, static_cast<float>(x)); break;
                    case DType::float32: store_element<float32>(p, static_cast<float>(x)); break;
                    default: store_element<float64>(p, x);
                }
            }
            all.push_back(data);
        }
        return all;
    }();
    return made;
}

// Threads of a framework that has changed their state, too: each chunk is worked off by one of them.
struct StrangeThreads {
    static size_t count(void*) { return 2; }
    static int run(void* self, size_t n, void (*task)(void*, size_t), void* job) {
        for (size_t i = n; i-- > 0;) {
            std::thread([=] {
                const uint64_t strange = *static_cast<const uint64_t*>(self);
                set_control_word(strange);
                task(job, i);
                EXPECT_EQ(control_word(), strange);
            }).join();
        }
        return 0;
    }
    uint64_t word = control_word();
    piquant_threads_t lent{sizeof lent, count, run, &word};
};

// Parameters that workers compute, block by block or from parts of blocks, and what becomes of data with them.
void blocks(piquant_context_t* context, Digest& digest) {
    const StrangeThreads strange;
    constexpr DType scale_dtypes[] = {DType::float16, DType::bfloat16, DType::float32};
    size_t turn = 0;
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<piquant_dtype_t>(f);
        const Bytes& in = block_data()[static_cast<size_t>(f)];
        const size_t rows = block_rows(piquant_size(real, 1));
        const BlockGrid grids[] = {
            {{rows, block}, {1, block}}, {{rows, block}, {rows, 1}}, {{block, rows}, {block, 8}}};
        const auto size = static_cast<ptrdiff_t>(piquant_size(real, 1));
        const ptrdiff_t across[] = {size, size * static_cast<ptrdiff_t>(block)};
        for (const BlockGrid& grid : grids) {
            ++turn;
            const DType scale_dtype = scale_dtypes[turn % 3];
            const piquant_blocks_t b = grid.with(scale_dtype, DType::int64);
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.threads = turn % 2 == 0 ? &strange.lent : nullptr;
            o.symmetric = turn / 2 % 2 == 0;
            o.round_mode = turn % 5 < 2 ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
            o.reduce_op = PIQUANT_ADD;
            o.in_strides = grid.shape[0] == block ? across : nullptr;
            const piquant_dtype_t code = turn % 5 < 3 ? PIQUANT_INT8 : PIQUANT_UINT4;
            Bytes codes(grid.bytes_of(static_cast<DType>(code)));
            Bytes scales(grid.blocks() * info(scale_dtype).format.bytes);
            std::vector<int64_t> zeros(grid.blocks());
            expect(PIQUANT_OK, [&] {
                return piquant_quantize_dynamic(context, in.data(), real, codes.data(), code, &b, &o, scales.data(),
                                                zeros.data(), nullptr);
            });
            digest.add(codes.data(), codes.size());
            digest.add(scales.data(), scales.size());
            digest.add(zeros.data(), zeros.size() * sizeof(int64_t));
            Bytes sum = in;
            o.in_strides = nullptr;
            expect(PIQUANT_OK, [&] {
                return piquant_dequantize_blocks(context, codes.data(), code, sum.data(), real, &b, scales.data(),
                                                 zeros.data(), &o, nullptr);
            });
            digest.add(sum.data(), sum.size());
        }
        expect(PIQUANT_ERROR_SCALE, [&] {
            const piquant_blocks_t b = grids[0].with(DType::float32, DType::int8);
            const std::vector<float> none(rows, 0.0f);
            Bytes out(grids[0].elements());
            return piquant_quantize_blocks(context, in.data(), real, out.data(), PIQUANT_INT8, &b, none.data(), nullptr,
                                           nullptr, nullptr);
        });
    }
}

// What it reads is made by its first call, which must not come from a changed state.
uint64_t everything(piquant_context_t* context) {
    Digest digest;
    transforms(context, digest);
    tiles(context, digest);
    parameters(context, digest);
    blocks(context, digest);
    return digest.value();
}

class FloatEnvironmentTest : public testing::TestWithParam<int> {};

TEST_P(FloatEnvironmentTest, ResultsDoNotDependOnItAndItStays) {
    const auto threads = static_cast<size_t>(GetParam());
    const uint64_t usual = control_word();
    const uint64_t expected = everything(make_context(1).get());
    bool warm = false;
    for (const uint64_t word : control_words()) {
        for (const Isa* isa : all_isas()) {
            const ContextPtr context = make_parallel_context(threads);
            ASSERT_EQ(piquant_context_set_isa(context.get(), isa->name), PIQUANT_OK);
            // Workers inherit the state of the thread that starts them, the usual or the unusual one.
            warm = !warm;
            if (warm) {
                Bytes out(inputs()[0].n);
                ASSERT_EQ(piquant_quantize(context.get(), inputs()[0].bytes.data(), PIQUANT_FLOAT16, out.data(),
                                           PIQUANT_UINT8, out.size(), 1, 0, nullptr),
                          PIQUANT_OK);
            }
            set_control_word(word);
            const uint64_t actual = everything(context.get());
            set_control_word(usual);
            EXPECT_EQ(actual, expected) << isa->name << ", control word " << std::hex << word;
        }
        warm = !warm;  // the other way around with the next
    }
}

INSTANTIATE_TEST_SUITE_P(Threads, FloatEnvironmentTest, testing::Values(1, 3));

}  // namespace
}  // namespace piquant
