#include "plain.hpp"

// A look at numpy arrays without Python, by the C side of numpy's array interface (__array_struct__). Whatever is not
// plain (another class, byte order or layout, dtypes of other packages) is left to _arrays.py, which also finds the
// words for what is wrong.
namespace piquant_python {
namespace {

// The array interface, version 3: PyArrayInterface.
struct ArrayInterface {
    int two;  // says what this is
    int ndim;
    char kind;
    int itemsize;
    int flags;
    const Py_intptr_t* shape;
    const Py_intptr_t* strides;
    void* data;
    PyObject* description;
};
constexpr int contiguous = 0x001;
constexpr int native_order = 0x200;
constexpr int writeable = 0x400;

// numpy.ndarray itself, not a subclass; null until piquant.numpy is imported.
PyTypeObject* array_type = nullptr;
PyObject* array_struct = nullptr;

void use_array_type(nb::handle type) {
    array_struct = PyUnicode_InternFromString("__array_struct__");
    if (array_struct == nullptr) {
        throw nb::python_error();
    }
    array_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
}

// Number of the dtype, or -1.
int dtype_of(const ArrayInterface& a) {
    if (a.itemsize < 1 || a.itemsize > 8) {
        return -1;
    }
    switch (a.kind * 256 + a.itemsize) {
        case 'f' * 256 + 2: return PIQUANT_FLOAT16;
        case 'f' * 256 + 4: return PIQUANT_FLOAT32;
        case 'f' * 256 + 8: return PIQUANT_FLOAT64;
        case 'i' * 256 + 1: return PIQUANT_INT8;
        case 'u' * 256 + 1: return PIQUANT_UINT8;
        case 'i' * 256 + 2: return PIQUANT_INT16;
        case 'u' * 256 + 2: return PIQUANT_UINT16;
        case 'i' * 256 + 4: return PIQUANT_INT32;
        case 'u' * 256 + 4: return PIQUANT_UINT32;
        case 'i' * 256 + 8: return PIQUANT_INT64;
        case 'u' * 256 + 8: return PIQUANT_UINT64;
        default: return -1;
    }
}

// The interface of an array whose elements lie in memory as they are, in order, and its dtype. It lives as long as
// `owner`.
const ArrayInterface* plain(nb::handle array, int needed, nb::object& owner, int& dtype) {
    owner = nb::steal(PyObject_GetAttr(array.ptr(), array_struct));
    const auto* a =
        owner.is_valid() ? static_cast<const ArrayInterface*>(PyCapsule_GetPointer(owner.ptr(), nullptr)) : nullptr;
    if (a == nullptr) {
        PyErr_Clear();
        return nullptr;
    }
    dtype = dtype_of(*a);
    return a->two == 2 && dtype >= 0 && (a->flags & needed) == needed ? a : nullptr;
}

nb::object plain_arrays(nb::handle in, nb::handle out, Py_intptr_t per_byte) {
    if (array_type == nullptr || Py_TYPE(in.ptr()) != array_type || Py_TYPE(out.ptr()) != array_type) {
        return nb::none();
    }
    nb::object in_owner;
    nb::object out_owner;
    int in_dtype;
    int out_dtype;
    const ArrayInterface* a = plain(in, contiguous | native_order, in_owner, in_dtype);
    const ArrayInterface* b =
        a != nullptr ? plain(out, contiguous | native_order | writeable, out_owner, out_dtype) : nullptr;
    if (b == nullptr) {
        return nb::none();
    }
    return plain_pair(Plain<Py_intptr_t>{a->data, in_dtype, a->ndim, a->shape},
                      Plain<Py_intptr_t>{b->data, out_dtype, b->ndim, b->shape}, per_byte);
}

}  // namespace

void init_arrays(nb::module_& m) {
    m.def("use_array_type", &use_array_type, nb::arg("type"), "Tells the class that plain_arrays looks into.");
    m.def("plain_arrays", &plain_arrays, nb::arg("input").none(), nb::arg("output").none(), nb::arg("per_byte") = 1,
          nb::sig("def plain_arrays(input: object, output: object, per_byte: int = 1) -> tuple[int, int, int, int, "
                  "int, int] | None"),
          "Address and dtype of two contiguous arrays, rows and elements of a row; None where they do not fit.");
}

}  // namespace piquant_python
