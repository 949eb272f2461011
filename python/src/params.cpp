#include <nanobind/stl/string.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <string>

#include "calls.hpp"

// The functions of every face that find parameters: of the data or of its blocks, and with these the codes.
namespace piquant_python {
namespace {

// Reads what parameters are computed from, beside the data, and for which codes. Returns the context that the call names.
const Context& read_extents(Arrays& arrays, const DType& code, nb::handle symmetric, nb::handle quant_min,
                            nb::handle quant_max, nb::handle ctx) {
    arrays.call.code_dtype = code.id;
    arrays.call.scale_given = arrays.call.zero_point_given = nb::handle(Py_None);  // nothing that a result could carry
    arrays.options.symmetric = flag(symmetric, "symmetric") ? 1 : 0;
    read_range(quant_min, quant_max, arrays.call, arrays.options);
    const Context& context = context_of(ctx);
    arrays.options.threads = arrays.face.threads_for(ctx);
    return context;
}

Blocks& make_blocks(Arrays& arrays, const DType& code, nb::handle block_size) {
    if (code.carries_params) {
        refuse_carried("dtype", code);
    }
    return arrays.blocks.emplace(block_size);
}

// Arrays of parameters to write to: scales of the dtype that the caller wants, else of the compute type; zero points of
// the plain dtype of the codes. Symmetric parameters have the zero point as a number.
void make_params(Arrays& arrays, const DType& code, const DType* scale_dtype, nb::handle scale, nb::handle zero_point) {
    Call& call = arrays.call;
    const DType* const* elements = arrays.face.elements;
    if (scale_dtype == nullptr) {
        scale_dtype = elements[call.float_dtype == PIQUANT_FLOAT64 ? PIQUANT_FLOAT64 : PIQUANT_FLOAT32];
    }
    const bool symmetric = arrays.options.symmetric != 0;
    const bool is_signed = symmetric_zero_point(code.id) == 0;
    const DType* const zero_dtype = symmetric ? nullptr
                                              : elements[code.id >= PIQUANT_INT8 && code.id <= PIQUANT_UINT64 ? code.id
                                                         : is_signed ? PIQUANT_INT8
                                                                     : PIQUANT_UINT8];
    arrays.blocks->make_params(arrays.face, arrays.given, *scale_dtype, zero_dtype, scale, zero_point, call);
}

// The arrays that a caller gives for codes, scales and zero points.
void read_outputs(nb::handle out, nb::object (&given)[3]) {
    if (out.is_none()) {
        return;
    }
    if (PyTuple_Check(out.ptr()) == 0 || nb::len(out) != std::size(given)) {
        throw nb::type_error(
            ("out must be a tuple of codes, scales and zero points, or None, got " + text(out)).c_str());
    }
    for (std::size_t i = 0; i < std::size(given); ++i) {
        given[i] = nb::borrow(PyTuple_GET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i)));
    }
}

// The numbers that a device found, of which it says by scales that are none what is wrong with the data.
nb::object read_back(const Blocks& blocks, Call& call) {
    const auto number = [](const nb::object& value) {
        return nb::hasattr(value, "item") ? value.attr("item")() : value;
    };
    const nb::object scale = number(blocks.made_scale);
    const double found = nb::cast<double>(scale);
    if (!(found <= std::numeric_limits<double>::max())) {
        call.blocks = nullptr;
        throw_status(std::isnan(found) ? PIQUANT_ERROR_NOT_FINITE : PIQUANT_ERROR_DATA_RANGE, call);
    }
    return nb::make_tuple(scale, number(blocks.made_zero_point));
}

nb::object compute_quant_params(const Face& face, nb::handle x, nb::handle dtype, nb::handle block_size,
                                nb::handle scale_dtype, nb::handle symmetric, nb::handle quant_min,
                                nb::handle quant_max, nb::handle source_dtype, nb::handle ctx) {
    Call call;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const DType& code = face.dtype(dtype, "dtype", false);
    Arrays arrays(face, call, options, x, face.floats, {Role::floats, told_dtype(face, source_dtype, true)});
    const View& in = arrays.in;
    const Context& context = read_extents(arrays, code, symmetric, quant_min, quant_max, ctx);
    if (!block_size.is_none()) {
        make_blocks(arrays, code, block_size);
    } else if (!scale_dtype.is_none()) {
        refuse_scale_dtype(scale_dtype);
    }
    const DType* const told = scale_dtype.is_none() ? nullptr : &face.dtype(scale_dtype, "scale_dtype", true);
    arrays.find_input();
    call.float_dtype = in.type->id;
    if (!in.contiguous) {
        options.rank = in.rank;
        options.shape = in.shape;
        options.in_strides = in.strides;
    }
    const bool numbers = !arrays.blocks;
    if (numbers && !arrays.on_device()) {
        return params_of(context, in.data, in.n, options, call);
    }
    if (numbers && in.n == 0) {
        throw_status(PIQUANT_ERROR_EMPTY, call);
    }
    Blocks& blocks = numbers ? arrays.blocks.emplace(block_size) : *arrays.blocks;
    blocks.cut(Shape(in), call);
    make_params(arrays, code, told, nb::none(), nb::none());
    call.n = in.n;
    const piquant_status_t status = run(arrays, context, [&](piquant_context_t* runner) {
        return piquant_compute_quant_params_blocks(runner, in.data, c_dtype(call.float_dtype), c_dtype(code.id),
                                                   blocks.described(), &options, blocks.scale.data,
                                                   blocks.zero_point.data, &blocks.bad);
    });
    check(status, call);
    return numbers ? read_back(blocks, call) : nb::make_tuple(blocks.made_scale, blocks.made_zero_point);
}

