#include "match.hpp"

#include <string>

namespace piquant_python {
namespace {

using namespace std::string_literals;

// Rows of packed codes fill their bytes, so that they follow each other without a gap of bits.
bool fills_bytes(const DType& code, const View& elements) {
    const auto bits = static_cast<std::size_t>(piquant_dtype_bits(c_dtype(code.id)));
    return elements.rank == 0 || elements.shape[elements.rank - 1] * bits % 8 == 0;
}

bool last_side_by_side(const View& bytes) {
    return bytes.rank == 0 || bytes.n == 0 || bytes.shape[bytes.rank - 1] == 1 || bytes.strides[bytes.rank - 1] == 1;
}

std::size_t bytes_of(const Shape& stored, const DType& dtype) {
    std::size_t bytes = piquant_size(c_dtype(dtype.stored), 1);
    for (std::size_t d = 0; d < stored.rank; ++d) {
        bytes *= stored.sizes[d];
    }
    return bytes;
}

}  // namespace

Shape::Shape(const View& view) : rank(view.rank) {
    for (std::size_t d = 0; d < rank; ++d) {
        sizes[d] = view.shape[d];
    }
}

Shape::Shape(const nb::tuple& given) : rank(nb::len(given)) {
    if (rank > PIQUANT_MAX_RANK) {
        throw nb::value_error(
            ("shape must have at most " + std::to_string(PIQUANT_MAX_RANK) + " dimensions, got " + std::to_string(rank))
                .c_str());
    }
    for (std::size_t d = 0; d < rank; ++d) {
        sizes[d] = nb::cast<std::size_t>(given[d]);
    }
}

Shape Shape::packed(const DType& codes) const {
    Shape bytes = *this;
    if (rank == 0) {
        bytes.rank = 1;
        bytes.sizes[0] = 1;
    } else {
        bytes.sizes[rank - 1] = piquant_size(c_dtype(codes.id), sizes[rank - 1]);
    }
    return bytes;
}

Shape Shape::unpacked(const DType& codes) const {
    Shape elements = *this;
    if (rank == 0) {
        elements.rank = 1;
        elements.sizes[0] = 1;
    }
    elements.sizes[elements.rank - 1] *= 8 / static_cast<std::size_t>(piquant_dtype_bits(c_dtype(codes.id)));
    return elements;
}

nb::object Shape::tuple() const {
    nb::object t = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(rank)));
    for (std::size_t d = 0; t.is_valid() && d < rank; ++d) {
        PyTuple_SET_ITEM(t.ptr(), static_cast<Py_ssize_t>(d), PyLong_FromSize_t(sizes[d]));
    }
    if (PyErr_Occurred() != nullptr) {
        throw nb::python_error();
    }
    return t;
}

void Arrays::find_input() {
    call.input = argument;
    face.view(given, argument, wanted, in);
    call.device = in.device;
}

nb::object Arrays::find_output(nb::handle given_out, const DType& dtype, const Shape& result, bool alike) {
    const Wanted output{Role::output, &dtype};
    const bool packs = dtype.is_packed() && !dtype.carries_params;
    if (given_out.is_none() || dtype.carries_params) {
        // Before anything is made from the arguments or compared with them.
        check(piquant_check(c_dtype(call.float_dtype), c_dtype(call.code_dtype), call.scale, call.zero_point, &options),
              call);
    }
    nb::object made;
    if (given_out.is_none()) {
        // A tensor that carries parameters is no example for others, nor others for it; C++ sees row-major ones only.
        const bool carries = dtype.carries_params || in.type->carries_params;
        const bool by_example = alike && !packs && !face.tells_shapes && !(carries && in.plain && in.contiguous);
        const Shape stored = packs ? result.packed(dtype) : result;
        const nb::object shape = by_example ? nb::object(nb::none()) : stored.tuple();
        const nb::handle like = in.owner.is_valid() ? nb::handle(in.owner) : given;
        made = face.new_output(like, in.plain, dtype, shape, bytes_of(stored, dtype), call);
        face.view(made, "the result", output, out);
        match_shape(dtype, result, stored);
    } else {
        face.view(given_out, "out", output, out);
        face.match_device(out, "out", call);
        if (dtype.carries_params) {
            face.compare_params(given_out, "out", call);
        }
        if (packs) {
            match_shape(dtype, result, result.packed(dtype));
        } else {
            match_shape(dtype, result, result);
        }
    }
    call.out = &out;
    return made;
}

// Outputs of plain bytes need only be as many as the result takes.
void Arrays::match_shape(const DType& dtype, const Shape& result, const Shape& stored) {
    if (out.has_shape(stored.sizes, stored.rank)) {
        return;
    }
    const std::string wanted_shape = shape_words(stored.sizes, stored.rank);
    if (!face.flat_outputs) {
        throw nb::value_error(
            ("out must have shape " + wanted_shape + ", got " + shape_words(out.shape, out.rank)).c_str());
    }
    const std::size_t bytes = bytes_of(stored, dtype);
    if (bytes != out.n * out.item) {
        throw nb::value_error(("out must have " + std::to_string(bytes) + " bytes for " +
                               piquant_dtype_name(c_dtype(dtype.id)) + " of shape " +
                               shape_words(result.sizes, result.rank) + ", got " + std::to_string(out.n * out.item))
                                  .c_str());
    }
    if (!out.contiguous) {
        throw nb::buffer_error(
            ("out must be C-contiguous or have shape " + wanted_shape + ", got " + layout_words(out)).c_str());
    }
    out.item = piquant_size(c_dtype(dtype.stored), 1);
    out.set_shape(stored.sizes, stored.rank);
    out.count();
}

void Arrays::lay_out(const DType* code) {
    View& elements = in.type->is_float() ? in : out;
    View& codes = in.type->is_float() ? out : in;
    const bool packed = code != nullptr && code->is_packed();
    const bool rows_run_on = packed && code->carries_params;
    const bool whole_bytes = !packed || fills_bytes(*code, elements);
    call.n = elements.n;
    if (rows_run_on && !whole_bytes && !elements.contiguous) {
        if (&elements == &out) {
            throw nb::value_error(
                ("out must be contiguous for codes of which rows share bytes, got " + layout_words(out)).c_str());
        }
        face.make_contiguous(given, argument, wanted, in);
    }
    if (packed && !rows_run_on && !last_side_by_side(codes)) {
        if (&codes == &out) {
            throw nb::value_error(("out must hold the bytes of a row side by side, got " + layout_words(out)).c_str());
        }
        face.make_contiguous(given, argument, wanted, in);
    }
    if (in.original.end != 0) {
        refuse_overlap_of_copy();
    }
    if (blocks) {
        blocks->refuse_overlap(out, call);
    }
    if (elements.contiguous && codes.contiguous && (whole_bytes || rows_run_on)) {
        return;  // elements side by side
    }
    if (rows_run_on) {
        const Shape bytes = Shape(elements).packed(*code);
        codes.set_shape(bytes.sizes, bytes.rank);
    }
    options.rank = elements.rank;
    options.shape = elements.shape;
    options.in_strides = in.strides;
    options.out_strides = out.strides;
}

// The C API sees the copy only.
void Arrays::refuse_overlap_of_copy() const {
    if (overlap(in.original, out.extent())) {
        throw_status(PIQUANT_ERROR_OVERLAP, call);
    }
}

}  // namespace piquant_python
