// The native module of piquant_bench: addresses, names and numbers in, seconds out.
//
// It calls the C API of the libpiquant that `import piquant` has loaded, see cmake/benchmarks.cmake.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <new>
#include <string>

#include "session.hpp"

namespace nb = nanobind;

namespace {

using namespace piquant::benchmark;

void make_call(Call* self, const std::string& operation, std::uintptr_t in, const std::string& in_dtype,
               std::uintptr_t out, const std::string& out_dtype, std::size_t n, double scale, std::int64_t zero_point) {
    new (self) Call{operation_named(operation),
                    reinterpret_cast<const void*>(in),
                    dtype_named(in_dtype),
                    reinterpret_cast<void*>(out),
                    dtype_named(out_dtype),
                    n,
                    scale,
                    zero_point};
}

}  // namespace

NB_MODULE(_native, m) {
    using namespace nb::literals;
    using Unlocked = nb::call_guard<nb::gil_scoped_release>;
    m.doc() = "Native part of piquant_bench.";
    nb::class_<Call>(m, "Call",
                     "A call to measure: quantize, stochastic, dequantize, add or params, of arrays given by address.")
        .def("__init__", &make_call, "operation"_a, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "n"_a,
             "scale"_a = 1.0, "zero_point"_a = 0);
    nb::class_<Session>(m, "Session", "A context of the library, and threads for the traffic twins of its calls.")
        .def(nb::init<std::size_t, const std::string&>(), "threads"_a = 0, "isa"_a = "",
             "0 threads, and no instruction set: what the library chooses.")
        .def_prop_ro("threads", &Session::threads)
        .def_prop_ro("isa", &Session::isa)
        .def("measure", &Session::measure, "call"_a, "repeats"_a, Unlocked(), "Seconds of each of a number of calls.")
        .def("measure_traffic", &Session::measure_traffic, "call"_a, "repeats"_a, Unlocked(),
             "The same of the traffic twin.")
        .def("move_traffic", &Session::move_traffic, "call"_a, Unlocked(), "Runs the traffic twin once.");
}
