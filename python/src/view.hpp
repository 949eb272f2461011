// Foreign arrays as the calls see them: what each face fills in, and what the faces have in common.
#pragma once

#include <initializer_list>

#include "module.hpp"

namespace piquant_python {

// What a dtype of a face stands for.
struct DType {
    int id;              // piquant_dtype_t of the elements
    int stored;          // the same of the array that holds them: PIQUANT_UINT8 where a byte holds several codes
    nb::object storage;  // dtype of that array, as the face names it
    // torch quantized tensors know their own scale and zero point, and their rows share bytes.
    bool carries_params;

    bool is_float() const { return id <= PIQUANT_FLOAT64; }
    // An array of this dtype tells by itself what it holds, in a form that every face has.
    bool is_element() const { return id == stored && !carries_params; }
    // Several codes share a byte.
    bool is_packed() const { return piquant_size(static_cast<piquant_dtype_t>(id), 8) < 8; }
};

// Memory from begin up to end.
struct Extent {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
};

inline bool overlap(const Extent& a, const Extent& b) {
    return a.begin < b.end && b.begin < a.end;
}

// An array: n elements of a shape, with byte strides.
struct View {
    View() {}  // leaves shape and strides as they are
    ~View() {
        if (buffer.obj != nullptr) {
            PyBuffer_Release(&buffer);
        }
    }
    View(const View&) = delete;
    View& operator=(const View&) = delete;

    // Takes rank and shape as they are and gives them row-major strides.
    void set_row_major() {
        std::size_t stride = item;  // may wrap around where there are no elements
        for (std::size_t d = rank; d-- > 0;) {
            strides[d] = static_cast<std::ptrdiff_t>(stride);
            stride *= shape[d];
        }
        contiguous = true;
    }
    // Finds out n and contiguous. The strides of a dimension of one element do not matter, nor do any without elements.
    void count() {
        n = 1;
        bool gaps = false;
        std::size_t expected = item;
        for (std::size_t d = rank; d-- > 0;) {
            gaps |= shape[d] != 1 && static_cast<std::size_t>(strides[d]) != expected;
            expected *= shape[d];
            n *= shape[d];
        }
        contiguous = !gaps || n == 0;
    }
    void set_shape(const std::size_t* sizes, std::size_t dimensions) {
        rank = dimensions;
        for (std::size_t d = 0; d < dimensions; ++d) {
            shape[d] = sizes[d];
        }
        set_row_major();
    }
    bool has_shape(const std::size_t* sizes, std::size_t dimensions) const {
        bool equal = rank == dimensions;
        for (std::size_t d = 0; equal && d < rank; ++d) {
            equal = shape[d] == sizes[d];
        }
        return equal;
    }
    Extent extent() const;

