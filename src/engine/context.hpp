// Plan -> schedule -> run the chunks. Everything a caller may do, in C++.
#pragma once

#include <piquant/quant.h>

#include <atomic>

#include "core/types.hpp"
#include "engine/lent_threads.hpp"
#include "engine/partition.hpp"
#include "engine/plan.hpp"
#include "engine/schedule.hpp"
#include "engine/thread_pool.hpp"
#include "kernels/table.hpp"

namespace piquant {

class Context {
public:
    // Reads PIQUANT_NUM_THREADS, PIQUANT_ISA, PIQUANT_SERIAL_CUTOFF and PIQUANT_STREAM_THRESHOLD.
    static piquant_status_t create(size_t num_threads, Context*& context);

    piquant_status_t transform(const TransformCall& call);
    piquant_status_t compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                          const piquant_options_t* options, double& scale, int64_t& zero_point);

    piquant_status_t set_num_threads(size_t n);
    size_t num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

    piquant_status_t set_isa(const char* name);
    const char* isa() const { return table_.load(std::memory_order_relaxed)->name; }

    // Both in bytes read plus written. Until it is set, the second depends on the threads that take part in a call; this
    // is that of all threads of the own pool.
    std::atomic<size_t> serial_cutoff{0};
    void set_stream_threshold(size_t bytes);
    size_t stream_threshold() const { return stream_rule().of(num_threads()); }

    // Calls in progress; a context with any must not be destroyed.
    std::atomic<size_t>& users() { return pool_.users; }

private:
    Context() = default;

    // Who carries out a call, by the settings as they are now.
    struct Team {
        Executor& executor;
        Schedule schedule;
    };
    Team team_for(size_t traffic, LentThreads& lent);

    StreamThreshold stream_rule() const;

    void run(Plan& plan);
    void run_tiles(Plan& plan);
    Extent extent_of(const ExtentPlan& plan);
    template <class Work>
    void for_chunks(const Team& team, const Partition& partition, const Work& work);

    std::atomic<const KernelTable*> table_{nullptr};
    std::atomic<size_t> num_threads_{1};  // of the own pool
    size_t most_lent_threads_ = PIQUANT_MAX_THREADS;
    LastLevel last_level_{};
    std::atomic<size_t> stream_threshold_{0};
    std::atomic<bool> stream_threshold_is_set_{false};
    ThreadPool pool_;
};

}  // namespace piquant
