#include "session.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>

#include "traffic.hpp"

namespace piquant::benchmark {
namespace {

void check(piquant_status_t status) {
    if (status == PIQUANT_ERROR_MEMORY) {
        throw std::bad_alloc();
    }
    if (status != PIQUANT_OK) {
        throw std::invalid_argument(piquant_status_string(status));
    }
}

// The call on its first elements, some n of them, or on the first part of its first dimension.
Call beginning(Call call, std::size_t n) {
    const std::size_t all = call.n;
    call.n = std::min(all, n);
    if (call.blocks && !call.blocks->shape.empty() && call.n < all) {
        std::size_t& first = call.blocks->shape.front();
        const std::size_t rest = std::max<std::size_t>(1, all / std::max<std::size_t>(1, first));
        first = std::min(first, std::max<std::size_t>(1, n / rest));
    }
    return call;
}

}  // namespace

Operation operation_named(const std::string& name) {
    constexpr const char* names[] = {"quantize", "stochastic", "dequantize", "add", "params", "dynamic"};
    const auto* const found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names)) {
        throw std::invalid_argument("no operation is named " + name);
    }
    return static_cast<Operation>(found - names);
}

piquant_dtype_t dtype_named(const std::string& name) {
    int dtype = 0;
    const char* known = piquant_dtype_name(piquant_dtype_t{});
    while (known != nullptr && name != known) {
        known = piquant_dtype_name(static_cast<piquant_dtype_t>(++dtype));
    }
    if (known == nullptr) {
        throw std::invalid_argument("no dtype is named " + name);
    }
    return static_cast<piquant_dtype_t>(dtype);
}

Session::Session(std::size_t threads, const std::string& isa) {
    check(piquant_context_create(&context_, threads));
    const piquant_status_t status = isa.empty() ? PIQUANT_OK : piquant_context_set_isa(context_, isa.c_str());
    if (status != PIQUANT_OK) {
        (void)piquant_context_destroy(context_);
        check(status);
    }
}

Session::~Session() {
    (void)piquant_context_destroy(context_);
}

std::size_t Session::threads() const {
    std::size_t n = 0;
    check(piquant_context_get_num_threads(context_, &n));
    return n;
}

std::string Session::isa() const {
    const char* name = "";
    check(piquant_context_get_isa(context_, &name));
    return name;
}

piquant_status_t Session::convert(const Call& call) {
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.round_mode = call.operation == Operation::stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.reduce_op = call.operation == Operation::add ? PIQUANT_ADD : PIQUANT_SET;
    if (call.blocks) {
        return convert_blocks(call, *call.blocks, options);
    }
    double scale = 0;
    std::int64_t zero_point = 0;
    switch (call.operation) {
        case Operation::quantize:
        case Operation::stochastic:
            return piquant_quantize(context_, call.in, call.in_dtype, call.out, call.out_dtype, call.n, call.scale,
                                    call.zero_point, &options);
        case Operation::dequantize:
        case Operation::add:
            return piquant_dequantize(context_, call.in, call.in_dtype, call.out, call.out_dtype, call.n, call.scale,
                                      call.zero_point, &options);
        case Operation::params:
            return piquant_compute_quant_params(context_, call.in, call.in_dtype, call.out_dtype, call.n, &options,
                                                &scale, &zero_point);
        case Operation::dynamic: break;
    }
    return PIQUANT_ERROR_BLOCKS;
}

piquant_status_t Session::convert_blocks(const Call& call, const Blocks& blocks, const piquant_options_t& given) {
    piquant_options_t options = given;
    options.symmetric = blocks.zero_point == nullptr;
    const piquant_blocks_t b = {sizeof(piquant_blocks_t),
                                blocks.shape.size(),
                                blocks.shape.data(),
                                blocks.block_size.data(),
                                blocks.scale_dtype,
                                blocks.zero_point_dtype,
                                0};
    switch (call.operation) {
        case Operation::quantize:
        case Operation::stochastic:
            return piquant_quantize_blocks(context_, call.in, call.in_dtype, call.out, call.out_dtype, &b, blocks.scale,
                                           blocks.zero_point, &options, nullptr);
        case Operation::dequantize:
        case Operation::add:
            return piquant_dequantize_blocks(context_, call.in, call.in_dtype, call.out, call.out_dtype, &b,
                                             blocks.scale, blocks.zero_point, &options, nullptr);
        case Operation::params:
            return piquant_compute_quant_params_blocks(context_, call.in, call.in_dtype, call.out_dtype, &b, &options,
                                                       blocks.scale, blocks.zero_point, nullptr);
        case Operation::dynamic:
            return piquant_quantize_dynamic(context_, call.in, call.in_dtype, call.out, call.out_dtype, &b, &options,
                                            blocks.scale, blocks.zero_point, nullptr);
    }
    return PIQUANT_ERROR_BLOCKS;
}

piquant_status_t Session::move(const Call& call) {
    TrafficSettings settings;
    const char* isa = nullptr;
    check(piquant_context_get_num_threads(context_, &settings.num_threads));
    check(piquant_context_get_serial_cutoff(context_, &settings.serial_cutoff));
    check(piquant_context_get_stream_threshold(context_, &settings.stream_threshold));
    check(piquant_context_get_isa(context_, &isa));
    return benchmark::move_traffic(pool_, settings, isa, call.in, call.in_dtype, call.out, call.out_dtype, call.n,
                                   call.operation == Operation::add ? PIQUANT_ADD : PIQUANT_SET);
}

// Context and twin have threads of their own. Those of the one that ran before spin for 50 us, on processors that the
// other needs: they are given the time to fall asleep. A call outside the measurement, long enough to wake threads and
// no longer, calls those of this one.
template <class Run>
std::vector<double> Session::time(const Call& call, std::size_t repeats, std::size_t in_a_row, const Run& run) {
    constexpr std::size_t elements_that_wake = std::size_t{1} << 20;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    check(run(beginning(call, elements_that_wake)));
    std::vector<double> seconds(repeats);
    piquant_status_t status = PIQUANT_OK;
    for (double& s : seconds) {
        const auto begin = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < in_a_row; ++i) {
            status = run(call);
        }
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
        s = passed.count() / static_cast<double>(in_a_row);
    }
    check(status);
    return seconds;
}

void Session::run(const Call& call) {
    check(convert(call));
}

std::vector<double> Session::measure(const Call& call, std::size_t repeats, std::size_t in_a_row) {
    return time(call, repeats, in_a_row, [this](const Call& c) { return convert(c); });
}

std::vector<double> Session::measure_traffic(const Call& call, std::size_t repeats, std::size_t in_a_row) {
    return time(call, repeats, in_a_row, [this](const Call& c) { return move(c); });
}

void Session::move_traffic(const Call& call) {
    check(move(call));
}

}  // namespace piquant::benchmark
