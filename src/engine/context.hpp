// Plan -> schedule -> run the chunks. Everything a caller may do, in C++.
#pragma once

#include <piquant/quant.h>

#include <atomic>

#include "core/types.hpp"
#include "cpu/float_environment.hpp"
#include "engine/block_plan.hpp"
#include "engine/device.hpp"
#include "engine/lent_threads.hpp"
#include "engine/partition.hpp"
#include "engine/plan.hpp"
#include "engine/schedule.hpp"
#include "engine/thread_pool.hpp"
#include "kernels/table.hpp"

namespace piquant {

class Scratch;
class Strips;

class Context {
public:
    // Reads PIQUANT_NUM_THREADS, PIQUANT_ISA, PIQUANT_SERIAL_CUTOFF and PIQUANT_STREAM_THRESHOLD. Calls go to the device, if
    // there is one.
    static piquant_status_t create(size_t num_threads, const piquant_device_t* device, Context*& context);

    piquant_status_t transform(const TransformCall& call);
    piquant_status_t compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                          const piquant_options_t* options, double& scale, int64_t& zero_point);

    // With blocks. Where one of them is at fault, bad_block becomes its number.
    piquant_status_t run_blocks(const BlockCall& call, size_t& bad_block);

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
    // Whether a call is for one thread and a near cache, which needs no further thought.
    bool is_small(size_t traffic) const {
        return traffic < serial_cutoff.load(std::memory_order_relaxed) &&
               traffic < near_traffic_.load(std::memory_order_relaxed);
    }

    void run(Plan& plan);
    void run_tiles(Plan& plan);
    Extent extent_of(const ExtentPlan& plan);
    // See context_blocks.cpp.
    void convert_blocks(const BlockPlan& plan);
    piquant_status_t compute_block_parameters(BlockPlan& plan, size_t& bad_block);
    piquant_status_t quantize_dynamic(const BlockPlan& plan, const BlockCall& call, size_t& bad_block);
    piquant_status_t find_parameters_by_panels(const BlockPlan& plan, size_t& bad_block);
    // See context_block_extents.cpp.
    piquant_status_t find_parameters_across_panels(const BlockPlan& plan, size_t& bad_block);
    piquant_status_t quantize_strips(const BlockPlan& plan, const Team& team, const Strips& strips, size_t& bad_block);
    void find_extents_in_panels(const BlockPlan& plan, const Team& team, const Scratch& found);
    void find_extents_in_tiles(const BlockPlan& plan, const Team& team, const Scratch& found);

    template <class Work>
    static void for_chunks(const Team& team, const Partition& partition, const Work& work);

    Device device_;
    std::atomic<const KernelTable*> table_{nullptr};
    std::atomic<size_t> num_threads_{1};  // of the own pool
    size_t most_lent_threads_ = PIQUANT_MAX_THREADS;
    LastLevel last_level_{};
    std::atomic<size_t> stream_threshold_{0};
    std::atomic<bool> stream_threshold_is_set_{false};
    std::atomic<size_t> near_traffic_{far_share};  // below it nothing is prefetched or streamed
    ThreadPool pool_;
};

// Calls work(begin, end, participant) for all chunks of the partition.
template <class Work>
void Context::for_chunks(const Team& team, const Partition& partition, const Work& work) {
    struct Job {
        const Partition& partition;
        const Work& work;
    } job = {partition, work};
    team.executor.run(
        [](void* opaque, size_t chunk, size_t participant) {
            const auto& j = *static_cast<const Job*>(opaque);
            const FloatEnvironment pinned;
            j.work(j.partition.begin(chunk), j.partition.begin(chunk + 1), participant);
        },
        &job, partition.chunks, team.schedule.threads, team.schedule.worth_waking);
}

}  // namespace piquant
