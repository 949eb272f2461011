// Validate -> partition -> call the table. Everything a caller may do, in C++.
#pragma once

#include <piquant/quant.h>

#include <atomic>

#include "core/types.hpp"
#include "kernels/table.hpp"
#include "engine/thread_pool.hpp"

namespace piquant {

class Context {
public:
    // Reads PIQUANT_NUM_THREADS, PIQUANT_ISA, PIQUANT_SERIAL_CUTOFF and PIQUANT_STREAM_THRESHOLD.
    static piquant_status_t create(size_t num_threads, Context*& context);

    // in is of the float dtype, except for dequantize; out is, except for quantize.
    piquant_status_t transform(Operation operation, const void* in, void* out, int real_dtype, int code_dtype, size_t n,
                               double scale, int64_t zero_point, const piquant_options_t* options);
    piquant_status_t compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                          const piquant_options_t* options, double& scale, int64_t& zero_point);

    piquant_status_t set_num_threads(size_t n);
    size_t num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

    piquant_status_t set_isa(const char* name);
    const char* isa() const { return table_.load(std::memory_order_relaxed)->name; }

    // Both in bytes read plus written.
    std::atomic<size_t> serial_cutoff{0};
    std::atomic<size_t> stream_threshold{0};

    // Calls in progress; a context with any must not be destroyed.
    std::atomic<size_t>& users() { return pool_.users; }

private:
    Context() = default;

    Extent reduce(MinMaxKernel kernel, const void* in, int bits, size_t n);
    void execute(Kernel kernel, KernelArgs& args, int in_bits, int out_bits);
    size_t threads_for(size_t traffic) const;
    size_t worth_waking(size_t traffic) const;

    std::atomic<const KernelTable*> table_{nullptr};
    std::atomic<size_t> num_threads_{1};
    ThreadPool pool_;
};

}  // namespace piquant
