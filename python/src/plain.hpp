// Arrays that are plain memory, as both short ways (tensors.cpp, arrays.cpp) hand them to Python.
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

template <class Size>
bool in_memory(const Plain<Size>& a, std::size_t elements) {
    return elements == 0 || a.data != nullptr;
}

inline std::uintptr_t address(const void* data) {
    return reinterpret_cast<std::uintptr_t>(data);
}

// (address of in, its dtype, address of out, its dtype, rows, elements of a row) where both have one shape. per_byte:
// codes in a byte; where there are several, one array is of floats, the other of bytes, and its last dimension is the
// packed one, each row by itself. None where they do not fit each other.
template <class Size>
nb::object plain_pair(const Plain<Size>& in, const Plain<Size>& out, Size per_byte) {
    const bool packs = in.dtype <= PIQUANT_FLOAT64;
    const Plain<Size>& wide = packs ? in : out;
    const Plain<Size>& codes = packs ? out : in;
    const bool packed = per_byte != 1;
    if (in.ndim != out.ndim ||
        (packed && (in.ndim == 0 || codes.dtype != PIQUANT_UINT8 || wide.dtype > PIQUANT_FLOAT64))) {
        return nb::none();
    }
    const int last = in.ndim - 1;
    std::size_t rows = 1;
    std::size_t n = 1;
    for (int d = 0; d <= last; ++d) {
        const Size length = wide.shape[d];
        if (codes.shape[d] != (packed && d == last ? (length + per_byte - 1) / per_byte : length)) {
            return nb::none();
        }
        (packed && d != last ? rows : n) *= static_cast<std::size_t>(length);
    }
    if (!in_memory(in, rows * n) || !in_memory(out, rows * n)) {
        return nb::none();
    }
    return nb::make_tuple(address(in.data), in.dtype, address(out.data), out.dtype, rows, n);
}

}  // namespace piquant_python
