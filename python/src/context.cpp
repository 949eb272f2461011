#include "context.hpp"

#include <chrono>
#include <cstring>
#include <thread>

#include "module.hpp"

namespace piquant_python {
namespace {

// Arrays are `rows` rows of `n` elements. Rows of 2- and 4-bit codes are padded to whole bytes, so they are contiguous
// as one run only where they fill their bytes.
struct Rows {
    std::size_t rows;
    std::size_t n;

    // Calls call(row, count) once for all elements, or once per row; once where there is none, to have the arguments
    // checked.
    template <class F>
    piquant_status_t each(std::uintptr_t in, int in_dtype, std::uintptr_t out, int out_dtype, F call) const {
        const std::size_t in_row = piquant_size(static_cast<piquant_dtype_t>(in_dtype), n);
        const std::size_t out_row = piquant_size(static_cast<piquant_dtype_t>(out_dtype), n);
        if (rows <= 1 || (fills_bytes(in_dtype) && fills_bytes(out_dtype))) {
            return call(std::size_t{0}, rows * n);
        }
        if (in < out + out_row * rows && out < in + in_row * rows) {
            return PIQUANT_ERROR_OVERLAP;  // a single row would not show it
        }
        piquant_status_t status = PIQUANT_OK;
        for (std::size_t r = 0; r < rows && status == PIQUANT_OK; ++r) {
            status = call(r, n);
        }
        return status;
    }

private:
    bool fills_bytes(int dtype) const {
        return n * static_cast<std::size_t>(piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype))) % 8 == 0;
    }
};

const unsigned char* row(std::uintptr_t base, std::size_t r, int dtype, std::size_t n) {
    return reinterpret_cast<const unsigned char*>(base) + r * piquant_size(static_cast<piquant_dtype_t>(dtype), n);
}
unsigned char* mutable_row(std::uintptr_t base, std::size_t r, int dtype, std::size_t n) {
    return const_cast<unsigned char*>(row(base, r, dtype, n));
}

