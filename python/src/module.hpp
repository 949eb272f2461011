// The native module: addresses, dtypes and numbers in, exceptions out. Nothing numeric happens here.
#pragma once

#include <nanobind/nanobind.h>
#include <piquant/quant.h>

#include <cstdint>
#include <string>

namespace nb = nanobind;

namespace piquant_python {

// What a failed call was given, for the words of the exception.
struct Call {
    int real = -1;  // float dtype
    int code = -1;  // quantized dtype
    double scale = 0;
    nb::handle scale_given;
    nb::handle zero_point;
    nb::handle quant_min;
    nb::handle quant_max;
    std::size_t n = 0;
    nb::handle isa;
};

// Raises the Python exception for a status other than PIQUANT_OK.
[[noreturn]] void raise(piquant_status_t status, const Call& call);

inline void check(piquant_status_t status, const Call& call) {
    if (status != PIQUANT_OK) {
        raise(status, call);
    }
}

// A Python integer as the 64 bits that the C API takes for a zero point or range limit of `dtype`. Integers that do not
// fit raise `status`, whose words name the allowed range.
std::int64_t code_bits(nb::handle value, const char* argument, int dtype, piquant_status_t status, const Call& call);

// A Python integer in lowest .. highest.
std::uint64_t word_bits(nb::handle value, const char* argument, std::uint64_t lowest = 0,
                        std::uint64_t highest = UINT64_MAX);

bool flag(nb::handle value, const char* argument);

double number(nb::handle value, const char* argument);

// repr(value), or the beginning of a long one.
std::string text(nb::handle value);

void init_context(nb::module_& m);
void init_buffer(nb::module_& m);
void init_output(nb::module_& m);
void init_tensors(nb::module_& m);
void init_arrays(nb::module_& m);

}  // namespace piquant_python
