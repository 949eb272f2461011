#include "context.hpp"

#include "unlocked.hpp"

namespace piquant_python {
namespace {

// The caller vouches for the addresses of these.

Call described(int float_dtype, int code_dtype, std::size_t n, nb::handle scale, nb::handle zero_point) {
    Call call;
    call.float_dtype = float_dtype;
    call.code_dtype = code_dtype;
    call.n = n;
    read_params(scale, zero_point, call);
    return call;
}

void quantize(const Context& context, std::uintptr_t in, int in_dtype, std::uintptr_t out, int out_dtype, std::size_t n,
              nb::handle scale, nb::handle zero_point, nb::handle round_mode, nb::handle seed, nb::handle offset) {
    const Call call = described(in_dtype, out_dtype, n, scale, zero_point);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.round_mode = is_stochastic(round_mode) ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.seed = word_bits(seed, "seed");
    options.offset = word_bits(offset, "offset");
    const piquant_status_t status = run_unlocked(n, [&] {
        return piquant_quantize(context.get(), reinterpret_cast<const void*>(in),
                                static_cast<piquant_dtype_t>(in_dtype), reinterpret_cast<void*>(out),
                                static_cast<piquant_dtype_t>(out_dtype), n, call.scale, call.zero_point, &options);
    });
    check(status, call);
}

void dequantize(const Context& context, std::uintptr_t in, int in_dtype, std::uintptr_t out, int out_dtype,
                std::size_t n, nb::handle scale, nb::handle zero_point, nb::handle reduce_op) {
    const Call call = described(out_dtype, in_dtype, n, scale, zero_point);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.reduce_op = is_add(reduce_op) ? PIQUANT_ADD : PIQUANT_SET;
    const piquant_status_t status = run_unlocked(n, [&] {
        return piquant_dequantize(context.get(), reinterpret_cast<const void*>(in),
                                  static_cast<piquant_dtype_t>(in_dtype), reinterpret_cast<void*>(out),
                                  static_cast<piquant_dtype_t>(out_dtype), n, call.scale, call.zero_point, &options);
    });
    check(status, call);
}

Params compute_quant_params(const Context& context, std::uintptr_t in, int in_dtype, int code_dtype, std::size_t n) {
    Call call;
    call.float_dtype = in_dtype;
    call.code_dtype = code_dtype;
    call.quant_min = nb::none();
    call.quant_max = nb::none();
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    return params_of(context, reinterpret_cast<const void*>(in), n, options, call);
}

}  // namespace

Params params_of(const Context& context, const void* in, std::size_t n, const piquant_options_t& options,
                 const Call& call) {
    double scale = 0;
    std::int64_t zero_point = 0;
    const piquant_status_t status = run_unlocked(n, [&] {
        return piquant_compute_quant_params(context.get(), in, static_cast<piquant_dtype_t>(call.float_dtype),
                                            static_cast<piquant_dtype_t>(call.code_dtype), n, &options, &scale,
                                            &zero_point);
    });
    check(status, call);
    const nb::object zero = nb::steal(call.code_dtype == PIQUANT_UINT64
                                          ? PyLong_FromUnsignedLongLong(static_cast<std::uint64_t>(zero_point))
                                          : PyLong_FromLongLong(zero_point));
    return Params(nb::make_tuple(scale, zero));
}

// The default context, once a call has asked for it.
const Context& context_of(nb::handle ctx) {
    static Found default_context;
    if (!ctx.is_none()) {
        if (!nb::isinstance<Context>(ctx)) {
            throw nb::type_error(("ctx must be a piquant.Context or None, got " + text(ctx)).c_str());
        }
        if (!nb::inst_ready(ctx)) {
            throw nb::type_error("ctx must be a piquant.Context, got one whose __init__ was not called");
        }
        return *nb::inst_ptr<Context>(ctx);
    }
    return *nb::inst_ptr<Context>(default_context.by(
        [] { return nb::object(nb::module_::import_("piquant._context").attr("Context").attr("get")()); }));
}

void init_context(nb::module_& m) {
    using namespace nb::literals;
    nb::class_<Context>(m, "Context",
                        "Threads and settings; dtypes are numbers of piquant_dtype_t, arrays are addresses.")
        .def(nb::init<nb::handle>(), nb::arg("num_threads").none() = nb::none(),
             nb::sig("def __init__(self, num_threads: typing.SupportsIndex | None = None) -> None"))
        .def_prop_rw("num_threads", &Context::num_threads, &Context::set_num_threads, nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def num_threads(self, value: typing.SupportsIndex, /) -> None")))
        .def_prop_rw("isa", &Context::isa, &Context::set_isa, nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def isa(self, value: str, /) -> None")))
        .def_prop_rw("serial_cutoff", &Context::serial_cutoff, &Context::set_serial_cutoff,
                     nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def serial_cutoff(self, value: typing.SupportsIndex, /) -> None")))
        .def_prop_rw("stream_threshold", &Context::stream_threshold, &Context::set_stream_threshold,
                     nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def stream_threshold(self, value: typing.SupportsIndex, /) -> None")))
        .def("_quantize", &quantize, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "n"_a,
             "scale"_a.none(), "zero_point"_a.none(), "round_mode"_a.none(), "seed"_a.none(), "offset"_a.none())
        .def("_dequantize", &dequantize, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "n"_a,
             "scale"_a.none(), "zero_point"_a.none(), "reduce_op"_a.none())
        .def("_compute_quant_params", &compute_quant_params, "in_address"_a, "in_dtype"_a, "code_dtype"_a, "n"_a);
}

}  // namespace piquant_python
