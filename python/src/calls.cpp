#include <nanobind/stl/string.h>

#include <string>

#include "calls.hpp"

// The functions of every face that are told parameters: look at the arrays, match them, make a result where none is
// given, run, return it.
namespace piquant_python {

using namespace std::string_literals;

const DType* told_dtype(const Face& face, nb::handle source_dtype, bool wants_float) {
    return source_dtype.is_none() ? nullptr : &face.dtype(source_dtype, "source_dtype", wants_float);
}

void read_words(nb::handle seed, nb::handle offset, piquant_options_t& options) {
    options.offset = word_bits(offset, "offset");
    if (!seed.is_none()) {
        options.seed = word_bits(seed, "seed");
    }
}

void draw_seed(const Face& face, nb::handle seed, piquant_options_t& options) {
    if (seed.is_none() && options.round_mode == PIQUANT_STOCHASTIC) {
        options.seed = word_bits(call(face.draw_seed, {}), "seed");
    }
}

nb::object finish(piquant_status_t status, const Arrays& arrays, nb::handle out, nb::object&& made) {
    check(status, arrays.call);
    if (out.is_none()) {
        return std::move(made);
    }
    arrays.face.tell_written(out);
    return nb::borrow(out);
}

void refuse_scale_dtype(nb::handle scale_dtype) {
    throw nb::value_error(
        ("scale_dtype must be None where the scale is a number, as it is without blocks, got " + text(scale_dtype))
            .c_str());
}

void refuse_carried(const char* argument, const DType& dtype) {
    throw nb::value_error((argument + " must be of a plain dtype where blocks have parameters, such as torch."s +
                           piquant_dtype_name(c_dtype(dtype.id)) + "; a tensor of " + nb::str(dtype.storage).c_str() +
                           " carries one scale and zero point")
                              .c_str());
}

namespace {

void read_reduce_op(nb::handle reduce_op, nb::handle out, const Face& face, piquant_options_t& options) {
    if (is_add(reduce_op)) {
        if (out.is_none()) {
            throw nb::value_error(
                ("reduce_op='add' needs out, the "s + face.noun + " to add to, got out=None").c_str());
        }
        options.reduce_op = PIQUANT_ADD;
    }
}

// Scale and zero point as the caller gave them.
struct GivenParams {
    nb::handle scale;
    nb::handle zero_point;
    nb::handle block_size;
    nb::handle scale_dtype;
};

// Makes the blocks of a call, if it has any.
bool read_blocks(Arrays& arrays, const GivenParams& params) {
    if (!wants_blocks(arrays.face, params.scale, params.block_size)) {
        if (!params.scale_dtype.is_none()) {
            refuse_scale_dtype(params.scale_dtype);
        }
        return false;
    }
    arrays.blocks.emplace(params.block_size);
    arrays.blocks->read_params(arrays.face, params.scale, params.zero_point, params.scale_dtype, arrays.call);
    return true;
}

// Reads how floats become codes, for calls that store these and calls that do not; then looks at the floats. Returns the
// context that the call names.
const Context& read_quantization(Arrays& arrays, const DType& code, const GivenParams& params, nb::handle round_mode,
                                 nb::handle seed, nb::handle offset, nb::handle quant_min, nb::handle quant_max,
                                 nb::handle ctx) {
    Call& call = arrays.call;
    piquant_options_t& options = arrays.options;
    options.round_mode = is_stochastic(round_mode) ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    read_words(seed, offset, options);
    const Context& context = context_of(ctx);
    options.threads = arrays.face.threads_for(ctx);
    call.code_dtype = code.id;
    read_range(quant_min, quant_max, call, options);
    if (!read_blocks(arrays, params)) {
        read_params(params.scale, params.zero_point, call);
    } else if (code.carries_params) {
        refuse_carried("dtype", code);
    }
    arrays.find_input();
    call.float_dtype = arrays.in.type->id;
    if (arrays.blocks) {
        arrays.blocks->find_params(arrays.face, Shape(arrays.in), call);
    }
    return context;
}

nb::object quantize(const Face& face, nb::handle x, nb::handle scale, nb::handle zero_point, nb::handle dtype,
                    nb::handle block_size, nb::handle scale_dtype, nb::handle round_mode, nb::handle seed,
                    nb::handle offset, nb::handle quant_min, nb::handle quant_max, nb::handle source_dtype,
                    nb::handle out, nb::handle ctx) {
    Call call;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const DType& code = face.dtype(dtype, "dtype", false);
    Arrays arrays(face, call, options, x, face.floats, {Role::floats, told_dtype(face, source_dtype, true)});
    const Context& context = read_quantization(arrays, code, {scale, zero_point, block_size, scale_dtype}, round_mode,
                                               seed, offset, quant_min, quant_max, ctx);
    nb::object made = arrays.find_output(out, code, Shape(arrays.in), true);
    arrays.lay_out(&code);
    draw_seed(face, seed, options);
    Blocks* const blocks = arrays.blocks ? &*arrays.blocks : nullptr;
    const piquant_status_t status = run(arrays, context, [&](piquant_context_t* runner) {
        return blocks == nullptr
                   ? piquant_quantize(runner, arrays.in.data, c_dtype(call.float_dtype), arrays.out.data,
                                      c_dtype(code.id), call.n, call.scale, call.zero_point, &options)
                   : piquant_quantize_blocks(runner, arrays.in.data, c_dtype(call.float_dtype), arrays.out.data,
                                             c_dtype(code.id), blocks->described(), blocks->scale.data,
                                             blocks->zero_point.data, &options, &blocks->bad);
    });
    return finish(status, arrays, out, std::move(made));
}

// The type of the codes in an array: what it tells, or what the caller says of the bytes that it holds.
const DType& code_type(const View& in, const DType* told, nb::handle source_dtype, const Face& face) {
    if (told == nullptr) {
        return *in.type;
    }
    if (!face.flat_outputs && !told->storage.is(in.type->storage)) {
        throw nb::type_error(("source_dtype "s + text(source_dtype) + " is stored as " +
                              nb::str(told->storage).c_str() + ", but " + face.codes + " is of " +
                              nb::str(in.type->storage).c_str())
                                 .c_str());
    }
    return *told;
}

nb::object python_function(const char* name) {
    return nb::module_::import_("piquant._dtypes").attr(name);
}

// The shape of the elements that codes of shape `stored` stand for, if the caller gave one.
Shape shape_told(const Shape& stored, nb::handle sizes, const DType& code, bool could_be_packed, const Face& face) {
    const int bits = code.is_packed() && !code.carries_params ? piquant_dtype_bits(c_dtype(code.id)) : 8;
    return Shape(
        nb::cast<nb::tuple>(call(python_function("told_shape"), {stored.tuple(), sizes, nb::int_(bits),
                                                                 nb::str(face.codes), nb::bool_(could_be_packed)})));
}

nb::object dequantize(const Face& face, nb::handle q, nb::handle scale, nb::handle zero_point, nb::handle dtype,
                      nb::handle block_size, nb::handle scale_dtype, nb::handle reduce_op, nb::handle source_dtype,
                      nb::handle shape, nb::handle out, nb::handle ctx) {
    Call call;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const DType& result = face.dtype(dtype, "dtype", true);
    const DType* const told = told_dtype(face, source_dtype, false);
    Arrays arrays(face, call, options, q, face.codes, {Role::codes, told});
    View& in = arrays.in;
    read_reduce_op(reduce_op, out, face, options);
    const Context& context = context_of(ctx);
    options.threads = face.threads_for(ctx);
    const nb::object sizes =
        shape.is_none() ? nb::object(nb::none()) : piquant_python::call(python_function("read_shape"), {shape});
    nb::object zero_index;
    if (!read_blocks(arrays, {scale, zero_point, block_size, scale_dtype})) {
        zero_index = as_index(zero_point, "zero_point");
        call.scale = number(scale, "scale");
        call.scale_given = scale;
        call.zero_point_given = zero_point;
    }
    call.float_dtype = result.id;
    arrays.find_input();
    const DType& code = code_type(in, told, source_dtype, face);
    call.code_dtype = code.id;
    if (!arrays.blocks) {
        call.zero_point = code_bits(zero_index, "zero_point", code.id, PIQUANT_ERROR_ZERO_POINT, call);
    } else if (in.type->carries_params) {
        refuse_carried(face.codes, *in.type);
    }
    if (in.type->carries_params) {
        check(piquant_check(c_dtype(result.id), c_dtype(code.id), call.scale, call.zero_point, &options), call);
        face.compare_params(q, face.codes, call);
    }
    const bool packed = code.is_packed() && !code.carries_params;
    Shape elements(in);
    if (!sizes.is_none()) {
        elements = shape_told(elements, sizes, code, told == nullptr && code.id == PIQUANT_UINT8, face);
    } else if (packed) {
        elements = elements.unpacked(code);
    }
    const bool alike = in.has_shape(elements.sizes, elements.rank);
    const Shape stored = packed ? elements.packed(code) : elements;
    if (!in.has_shape(stored.sizes, stored.rank)) {
        if (!in.contiguous) {
            face.make_contiguous(q, face.codes, arrays.wanted, in);
        }
        in.set_shape(stored.sizes, stored.rank);
    }
    if (arrays.blocks) {
        arrays.blocks->find_params(face, elements, call);
    }
    nb::object made = arrays.find_output(out, result, elements, alike);
    arrays.lay_out(&code);
    Blocks* const blocks = arrays.blocks ? &*arrays.blocks : nullptr;
    const piquant_status_t status = run(arrays, context, [&](piquant_context_t* runner) {
        return blocks == nullptr
                   ? piquant_dequantize(runner, in.data, c_dtype(code.id), arrays.out.data, c_dtype(result.id), call.n,
                                        call.scale, call.zero_point, &options)
                   : piquant_dequantize_blocks(runner, in.data, c_dtype(code.id), arrays.out.data, c_dtype(result.id),
                                               blocks->described(), blocks->scale.data, blocks->zero_point.data,
                                               &options, &blocks->bad);
    });
    return finish(status, arrays, out, std::move(made));
}

nb::object quantize_dequantize(const Face& face, nb::handle x, nb::handle scale, nb::handle zero_point,
                               nb::handle dtype, nb::handle block_size, nb::handle scale_dtype, nb::handle round_mode,
                               nb::handle reduce_op, nb::handle seed, nb::handle offset, nb::handle quant_min,
                               nb::handle quant_max, nb::handle source_dtype, nb::handle out, nb::handle ctx) {
    Call call;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const DType& code = face.dtype(dtype, "dtype", false);
    Arrays arrays(face, call, options, x, face.floats, {Role::floats, told_dtype(face, source_dtype, true)});
    read_reduce_op(reduce_op, out, face, options);
    const Context& context = read_quantization(arrays, code, {scale, zero_point, block_size, scale_dtype}, round_mode,
                                               seed, offset, quant_min, quant_max, ctx);
    const DType& type = *arrays.in.type;
    nb::object made = arrays.find_output(out, type, Shape(arrays.in), true);
    arrays.lay_out(nullptr);
    draw_seed(face, seed, options);
    Blocks* const blocks = arrays.blocks ? &*arrays.blocks : nullptr;
    const piquant_status_t status = run(arrays, context, [&](piquant_context_t* runner) {
        return blocks == nullptr
                   ? piquant_quantize_dequantize(runner, arrays.in.data, arrays.out.data, c_dtype(type.id),
                                                 c_dtype(code.id), call.n, call.scale, call.zero_point, &options)
                   : piquant_quantize_dequantize_blocks(runner, arrays.in.data, arrays.out.data, c_dtype(type.id),
                                                        c_dtype(code.id), blocks->described(), blocks->scale.data,
                                                        blocks->zero_point.data, &options, &blocks->bad);
    });
    return finish(status, arrays, out, std::move(made));
}

}  // namespace

void init_calls(nb::module_& m) {
    using namespace nb::literals;
    // None is an argument like others here.
    m.def("quantize", &quantize, "face"_a, "x"_a.none(), "scale"_a.none(), "zero_point"_a.none(), "dtype"_a.none(),
          "block_size"_a.none(), "scale_dtype"_a.none(), "round_mode"_a.none(), "seed"_a.none(), "offset"_a.none(),
          "quant_min"_a.none(), "quant_max"_a.none(), "source_dtype"_a.none(), "out"_a.none(), "ctx"_a.none(),
          nb::sig("def quantize(face: Face, x: object, scale: object, zero_point: object, dtype: object, "
                  "block_size: object, scale_dtype: object, round_mode: object, seed: object, offset: object, "
                  "quant_min: object, quant_max: object, "
                  "source_dtype: object, out: object, ctx: object) -> typing.Any"));
    m.def("dequantize", &dequantize, "face"_a, "q"_a.none(), "scale"_a.none(), "zero_point"_a.none(), "dtype"_a.none(),
          "block_size"_a.none(), "scale_dtype"_a.none(), "reduce_op"_a.none(), "source_dtype"_a.none(),
          "shape"_a.none(), "out"_a.none(), "ctx"_a.none(),
          nb::sig("def dequantize(face: Face, q: object, scale: object, zero_point: object, dtype: object, "
                  "block_size: object, scale_dtype: object, "
                  "reduce_op: object, source_dtype: object, shape: object, out: object, ctx: object) -> typing.Any"));
    m.def("quantize_dequantize", &quantize_dequantize, "face"_a, "x"_a.none(), "scale"_a.none(), "zero_point"_a.none(),
          "dtype"_a.none(), "block_size"_a.none(), "scale_dtype"_a.none(), "round_mode"_a.none(), "reduce_op"_a.none(),
          "seed"_a.none(), "offset"_a.none(), "quant_min"_a.none(), "quant_max"_a.none(), "source_dtype"_a.none(),
          "out"_a.none(), "ctx"_a.none(),
          nb::sig("def quantize_dequantize(face: Face, x: object, scale: object, zero_point: object, dtype: object, "
                  "block_size: object, scale_dtype: object, round_mode: object, reduce_op: object, seed: object, "
                  "offset: object, quant_min: object, "
                  "quant_max: object, source_dtype: object, out: object, ctx: object) -> typing.Any"));
    m.def("is_stochastic", &is_stochastic, "round_mode"_a.none());
    m.def("shown", &text, "value"_a.none(), "repr(value), or the beginning of a long one.");
}

}  // namespace piquant_python
