#include <nanobind/ndarray.h>

#include "plain.hpp"

// A look at tensors without Python: attributes of two tensors, one by one, take longer than quantizing 1,024 elements.
// A torch that has DLPack's C exchange API hands out a function that tells all of them. Whatever is not plain (another
// class, device or layout, a torch without) is left to _tensors.py, which also finds the words for what is wrong.
namespace piquant_python {
namespace {

using View = nb::dlpack::dltensor;

// DLPack, version 1.3: DLPackExchangeAPI.
struct ExchangeApi {
    std::uint32_t major;
    std::uint32_t minor;
    const ExchangeApi* previous;  // the same, in an older major version
    void* allocate;
    void* export_managed;
    void* import_managed;
    int (*view)(void* object, View* view);  // may be null
    void* current_stream;
};

// What torch.Tensor itself is, not a subclass; null until torch is imported, or where it is too old.
PyTypeObject* tensor_type = nullptr;
int (*view_of)(void*, View*) = nullptr;
PyObject* is_neg = nullptr;
PyObject* is_quantized = nullptr;
PyObject* requires_grad = nullptr;

void use_tensor_type(nb::handle type) {
    nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
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
    is_neg = PyUnicode_InternFromString("is_neg");
    is_quantized = PyUnicode_InternFromString("is_quantized");
    requires_grad = PyUnicode_InternFromString("requires_grad");
    if (is_neg == nullptr || is_quantized == nullptr || requires_grad == nullptr) {
        throw nb::python_error();
    }
    view_of = api->view;
    tensor_type = reinterpret_cast<PyTypeObject*>(nb::handle(type).inc_ref().ptr());
}

// Number of the dtype, or -1.
int dtype_of(nb::dlpack::dtype type) {
    enum : std::uint8_t { integer = 0, unsigned_integer = 1, floating = 2, brain = 4 };
    if (type.lanes != 1) {
        return -1;
    }
    switch (type.code * 256 + type.bits) {
        case floating * 256 + 16: return PIQUANT_FLOAT16;
        case brain * 256 + 16: return PIQUANT_BFLOAT16;
        case floating * 256 + 32: return PIQUANT_FLOAT32;
        case floating * 256 + 64: return PIQUANT_FLOAT64;
        case integer * 256 + 8: return PIQUANT_INT8;
        case unsigned_integer * 256 + 8: return PIQUANT_UINT8;
        case integer * 256 + 16: return PIQUANT_INT16;
        case unsigned_integer * 256 + 16: return PIQUANT_UINT16;
        case integer * 256 + 32: return PIQUANT_INT32;
        case unsigned_integer * 256 + 32: return PIQUANT_UINT32;
        case integer * 256 + 64: return PIQUANT_INT64;
        case unsigned_integer * 256 + 64: return PIQUANT_UINT64;
        default: return -1;
    }
}

// In order without gaps; the strides of a single element and of none do not matter.
bool contiguous(const View& v) {
    std::int64_t expected = 1;
    bool gaps = false;
    for (int d = v.ndim - 1; d >= 0; --d) {
        gaps |= v.shape[d] != 1 && v.strides[d] != expected;
        expected *= v.shape[d];
    }
    return !gaps || expected == 0;
}

bool is_true(PyObject* result) {
    if (result == nullptr) {
        PyErr_Clear();
        return true;  // which is not plain, either
    }
    const bool yes = result != Py_False;
    Py_DECREF(result);
    return yes;
}

// Elements in memory, in order, as they are: not negated lazily, as views of conjugate numbers may be. Of a tensor that
// carries quantization parameters torch has no view, and takes a millisecond to say so.
bool plain(nb::handle tensor, View& v, int& dtype) {
    if (is_true(PyObject_GetAttr(tensor.ptr(), is_quantized))) {
        return false;
    }
    if (view_of(tensor.ptr(), &v) != 0) {
        PyErr_Clear();
        return false;
    }
    dtype = dtype_of(v.dtype);
    constexpr int cpu = 1;
    if (dtype < 0 || v.device.device_type != cpu || v.byte_offset != 0 || !contiguous(v)) {
        return false;
    }
    PyObject* const self[] = {tensor.ptr()};
    return dtype > PIQUANT_FLOAT64 || !is_true(PyObject_VectorcallMethod(is_neg, self, 1, nullptr));
}

Plain<std::int64_t> described(const View& v, int dtype) {
    return {v.data, dtype, v.ndim, v.shape};
}

nb::object plain_tensors(nb::handle in, nb::handle out, std::int64_t per_byte) {
    if (tensor_type == nullptr || Py_TYPE(in.ptr()) != tensor_type || Py_TYPE(out.ptr()) != tensor_type) {
        return nb::none();
    }
    View a;
    View b;
    int in_dtype;
    int out_dtype;
    if (!plain(in, a, in_dtype) || !plain(out, b, out_dtype) ||
        (out_dtype <= PIQUANT_FLOAT64 && is_true(PyObject_GetAttr(out.ptr(), requires_grad)))) {
        return nb::none();
    }
    return plain_pair(described(a, in_dtype), described(b, out_dtype), per_byte);
}

// (address of the elements, dtype, number of elements) of a plain tensor; else None.
nb::object plain_tensor(nb::handle tensor) {
    View v;
    int dtype;
    if (tensor_type == nullptr || Py_TYPE(tensor.ptr()) != tensor_type || !plain(tensor, v, dtype)) {
        return nb::none();
    }
    std::size_t n = 1;
    for (int d = 0; d < v.ndim; ++d) {
        n *= static_cast<std::size_t>(v.shape[d]);
    }
    if (!in_memory(described(v, dtype), n)) {
        return nb::none();
    }
    return nb::make_tuple(address(v.data), dtype, n);
}

}  // namespace

void init_tensors(nb::module_& m) {
    m.def("use_tensor_type", &use_tensor_type, nb::arg("type"), "Tells the class that plain_tensors looks into.");
    m.def("plain_tensor", &plain_tensor, nb::arg("tensor").none(),
          nb::sig("def plain_tensor(tensor: object) -> tuple[int, int, int] | None"),
          "Address, dtype and number of elements of a contiguous CPU tensor.");
    m.def("plain_tensors", &plain_tensors, nb::arg("input").none(), nb::arg("output").none(), nb::arg("per_byte") = 1,
          nb::sig("def plain_tensors(input: object, output: object, per_byte: int = 1) -> tuple[int, int, int, int, "
                  "int, int] | None"),
          "Address and dtype of two contiguous CPU tensors, rows and elements of a row; None where they do not fit.");
}

}  // namespace piquant_python
