// What tests of the public C API share.
#pragma once

#include <gtest/gtest.h>
#include <piquant/quant.h>

#include <memory>
#include <optional>
#include <string>

#include "platform.hpp"

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
    ScopedEnvironment(const char* name, const char* value) : name_(name), before_(environment_variable(name)) {
        set_environment_variable(name, value);
    }
    ~ScopedEnvironment() { set_environment_variable(name_, before_ ? before_->c_str() : nullptr); }
    ScopedEnvironment(const ScopedEnvironment&) = delete;
    ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

private:
    const char* name_;
    std::optional<std::string> before_;
};

}  // namespace piquant
