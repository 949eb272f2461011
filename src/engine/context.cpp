#include "engine/context.hpp"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/caches.hpp"
#include "cpu/environment.hpp"
#include "cpu/stores.hpp"
#include "cpu/usable_cpus.hpp"
#include "dispatch/dispatch.hpp"
#include "engine/memory.hpp"
#include "engine/partition.hpp"
#include "engine/plan.hpp"
#include "engine/scratch.hpp"
#include "engine/tiles.hpp"

namespace piquant {
namespace {

// Where one thread and two break even if the second is awake, measured: at 80 to 160 KiB, depending on the types, where
// both CPUs share a last-level cache, and at 0.5 to 1 MiB where they do not.
constexpr size_t default_serial_cutoff = size_t{256} << 10;

// Value of an environment variable of digits; false if it is set to anything else.
bool read_environment(const char* name, size_t lowest, size_t highest, size_t& value) {
    const std::string given = environment_value(name);
    const char* const text = given.c_str();
    if (*text == 0) {
        return true;
    }
    char* end = nullptr;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || errno != 0 || number < lowest || number > highest) {
        return false;
    }
    value = static_cast<size_t>(number);
    return true;
}

}  // namespace

piquant_status_t Context::create(size_t num_threads, const piquant_device_t* device, Context*& context) {
    std::unique_ptr<Context> c(new Context);
    if (device != nullptr && !c->device_.set(*device)) {
        return PIQUANT_ERROR_DEVICE;
    }
    if (const piquant_status_t status = c->set_num_threads(num_threads); status != PIQUANT_OK) {
        return status;
    }
    const std::string limit = environment_value("PIQUANT_ISA");
    const size_t isa = select_isa(cpu_features(), limit.empty() ? nullptr : limit.c_str());
    size_t cutoff = default_serial_cutoff;
    size_t threshold = 0;
    if (isa == isa_count || !read_environment("PIQUANT_SERIAL_CUTOFF", 0, SIZE_MAX, cutoff) ||
        !read_environment("PIQUANT_STREAM_THRESHOLD", 0, SIZE_MAX, threshold) ||
        !read_environment("PIQUANT_NUM_THREADS", 1, PIQUANT_MAX_THREADS, c->most_lent_threads_)) {
        return PIQUANT_ERROR_ENVIRONMENT;
    }
    c->table_ = isas[isa].table;
    c->serial_cutoff = cutoff;
    c->last_level_ = last_level_cache(allowed_cpus(), usable_cpus());
    if (!environment_value("PIQUANT_STREAM_THRESHOLD").empty()) {
        c->set_stream_threshold(threshold);
    }
    context = c.release();
    return PIQUANT_OK;
}

piquant_status_t Context::set_num_threads(size_t n) {
    if (n > PIQUANT_MAX_THREADS) {
        return PIQUANT_ERROR_NUM_THREADS;
    }
    size_t threads = n;
    if (n == 0 && !read_environment("PIQUANT_NUM_THREADS", 1, PIQUANT_MAX_THREADS, threads)) {
        return PIQUANT_ERROR_ENVIRONMENT;
    }
    num_threads_.store(threads != 0 ? threads : std::min<size_t>(usable_cpus(), PIQUANT_MAX_THREADS),
                       std::memory_order_relaxed);
    return PIQUANT_OK;
}

piquant_status_t Context::set_isa(const char* name) {
    for (size_t i = 0; name != nullptr && i < isa_count; ++i) {
        if (strcmp(isas[i].name, name) == 0 && (isas[i].required & ~cpu_features()) == 0) {
            table_.store(isas[i].table, std::memory_order_relaxed);
            return PIQUANT_OK;
        }
    }
    return PIQUANT_ERROR_ISA;
}

piquant_status_t Context::transform(const TransformCall& call) {
    const FloatEnvironment pinned;
    Plan plan;
    const piquant_status_t status = make_plan(*table_.load(std::memory_order_relaxed), call, plan);
    if (status != PIQUANT_OK || plan.is_empty) {
        return status;
    }
    if (device_.is_there()) {
        return device_.run(plan, call);
    }
    plan.is_tiled ? run_tiles(plan) : run(plan);
    return PIQUANT_OK;
}

piquant_status_t Context::compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                               const piquant_options_t* options, double& scale, int64_t& zero_point) {
    if (device_.is_there()) {
        return PIQUANT_ERROR_CONTEXT;
    }
    const FloatEnvironment pinned;
    ExtentPlan plan;
    const KernelTable& table = *table_.load(std::memory_order_relaxed);
    const piquant_status_t status = make_plan(table, in, in_dtype, code_dtype, n, options, plan);
    return status != PIQUANT_OK ? status
                                : parameters_from(extent_of(plan), plan.in, static_cast<DType>(code_dtype),
                                                  plan.options, scale, zero_point);
}

void Context::set_stream_threshold(size_t bytes) {
    stream_threshold_.store(bytes, std::memory_order_relaxed);
    stream_threshold_is_set_.store(true, std::memory_order_release);
    near_traffic_.store(std::min(far_share, bytes), std::memory_order_relaxed);
}

StreamThreshold Context::stream_rule() const {
    const bool is_set = stream_threshold_is_set_.load(std::memory_order_acquire);
    return {last_level_, is_set, stream_threshold_.load(std::memory_order_relaxed)};
}