// Whether a tuple is that of a shape. No tuple is made of the shape for that: calls on little data would feel it.
bool is_shape(nb::handle tuple, const Shape& shape) {
    bool equal = PyTuple_Check(tuple.ptr()) != 0 && nb::len(tuple) == shape.rank;
    for (std::size_t d = 0; equal && d < shape.rank; ++d) {
        equal = PyLong_AsSize_t(PyTuple_GET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(d))) == shape.sizes[d];
    }
    if (PyErr_Occurred() != nullptr) {
        clear_error();
        return false;
    }
    return equal;
}

// What codes of blocks stand for: the name of their type, the shape, the block sizes, and the dtype of the data.
nb::tuple meaning(const Arrays& arrays, const DType& code) {
    return nb::make_tuple(dtype_name(code.id), Shape(arrays.in).tuple(), arrays.blocks->sizes().tuple(),
                          arrays.in.type->storage);
}

void refuse_other(nb::handle told, const Arrays& arrays, const DType& code) {
    if (told.is_none() || (PyUnicode_CompareWithASCIIString(told[0].ptr(), dtype_name(code.id).c_str()) == 0 &&
                           is_shape(told[1], Shape(arrays.in)) && is_shape(told[2], arrays.blocks->sizes()) &&
                           told[3].equal(arrays.in.type->storage))) {
        return;
    }
    throw nb::value_error(("out must be of the codes, shape, block sizes and dtype of the data " +
                           text(meaning(arrays, code)) + ", got one of " + text(told))
                              .c_str());
}

// Parameters of blocks and codes. `out`, None or arrays of codes, scales and zero points; `told`, None or their meaning.
// Returns new arrays and their meaning, or `out`.
nb::object quantize_dynamic(const Face& face, nb::handle x, nb::handle dtype, nb::handle block_size,
                            nb::handle scale_dtype, nb::handle symmetric, nb::handle round_mode, nb::handle seed,
                            nb::handle offset, nb::handle quant_min, nb::handle quant_max, nb::handle source_dtype,
                            nb::handle out, nb::handle told, nb::handle ctx) {
    Call call;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const DType& code = face.dtype(dtype, "dtype", false);
    Arrays arrays(face, call, options, x, face.floats, {Role::floats, told_dtype(face, source_dtype, true)});
    options.round_mode = is_stochastic(round_mode) ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    read_words(seed, offset, options);
    const Context& context = read_extents(arrays, code, symmetric, quant_min, quant_max, ctx);
    Blocks& blocks = make_blocks(arrays, code, block_size);
    const DType* const told_scale = scale_dtype.is_none() ? nullptr : &face.dtype(scale_dtype, "scale_dtype", true);
    nb::object given[3] = {nb::none(), nb::none(), nb::none()};
    read_outputs(out, given);
    arrays.find_input();
    const Shape shape(arrays.in);
    call.float_dtype = arrays.in.type->id;
    blocks.cut(shape, call);
    refuse_other(told, arrays, code);
    nb::object codes = arrays.find_output(given[0], code, shape, true);
    make_params(arrays, code, told_scale, given[1], given[2]);
    arrays.lay_out(&code);
    blocks.refuse_overlap_with_copied(arrays.in, call);
    draw_seed(face, seed, options);
    const piquant_status_t status = run(arrays, context, [&](piquant_context_t* runner) {
        return piquant_quantize_dynamic(runner, arrays.in.data, c_dtype(call.float_dtype), arrays.out.data,
                                        c_dtype(code.id), blocks.described(), &options, blocks.scale.data,
                                        blocks.zero_point.data, &blocks.bad);
    });
    codes = finish(status, arrays, given[0], std::move(codes));
    if (out.is_none()) {
        return nb::make_tuple(codes, blocks.made_scale, blocks.made_zero_point, meaning(arrays, code));
    }
    face.tell_written(blocks.made_scale);
    if (blocks.has_zero_points()) {
        face.tell_written(blocks.made_zero_point);
    }
    return nb::borrow(out);
}

}  // namespace

void init_params(nb::module_& m) {
    using namespace nb::literals;
    m.def("compute_quant_params", &compute_quant_params, "face"_a, "x"_a.none(), "dtype"_a.none(),
          "block_size"_a.none(), "scale_dtype"_a.none(), "symmetric"_a.none(), "quant_min"_a.none(),
          "quant_max"_a.none(), "source_dtype"_a.none(), "ctx"_a.none(),
          nb::sig("def compute_quant_params(face: Face, x: object, dtype: object, block_size: object, "
                  "scale_dtype: object, symmetric: object, quant_min: object, quant_max: object, "
                  "source_dtype: object, ctx: object) -> tuple[typing.Any, typing.Any]"));
    m.def("quantize_dynamic", &quantize_dynamic, "face"_a, "x"_a.none(), "dtype"_a.none(), "block_size"_a.none(),
          "scale_dtype"_a.none(), "symmetric"_a.none(), "round_mode"_a.none(), "seed"_a.none(), "offset"_a.none(),
          "quant_min"_a.none(), "quant_max"_a.none(), "source_dtype"_a.none(), "out"_a.none(), "told"_a.none(),
          "ctx"_a.none(),
          nb::sig("def quantize_dynamic(face: Face, x: object, dtype: object, block_size: object, "
                  "scale_dtype: object, symmetric: object, round_mode: object, seed: object, offset: object, "
                  "quant_min: object, quant_max: object, source_dtype: object, out: object, told: object, "
                  "ctx: object) -> typing.Any"));
}

}  // namespace piquant_python
