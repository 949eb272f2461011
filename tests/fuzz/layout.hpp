// Where the elements of a call lie, one by one, and what may be said of that: in other terms than the library's own.
#pragma once

#include <vector>

#include "../cpp/exact.hpp"
#include "case.hpp"

namespace piquant::fuzz {

using exact::Integer;
using Bytes = std::vector<unsigned char>;

// An array: elements, or packed rows, that take `unit` bytes; and dimensions, outermost first, without that of packed
// rows.
struct Array {
    int dtype;
    bool packed;
    size_t row;   // elements of a packed row, or 1
    size_t unit;  // bytes
    std::vector<size_t> shape;
    std::vector<ptrdiff_t> strides;
};

// The dtypes must exist, and the shape must be the call's.
Array input_of(const Case& c);
Array output_of(const Case& c);
// The same without repetitions.
Array distinct(Array a);
size_t elements_of(const Array& a);

// Bytes from the first element down to the lowest one, and up to the end of the highest one.
struct Reach {
    Integer below;
    Integer above;
};
Reach reach_of(const Array& a);

// Elements in row-major order side by side, from an array whose first one is at `first`; and the reverse.
Bytes collected(const Array& a, const unsigned char* first);
void spread(const Array& a, unsigned char* first, const Bytes& dense);

// For each byte of the reach, whether it belongs to an element.
std::vector<bool> owned_bytes(const Array& a);

// Whether the bits behind the codes of each packed row are zero.
bool rows_are_padded(const Array& a, const unsigned char* first);

// Whether the dimensions can be put in an order in which each one steps over those before.
bool nests(const Array& a);

// Whether the arrays share a byte, if the second one's first element is `distance` bytes behind the first one's.
bool share_bytes(const Array& a, const Array& b, ptrdiff_t distance);
// Whether they must be accepted, as one ends before the other begins, or within a stride of b that both are made of.
bool are_seen_apart(const Array& a, const Array& b, ptrdiff_t distance);
// Whether they are the same array, so far as it has more than one element along a dimension.
bool are_same(const Array& a, const Array& b, ptrdiff_t distance);

// What is wrong with the layout of a call by itself; PIQUANT_OK if nothing is.
piquant_status_t layout_error(const Case& c);
// Whether the arrays are possible, as far as the library knows, but no test can hold them. They must fit address spaces.
bool is_too_large(const Case& c, size_t most_bytes);

}  // namespace piquant::fuzz
