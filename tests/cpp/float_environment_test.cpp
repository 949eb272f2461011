// The caller's floating-point state neither changes a result nor is changed: directed rounding, flushed subnormals,
// unmasked exceptions.
#include <gtest/gtest.h>

#include <cfenv>
#include <functional>
#include <vector>

#include "kernel_data.hpp"
#include "support.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace piquant {
namespace {

// Digest of every output that depends on rounding or on subnormals: both rounding modes, both reductions, every float
// type, and the parameters.
class Digest {
public:
    void add(const void* p, size_t n) {
        const auto* bytes = static_cast<const unsigned char*>(p);
        for (size_t i = 0; i < n; ++i) {
            value_ = (value_ ^ bytes[i]) * 0x100000001b3;
        }
    }
    uint64_t value() const { return value_; }

private:
    uint64_t value_ = 0xcbf29ce484222325;
};

constexpr size_t count = 14003;  // two chunks for most pairs

void transforms(piquant_context_t* context, Digest& digest) {
    static const std::vector<Bytes> inputs = [] {
        std::mt19937_64 random(1);
        std::vector<Bytes> made;
        for (int f = 0; f < float_count; ++f) {
            made.push_back(float_data(static_cast<DType>(f), count, 1.2e-38, random));
        }
        return made;
    }();
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<piquant_dtype_t>(f);
        const Bytes& in = inputs[static_cast<size_t>(f)];
        for (const piquant_dtype_t code : {PIQUANT_UINT4, PIQUANT_INT16, PIQUANT_UINT32, PIQUANT_INT64}) {
            // 1.2e-38 is little above the smallest normal: inputs and sums are subnormal. The inverse of 2e38 is.
            const struct {
                piquant_round_mode_t round;
                piquant_reduce_op_t reduce;
                double scale;
            } modes[] = {{PIQUANT_NEAREST, PIQUANT_SET, 1.2e-38},
                         {PIQUANT_STOCHASTIC, PIQUANT_SET, 1.2e-38},
                         {PIQUANT_NEAREST, PIQUANT_ADD, 1.2e-38},
                         {PIQUANT_STOCHASTIC, PIQUANT_ADD, 0.1},
                         {PIQUANT_NEAREST, PIQUANT_SET, 2e38}};
            for (const auto& [round, reduce, scale] : modes) {
                piquant_options_t o = PIQUANT_OPTIONS_INIT;
                o.round_mode = round;
                o.reduce_op = reduce;
                Bytes codes(piquant_size(code, count));
                Bytes sum = in;
                EXPECT_EQ(piquant_quantize(context, in.data(), real, codes.data(), code, count, scale, 1, &o),
                          PIQUANT_OK);
                EXPECT_EQ(piquant_dequantize(context, codes.data(), code, sum.data(), real, count, scale, 0, &o),
                          PIQUANT_OK);
                digest.add(codes.data(), codes.size());
                digest.add(sum.data(), sum.size());
                EXPECT_EQ(piquant_quantize_dequantize(context, in.data(), sum.data(), real, code, count, scale, 1, &o),
                          PIQUANT_OK);
                digest.add(sum.data(), sum.size());
            }
        }
    }
}

void parameters(piquant_context_t* context, Digest& digest) {
    static const std::vector<std::vector<float>> inputs = [] {
        std::vector<std::vector<float>> made;
        for (const float largest : {1e-40f, 3.3e-38f, 0.7f}) {  // floored scale, subnormal quotient, inexact quotient
            made.emplace_back(count, largest / 7);
            made.back()[count / 2] = -largest;
            made.back()[count - 1] = largest / 3;
        }
        return made;
    }();
    for (const std::vector<float>& data : inputs) {
        for (const int symmetric : {0, 1}) {
            for (const piquant_dtype_t code : {PIQUANT_UINT4, PIQUANT_INT8, PIQUANT_INT32}) {
                piquant_options_t o = PIQUANT_OPTIONS_INIT;
                o.symmetric = symmetric;
                double scale = 0;
                int64_t zero_point = 0;
                EXPECT_EQ(piquant_compute_quant_params(context, data.data(), PIQUANT_FLOAT32, code, count, &o, &scale,
                                                       &zero_point),
                          PIQUANT_OK);
                digest.add(&scale, sizeof scale);
                digest.add(&zero_point, sizeof zero_point);
            }
        }
    }
}

uint64_t everything(piquant_context_t* context) {
    Digest digest;
    transforms(context, digest);
    parameters(context, digest);
    return digest.value();
}

class FloatEnvironmentTest : public testing::TestWithParam<int> {
protected:
    const uint64_t expected =  // also makes the inputs, which must not come from a changed state
        everything(make_context(1).get());

    void compare_under(const std::function<void()>& enter, const std::function<void()>& check_and_leave) {
        // Workers inherit the state of the thread that starts them: this context's are started under it.
        const ContextPtr context = make_parallel_context(static_cast<size_t>(GetParam()));
        enter();
        const uint64_t actual = everything(context.get());
        check_and_leave();
        EXPECT_EQ(actual, expected);
    }
};

TEST_P(FloatEnvironmentTest, RoundingModes) {
    for (const int mode : {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO}) {
        compare_under([=] { ASSERT_EQ(fesetround(mode), 0); },
                      [=] {
                          const int after = fegetround();
                          fesetround(FE_TONEAREST);
                          EXPECT_EQ(after, mode);
                      });
    }
}

#if defined(__x86_64__)
TEST_P(FloatEnvironmentTest, ControlWords) {
    const unsigned reset = 0x1f80;
    const unsigned words[] = {
        reset | 0x8040,  // flush to zero, denormals are zero
        reset | 0x8000,
        reset | 0x0040,
        reset | 0x8040 | 0x6000,  // and towards zero
        reset | 0x003f,           // every sticky flag raised
        reset | 0x0001,           // one of them
        0x0000,                   // every exception unmasked: a kernel that raised one would kill the process
        reset,
    };
    for (const unsigned word : words) {
        unsigned after = 0;
        compare_under([=] { _mm_setcsr(word); },
                      [&] {
                          after = _mm_getcsr();
                          _mm_setcsr(reset);
                      });
        EXPECT_EQ(after, word);
    }
}
#endif

INSTANTIATE_TEST_SUITE_P(Threads, FloatEnvironmentTest, testing::Values(1, 3));

}  // namespace
}  // namespace piquant
