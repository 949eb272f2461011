#include <nanobind/ndarray.h>

#include "unlocked.hpp"
#include "view.hpp"

// A look at tensors without Python: attributes of two tensors, one by one, take longer than quantizing 1,024 elements.
// A torch that has DLPack's C exchange API hands out a function that tells all of them. Everything else (subclasses,
// other devices, lazily negated or quantized tensors, a torch without that function) is left to _tensors.py.
namespace piquant_python {
namespace {

using Tensor = nb::dlpack::dltensor;

// DLPack, version 1.3: DLPackExchangeAPI.
struct ExchangeApi {
    std::uint32_t major;
    std::uint32_t minor;
    const ExchangeApi* previous;  // the same, in an older major version
    void* allocate;
    void* export_managed;
    void* import_managed;
    int (*view)(void* object, Tensor* view);  // may be null
    void* current_stream;
};

// torch.Tensor itself, not a subclass; null until torch is imported, or where it is too old.
PyTypeObject* tensor_type = nullptr;
int (*view_of)(void*, Tensor*) = nullptr;
// What the class has under these names. Calling them is faster than looking them up in each tensor.
PyObject* dtype_of = nullptr;
PyObject* requires_grad = nullptr;
PyObject* is_neg = nullptr;
PyObject* is_grad_enabled = nullptr;
PyObject* storage_of = nullptr;

void use_tensors(nb::handle type, nb::handle grad_enabled) {
    tensor_type = nullptr;
    const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
    if (capsule.is_none()) {
        return;
    }
    const auto* api = static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (api == nullptr) {
        throw nb::python_error();
    }
    while (api != nullptr && api->major > 1) {
        api = api->previous;
    }
    if (api == nullptr || api->major != 1 || api->view == nullptr) {
        return;
    }
    dtype_of = nb::getattr(type, "dtype").release().ptr();
    requires_grad = nb::getattr(type, "requires_grad").release().ptr();
    is_neg = nb::getattr(type, "is_neg").release().ptr();
    storage_of = nb::getattr(type, "untyped_storage").release().ptr();
    is_grad_enabled = grad_enabled.inc_ref().ptr();
    if (Py_TYPE(dtype_of)->tp_descr_get == nullptr || Py_TYPE(requires_grad)->tp_descr_get == nullptr) {
        return;
    }
    view_of = api->view;
    tensor_type = reinterpret_cast<PyTypeObject*>(nb::handle(type).inc_ref().ptr());
}

nb::object attribute(PyObject* descriptor, nb::handle tensor) {
    return nb::steal(Py_TYPE(descriptor)->tp_descr_get(descriptor, tensor.ptr(), nullptr));
}

// What cannot be told counts as true, which leaves the tensor to Python.
bool is_true(const nb::object& result) {
    if (!result.is_valid()) {
        PyErr_Clear();
        return true;
    }
    return result.ptr() != Py_False;
}

// A number that a method of the storage returns, found once for all; 0 where there is none.
std::uintptr_t told_by(nb::handle storage, PyObject*& method, const char* name) {
    if (method == nullptr) {
        method = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(storage.ptr())), name);
    }
    PyObject* const self[] = {storage.ptr()};
    const nb::object number = method != nullptr ? nb::steal(vectorcall(method, self, 1)) : nb::object();
    const std::size_t told = number.is_valid() ? PyLong_AsSize_t(number.ptr()) : 0;
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        return 0;
    }
    return told;
}

// Whether memory that a tensor spans is that of its storage, which may have been resized beneath it.
bool within_storage(nb::handle tensor, const Extent& extent) {
    static PyObject* begin_of = nullptr;
    static PyObject* size_of = nullptr;
    PyObject* const self[] = {tensor.ptr()};
    const nb::object storage = nb::steal(vectorcall(storage_of, self, 1));
    if (!storage.is_valid()) {
        PyErr_Clear();
        return false;
    }
    const std::uintptr_t begin = told_by(storage, begin_of, "data_ptr");
    return extent.begin >= begin && extent.end <= begin + told_by(storage, size_of, "nbytes");
}

}  // namespace

bool look_at_tensor(const Face& face, nb::handle array, const char*, const Wanted& wanted, View& view) {
    if (tensor_type == nullptr || Py_TYPE(array.ptr()) != tensor_type) {
        return false;
    }
    // The dtype comes from torch and not from DLPack, which has no words for all of them: torch.uint4, of a byte for
    // each element, would pass for uint8. Of a tensor that carries quantization parameters torch has no such view.
    const nb::object dtype = attribute(dtype_of, array);
    const DType* const element = dtype.is_valid() ? element_type(face, dtype) : nullptr;
    Tensor t;
    if (element == nullptr || view_of(array.ptr(), &t) != 0) {
        PyErr_Clear();
        return false;
    }
    constexpr int cpu = 1;
    if (t.device.device_type != cpu || t.byte_offset != 0 || t.ndim > PIQUANT_MAX_RANK) {
        return false;
    }
    // Lazily negated tensors hold other bits than they stand for.
    PyObject* const self[] = {array.ptr()};
    if (is_true(nb::steal(vectorcall(is_neg, self, 1)))) {
        return false;
    }
    if (wanted.role == Role::output && element->is_float() && is_true(attribute(requires_grad, array)) &&
        is_true(nb::steal(vectorcall(is_grad_enabled, nullptr, 0)))) {
        return false;
    }
    view.data = t.data;
    view.type = element;
    view.item = t.dtype.bits / 8u;
    view.unit = static_cast<std::ptrdiff_t>(view.item);
    view.rank = static_cast<std::size_t>(t.ndim);
    for (std::size_t d = 0; d < view.rank; ++d) {
        view.shape[d] = static_cast<std::size_t>(t.shape[d]);
        view.strides[d] = static_cast<std::ptrdiff_t>(t.strides[d]) * view.unit;
    }
    view.count();
    // The first pages of the address space are nobody's: what lies there is an offset from memory that is not there.
    if (reinterpret_cast<std::uintptr_t>(view.data) < 65536) {
        return view.n == 0;
    }
    // Asking takes as long as quantizing some thousand elements does.
    return view.n * view.item < face.small || within_storage(array, view.extent());
}

void init_tensors(nb::module_& m) {
    m.def("use_tensors", &use_tensors, nb::arg("type"), nb::arg("is_grad_enabled"),
          "Tells torch.Tensor, so that tensors can be looked at without Python.");
}

}  // namespace piquant_python
