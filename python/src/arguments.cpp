#include <cmath>
#include <cstring>
#include <string>

#include "module.hpp"

// Arguments that are no arrays: Python's objects in, numbers out, or an exception that names the argument.
namespace piquant_python {
namespace {

// One of two strings, which members of the enumerations are, too: whether it is the second one.
bool is_second(nb::handle value, const char* argument, const char* first, const char* second) {
    const bool named = PyUnicode_Check(value.ptr()) != 0;
    if (named && PyUnicode_CompareWithASCIIString(value.ptr(), first) == 0) {
        return false;
    }
    if (named && PyUnicode_CompareWithASCIIString(value.ptr(), second) == 0) {
        return true;
    }
    const std::string words =
        std::string(argument) + " must be '" + first + "' or '" + second + "', got " + text(value);
    if (named) {
        throw nb::value_error(words.c_str());
    }
    throw nb::type_error(words.c_str());
}

}  // namespace

bool is_stochastic(nb::handle round_mode) {
    return is_second(round_mode, "round_mode", "nearest", "stochastic");
}

bool is_add(nb::handle reduce_op) {
    return is_second(reduce_op, "reduce_op", "set", "add");
}

// The element of what has no dimensions, as an index; none where it is no integer. A tensor of uint64 from 2^63 on is no index
// to Python, but its element is.
static nb::object index_of_element(nb::handle value) {
    const auto checked = [](PyObject* result) {
        nb::object found = nb::steal(result);
        if (!found.is_valid()) {
            clear_error();
        }
        return found;
    };
    const nb::object ndim = checked(PyObject_GetAttrString(value.ptr(), "ndim"));
    if (!ndim.is_valid() || PyLong_CheckExact(ndim.ptr()) == 0 || PyObject_IsTrue(ndim.ptr()) != 0) {
        return {};
    }
    const nb::object element = checked(PyObject_CallMethod(value.ptr(), "item", nullptr));
    return element.is_valid() ? checked(PyNumber_Index(element.ptr())) : nb::object();
}

nb::object as_index(nb::handle value, const char* argument) {
    nb::object index = nb::steal(PyNumber_Index(value.ptr()));
    if (!index.is_valid()) {
        clear_error();
        index = index_of_element(value);
    }
    if (!index.is_valid()) {
        throw nb::type_error((std::string(argument) + " must be an int, got " + text(value)).c_str());
    }
    return index;
}

std::int64_t code_bits(nb::handle value, const char* argument, int dtype, piquant_status_t status, const Call& call) {
    const nb::object index = as_index(value, argument);
    if (dtype == PIQUANT_UINT64) {
        const unsigned long long bits = PyLong_AsUnsignedLongLong(index.ptr());
        if (bits == static_cast<unsigned long long>(-1) && PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            throw_status(status, call);
        }
        return static_cast<std::int64_t>(bits);
    }
    int overflow = 0;
    const long long bits = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) {
        throw_status(status, call);
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

void read_range(nb::handle quant_min, nb::handle quant_max, Call& call, piquant_options_t& options) {
    call.quant_min = quant_min;
    call.quant_max = quant_max;
    if (!quant_min.is_none()) {
        options.has_quant_min = 1;
        options.quant_min = code_bits(quant_min, "quant_min", call.code_dtype, PIQUANT_ERROR_QUANT_RANGE, call);
    }
    if (!quant_max.is_none()) {
        options.has_quant_max = 1;
        options.quant_max = code_bits(quant_max, "quant_max", call.code_dtype, PIQUANT_ERROR_QUANT_RANGE, call);
    }
}

void read_params(nb::handle scale, nb::handle zero_point, Call& call) {
    call.scale = number(scale, "scale");
    call.scale_given = scale;
    call.zero_point_given = zero_point;
    call.zero_point = code_bits(zero_point, "zero_point", call.code_dtype, PIQUANT_ERROR_ZERO_POINT, call);
}

}  // namespace piquant_python
