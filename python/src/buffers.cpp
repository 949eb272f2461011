#include <cstring>
#include <string>

#include "unlocked.hpp"
#include "view.hpp"

// A look at anything with the buffer protocol.
namespace piquant_python {
namespace {

using namespace std::string_literals;

constexpr bool little_endian = PY_LITTLE_ENDIAN != 0;

const char* name_of(const DType& dtype) {
    return piquant_dtype_name(static_cast<piquant_dtype_t>(dtype.id));
}

std::size_t item_size(int dtype) {
    return piquant_size(static_cast<piquant_dtype_t>(dtype), 1);
}

// The type that items of a format (module struct) have, native byte order; -1 for others. "l" and "L" have the size of
// a pointer or of an int, depending on the platform, so sizes come from the buffer.
int item_type(const Py_buffer& b) {
    const char* const format = b.format != nullptr ? b.format : "B";
    const std::size_t length = std::strlen(format);
    if (length == 0 || length > 2) {
        return -1;
    }
    const bool swapped = length == 2 && std::strchr(little_endian ? "@=<" : "@=>!", format[0]) == nullptr;
    if (swapped && b.itemsize > 1) {
        return -1;
    }
    const char letter = format[length - 1];
    if (std::strchr("efd", letter) != nullptr) {
        return b.itemsize == 2 ? PIQUANT_FLOAT16 : b.itemsize == 4 ? PIQUANT_FLOAT32 : PIQUANT_FLOAT64;
    }
    const bool is_signed = std::strchr("bhilqn", letter) != nullptr;
    if (!is_signed && std::strchr("BHILQN", letter) == nullptr) {
        return -1;
    }
    switch (b.itemsize) {
        case 1: return is_signed ? PIQUANT_INT8 : PIQUANT_UINT8;
        case 2: return is_signed ? PIQUANT_INT16 : PIQUANT_UINT16;
        case 4: return is_signed ? PIQUANT_INT32 : PIQUANT_UINT32;
        case 8: return is_signed ? PIQUANT_INT64 : PIQUANT_UINT64;
        default: return -1;
    }
}

bool holds_bytes(const Py_buffer& b) {
    return b.itemsize == 1 && (item_type(b) >= 0 || (b.format != nullptr && std::strcmp(b.format, "c") == 0));
}

std::string format_words(const Py_buffer& b) {
    return "got items of format " + text(nb::str(b.format != nullptr ? b.format : "B"));
}

[[noreturn]] void refuse_access(nb::handle exporter, const char* argument) {
    const nb::python_error error;
    if (error.matches(PyExc_TypeError)) {
        throw nb::type_error((argument + " must support the buffer protocol, got "s + type_of(exporter)).c_str());
    }
    if (error.matches(PyExc_BufferError) || error.matches(PyExc_ValueError)) {
        // Closed, released, or of items that the protocol cannot describe.
        const std::string reason = nb::str(error.value()).c_str();
        throw nb::buffer_error(
            (argument + " must give access to its memory, got "s + type_of(exporter) + ": " + reason).c_str());
    }
    throw error;
}

// The type of the elements of an input: what the items say, or what the caller says of bytes and of integers of its
// size.
int input_type(const Py_buffer& b, const char* argument, const Wanted& wanted) {
    const int item = item_type(b);
    const bool wants_floats = wanted.role == Role::floats || wanted.role == Role::scales;
    const char* const told_by = wanted.role == Role::scales ? "scale_dtype" : "source_dtype";
    if (wanted.role == Role::zero_points && item >= 0 && item <= PIQUANT_FLOAT64) {
        refuse_float_zero_points(argument, nb::str(piquant_dtype_name(static_cast<piquant_dtype_t>(item))));
    }
    if (wanted.dtype == nullptr) {
        if (item < 0 || (item <= PIQUANT_FLOAT64) != wants_floats) {
            throw nb::type_error((argument + " must hold "s + (wants_floats ? "floats" : "integers") +
                                  " of native byte order, or bytes together with " + told_by + "; " + format_words(b))
                                     .c_str());
        }
        return item;
    }
    const int told = wanted.dtype->id;
    const bool stand_in =
        item > PIQUANT_FLOAT64 && static_cast<std::size_t>(b.itemsize) == item_size(told) && item_size(told) > 1;
    if (item != told && !holds_bytes(b) && !stand_in) {
        throw nb::type_error((argument + " must hold bytes, or items of "s + name_of(*wanted.dtype) + ", with " +
                              told_by + "='" + name_of(*wanted.dtype) + "'; " + format_words(b))
                                 .c_str());
    }
    return wanted.dtype->stored;
}

// Outputs hold bytes, items of the type, or 16-bit integers in place of bfloat16, for which there is no format.
void check_output(const Py_buffer& b, nb::handle exporter, const char* argument, const DType& dtype) {
    if (b.readonly != 0) {
        throw nb::buffer_error((argument + " must be writable, got a read-only "s + type_of(exporter)).c_str());
    }
    const int item = item_type(b);
    const bool stand_in = dtype.id == PIQUANT_BFLOAT16 && (item == PIQUANT_INT16 || item == PIQUANT_UINT16);
    if (item != dtype.id && !holds_bytes(b) && !stand_in) {
        throw nb::type_error(
            (argument + " must hold bytes or items of "s + name_of(dtype) + ", " + format_words(b)).c_str());
    }
}

}  // namespace

void copy_buffer(const char* argument, const Wanted& wanted, View& view) {
    if (wanted.role == Role::output) {
        throw nb::buffer_error(
            (argument + " must be C-contiguous, or have items of the result's type and strides"s).c_str());
    }
    view.original = view.extent();
    do {
        PyErr_Clear();
        view.owner = nb::steal(PyBytes_FromStringAndSize(nullptr, view.buffer.len));
    } while (!view.owner.is_valid() && release_kept() != 0);
    if (!view.owner.is_valid() ||
        PyBuffer_ToContiguous(PyBytes_AS_STRING(view.owner.ptr()), &view.buffer, view.buffer.len, 'C') != 0) {
        throw nb::python_error();
    }
    view.data = PyBytes_AS_STRING(view.owner.ptr());
    view.set_row_major();
}

bool look_at_buffer(const Face& face, nb::handle array, const char* argument, const Wanted& wanted, View& view) {
    Py_buffer& b = view.buffer;
    if (PyObject_GetBuffer(array.ptr(), &b, PyBUF_FULL_RO) != 0) {
        b.obj = nullptr;
        refuse_access(array, argument);
    }
    if (wanted.role == Role::output) {
        check_output(b, array, argument, *wanted.dtype);
        view.type = face.elements[wanted.dtype->stored];
    } else {
        view.type = face.elements[input_type(b, argument, wanted)];
    }
    view.data = b.buf;
    view.item = static_cast<std::size_t>(b.itemsize);
    view.rank = static_cast<std::size_t>(b.ndim);
    for (std::size_t d = 0; d < view.rank; ++d) {  // at most PyBUF_MAX_NDIM of them, which is PIQUANT_MAX_RANK
        view.shape[d] = static_cast<std::size_t>(b.shape[d]);
    }
    view.set_row_major();
    for (std::size_t d = 0; b.strides != nullptr && d < view.rank; ++d) {  // ctypes tells none
        view.strides[d] = b.strides[d];
    }
    view.count();
    const std::size_t size = item_size(view.type->id);
    if (b.suboffsets != nullptr || (size != view.item && !view.contiguous)) {
        // Strides alone do not describe it, or its items are parts of elements.
        copy_buffer(argument, wanted, view);
    }
    if (size != view.item) {
        const auto bytes = static_cast<std::size_t>(b.len);
        if (bytes % size != 0 && wanted.role != Role::output) {
            throw nb::value_error((argument + " of "s + std::to_string(bytes) + " bytes must be a multiple of " +
                                   std::to_string(size) + " bytes, the size of " + name_of(*wanted.dtype))
                                      .c_str());
        }
        // Outputs are compared by bytes, see Face::flat_outputs.
        const bool whole = bytes % size == 0;
        view.item = whole ? size : 1;
        view.n = bytes / view.item;
        view.set_shape(&view.n, 1);
    }
    return true;
}

}  // namespace piquant_python