// Takes the GIL back. Once the interpreter has begun to exit, Python before 3.14 ends a daemon thread here with
// pthread_exit, whose unwinding would call std::terminate at the first noexcept function. Such a thread sleeps instead
// until the process is gone, as it does from 3.14 on.
void lock_again(PyThreadState* state) {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        for (;;) {
            std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
}

// Kernels run without the GIL, except where taking it back would cost more than the kernel.
class Unlocked {
public:
    explicit Unlocked(std::size_t elements) : state_(elements < 4096 ? nullptr : PyEval_SaveThread()) {}
    ~Unlocked() {
        if (state_ != nullptr) {
            lock_again(state_);
        }
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

private:
    PyThreadState* state_;
};

void read_range(nb::handle quant_min, nb::handle quant_max, Call& call, piquant_options_t& options) {
    if (quant_min.is_none() && quant_max.is_none()) {
        return;
    }
    call.quant_min = quant_min;
    call.quant_max = quant_max;
    if (!quant_min.is_none()) {
        options.has_quant_min = 1;
        options.quant_min = code_bits(quant_min, "quant_min", call.code, PIQUANT_ERROR_QUANT_RANGE, call);
    }
    if (!quant_max.is_none()) {
        options.has_quant_max = 1;
        options.quant_max = code_bits(quant_max, "quant_max", call.code, PIQUANT_ERROR_QUANT_RANGE, call);
    }
}

Call describe(int real, int code, std::size_t n, nb::handle scale, nb::handle zero_point) {
    Call call;
    call.real = real;
    call.code = code;
    call.n = n;
    call.scale = number(scale, "scale");
    call.scale_given = scale;
    call.zero_point = zero_point;
    return call;
}

void quantize(const Context& context, std::uintptr_t in, int in_dtype, std::uintptr_t out, int out_dtype,
              std::size_t rows, std::size_t n, nb::handle scale, nb::handle zero_point, bool stochastic,
              nb::handle seed, nb::handle offset, nb::handle quant_min, nb::handle quant_max) {
    Call call = describe(in_dtype, out_dtype, n, scale, zero_point);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    read_range(quant_min, quant_max, call, options);
    const std::int64_t zero = code_bits(zero_point, "zero_point", out_dtype, PIQUANT_ERROR_ZERO_POINT, call);
    const std::uint64_t first = word_bits(offset, "offset");
    options.round_mode = stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.seed = word_bits(seed, "seed");
    piquant_status_t status;
    {
        const Unlocked unlocked(rows * n);
        status = Rows{rows, n}.each(in, in_dtype, out, out_dtype, [&](std::size_t r, std::size_t count) {
            options.offset = first + r * n;
            return piquant_quantize(context.get(), row(in, r, in_dtype, n), static_cast<piquant_dtype_t>(in_dtype),
                                    mutable_row(out, r, out_dtype, n), static_cast<piquant_dtype_t>(out_dtype), count,
                                    call.scale, zero, &options);
        });
    }
    check(status, call);
}

void dequantize(const Context& context, std::uintptr_t in, int in_dtype, std::uintptr_t out, int out_dtype,
                std::size_t rows, std::size_t n, nb::handle scale, nb::handle zero_point, bool add) {
    const Call call = describe(out_dtype, in_dtype, n, scale, zero_point);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    const std::int64_t zero = code_bits(zero_point, "zero_point", in_dtype, PIQUANT_ERROR_ZERO_POINT, call);
    options.reduce_op = add ? PIQUANT_ADD : PIQUANT_SET;
    piquant_status_t status;
    {
        const Unlocked unlocked(rows * n);
        status = Rows{rows, n}.each(in, in_dtype, out, out_dtype, [&](std::size_t r, std::size_t count) {
            return piquant_dequantize(context.get(), row(in, r, in_dtype, n), static_cast<piquant_dtype_t>(in_dtype),
                                      mutable_row(out, r, out_dtype, n), static_cast<piquant_dtype_t>(out_dtype), count,
                                      call.scale, zero, &options);
        });
    }
    check(status, call);
}

void quantize_dequantize(const Context& context, std::uintptr_t in, std::uintptr_t out, int dtype, int code_dtype,
                         std::size_t n, nb::handle scale, nb::handle zero_point, bool stochastic, bool add,
                         nb::handle seed, nb::handle offset, nb::handle quant_min, nb::handle quant_max) {
    Call call = describe(dtype, code_dtype, n, scale, zero_point);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    read_range(quant_min, quant_max, call, options);
    const std::int64_t zero = code_bits(zero_point, "zero_point", code_dtype, PIQUANT_ERROR_ZERO_POINT, call);
    options.round_mode = stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.reduce_op = add ? PIQUANT_ADD : PIQUANT_SET;
    options.seed = word_bits(seed, "seed");
    options.offset = word_bits(offset, "offset");
    piquant_status_t status;
    {
        const Unlocked unlocked(n);
        status = piquant_quantize_dequantize(context.get(), reinterpret_cast<const void*>(in),
                                             reinterpret_cast<void*>(out), static_cast<piquant_dtype_t>(dtype),
                                             static_cast<piquant_dtype_t>(code_dtype), n, call.scale, zero, &options);
    }
    check(status, call);
}

nb::typed<nb::tuple, double, nb::int_> compute_quant_params(const Context& context, std::uintptr_t in, int in_dtype,
                                                            int code_dtype, std::size_t n, nb::handle symmetric,
                                                            nb::handle quant_min, nb::handle quant_max) {
    Call call;
    call.n = n;
    call.real = in_dtype;
    call.code = code_dtype;
    call.quant_min = nb::none();
    call.quant_max = nb::none();
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    read_range(quant_min, quant_max, call, options);
    options.symmetric = flag(symmetric, "symmetric") ? 1 : 0;
    double scale = 0;
    std::int64_t zero_point = 0;
    piquant_status_t status;
    {
        const Unlocked unlocked(n);
        status = piquant_compute_quant_params(
            context.get(), reinterpret_cast<const void*>(in), static_cast<piquant_dtype_t>(in_dtype),
            static_cast<piquant_dtype_t>(code_dtype), n, &options, &scale, &zero_point);
    }
    check(status, call);
    const nb::object zero =
        nb::steal(code_dtype == PIQUANT_UINT64 ? PyLong_FromUnsignedLongLong(static_cast<std::uint64_t>(zero_point))
                                               : PyLong_FromLongLong(zero_point));
    return nb::typed<nb::tuple, double, nb::int_>(nb::make_tuple(scale, zero));
}

}  // namespace

void init_context(nb::module_& m) {
    using namespace nb::literals;
    nb::class_<Context>(m, "Context",
                        "Threads and settings; dtypes are numbers of piquant_dtype_t, arrays are addresses.")
        .def(nb::init<nb::handle>(), nb::arg("num_threads").none() = nb::none(),
             nb::sig("def __init__(self, num_threads: int | None = None) -> None"))
        .def_prop_rw("num_threads", &Context::num_threads, &Context::set_num_threads, nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def num_threads(self, value: int, /) -> None")))
        .def_prop_rw("isa", &Context::isa, &Context::set_isa, nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def isa(self, value: str, /) -> None")))
        .def_prop_rw("serial_cutoff", &Context::serial_cutoff, &Context::set_serial_cutoff,
                     nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def serial_cutoff(self, value: int, /) -> None")))
        .def_prop_rw("stream_threshold", &Context::stream_threshold, &Context::set_stream_threshold,
                     nb::for_setter("value"_a.none()),
                     nb::for_setter(nb::sig("def stream_threshold(self, value: int, /) -> None")))
        .def("_quantize", &quantize, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "rows"_a, "n"_a,
             "scale"_a.none(), "zero_point"_a.none(), "stochastic"_a, "seed"_a.none(), "offset"_a.none(),
             "quant_min"_a.none(), "quant_max"_a.none())
        .def("_dequantize", &dequantize, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "rows"_a, "n"_a,
             "scale"_a.none(), "zero_point"_a.none(), "add"_a)
        .def("_quantize_dequantize", &quantize_dequantize, "in_address"_a, "out_address"_a, "dtype"_a, "code_dtype"_a,
             "n"_a, "scale"_a.none(), "zero_point"_a.none(), "stochastic"_a, "add"_a, "seed"_a.none(),
             "offset"_a.none(), "quant_min"_a.none(), "quant_max"_a.none())
        .def("_compute_quant_params", &compute_quant_params, "in_address"_a, "in_dtype"_a, "code_dtype"_a, "n"_a,
             "symmetric"_a.none(), "quant_min"_a.none(), "quant_max"_a.none());
}

}  // namespace piquant_python
