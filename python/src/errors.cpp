#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "module.hpp"

namespace piquant_python {
namespace {

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

// Text of the environment, which may be no UTF-8, with \x.. where it is none.
std::string printable(const char* bytes) {
    const auto size = static_cast<Py_ssize_t>(std::strlen(bytes));
    const nb::object decoded = nb::steal(PyUnicode_DecodeUTF8(bytes, size, "backslashreplace"));
    const char* utf8 = decoded.is_valid() ? PyUnicode_AsUTF8(decoded.ptr()) : nullptr;
    if (utf8 == nullptr) {
        throw nb::python_error();
    }
    return utf8;
}

std::string environment_words() {
    std::string words = piquant_status_string(PIQUANT_ERROR_ENVIRONMENT);
    const char* separator = "; got ";
    for (const char* name :
         {"PIQUANT_NUM_THREADS", "PIQUANT_ISA", "PIQUANT_SERIAL_CUTOFF", "PIQUANT_STREAM_THRESHOLD"}) {
        if (const char* value = std::getenv(name); value != nullptr && *value != 0) {
            words += separator + std::string(name) + "=" + printable(value);
            separator = ", ";
        }
    }
    return words;
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
                   " reach 2^(bits-1) - 1 on both sides of the zero point and must lie within "
                   "quant_min..quant_max, got quant_min=" +
                   text(call.quant_min) + ", quant_max=" + text(call.quant_max);
        case PIQUANT_ERROR_EMPTY: return "x must have at least one element to compute parameters from, got none";
        case PIQUANT_ERROR_NOT_FINITE: return "x must be finite to compute parameters from, but holds NaN or infinity";
        case PIQUANT_ERROR_DATA_RANGE:
            return "x spans more than quant_max - quant_min steps of the largest scale that fits the compute type";
        case PIQUANT_ERROR_OVERLAP: return "out must not overlap the input";
        case PIQUANT_ERROR_LENGTH:
            return "numel must be small enough for the array to fit the address space, got " + std::to_string(call.n);
        case PIQUANT_ERROR_ISA: {
            std::string available;
            for (std::size_t i = 0; const char* name = piquant_available_isa(i); ++i) {
                available += (i == 0 ? "" : ", ") + std::string(name);
            }
            return "isa must be one of " + available + " on this CPU, got " + text(call.isa);
        }
        case PIQUANT_ERROR_ENVIRONMENT: return environment_words();
        default: return piquant_status_string(status);
    }
}

}  // namespace

std::string text(nb::handle value) {
    constexpr std::size_t longest = 200;
    const nb::object described = nb::steal(PyObject_Repr(value.ptr()));
    const char* utf8 = described.is_valid() ? PyUnicode_AsUTF8(described.ptr()) : nullptr;
    if (utf8 == nullptr) {  // an integer of more digits than Python prints, say
        PyErr_Clear();
        return "a value of type " + std::string(nb::inst_name(value).c_str());
    }
    std::string words = utf8;
    if (words.size() > longest) {
        std::size_t end = longest;
        while ((static_cast<unsigned char>(words[end]) & 0xC0) == 0x80) {  // within a character
            --end;
        }
        words = words.substr(0, end) + "...";
    }
    return words;
}

void raise(piquant_status_t status, const Call& call) {
    if (status == PIQUANT_ERROR_MEMORY) {
        PyErr_NoMemory();
        throw nb::python_error();
    }
    throw nb::value_error(words(status, call).c_str());
}

// Errors of conversion are to be told in our words; an interrupt, or memory that ran out, is none of them.
void clear_error() {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0 || PyErr_ExceptionMatches(PyExc_MemoryError) != 0) {
        throw nb::python_error();
    }
    PyErr_Clear();
}

std::int64_t code_bits(nb::handle value, const char* argument, int dtype, piquant_status_t status, const Call& call) {
    const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    if (!index.is_valid()) {
        clear_error();
        throw nb::type_error((std::string(argument) + " must be an int, got " + text(value)).c_str());
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

std::uint64_t word_bits(nb::handle value, const char* argument, std::uint64_t lowest, std::uint64_t highest) {
    const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    const unsigned long long bits = index.is_valid() ? PyLong_AsUnsignedLongLong(index.ptr()) : 0;
    if (PyErr_Occurred() == nullptr && bits >= lowest && bits <= highest) {
        return bits;
    }
    if (PyErr_Occurred() != nullptr) {
        clear_error();
    }
    const std::string wanted = std::string(argument) + " must be an int in " + std::to_string(lowest) + ".." +
                               (highest == UINT64_MAX ? "2**64 - 1" : std::to_string(highest)) + ", got " + text(value);
    if (!index.is_valid()) {
        throw nb::type_error(wanted.c_str());
    }
    throw nb::value_error(wanted.c_str());
}

bool flag(nb::handle value, const char* argument) {
    const char* type = Py_TYPE(value.ptr())->tp_name;
    if (PyBool_Check(value.ptr()) || std::strcmp(type, "numpy.bool") == 0 || std::strcmp(type, "numpy.bool_") == 0) {
        return PyObject_IsTrue(value.ptr()) == 1;
    }
    throw nb::type_error((std::string(argument) + " must be True or False, got " + text(value)).c_str());
}

double number(nb::handle value, const char* argument) {
    const double x = PyFloat_AsDouble(value.ptr());
    if (x == -1.0 && PyErr_Occurred() != nullptr) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError) != 0) {  // an int beyond all doubles, for the caller to refuse
            PyErr_Clear();
            return HUGE_VAL;
        }
        clear_error();
        throw nb::type_error((std::string(argument) + " must be a number, got " + text(value)).c_str());
    }
    return x;
}

}  // namespace piquant_python
