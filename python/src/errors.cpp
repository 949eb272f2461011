#include <cfloat>
#include <cstdio>
#include <string>

#include "module.hpp"

namespace piquant_python {
namespace {

std::string text(nb::handle value) {
    return nb::repr(value).c_str();
}

std::string dtype_name(int dtype) {
    const char* name = piquant_dtype_name(static_cast<piquant_dtype_t>(dtype));
    return name != nullptr ? name : std::to_string(dtype);
}

bool is_unsigned(int dtype) {
    return dtype_name(dtype)[0] == 'u';
}

std::string lowest(int dtype) {
    const int bits = piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype));
    return is_unsigned(dtype) ? "0" : std::to_string(INT64_MIN >> (64 - bits));
}

std::string highest(int dtype) {
    const int bits = piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype));
    return is_unsigned(dtype) ? std::to_string(UINT64_MAX >> (64 - bits)) : std::to_string(INT64_MAX >> (64 - bits));
}

std::string scale_words(const Call& call) {
    char limits[64];
    const bool wide = call.real == PIQUANT_FLOAT64;
    std::snprintf(limits, sizeof limits, "%.9g to %.9g", wide ? DBL_MIN : static_cast<double>(FLT_MIN),
                  wide ? DBL_MAX : static_cast<double>(FLT_MAX));
    return "scale must be finite and positive, from " + std::string(limits) + " for " + dtype_name(call.real) +
           " data, got " + text(call.scale_given);
}

std::string words(piquant_status_t status, const Call& call) {
    switch (status) {
        case PIQUANT_ERROR_SCALE: return scale_words(call);
        case PIQUANT_ERROR_ZERO_POINT:
            return "zero_point must be in " + lowest(call.code) + ".." + highest(call.code) + " for " +
                   dtype_name(call.code) + ", got " + text(call.zero_point);
        case PIQUANT_ERROR_QUANT_RANGE:
            return "quant_min and quant_max must satisfy " + lowest(call.code) +
                   " <= quant_min < quant_max <= " + highest(call.code) + " for " + dtype_name(call.code) +
                   ", got quant_min=" + text(call.quant_min) + ", quant_max=" + text(call.quant_max);
        case PIQUANT_ERROR_SYMMETRIC_RANGE:
            return "symmetric codes of " + dtype_name(call.code) +
                   " reach 2^(bits-1) - 1 on both sides of the zero point and must lie within quant_min..quant_max, "
                   "got "
                   "quant_min=" +
                   text(call.quant_min) + ", quant_max=" + text(call.quant_max);
        case PIQUANT_ERROR_EMPTY: return "x must have at least one element to compute parameters from, got none";
        case PIQUANT_ERROR_NOT_FINITE: return "x must be finite to compute parameters from, but holds NaN or infinity";
        case PIQUANT_ERROR_DATA_RANGE:
            return "x spans more than quant_max - quant_min steps of the largest scale that fits the compute type";
        case PIQUANT_ERROR_OVERLAP: return "out must not overlap the input";
        case PIQUANT_ERROR_NUM_THREADS:
            return "num_threads must be in 1.." + std::to_string(PIQUANT_MAX_THREADS) + ", got " +
                   std::to_string(call.num_threads);
        case PIQUANT_ERROR_ISA: {
            std::string available;
            for (std::size_t i = 0; const char* name = piquant_available_isa(i); ++i) {
                available += (i == 0 ? "" : ", ") + std::string(name);
            }
            return "isa must be one of " + available + " on this CPU, got '" + call.isa + "'";
        }
        default: return piquant_status_string(status);
    }
}

}  // namespace

void raise(piquant_status_t status, const Call& call) {
    if (status == PIQUANT_ERROR_MEMORY) {
        PyErr_NoMemory();
        throw nb::python_error();
    }
    throw nb::value_error(words(status, call).c_str());
}

std::int64_t code_bits(nb::handle value, const char* argument, int dtype, piquant_status_t status, const Call& call) {
    if (!PyIndex_Check(value.ptr())) {
        throw nb::type_error((std::string(argument) + " must be an int, got " + text(value)).c_str());
    }
    const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    if (!index.is_valid()) {
        throw nb::python_error();
    }
    if (dtype == PIQUANT_UINT64) {
        const unsigned long long bits = PyLong_AsUnsignedLongLong(index.ptr());
        if (bits == static_cast<unsigned long long>(-1) && PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            raise(status, call);
        }
        return static_cast<std::int64_t>(bits);
    }
    int overflow = 0;
    const long long bits = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) {
        raise(status, call);
    }
    return bits;
}

std::uint64_t word_bits(nb::handle value, const char* argument) {
    const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    const unsigned long long bits = index.is_valid() ? PyLong_AsUnsignedLongLong(index.ptr()) : 0;
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        const std::string wanted = std::string(argument) + " must be an int in 0..2**64 - 1, got " + text(value);
        if (!index.is_valid()) {
            throw nb::type_error(wanted.c_str());
        }
        throw nb::value_error(wanted.c_str());
    }
    return bits;
}

double number(nb::handle value, const char* argument) {
    const double x = PyFloat_AsDouble(value.ptr());
    if (x == -1.0 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw nb::type_error((std::string(argument) + " must be a number, got " + text(value)).c_str());
    }
    return x;
}

}  // namespace piquant_python
