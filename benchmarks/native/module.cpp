// The native module of piquant_bench: addresses, names and numbers in, seconds out.
//
// It calls the C API of the libpiquant that `import piquant` has loaded, see cmake/benchmarks.cmake.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <functional>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "session.hpp"

namespace nb = nanobind;

namespace {

using namespace piquant::benchmark;

void make_call(Call* self, const std::string& operation, std::uintptr_t in, const std::string& in_dtype,
               std::uintptr_t out, const std::string& out_dtype, std::size_t n, double scale, std::int64_t zero_point,
               std::optional<Blocks> blocks) {
    if (blocks &&
        std::accumulate(blocks->shape.begin(), blocks->shape.end(), std::size_t{1}, std::multiplies<>()) != n) {
        throw std::invalid_argument("n must be the product of the blocks' shape");
    }
    new (self) Call{operation_named(operation),
                    reinterpret_cast<const void*>(in),
                    dtype_named(in_dtype),
                    reinterpret_cast<void*>(out),
                    dtype_named(out_dtype),
                    n,
                    scale,
                    zero_point,
                    std::move(blocks)};
}

void make_blocks(Blocks* self, std::vector<std::size_t> shape, std::vector<std::size_t> block_size,
                 std::uintptr_t scale, std::uintptr_t zero_point, const std::string& scale_dtype,
                 const std::string& zero_point_dtype) {
    if (shape.size() != block_size.size()) {
        throw std::invalid_argument("shape and block_size must be of one rank");
    }
    new (self) Blocks{std::move(shape),
                      std::move(block_size),
                      reinterpret_cast<void*>(scale),
                      dtype_named(scale_dtype),
                      reinterpret_cast<void*>(zero_point),
                      dtype_named(zero_point_dtype)};
}

}  // namespace

NB_MODULE(_native, m) {
    using namespace nb::literals;
    using Unlocked = nb::call_guard<nb::gil_scoped_release>;
    m.doc() = "Native part of piquant_bench.";
    nb::class_<Blocks>(m, "Blocks", "How a call's array is cut into blocks, and the addresses of their parameters.")
        .def("__init__", &make_blocks, "shape"_a, "block_size"_a, "scale_address"_a, "zero_point_address"_a = 0,
             "scale_dtype"_a = "float32", "zero_point_dtype"_a = "uint8",
             "Without an address of zero points they are 0, and parameters that the call finds are symmetric.");
    nb::class_<Call>(m, "Call",
                     "A call to measure: quantize, stochastic, dequantize, add, params, or, with blocks, dynamic, of "
                     "arrays given by address.")
        .def("__init__", &make_call, "operation"_a, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a, "n"_a,
             "scale"_a = 1.0, "zero_point"_a = 0, "blocks"_a = nb::none());
    nb::class_<Session>(m, "Session", "A context of the library, and threads for the traffic twins of its calls.")
        .def(nb::init<std::size_t, const std::string&>(), "threads"_a = 0, "isa"_a = "",
             "0 threads, and no instruction set: what the library chooses.")
        .def_prop_ro("threads", &Session::threads)
        .def_prop_ro("isa", &Session::isa)
        .def("run", &Session::run, "call"_a, Unlocked(), "Makes the call once.")
        .def("measure", &Session::measure, "call"_a, "repeats"_a, "in_a_row"_a = 1, Unlocked(),
             "Seconds of a call, some times; each the mean of calls in a row.")
        .def("measure_traffic", &Session::measure_traffic, "call"_a, "repeats"_a, "in_a_row"_a = 1, Unlocked(),
             "The same of the traffic twin.")
        .def("move_traffic", &Session::move_traffic, "call"_a, Unlocked(), "Runs the traffic twin once.");
}
