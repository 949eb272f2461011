#include "view.hpp"

// A look at numpy arrays without Python. Everything else (subclasses, other byte orders, dtypes that have not been met)
// is left to _arrays.py.
namespace piquant_python {
namespace {

// The beginning of every array, PyArrayObject_fields, which numpy's own macros read in all extensions: it is part of
// numpy's binary interface. use_arrays checks it nevertheless. (__array_struct__ tells the same, but takes a tenth of a
// microsecond.)
struct ArrayObject {
    PyObject head;
    void* data;
    int ndim;
    const Py_ssize_t* shape;
    const Py_ssize_t* strides;
    PyObject* base;
    PyObject* dtype;
    int flags;
};
constexpr int writeable = 0x400;

// numpy.ndarray itself, not a subclass; null until piquant.numpy is imported.
PyTypeObject* array_type = nullptr;

const ArrayObject& fields(nb::handle array) {
    return *reinterpret_cast<const ArrayObject*>(array.ptr());
}

// `example` is a 2-dimensional array, the rest what its attributes say.
using Sizes = nb::typed<nb::tuple, int, nb::ellipsis>;
void use_arrays(nb::handle type, nb::handle example, std::uintptr_t address, const Sizes& shape, const Sizes& strides,
                bool is_writeable) {
    const ArrayObject& a = fields(example);
    bool same = reinterpret_cast<PyTypeObject*>(type.ptr()) == Py_TYPE(example.ptr()) &&
                reinterpret_cast<std::uintptr_t>(a.data) == address && a.ndim == 2 && shape.size() == 2 &&
                a.dtype == nb::object(example.attr("dtype")).ptr() && ((a.flags & writeable) != 0) == is_writeable;
    for (std::size_t d = 0; same && d < 2; ++d) {
        same = a.shape[d] == nb::cast<Py_ssize_t>(shape[d]) && a.strides[d] == nb::cast<Py_ssize_t>(strides[d]);
    }
    array_type = same ? reinterpret_cast<PyTypeObject*>(nb::handle(type).inc_ref().ptr()) : nullptr;
}

}  // namespace

bool look_at_array(const Face& face, nb::handle array, const char*, const Wanted& wanted, View& view) {
    if (array_type == nullptr || Py_TYPE(array.ptr()) != array_type) {
        return false;
    }
    const ArrayObject& a = fields(array);
    const DType* const element = element_type(face, a.dtype);
    if (element == nullptr || a.ndim > PIQUANT_MAX_RANK ||
        (wanted.role == Role::output && (a.flags & writeable) == 0)) {
        return false;
    }
    view.data = a.data;
    view.type = element;
    view.item = piquant_size(static_cast<piquant_dtype_t>(element->id), 1);
    view.rank = static_cast<std::size_t>(a.ndim);
    for (std::size_t d = 0; d < view.rank; ++d) {
        view.shape[d] = static_cast<std::size_t>(a.shape[d]);
        view.strides[d] = a.strides[d];
    }
    view.count();
    return true;
}

void init_arrays(nb::module_& m) {
    m.def("use_arrays", &use_arrays, nb::arg("type"), nb::arg("example"), nb::arg("address"), nb::arg("shape"),
          nb::arg("strides"), nb::arg("writeable"),
          "Tells numpy.ndarray, so that arrays can be looked at without Python.");
}

}  // namespace piquant_python
