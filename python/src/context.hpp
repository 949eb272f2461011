// A context as Python holds it.
#pragma once

#include <cstring>

#include "module.hpp"

namespace piquant_python {

class Context {
public:
    explicit Context(nb::handle num_threads) {
        const std::size_t threads = num_threads.is_none() ? 0 : thread_count(num_threads);
        check(piquant_context_create(&context_, threads), {});
    }
    ~Context() { (void)piquant_context_destroy(context_); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    piquant_context_t* get() const { return context_; }

    void set_num_threads(nb::handle value) {
        check(piquant_context_set_num_threads(context_, thread_count(value)), {});
    }
    std::size_t num_threads() const {
        std::size_t n = 0;
        check(piquant_context_get_num_threads(context_, &n), {});
        return n;
    }

    void set_isa(nb::handle value) {
        if (!PyUnicode_Check(value.ptr())) {
            throw nb::type_error(("isa must be a str, got " + text(value)).c_str());
        }
        Py_ssize_t length = 0;
        const char* name = PyUnicode_AsUTF8AndSize(value.ptr(), &length);
        if (name == nullptr) {  // holds half of a surrogate pair
            PyErr_Clear();
        }
        Call call;
        call.isa = value;
        const bool whole = name != nullptr && std::strlen(name) == static_cast<std::size_t>(length);
        check(piquant_context_set_isa(context_, whole ? name : ""), call);
    }
    const char* isa() const {
        const char* name = nullptr;
        check(piquant_context_get_isa(context_, &name), {});
        return name;
    }

    void set_serial_cutoff(nb::handle bytes) {
        check(piquant_context_set_serial_cutoff(context_, word_bits(bytes, "serial_cutoff")), {});
    }
    std::size_t serial_cutoff() const {
        std::size_t bytes = 0;
        check(piquant_context_get_serial_cutoff(context_, &bytes), {});
        return bytes;
    }
    void set_stream_threshold(nb::handle bytes) {
        check(piquant_context_set_stream_threshold(context_, word_bits(bytes, "stream_threshold")), {});
    }
    std::size_t stream_threshold() const {
        std::size_t bytes = 0;
        check(piquant_context_get_stream_threshold(context_, &bytes), {});
        return bytes;
    }

private:
    static std::size_t thread_count(nb::handle value) {
        return word_bits(value, "num_threads", 1, PIQUANT_MAX_THREADS);
    }

    piquant_context_t* context_ = nullptr;
};

// The context that an argument names; the default one for None.
const Context& context_of(nb::handle ctx);

using Params = nb::typed<nb::tuple, double, nb::int_>;

// Scale and zero point of n elements, laid out as the options say.
Params params_of(const Context& context, const void* in, std::size_t n, const piquant_options_t& options,
                 const Call& call);

}  // namespace piquant_python
