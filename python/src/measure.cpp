#include <nanobind/stl/vector.h>

#include <chrono>
#include <vector>

#include "context.hpp"
#include "module.hpp"

namespace piquant_python {
namespace {

enum class Measured : int { quantize, dequantize, params };

// Seconds of each of `repeats` calls, measured around the C API, so that Python's own cost is in none of them.
std::vector<double> measure(const Context& context, int call, std::uintptr_t in, int in_dtype, std::uintptr_t out,
                            int out_dtype, std::size_t n, double scale, std::int64_t zero_point, bool stochastic,
                            bool add, std::size_t repeats) {
    const auto from = static_cast<piquant_dtype_t>(in_dtype);
    const auto to = static_cast<piquant_dtype_t>(out_dtype);
    const auto* source = reinterpret_cast<const void*>(in);
    auto* target = reinterpret_cast<void*>(out);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.round_mode = stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.reduce_op = add ? PIQUANT_ADD : PIQUANT_SET;
    double found_scale = 0;
    std::int64_t found_zero_point = 0;
    std::vector<double> seconds(repeats);
    piquant_status_t status = PIQUANT_OK;
    {
        const nb::gil_scoped_release unlocked;
        for (double& s : seconds) {
            const auto begin = std::chrono::steady_clock::now();
            switch (static_cast<Measured>(call)) {
                case Measured::quantize:
                    status = piquant_quantize(context.get(), source, from, target, to, n, scale, zero_point, &options);
                    break;
                case Measured::dequantize:
                    status =
                        piquant_dequantize(context.get(), source, from, target, to, n, scale, zero_point, &options);
                    break;
                case Measured::params:
                    status = piquant_compute_quant_params(context.get(), source, from, to, n, &options, &found_scale,
                                                          &found_zero_point);
                    break;
            }
            s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        }
    }
    check(status, {});
    return seconds;
}

}  // namespace

void init_measure(nb::module_& m) {
    using namespace nb::literals;
    m.def("measure", &measure, "context"_a, "call"_a, "in_address"_a, "in_dtype"_a, "out_address"_a, "out_dtype"_a,
          "n"_a, "scale"_a, "zero_point"_a, "stochastic"_a, "add"_a, "repeats"_a,
          "Seconds of each of a number of calls: 0 quantize, 1 dequantize, 2 parameters.");
}

}  // namespace piquant_python
