// A context's settings and the environment variables behind their defaults.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "cpu/caches.hpp"
#include "cpu/usable_cpus.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr const char* variables[] = {"PIQUANT_NUM_THREADS", "PIQUANT_ISA", "PIQUANT_SERIAL_CUTOFF",
                                     "PIQUANT_STREAM_THRESHOLD"};

// None of the variables set, whatever the tests were started with.
class ContextTest : public testing::Test {
protected:
    ScopedEnvironment clean[4] = {
        {variables[0], nullptr}, {variables[1], nullptr}, {variables[2], nullptr}, {variables[3], nullptr}};

    static size_t threads(const ContextPtr& c) {
        size_t n = 0;
        EXPECT_EQ(piquant_context_get_num_threads(c.get(), &n), PIQUANT_OK);
        return n;
    }
    static size_t cutoff(const ContextPtr& c) {
        size_t n = 0;
        EXPECT_EQ(piquant_context_get_serial_cutoff(c.get(), &n), PIQUANT_OK);
        return n;
    }
    static size_t threshold(const ContextPtr& c) {
        size_t n = 0;
        EXPECT_EQ(piquant_context_get_stream_threshold(c.get(), &n), PIQUANT_OK);
        return n;
    }
    static std::string isa(const ContextPtr& c) {
        const char* name = nullptr;
        EXPECT_EQ(piquant_context_get_isa(c.get(), &name), PIQUANT_OK);
        return name;
    }
};

TEST_F(ContextTest, Defaults) {
    const ContextPtr c = make_context(0);
    EXPECT_EQ(threads(c), usable_cpus());
    EXPECT_EQ(isa(c), piquant_available_isa(0));
    EXPECT_EQ(threshold(c), cached_traffic(last_level_cache(allowed_cpus(), usable_cpus()), usable_cpus()));
    EXPECT_GT(cutoff(c), 0u);
}

TEST_F(ContextTest, NumThreads) {
    const ContextPtr c = make_context(3);
    EXPECT_EQ(threads(c), 3u);
    for (const size_t n : {size_t{1}, size_t{7}, size_t{PIQUANT_MAX_THREADS}}) {
        EXPECT_EQ(piquant_context_set_num_threads(c.get(), n), PIQUANT_OK);
        EXPECT_EQ(threads(c), n);
    }
    for (const size_t n : {size_t{PIQUANT_MAX_THREADS} + 1, SIZE_MAX}) {
        EXPECT_EQ(piquant_context_set_num_threads(c.get(), n), PIQUANT_ERROR_NUM_THREADS);
        EXPECT_EQ(threads(c), size_t{PIQUANT_MAX_THREADS}) << "an error changed the setting";
        piquant_context_t* unchanged = nullptr;
        EXPECT_EQ(piquant_context_create(&unchanged, n), PIQUANT_ERROR_NUM_THREADS);
        EXPECT_EQ(unchanged, nullptr);
    }
    EXPECT_EQ(piquant_context_set_num_threads(c.get(), 0), PIQUANT_OK);
    EXPECT_EQ(threads(c), usable_cpus());
}

TEST_F(ContextTest, Isa) {
    const ContextPtr c = make_context(1);
    size_t count = 0;
    for (const char* name = nullptr; (name = piquant_available_isa(count)) != nullptr; ++count) {
        EXPECT_EQ(piquant_context_set_isa(c.get(), name), PIQUANT_OK);
        EXPECT_EQ(isa(c), name);
    }
    ASSERT_GE(count, 1u);
    EXPECT_STREQ(piquant_available_isa(count - 1), "scalar");
    EXPECT_EQ(piquant_available_isa(count + 1), nullptr);
    EXPECT_EQ(piquant_available_isa(SIZE_MAX), nullptr);
    for (const char* bad : {"", "Scalar", "avx1024", "scala", static_cast<const char*>(nullptr)}) {
        EXPECT_EQ(piquant_context_set_isa(c.get(), bad), PIQUANT_ERROR_ISA);
        EXPECT_EQ(isa(c), "scalar") << "an error changed the setting";
    }
#if defined(__x86_64__)
    EXPECT_EQ(piquant_context_set_isa(c.get(), "neon"), PIQUANT_ERROR_ISA);
#endif
}

TEST_F(ContextTest, CutoffAndThresholdHoldAnySize) {
    const ContextPtr c = make_context(1);
    for (const size_t bytes : {size_t{0}, size_t{12345}, SIZE_MAX}) {
        EXPECT_EQ(piquant_context_set_serial_cutoff(c.get(), bytes), PIQUANT_OK);
        EXPECT_EQ(piquant_context_set_stream_threshold(c.get(), bytes / 2), PIQUANT_OK);
        EXPECT_EQ(cutoff(c), bytes);
        EXPECT_EQ(threshold(c), bytes / 2);
    }
}

// It is that of the context's threads, until it is set.
TEST_F(ContextTest, ThresholdFollowsTheThreads) {
    const ContextPtr c = make_context(1);
    const LastLevel level = last_level_cache(allowed_cpus(), usable_cpus());
    for (const size_t n : {size_t{1}, size_t{2}, size_t{64}}) {
        ASSERT_EQ(piquant_context_set_num_threads(c.get(), n), PIQUANT_OK);
        EXPECT_EQ(threshold(c), cached_traffic(level, n));
    }
    ASSERT_EQ(piquant_context_set_stream_threshold(c.get(), 123), PIQUANT_OK);
    ASSERT_EQ(piquant_context_set_num_threads(c.get(), 1), PIQUANT_OK);
    EXPECT_EQ(threshold(c), 123u);
}

