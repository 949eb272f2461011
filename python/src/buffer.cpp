#include "module.hpp"

namespace piquant_python {
namespace {

// Holds an exporter's memory for as long as it lives, so that a bytearray cannot be resized under a running kernel.
class Buffer {
public:
    Buffer(nb::handle exporter, bool writable) {
        const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(exporter.ptr(), &view_, flags) != 0) {
            throw nb::python_error();
        }
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(view_.buf); }
    Py_ssize_t nbytes() const { return view_.len; }

private:
    Py_buffer view_;
};

}  // namespace

void init_buffer(nb::module_& m) {
    nb::class_<Buffer>(m, "Buffer", "The memory of a buffer exporter, held while this object lives.")
        .def(nb::init<nb::handle, bool>(), nb::arg("exporter"), nb::arg("writable"))
        .def_prop_ro("address", &Buffer::address)
        .def_prop_ro("nbytes", &Buffer::nbytes);
}

}  // namespace piquant_python
