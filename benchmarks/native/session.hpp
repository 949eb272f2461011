// What the benchmark measures with: the kernels as the C API calls them, and their traffic twins.
#pragma once

#include <piquant/quant.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/thread_pool.hpp"

namespace piquant::benchmark {

// The last of them, quantize_dynamic, is there with blocks only.
enum class Operation { quantize, stochastic, dequantize, add, params, dynamic };

// The blocks of a call and its parameters, which params and dynamic write. Without zero points they are 0, and symmetric.
struct Blocks {
    std::vector<std::size_t> shape;
    std::vector<std::size_t> block_size;
    void* scale;
    piquant_dtype_t scale_dtype;
    void* zero_point;
    piquant_dtype_t zero_point_dtype;
};

// A call of an operation. The caller vouches for the addresses; `out` is null for params.
struct Call {
    Operation operation;
    const void* in;
    piquant_dtype_t in_dtype;
    void* out;
    piquant_dtype_t out_dtype;
    std::size_t n;
    double scale = 0;
    std::int64_t zero_point = 0;
    std::optional<Blocks> blocks = {};  // of n elements; then scale and zero_point are not looked at
};

// Raise std::invalid_argument.
Operation operation_named(const std::string& name);
piquant_dtype_t dtype_named(const std::string& name);

// A context of the library, and threads of its own for the twins, which share work as the context's threads do. For one
// calling thread at a time.
class Session {
public:
    // 0 threads, and an empty name of an instruction set: what the library chooses.
    Session(std::size_t threads, const std::string& isa);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    std::size_t threads() const;
    std::string isa() const;

    void run(const Call& call);
    // Seconds of a call, `repeats` times. Calls that the clock does not resolve are timed some in a row, and their mean
    // is taken.
    std::vector<double> measure(const Call& call, std::size_t repeats, std::size_t in_a_row);
    // The same of the traffic twin.
    std::vector<double> measure_traffic(const Call& call, std::size_t repeats, std::size_t in_a_row);
    void move_traffic(const Call& call);

private:
    piquant_status_t convert(const Call& call);
    piquant_status_t convert_blocks(const Call& call, const Blocks& blocks, const piquant_options_t& options);
    piquant_status_t move(const Call& call);
    template <class Run>
    std::vector<double> time(const Call& call, std::size_t repeats, std::size_t in_a_row, const Run& run);

    piquant_context_t* context_ = nullptr;
    ThreadPool pool_;
};

}  // namespace piquant::benchmark
