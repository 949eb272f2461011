#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "blocks.hpp"

namespace piquant_python {
namespace {

using namespace std::string_literals;

// The range of a code type: its smallest and its largest code.
std::string range_end(int dtype, bool highest) {
    std::int64_t ends[2] = {0, 0};
    (void)piquant_dtype_range(static_cast<piquant_dtype_t>(dtype), &ends[0], &ends[1]);
    const std::int64_t end = ends[highest ? 1 : 0];
    return dtype == PIQUANT_UINT64 ? std::to_string(static_cast<std::uint64_t>(end)) : std::to_string(end);
}
std::string lowest(int dtype) {
    return range_end(dtype, false);
}
std::string highest(int dtype) {
    return range_end(dtype, true);
}

std::string middle(int dtype) {
    return std::to_string(symmetric_zero_point(dtype));
}

std::string scale_words(const Call& call) {
    char limits[64];
    const bool wide = call.float_dtype == PIQUANT_FLOAT64;
    std::snprintf(limits, sizeof limits, "%.9g to %.9g", wide ? DBL_MIN : static_cast<double>(FLT_MIN),
                  wide ? DBL_MAX : static_cast<double>(FLT_MAX));
    return "scale must be finite and positive, from " + std::string(limits) + " for " + dtype_name(call.float_dtype) +
           " data, got " +
           (call.blocks == nullptr ? text(call.scale_given)
                                   : shown_element(call.blocks->scale, call.blocks->bad) + call.blocks->place());
}

std::string zero_point_words(const Call& call) {
    const bool of_blocks = call.blocks != nullptr && call.blocks->has_zero_points();
    return "zero_point must be in " + lowest(call.code_dtype) + ".." + highest(call.code_dtype) + " for " +
           dtype_name(call.code_dtype) + ", got " +
           (of_blocks ? shown_element(call.blocks->zero_point, call.blocks->bad) + call.blocks->place()
                      : text(call.zero_point_given));
}

std::string place(const Call& call) {
    return call.blocks != nullptr ? call.blocks->place() : "";
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
        case PIQUANT_ERROR_ZERO_POINT: return zero_point_words(call);
        case PIQUANT_ERROR_QUANT_RANGE:
            return "quant_min and quant_max must satisfy " + lowest(call.code_dtype) +
                   " <= quant_min < quant_max <= " + highest(call.code_dtype) + " for " + dtype_name(call.code_dtype) +
                   ", got quant_min=" + text(call.quant_min) + ", quant_max=" + text(call.quant_max);
        case PIQUANT_ERROR_SYMMETRIC_RANGE:
            return "symmetric parameters of " + dtype_name(call.code_dtype) +
                   " need codes on both sides of the zero point, " + middle(call.code_dtype) +
                   ": quant_min and quant_max must satisfy quant_min < " + middle(call.code_dtype) +
                   " < quant_max, got quant_min=" + text(call.quant_min) + ", quant_max=" + text(call.quant_max);
        case PIQUANT_ERROR_EMPTY:
            return call.input + " must have at least one element to compute parameters from, got none"s;
        case PIQUANT_ERROR_NOT_FINITE:
            return call.input + " must be finite to compute parameters from, but holds NaN or infinity"s + place(call);
        case PIQUANT_ERROR_DATA_RANGE:
            return call.input + " spans more than quant_max - quant_min steps of the largest scale that fits "s +
                   (call.blocks == nullptr ? "the compute type"
                                           : dtype_name(call.blocks->described()->scale_dtype) + place(call));
        case PIQUANT_ERROR_STRIDES:
            return "out must have memory of its own for each element, got " +
                   (call.out != nullptr ? layout_words(*call.out) : "others"s);
        case PIQUANT_ERROR_OVERLAP:
            return call.blocks == nullptr ? "out must not overlap the input"
                                          : "out must not overlap the input, scale or zero_point";
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

std::string dtype_name(int dtype) {
    const char* const name = piquant_dtype_name(static_cast<piquant_dtype_t>(dtype));
    const std::string known = name != nullptr ? name : std::to_string(dtype);
    return known.substr(0, known.find("_unpacked"));
}

std::uint64_t symmetric_zero_point(int dtype) {
    const bool is_signed = lowest(dtype) != "0";
    return is_signed ? 0 : std::uint64_t{1} << (piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype)) - 1);
}

std::string shape_words(const std::size_t* shape, std::size_t rank) {
    std::string words = "(";
    for (std::size_t d = 0; d < rank; ++d) {
        words += (d == 0 ? "" : ", ") + std::to_string(shape[d]);
    }
    return words + (rank == 1 ? ",)" : ")");
}

std::string layout_words(const View& view) {
    std::string words = "strides (";
    for (std::size_t d = 0; d < view.rank; ++d) {
        words += (d == 0 ? "" : ", ") + std::to_string(view.strides[d] / view.unit);
    }
    return words + (view.rank == 1 ? ",)" : ")") + " for shape " + shape_words(view.shape, view.rank);
}

std::string type_of(nb::handle value) {
    const std::string name = Py_TYPE(value.ptr())->tp_name;
    return name.substr(name.rfind('.') + 1);
}

std::string text(nb::handle value) {
    constexpr std::size_t longest = 200;
    const nb::object described = nb::steal(PyObject_Repr(value.ptr()));
    const char* utf8 = described.is_valid() ? PyUnicode_AsUTF8(described.ptr()) : nullptr;
    if (utf8 == nullptr) {  // an integer of more digits than Python prints, say
        clear_error();
        return "a value of type " + type_of(value);
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

void throw_status(piquant_status_t status, const Call& call) {
    if (status == PIQUANT_ERROR_DEVICE) {  // see device.cpp
        throw nb::python_error();
    }
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

}  // namespace piquant_python
