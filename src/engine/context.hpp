// Plan -> schedule -> run the chunks. Everything a caller may do, in C++.
#pragma once

#include <piquant/quant.h>

#include <atomic>
#include <optional>

#include "core/types.hpp"
#include "kernels/table.hpp"
#include "engine/lent_threads.hpp"
#include "engine/partition.hpp"
#include "engine/plan.hpp"
#include "engine/schedule.hpp"
#include "engine/thread_pool.hpp"

namespace piquant {

class Context {
public:
    // Reads PIQUANT_NUM_THREADS, PIQUANT_ISA, PIQUANT_SERIAL_CUTOFF and PIQUANT_STREAM_THRESHOLD. `lent` may be null.
    static piquant_status_t create(const piquant_threads_t* lent, size_t num_threads, Context*& context);

    piquant_status_t transform(const TransformCall& call);
    piquant_status_t compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                          const piquant_options_t* options, double& scale, int64_t& zero_point);

    piquant_status_t set_num_threads(size_t n);
    // Of a call that begins now.
    size_t num_threads() const { return choose_threads().count; }

    piquant_status_t set_isa(const char* name);
    const char* isa() const { return table_.load(std::memory_order_relaxed)->name; }

    // Both in bytes read plus written.
    std::atomic<size_t> serial_cutoff{0};
    std::atomic<size_t> stream_threshold{0};

    // Calls in progress; a context with any must not be destroyed.
    std::atomic<size_t>& users() { return pool_.users; }

private:
    Context() = default;

    struct Threads {
        bool lent;
        size_t count;
    };
    Threads choose_threads() const;
    // By the settings as they are now.
    struct Team {
        Executor& executor;
        Schedule schedule;
    };
    Team team_for(size_t traffic);

    void run(Plan& plan);
    void run_tiles(Plan& plan);
    Extent extent_of(const ExtentPlan& plan);
    template <class Work>
    void for_chunks(const Team& team, const Partition& partition, const Work& work);

    std::atomic<const KernelTable*> table_{nullptr};
    std::atomic<size_t> own_threads_{1};
    std::atomic<size_t> most_lent_threads_{1};
    std::optional<LentThreads> lent_;
    ThreadPool pool_;
};

}  // namespace piquant