// On lent threads, if there are any.
Context::Team Context::team_for(size_t traffic, LentThreads& lent) {
    // Lent threads begin and end a call together. That takes 2 to 4 us: two of them and one break even at about 512 KiB,
    // twice the cut-off, and one that has to wait for its CPU holds up the call for milliseconds.
    constexpr size_t cutoffs_of_lent = 2;
    const size_t own_cutoff = serial_cutoff.load(std::memory_order_relaxed);
    const size_t count = traffic < own_cutoff ? 0 : lent.count();
    const size_t cutoff = count != 0 ? cutoffs_of_lent * own_cutoff : own_cutoff;
    const size_t threads = count != 0 ? std::min(count, most_lent_threads_) : num_threads();
    Executor& executor = count != 0 ? static_cast<Executor&>(lent) : pool_;
    return {executor, make_schedule(traffic, threads, cutoff, stream_rule())};
}

void Context::run(Plan& plan) {
    plan.args.non_temporal = false;
    plan.args.prefetch_distance = 0;
    if (is_small(plan.traffic())) {
        plan.kernel(plan.args);
        return;
    }
    LentThreads lent(plan.threads);
    const Team team = team_for(plan.traffic(), lent);
    const Schedule& s = team.schedule;
    plan.args.non_temporal = s.is_far;
    plan.args.prefetch_distance = s.prefetch_distance;
    if (s.threads == 1) {
        plan.kernel(plan.args);
        drain_if(s.is_far);
        return;
    }
    const Format in = info(plan.in).format;
    const Format out = info(plan.out).format;
    for_chunks(team, partition_lines(plan.args.out, plan.n, info(plan.in).bits, info(plan.out).bits, s.threads),
               [&](size_t begin, size_t end, size_t) {
                   KernelArgs part = plan.args;
                   part.in = static_cast<const char*>(part.in) + bytes_for(begin, in);
                   part.out = static_cast<char*>(part.out) + bytes_for(begin, out);
                   part.n = end - begin;
                   part.offset += begin;
                   plan.kernel(part);
                   drain_if(part.non_temporal);
               });
}

void Context::run_tiles(Plan& plan) {
    // Non-temporal stores want some lines of output side by side.
    constexpr size_t shortest_run = 1024;
    // What is prefetched beyond the end of a line is fetched in vain.
    constexpr size_t ends_per_line = 8;
    // Not on the stack, of which kernels take most of the 8 KiB that a call may: see stack_test.cpp.
    const auto made = std::make_unique<const Tiles>(plan.lines, *plan.row_kernels, plan.in, plan.out, plan.reads_output,
                                                    plan.uses_words);
    const Tiles& tiles = *made;
    LentThreads lent(plan.threads);
    const Team team = team_for(plan.traffic(), lent);
    const Schedule& s = team.schedule;
    const Scratch scratch(tiles.scratch_bytes(), s.threads);
    plan.args.non_temporal = s.is_far && tiles.direct_output() >= shortest_run;
    plan.args.prefetch_distance = std::min(s.prefetch_distance, tiles.direct_input() / ends_per_line / 64 * 64);
    for_chunks(team, partition_tiles(tiles.count(), s.traffic, s.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   tiles.run(begin, end, scratch.of(participant), s.prefetch_distance != 0,
                             [&](const unsigned char* in, unsigned char* out, size_t n, uint64_t index) {
                                 KernelArgs part = plan.args;
                                 part.in = in;
                                 part.out = out;
                                 part.n = n;
                                 part.offset += index;
                                 plan.kernel(part);
                             });
                   drain_if(plan.args.non_temporal);
               });
}

Extent Context::extent_of(const ExtentPlan& plan) {
    if (plan.run != nullptr && is_small(plan.traffic())) {
        return plan.kernel(plan.run, plan.n);
    }
    LentThreads lent(plan.threads);
    const Team team = team_for(plan.traffic(), lent);
    const Schedule& s = team.schedule;
    if (plan.run != nullptr && s.threads == 1) {
        return plan.kernel(plan.run, plan.n);
    }
    std::vector<Extent> found(s.threads);  // by participant
    if (plan.run != nullptr) {
        const int bits = info(plan.in).bits;
        for_chunks(team, partition_lines(plan.run, plan.n, bits, bits, s.threads),
                   [&](size_t begin, size_t end, size_t participant) {
                       const char* part = static_cast<const char*>(plan.run) + bytes_for(begin, bits);
                       found[participant] = merge(found[participant], plan.kernel(part, end - begin));
                   });
    } else {
        const Tiles tiles(plan.lines, *plan.row_kernels, plan.in, plan.in, false, false);
        const Scratch scratch(tiles.scratch_bytes(), s.threads);
        for_chunks(team, partition_tiles(tiles.count(), s.traffic, s.threads),
                   [&](size_t begin, size_t end, size_t participant) {
                       tiles.run(begin, end, scratch.of(participant), s.prefetch_distance != 0,
                                 [&](const unsigned char* in, unsigned char*, size_t n, uint64_t) {
                                     found[participant] = merge(found[participant], plan.kernel(in, n));
                                 });
                   });
    }
    return std::accumulate(found.begin() + 1, found.end(), found[0], merge);
}

}  // namespace piquant
