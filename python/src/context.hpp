// A context as Python holds it.
#pragma once

#include <optional>

#include "module.hpp"

namespace piquant_python {

class Context {
public:
    explicit Context(std::optional<std::int64_t> num_threads) {
        Call call;
        call.num_threads = num_threads.value_or(0);
        const bool allowed = !num_threads.has_value() || (*num_threads >= 1 && *num_threads <= PIQUANT_MAX_THREADS);
        check(allowed ? piquant_context_create(&context_, static_cast<std::size_t>(call.num_threads))
                      : PIQUANT_ERROR_NUM_THREADS,
              call);
    }
    ~Context() { (void)piquant_context_destroy(context_); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    piquant_context_t* get() const { return context_; }

    void set_num_threads(std::int64_t n) {
        Call call;
        call.num_threads = n;
        check(n >= 1 && n <= PIQUANT_MAX_THREADS
                  ? piquant_context_set_num_threads(context_, static_cast<std::size_t>(n))
                  : PIQUANT_ERROR_NUM_THREADS,
              call);
    }
    std::size_t num_threads() const {
        std::size_t n = 0;
        check(piquant_context_get_num_threads(context_, &n), {});
        return n;
    }

    void set_isa(const char* name) {
        Call call;
        call.isa = name;
        check(piquant_context_set_isa(context_, name), call);
    }
    const char* isa() const {
        const char* name = nullptr;
        check(piquant_context_get_isa(context_, &name), {});
        return name;
    }

    void set_serial_cutoff(std::size_t bytes) { check(piquant_context_set_serial_cutoff(context_, bytes), {}); }
    std::size_t serial_cutoff() const {
        std::size_t bytes = 0;
        check(piquant_context_get_serial_cutoff(context_, &bytes), {});
        return bytes;
    }
    void set_stream_threshold(std::size_t bytes) { check(piquant_context_set_stream_threshold(context_, bytes), {}); }
    std::size_t stream_threshold() const {
        std::size_t bytes = 0;
        check(piquant_context_get_stream_threshold(context_, &bytes), {});
        return bytes;
    }

private:
    piquant_context_t* context_ = nullptr;
};

}  // namespace piquant_python
