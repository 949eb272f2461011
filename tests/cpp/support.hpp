// What tests of the public C API share.
#pragma once

#include <gtest/gtest.h>
#include <piquant/quant.h>
#include <stdlib.h>

#include <memory>
#include <string>

namespace piquant {

struct ContextDeleter {
    void operator()(piquant_context_t* c) const { EXPECT_EQ(piquant_context_destroy(c), PIQUANT_OK); }
};
using ContextPtr = std::unique_ptr<piquant_context_t, ContextDeleter>;

inline ContextPtr make_context(size_t num_threads) {
    piquant_context_t* context = nullptr;
    EXPECT_EQ(piquant_context_create(&context, num_threads), PIQUANT_OK);
    return ContextPtr(context);
}

// Runs every call in parallel, however small.
inline ContextPtr make_parallel_context(size_t num_threads) {
    ContextPtr context = make_context(num_threads);
    EXPECT_EQ(piquant_context_set_serial_cutoff(context.get(), 0), PIQUANT_OK);
    return context;
}

inline piquant_options_t default_options() {
    return PIQUANT_OPTIONS_INIT;
}

// Sets an environment variable for as long as it lives; null unsets it.
class ScopedEnvironment {
public:
    ScopedEnvironment(const char* name, const char* value) : name_(name) {
        const char* before = getenv(name);
        was_set_ = before != nullptr;
        before_ = was_set_ ? before : "";
        set(value);
    }
    ~ScopedEnvironment() { set(was_set_ ? before_.c_str() : nullptr); }
    ScopedEnvironment(const ScopedEnvironment&) = delete;
    ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

private:
    void set(const char* value) { value != nullptr ? setenv(name_, value, 1) : unsetenv(name_); }

    const char* name_;
    bool was_set_;
    std::string before_;
};

}  // namespace piquant
