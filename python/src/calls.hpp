// What the functions of the faces have in common.
#pragma once

#include "context.hpp"
#include "device.hpp"
#include "match.hpp"
#include "unlocked.hpp"

namespace piquant_python {

// What the caller says of the elements of an input that cannot tell; null for nothing.
const DType* told_dtype(const Face& face, nb::handle source_dtype, bool wants_float);

// The seed of a stochastic call without one is drawn when nothing can be wrong any more.
void read_words(nb::handle seed, nb::handle offset, piquant_options_t& options);
void draw_seed(const Face& face, nb::handle seed, piquant_options_t& options);

// The status of a call of the C API, which `make` makes with the context that it is given: one of this process's threads, or
// that of the device where the arrays are.
template <class Make>
piquant_status_t run(const Arrays& arrays, const Context& context, const Make& make) {
    if (!arrays.on_device()) {
        return run_unlocked(arrays.call.n, [&] { return make(context.get()); });
    }
    const OnDevice running(arrays.face, arrays.call.device);
    return make(running.context());
}

// What a call returns, after it has run: the given output, of which the framework is told, or the new one.
nb::object finish(piquant_status_t status, const Arrays& arrays, nb::handle out, nb::object&& made);

// Refuses a dtype of scales where there is none.
[[noreturn]] void refuse_scale_dtype(nb::handle scale_dtype);

// Refuses blocks of a dtype whose arrays carry their parameters.
[[noreturn]] void refuse_carried(const char* argument, const DType& dtype);

}  // namespace piquant_python