    void* data = nullptr;
    const DType* type = nullptr;  // of the array as it is stored
    bool contiguous = false;      // row-major without gaps
    bool plain = false;           // the given array was seen without Python
    int device = host;
    std::size_t item = 0;     // bytes from one element to the next where there are no gaps
    std::ptrdiff_t unit = 1;  // bytes that the face counts strides in
    std::size_t n = 0;
    std::size_t rank = 0;
    std::size_t shape[PIQUANT_MAX_RANK];
    std::ptrdiff_t strides[PIQUANT_MAX_RANK];
    // Where the given array lies of which this is a copy, as only the copy is passed on; nowhere if it is none.
    Extent original;
    // What keeps the memory alive beyond the given array.
    nb::object owner;
    Py_buffer buffer{};
};

// What a function of Python returns for at most 8 arguments.
nb::object call(nb::handle function, std::initializer_list<nb::handle> arguments);

enum class Role { floats, codes, output, scales, zero_points };
constexpr std::size_t dtype_count = 32;  // more than there are

// What a call wants of an array.
struct Wanted {
    Role role;
    const DType* dtype = nullptr;  // of an output; of an input that cannot tell its elements, what the caller says
};

// How one kind of arrays is looked at and made. Functions of Python do what is rare, and find the words for what is
// wrong.
struct Face {
    // Looks without Python. False: look with `describe`.
    bool (*look)(const Face& face, nb::handle array, const char* argument, const Wanted& wanted, View& view);
    const char* floats;     // name of the argument that is an array of floats
    const char* codes;      // and of codes
    const char* noun;       // what an array is called here
    bool flat_outputs;      // an output may be any contiguous memory of the right size
    bool tells_shapes;      // results are made from a shape, not like another array
    bool one_is_number;     // an array of one element converts to a number
    nb::dict dtypes;        // spelling of a dtype -> DType
    nb::object find_dtype;  // (dtype, argument, floats) -> DType, for spellings that are not in `dtypes`
    nb::object describe;    // (array, argument, role, DType or None) -> see read() in face.cpp
    nb::object contiguous;  // (array, argument) -> a row-major copy
    nb::object make;        // (like, DType, shape or None, scale, zero_point) -> a result, not filled
    // Faster ones for results of less than `small` bytes, or None. What they raise is for `make` to say.
    nb::object make_alike;      // (like, dtype=storage): of the shape and memory format of a plain array
    nb::object make_small;      // (shape, storage)
    nb::object make_quantized;  // (shape, scale=, zero_point=, dtype=storage): of a dtype that carries these
    std::size_t small;
    nb::object draw_seed;     // () -> int
    nb::object check_params;  // (array, argument, scale, zero_point): of an array that carries its own
    nb::object written;       // ((output,)): tells the framework about a write, or None
    nb::object run;           // (device, plan): carries out a call on a device, see device.cpp; or None
    bool runs_all = false;    // also calls on arrays of the host, as the tests of its kernels want it
    const piquant_threads_t* threads = nullptr;  // of the framework, if it has any to lend
    const DType* elements[dtype_count];          // by piquant_dtype_t, those of `dtypes` that are elements

    // Whose threads a call runs on: those of the framework, unless it names a context; null: the context's own.
    const piquant_threads_t* threads_for(nb::handle ctx) const { return ctx.is_none() ? threads : nullptr; }
    // The DType that an argument names, of floats or of codes.
    const DType& dtype(nb::handle spelling, const char* argument, bool wants_float) const;
    // Fills in the view of an array, or raises.
    void view(nb::handle array, const char* argument, const Wanted& wanted, View& view) const;
    // Puts a row-major copy of the array in the place of its view.
    void make_contiguous(nb::handle array, const char* argument, const Wanted& wanted, View& view) const;
    nb::object new_output(nb::handle like, bool alike, const DType& dtype, nb::handle shape, std::size_t bytes,
                          const Call& call) const;
    // Refuses an array that lies elsewhere than the data of the call.
    void match_device(const View& view, const char* argument, const Call& call) const;
    void compare_params(nb::handle array, const char* argument, const Call& call) const;
    void tell_written(nb::handle output) const;

private:
    void describe_into(nb::handle array, const char* argument, const Wanted& wanted, View& view) const;
    void replace(nb::handle instead, const char* argument, const Wanted& wanted, View& view) const;
};

// Of each kind of arrays, the look without Python.
bool look_at_tensor(const Face& face, nb::handle array, const char* argument, const Wanted& wanted, View& view);
bool look_at_array(const Face& face, nb::handle array, const char* argument, const Wanted& wanted, View& view);
bool look_at_buffer(const Face& face, nb::handle array, const char* argument, const Wanted& wanted, View& view);

// Says of zero points in floats what formats have them, and that this is none of these.
[[noreturn]] void refuse_float_zero_points(const char* argument, nb::handle dtype);

// A row-major copy of a buffer in its place.
void copy_buffer(const char* argument, const Wanted& wanted, View& view);

// What a framework's dtype stands for, or null where that is nothing.
inline const DType* known_dtype(const Face& face, nb::handle dtype) {
    PyObject* const found = PyDict_GetItemWithError(face.dtypes.ptr(), dtype.ptr());
    if (found == nullptr) {
        PyErr_Clear();
        return nullptr;
    }
    return nb::inst_ptr<DType>(found);
}

// The same, if it is a type that stands for itself.
inline const DType* element_type(const Face& face, nb::handle dtype) {
    const DType* const type = known_dtype(face, dtype);
    return type != nullptr && type->is_element() ? type : nullptr;
}

}  // namespace piquant_python
