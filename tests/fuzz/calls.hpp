// What calls of the C API that stand for an input are made with: contexts, options, and memory for their arrays.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "case.hpp"
#include "layout.hpp"

namespace piquant::fuzz {

constexpr size_t arena = size_t{1} << 20;

inline piquant_dtype_t dtype(int number) {
    return static_cast<piquant_dtype_t>(number);
}

// Contexts live as long as the process, as those of a program do; a context keeps the threads it has started.
inline piquant_context_t* context_of(size_t threads) {
    static piquant_context_t* contexts[5] = {};
    if (contexts[threads] == nullptr && piquant_context_create(&contexts[threads], threads) != PIQUANT_OK) {
        std::abort();
    }
    return contexts[threads];
}

// The scalar instruction set, on the calling thread.
inline piquant_context_t* reference() {
    static piquant_context_t* context = [] {
        piquant_context_t* c = nullptr;
        if (piquant_context_create(&c, 1) != PIQUANT_OK || piquant_context_set_isa(c, "scalar") != PIQUANT_OK) {
            std::abort();
        }
        return c;
    }();
    return context;
}

inline piquant_context_t* prepared(const Case& c) {
    size_t available = 0;
    while (piquant_available_isa(available) != nullptr) {
        ++available;
    }
    piquant_context_t* context = context_of(c.threads);
    if (piquant_context_set_isa(context, piquant_available_isa(c.isa % available)) != PIQUANT_OK ||
        piquant_context_set_serial_cutoff(context, c.parallel ? 0 : SIZE_MAX) != PIQUANT_OK ||
        piquant_context_set_stream_threshold(context, c.stream ? 0 : SIZE_MAX) != PIQUANT_OK) {
        std::abort();
    }
    return context;
}

// The options of a case, with what a later version has behind them.
class GivenOptions {
public:
    explicit GivenOptions(const Case& c) : exist_(c.has_options), options_{c.options, {}} {
        const Layout& layout = c.layout;
        std::copy(std::begin(c.beyond), std::end(c.beyond), options_.beyond);
        options_.known.shape = layout.no_shape ? nullptr : layout.shape.data();
        options_.known.in_strides = layout.no_in_strides ? nullptr : layout.in_strides.data();
        options_.known.out_strides = layout.no_out_strides ? nullptr : layout.out_strides.data();
    }
    const piquant_options_t* pointer() const { return exist_ ? &options_.known : nullptr; }

private:
    bool exist_;
    struct {
        piquant_options_t known;
        unsigned char beyond[8];
    } options_;
};

// Where an array of a call lies; nowhere, where there is none.
class PlacedArray {
public:
    PlacedArray(bool exists, const Case& c, Array (*array_of)(const Case&)) : exists_(exists) {
        if (exists) {
            array_ = array_of(c);
            reach_ = reach_of(array_);
        }
    }
    size_t bytes() const { return static_cast<size_t>(reach_.below + reach_.above); }
    void put(unsigned char* lowest) { lowest_ = lowest; }
    unsigned char* lowest() const { return lowest_; }
    unsigned char* first() const { return lowest_ + static_cast<ptrdiff_t>(reach_.below); }
    const Array& array() const { return array_; }

    void fill_with(const Case& c, uint64_t salt) {
        if (exists_) {
            Bytes dense(piquant_size(dtype(array_.dtype), elements_of(array_)));
            fill(c, array_.dtype, dense.data(), elements_of(array_), salt);
            spread(array_, first(), dense);
        }
    }
    Bytes elements() const { return exists_ ? collected(array_, first()) : Bytes(); }
    void drop_repetitions() { array_ = distinct(array_); }

private:
    bool exists_;
    Array array_{};
    Reach reach_{0, 0};
    unsigned char* lowest_ = nullptr;
};

}  // namespace piquant::fuzz
