#include <nanobind/ndarray.h>

#include "unlocked.hpp"
#include "view.hpp"

// A look at tensors without Python: attributes of two tensors, one by one, take longer than quantizing 1,024 elements.
// A torch that has DLPack's C exchange API hands out a function that tells all of them. Everything else (subclasses,
// devices that are neither the CPU nor CUDA's, lazily negated tensors, views of quantized ones, a torch without that function) is left to torch/_tensors.py.
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
PyObject* address_of = nullptr;
PyObject* offset_of = nullptr;
PyObject* shape_of = nullptr;
PyObject* is_cpu = nullptr;
PyObject* is_contiguous = nullptr;
// And what the class of storages has.
PyObject* begin_of = nullptr;
PyObject* size_of = nullptr;

void use_tensors(nb::handle type, nb::handle storage_type, nb::handle grad_enabled) {
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
    address_of = nb::getattr(type, "data_ptr").release().ptr();
    offset_of = nb::getattr(type, "storage_offset").release().ptr();
    shape_of = nb::getattr(type, "shape").release().ptr();
    is_cpu = nb::getattr(type, "is_cpu").release().ptr();
    is_contiguous = nb::getattr(type, "is_contiguous").release().ptr();
    begin_of = nb::getattr(storage_type, "data_ptr").release().ptr();
    size_of = nb::getattr(storage_type, "nbytes").release().ptr();
    is_grad_enabled = grad_enabled.inc_ref().ptr();
    for (PyObject* const descriptor : {dtype_of, requires_grad, shape_of, is_cpu}) {
        if (Py_TYPE(descriptor)->tp_descr_get == nullptr) {
            return;
        }
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

// A number that a method of a tensor or a storage returns; `otherwise` where it fails.
std::uintptr_t told_by(nb::handle object, PyObject* method, std::uintptr_t otherwise = 0) {
    PyObject* const self[] = {object.ptr()};
    const nb::object number = nb::steal(vectorcall(method, self, 1));
    const std::size_t told = number.is_valid() ? PyLong_AsSize_t(number.ptr()) : otherwise;
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        return otherwise;
    }
    return told;
}

// Whether memory that a tensor spans is that of its storage, which may have been resized beneath it.
bool within_storage(nb::handle tensor, const Extent& extent) {
    PyObject* const self[] = {tensor.ptr()};
    const nb::object storage = nb::steal(vectorcall(storage_of, self, 1));
    if (!storage.is_valid()) {
        PyErr_Clear();
        return false;
    }
    const std::uintptr_t begin = told_by(storage, begin_of);
    return extent.begin >= begin && extent.end <= begin + told_by(storage, size_of);
}

bool has_its_memory(const Face& face, nb::handle tensor, const View& view) {
    // The first pages of the address space are nobody's: what lies there is an offset from memory that is not there.
    if (reinterpret_cast<std::uintptr_t>(view.data) < 65536) {
        return view.n == 0;
    }
    // Asking takes as long as quantizing some thousand elements does. Where codes share bytes, the view spans more.
    return view.n * view.item < face.small || view.type->is_packed() || within_storage(tensor, view.extent());
}

// A whole tensor that carries its quantization parameters, in row-major order. Its torch has no view of it by DLPack.
bool look_at_quantized(const Face& face, nb::handle tensor, const DType& type, View& view) {
    const nb::object on_cpu = attribute(is_cpu, tensor);
    const nb::object shape = attribute(shape_of, tensor);
    PyObject* const self[] = {tensor.ptr()};
    const nb::object whole = nb::steal(vectorcall(is_contiguous, self, 1));
    if (PyErr_Occurred() != nullptr || on_cpu.ptr() != Py_True || whole.ptr() != Py_True ||
        !PyTuple_Check(shape.ptr()) || nb::len(shape) > PIQUANT_MAX_RANK || told_by(tensor, offset_of, 1) != 0) {
        PyErr_Clear();
        return false;
    }
    view.data = reinterpret_cast<void*>(told_by(tensor, address_of));
    view.type = &type;
    view.item = piquant_size(static_cast<piquant_dtype_t>(type.stored), 1);
    view.unit = static_cast<std::ptrdiff_t>(view.item);
    view.rank = nb::len(shape);
    for (std::size_t d = 0; d < view.rank; ++d) {
        view.shape[d] = PyLong_AsSize_t(PyTuple_GET_ITEM(shape.ptr(), static_cast<Py_ssize_t>(d)));
    }
    view.set_row_major();
    view.count();
    if (PyErr_Occurred() != nullptr) {  // a size that is no number
        PyErr_Clear();
        return false;
    }
    return has_its_memory(face, tensor, view);
}

}  // namespace

bool look_at_tensor(const Face& face, nb::handle array, const char*, const Wanted& wanted, View& view) {
    if (tensor_type == nullptr || Py_TYPE(array.ptr()) != tensor_type) {
        return false;
    }
    // The dtype comes from torch and not from DLPack, which has no words for all of them: torch.uint4, of a byte for
    // each element, would pass for uint8. Of a tensor that carries quantization parameters torch has no such view.
    const nb::object dtype = attribute(dtype_of, array);
    const DType* const element = dtype.is_valid() ? known_dtype(face, dtype) : nullptr;
    if (element != nullptr && element->carries_params) {
        return look_at_quantized(face, array, *element, view);
    }
    Tensor t;
    if (element == nullptr || !element->is_element() || view_of(array.ptr(), &t) != 0) {
        PyErr_Clear();
        return false;
    }
    constexpr int cpu = 1;
    constexpr int cuda = 2;
    if ((t.device.device_type != cpu && t.device.device_type != cuda) || t.byte_offset != 0 ||
        t.ndim > PIQUANT_MAX_RANK) {
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
    view.device = t.device.device_type == cuda ? t.device.device_id : host;
    view.type = element;
    view.item = t.dtype.bits / 8u;
    view.unit = static_cast<std::ptrdiff_t>(view.item);
    view.rank = static_cast<std::size_t>(t.ndim);
    for (std::size_t d = 0; d < view.rank; ++d) {
        view.shape[d] = static_cast<std::size_t>(t.shape[d]);
        view.strides[d] = static_cast<std::ptrdiff_t>(t.strides[d]) * view.unit;
    }
    view.count();
    return has_its_memory(face, array, view);
}

void init_tensors(nb::module_& m) {
    m.def("use_tensors", &use_tensors, nb::arg("type"), nb::arg("storage_type"), nb::arg("is_grad_enabled"),
          "Tells torch.Tensor and its storage, so that tensors can be looked at without Python.");
}

}  // namespace piquant_python