TEST_F(ContextTest, NullArguments) {
    const ContextPtr c = make_context(1);
    size_t n = 99;
    const char* name = "unchanged";
    EXPECT_EQ(piquant_context_create(nullptr, 1), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_destroy(nullptr), PIQUANT_OK);
    EXPECT_EQ(piquant_context_set_num_threads(nullptr, 1), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_num_threads(nullptr, &n), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_num_threads(c.get(), nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_set_isa(nullptr, "scalar"), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_isa(nullptr, &name), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_isa(c.get(), nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_set_serial_cutoff(nullptr, 1), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_serial_cutoff(nullptr, &n), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_serial_cutoff(c.get(), nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(piquant_context_set_stream_threshold(nullptr, 1), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_stream_threshold(nullptr, &n), PIQUANT_ERROR_CONTEXT);
    EXPECT_EQ(piquant_context_get_stream_threshold(c.get(), nullptr), PIQUANT_ERROR_NULL);
    EXPECT_EQ(n, 99u);
    EXPECT_STREQ(name, "unchanged");
}

TEST_F(ContextTest, EnvironmentSetsDefaults) {
    const ScopedEnvironment a("PIQUANT_NUM_THREADS", "5");
    const ScopedEnvironment b("PIQUANT_ISA", "scalar");
    const ScopedEnvironment d("PIQUANT_SERIAL_CUTOFF", "0");
    const ScopedEnvironment e("PIQUANT_STREAM_THRESHOLD", "18446744073709551615");
    const ContextPtr c = make_context(0);
    EXPECT_EQ(threads(c), 5u);
    EXPECT_EQ(isa(c), "scalar");
    EXPECT_EQ(cutoff(c), 0u);
    EXPECT_EQ(threshold(c), SIZE_MAX);
    EXPECT_EQ(threads(make_context(2)), 2u) << "an explicit count wins";
    EXPECT_EQ(piquant_context_set_num_threads(c.get(), 9), PIQUANT_OK);
    EXPECT_EQ(piquant_context_set_num_threads(c.get(), 0), PIQUANT_OK);
    EXPECT_EQ(threads(c), 5u) << "0 chooses as at creation";
}

TEST_F(ContextTest, EnvironmentOnlyLowersTheIsa) {
    for (const char* name : {"scalar", "sse42", "avx2", "avx512", "neon"}) {
        const ScopedEnvironment a("PIQUANT_ISA", name);
        const ContextPtr c = make_context(1);
        bool available = false;
        for (size_t i = 0; piquant_available_isa(i) != nullptr; ++i) {
            available |= isa(c) == piquant_available_isa(i);
        }
        EXPECT_TRUE(available) << name << " gave " << isa(c);
    }
    for (size_t i = 0; piquant_available_isa(i) != nullptr; ++i) {
        const ScopedEnvironment a("PIQUANT_ISA", piquant_available_isa(i));
        EXPECT_EQ(isa(make_context(1)), piquant_available_isa(i));
    }
}

TEST_F(ContextTest, EmptyVariablesAreUnset) {
    const ScopedEnvironment set[] = {{variables[0], ""}, {variables[1], ""}, {variables[2], ""}, {variables[3], ""}};
    const ContextPtr c = make_context(0);
    EXPECT_EQ(threads(c), usable_cpus());
    EXPECT_EQ(isa(c), piquant_available_isa(0));
}

TEST_F(ContextTest, InvalidVariablesAreErrors) {
    const struct {
        const char* name;
        std::vector<const char*> values;
    } rows[] = {
        {"PIQUANT_NUM_THREADS",
         {"0", "1025", "-1", "+2", " 2", "2 ", "2x", "two", "0x2", "2.0", "99999999999999999999"}},
        {"PIQUANT_ISA", {"AVX2", "avx", "best", "scalar ", "0"}},
        {"PIQUANT_SERIAL_CUTOFF", {"-1", "1k", "18446744073709551616", " 1", "1e3"}},
        {"PIQUANT_STREAM_THRESHOLD", {"-1", "1k", "18446744073709551616", "\n", "0x10"}},
    };
    for (const auto& row : rows) {
        for (const char* value : row.values) {
            const ScopedEnvironment a(row.name, value);
            piquant_context_t* context = nullptr;
            EXPECT_EQ(piquant_context_create(&context, 0), PIQUANT_ERROR_ENVIRONMENT) << row.name << "=" << value;
            EXPECT_EQ(context, nullptr);
        }
    }
    const ContextPtr c = make_context(4);
    const ScopedEnvironment a("PIQUANT_NUM_THREADS", "none");
    EXPECT_EQ(piquant_context_set_num_threads(c.get(), 0), PIQUANT_ERROR_ENVIRONMENT);
    EXPECT_EQ(threads(c), 4u) << "an error changed the setting";
}

}  // namespace
}  // namespace piquant
