// Two arrays that are plain memory, as both short ways (tensors.cpp, arrays.cpp) hand them to Python.
#pragma once

#include "module.hpp"

namespace piquant_python {

template <class Size>
struct Plain {
    const void* data;
    int dtype;
    int ndim;
    const Size* shape;
};

// (address of in, its dtype, address of out, its dtype, elements) where both have one shape; else None.
template <class Size>
nb::object plain_pair(const Plain<Size>& in, const Plain<Size>& out) {
    if (in.ndim != out.ndim) {
        return nb::none();
    }
    std::size_t n = 1;
    for (int d = 0; d < in.ndim; ++d) {
        if (in.shape[d] != out.shape[d]) {
            return nb::none();
        }
        n *= static_cast<std::size_t>(in.shape[d]);
    }
    if (n != 0 && (in.data == nullptr || out.data == nullptr)) {
        return nb::none();
    }
    return nb::make_tuple(reinterpret_cast<std::uintptr_t>(in.data), in.dtype,
                          reinterpret_cast<std::uintptr_t>(out.data), out.dtype, n);
}

}  // namespace piquant_python
