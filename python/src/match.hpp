// What two arrays of a call must be to each other: shapes, rows of packed codes, layouts.
#pragma once

#include <optional>

#include "blocks.hpp"

namespace piquant_python {

inline piquant_dtype_t c_dtype(int id) {
    return static_cast<piquant_dtype_t>(id);
}

// A shape on its own: that of a result before there is one.
struct Shape {
    Shape() {}
    explicit Shape(const View& view);
    explicit Shape(const nb::tuple& sizes);

    // Of the bytes that hold codes of this shape, if several share a byte: each row, the last dimension, begins with a
    // byte.
    Shape packed(const DType& codes) const;
    // The opposite, for rows of as many elements as the bytes can hold.
    Shape unpacked(const DType& codes) const;
    nb::object tuple() const;

    std::size_t rank = 0;
    std::size_t sizes[PIQUANT_MAX_RANK];
};

// The arrays of a call.
struct Arrays {
    Arrays(const Face& of, Call& values, piquant_options_t& settings, nb::handle input, const char* name, Wanted what)
        : face(of), call(values), options(settings), given(input), argument(name), wanted(what) {}

    const Face& face;
    Call& call;
    piquant_options_t& options;

    // The input: the object, the name of its argument, what is wanted of it.
    nb::handle given;
    const char* argument;
    Wanted wanted;
    View in;
    View out;
    std::optional<Blocks> blocks;  // where these have parameters of their own

    bool on_device() const { return call.device != host || face.runs_all; }

    // Looks at the input.
    void find_input();
    // Looks at the output: the given one, or a new one of `dtype`, which is returned. `result` is the shape of its
    // elements; where it is `alike`, that of the given input, a new output takes its memory format, too.
    nb::object find_output(nb::handle given_out, const DType& dtype, const Shape& result, bool alike);
    // Tells the options where the elements are, after both arrays are found. `code` is the type of the codes on one of
    // the sides, null where there are floats on both.
    void lay_out(const DType* code);

private:
    void match_shape(const DType& dtype, const Shape& result, const Shape& stored);
    void refuse_overlap_of_copy() const;
};

}  // namespace piquant_python
