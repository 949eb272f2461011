#include "traffic.hpp"

#include <cstring>

#include "cpu/float_environment.hpp"
#include "cpu/stores.hpp"
#include "engine/partition.hpp"
#include "engine/schedule.hpp"
#include "engine/validate.hpp"
#include "kernels/traffic_table.hpp"

namespace piquant::benchmark {
namespace {

bool is_available(const char* name) {
    std::size_t i = 0;
    const char* available = piquant_available_isa(i);
    while (available != nullptr && std::strcmp(available, name) != 0) {
        available = piquant_available_isa(++i);
    }
    return available != nullptr;
}

const TrafficTable* table_of(const char* name) {
    if (name == nullptr || !is_available(name)) {
        return nullptr;
    }
    const TrafficSet* set = traffic_sets;
    while (set->name != nullptr && std::strcmp(set->name, name) != 0) {
        ++set;
    }
    return set->twins;
}

Schedule schedule(const TrafficSettings& settings, std::size_t traffic) {
    return make_schedule(traffic, settings.num_threads, settings.serial_cutoff, {{}, true, settings.stream_threshold});
}

// Calls move(first element, elements) for parts of n elements, by threads if the bytes pay for them.
template <class Move>
void share_out(ThreadPool& pool, const Schedule& s, const void* aligned, std::size_t n, int in_bits, int out_bits,
               const Move& move) {
    struct Job {
        const Move& move;
        Partition partition;
    } job = {move, s.threads == 1 ? Partition{n, 0, n, 1} : partition_lines(aligned, n, in_bits, out_bits, s.threads)};
    pool.run(
        [](void* opaque, std::size_t chunk, std::size_t) {
            const auto& j = *static_cast<const Job*>(opaque);
            const FloatEnvironment pinned;
            const std::size_t begin = j.partition.begin(chunk);
            j.move(begin, j.partition.begin(chunk + 1) - begin);
        },
        &job, job.partition.chunks, s.threads, s.worth_waking);
}

void move_both(ThreadPool& pool, const TrafficSettings& settings, Kernel twin, const void* in, int in_bits, void* out,
               int out_bits, std::size_t n) {
    const Schedule s = schedule(settings, bytes_for(n, in_bits) + bytes_for(n, out_bits));
    share_out(pool, s, out, n, in_bits, out_bits, [&](std::size_t begin, std::size_t count) {
        KernelArgs part{};
        part.non_temporal = s.is_far;
        part.prefetch_distance = s.prefetch_distance;
        part.in = static_cast<const char*>(in) + bytes_for(begin, in_bits);
        part.out = static_cast<char*>(out) + bytes_for(begin, out_bits);
        part.n = count;
        twin(part);
        if (part.non_temporal) {
            drain_stores();
        }
    });
}

void read_only(ThreadPool& pool, const TrafficSettings& settings, MinMaxKernel read, const void* in,
               std::size_t bytes) {
    share_out(pool, schedule(settings, bytes), in, bytes, 8, 8,
              [&](std::size_t begin, std::size_t count) { (void)read(static_cast<const char*>(in) + begin, count); });
}

}  // namespace

piquant_status_t move_traffic(ThreadPool& pool, const TrafficSettings& settings, const char* isa, const void* in,
                              int in_dtype, void* out, int out_dtype, std::size_t n, int reduce_op) {
    const bool from_float = is_float_dtype(in_dtype);
    if (!from_float && !is_code_dtype(in_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    if (from_float ? !is_code_dtype(out_dtype) : !is_float_dtype(out_dtype)) {
        return from_float ? PIQUANT_ERROR_CODE_DTYPE : PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (reduce_op != PIQUANT_SET && reduce_op != PIQUANT_ADD) {
        return PIQUANT_ERROR_REDUCE_OP;
    }
    if (settings.num_threads == 0 || settings.num_threads > PIQUANT_MAX_THREADS) {
        return PIQUANT_ERROR_NUM_THREADS;
    }
    const TrafficTable* table = table_of(isa);
    if (table == nullptr) {
        return PIQUANT_ERROR_ISA;
    }
    const auto from = static_cast<DType>(in_dtype);
    const auto to = static_cast<DType>(out_dtype);
    const piquant_status_t status = n == 0           ? PIQUANT_OK
                                    : out == nullptr ? check_array(in, from, n)
                                                     : check_arrays(in, from, out, to, n, false);
    if (status != PIQUANT_OK || n == 0) {
        return status;
    }
    const int in_bits = info(from).bits;
    const int out_bits = info(to).bits;
    if (out == nullptr) {
        read_only(pool, settings, table->read, in, bytes_for(n, in_bits));
    } else {
        const int reduce = from_float ? PIQUANT_SET : reduce_op;
        const Kernel twin = table->convert[width_index(in_bits)][width_index(out_bits)][reduce];
        move_both(pool, settings, twin, in, in_bits, out, out_bits, n);
    }
    return PIQUANT_OK;
}

}  // namespace piquant::benchmark
