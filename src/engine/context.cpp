#include "engine/context.hpp"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "dispatch/dispatch.hpp"
#include "cpu/caches.hpp"
#include "cpu/usable_cpus.hpp"
#include "engine/memory.hpp"
#include "engine/partition.hpp"
#include "engine/validate.hpp"
#include "cpu/float_environment.hpp"

namespace piquant {
namespace {

// Where one thread and two break even if the second is awake, measured: at 80 to 160 KiB, depending on the types, where
// both CPUs share a last-level cache, and at 0.5 to 1 MiB where they do not.
constexpr size_t default_serial_cutoff = size_t{256} << 10;

// If it sleeps, they do at 2 to 4 MiB: 8 times the cut-off. To wake it costs the caller 7 to 16 us on a virtual
// machine, and it comes 16 to 90 us after.
constexpr size_t cutoffs_per_sleeper = 8;

// How far ahead what no near cache holds is prefetched, from memory (which a call at the stream threshold is taken to
// work in) and from the last-level cache, and the share of a thread from which on that pays; measured. Prefetchers of
// the hardware follow addresses to the end of their 4 KiB and start over in the next page; two pages ahead, memory is
// under way before they come to it.
constexpr size_t memory_ahead = 8192;
constexpr size_t cache_ahead = 2048;
constexpr size_t far_share = size_t{1} << 20;

// Value of an environment variable of digits; false if it is set to anything else.
bool read_environment(const char* name, size_t lowest, size_t highest, size_t& value) {
    const char* text = getenv(name);
    if (text == nullptr || *text == 0) {
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

// What PIQUANT_NUM_THREADS says, or what this process may use; 0 if the variable is invalid.
size_t default_num_threads() {
    size_t threads = 0;
    if (!read_environment("PIQUANT_NUM_THREADS", 1, PIQUANT_MAX_THREADS, threads)) {
        return 0;
    }
    return threads != 0 ? threads : std::min<size_t>(usable_cpus(), PIQUANT_MAX_THREADS);
}

}  // namespace

piquant_status_t Context::create(size_t num_threads, Context*& context) {
    std::unique_ptr<Context> c(new Context);
    if (const piquant_status_t status = c->set_num_threads(num_threads); status != PIQUANT_OK) {
        return status;
    }
    const char* limit = getenv("PIQUANT_ISA");
    const size_t isa = select_isa(cpu_features(), limit != nullptr && *limit != 0 ? limit : nullptr);
    size_t cutoff = default_serial_cutoff;
    size_t threshold = last_level_cache_bytes();
    if (isa == isa_count || !read_environment("PIQUANT_SERIAL_CUTOFF", 0, SIZE_MAX, cutoff) ||
        !read_environment("PIQUANT_STREAM_THRESHOLD", 0, SIZE_MAX, threshold)) {
        return PIQUANT_ERROR_ENVIRONMENT;
    }
    c->table_ = isas[isa].table;
    c->serial_cutoff = cutoff;
    c->stream_threshold = threshold;
    context = c.release();
    return PIQUANT_OK;
}

piquant_status_t Context::set_num_threads(size_t n) {
    if (n > PIQUANT_MAX_THREADS) {
        return PIQUANT_ERROR_NUM_THREADS;
    }
    const size_t threads = n != 0 ? n : default_num_threads();
    if (threads == 0) {
        return PIQUANT_ERROR_ENVIRONMENT;
    }
    num_threads_.store(threads, std::memory_order_relaxed);
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

piquant_status_t Context::transform(Operation operation, const void* in, void* out, int real_dtype, int code_dtype,
                                    size_t n, double scale, int64_t zero_point, const piquant_options_t* options) {
    if (!is_float_dtype(real_dtype)) {
        return PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (!is_code_dtype(code_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    const auto real = static_cast<DType>(real_dtype);
    const auto code = static_cast<DType>(code_dtype);
    const DType from = operation == Operation::dequantize ? code : real;
    const DType to = operation == Operation::quantize ? code : real;
    const FloatEnvironment pinned;
    CallOptions o;
    KernelArgs args{};
    piquant_status_t status = read_options(options, code, o);
    status = status != PIQUANT_OK ? status : read_scale(scale, zero_point, real, code, args);
    status = status != PIQUANT_OK ? status : check_arrays(in, from, out, to, n);
    if (status != PIQUANT_OK || n == 0) {
        return status;
    }
    args.in = in;
    args.out = out;
    args.n = n;
    args.quant_min = o.quant_min;
    args.quant_max = o.quant_max;
    args.seed = o.seed;
    args.offset = o.offset;

    args.is_signed = info(code).is_signed;
    const KernelTable& table = *table_.load(std::memory_order_relaxed);
    const Kernel kernel = find_kernel(table, operation, real, code, o.round, o.reduce);
    execute(kernel, args, info(from).bits, info(to).bits);
    return PIQUANT_OK;
}

size_t Context::threads_for(size_t traffic) const {
    return traffic < serial_cutoff.load(std::memory_order_relaxed) ? 1 : num_threads();
}

size_t Context::worth_waking(size_t traffic) const {
    const size_t cutoff = serial_cutoff.load(std::memory_order_relaxed);
    return cutoff == 0 ? SIZE_MAX : traffic / cutoffs_per_sleeper / cutoff;
}

void Context::execute(Kernel kernel, KernelArgs& args, int in_bits, int out_bits) {
    const size_t traffic = bytes_for(args.n, in_bits) + bytes_for(args.n, out_bits);
    args.non_temporal = traffic >= stream_threshold.load(std::memory_order_relaxed);
    const size_t threads = threads_for(traffic);
    args.prefetch_distance = args.non_temporal ? memory_ahead : traffic / threads >= far_share ? cache_ahead : 0;
    if (threads == 1) {
        kernel(args);
        return;
    }
    struct Job {
        Kernel kernel;
        const KernelArgs& args;
        Partition partition;
        int in_bits;
        int out_bits;
    } job = {kernel, args, partition_lines(args.out, args.n, in_bits, out_bits, threads), in_bits, out_bits};
    pool_.run(
        [](void* opaque, size_t chunk, size_t) {
            const auto& j = *static_cast<const Job*>(opaque);
            const FloatEnvironment pinned;
            const size_t begin = j.partition.begin(chunk);
            KernelArgs part = j.args;
            part.in = static_cast<const char*>(part.in) + bytes_for(begin, j.in_bits);
            part.out = static_cast<char*>(part.out) + bytes_for(begin, j.out_bits);
            part.n = j.partition.begin(chunk + 1) - begin;
            part.offset += begin;
            j.kernel(part);
        },
        &job, job.partition.chunks, threads, worth_waking(traffic));
}

Extent Context::reduce(MinMaxKernel kernel, const void* in, int bits, size_t n) {
    const size_t traffic = bytes_for(n, bits);
    const size_t threads = threads_for(traffic);
    if (threads == 1) {
        return kernel(in, n);
    }
    struct Job {
        MinMaxKernel kernel;
        const char* in;
        Partition partition;
        int bits;
        Extent found[PIQUANT_MAX_THREADS];  // by participant
    } job;
    job.kernel = kernel;
    job.in = static_cast<const char*>(in);
    job.partition = partition_lines(in, n, bits, bits, threads);
    job.bits = bits;
    std::fill_n(job.found, threads, Extent{0, 0, false});
    pool_.run(
        [](void* opaque, size_t chunk, size_t participant) {
            auto& j = *static_cast<Job*>(opaque);
            const FloatEnvironment pinned;
            const size_t begin = j.partition.begin(chunk);
            const size_t count = j.partition.begin(chunk + 1) - begin;
            j.found[participant] = merge(j.found[participant], j.kernel(j.in + bytes_for(begin, j.bits), count));
        },
        &job, job.partition.chunks, threads, worth_waking(traffic));
    return std::accumulate(job.found + 1, job.found + threads, job.found[0], merge);
}

piquant_status_t Context::compute_quant_params(const void* in, int in_dtype, int code_dtype, size_t n,
                                               const piquant_options_t* options, double& scale, int64_t& zero_point) {
    if (!is_float_dtype(in_dtype)) {
        return PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (!is_code_dtype(code_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    const auto real = static_cast<DType>(in_dtype);
    const auto code = static_cast<DType>(code_dtype);
    CallOptions o;
    if (const piquant_status_t status = read_options(options, code, o); status != PIQUANT_OK) {
        return status;
    }
    if (n == 0) {
        return PIQUANT_ERROR_EMPTY;
    }
    if (const piquant_status_t status = check_array(in, real, n); status != PIQUANT_OK) {
        return status;
    }
    const FloatEnvironment pinned;
    const MinMaxKernel kernel = table_.load(std::memory_order_relaxed)->minmax[float_index(real)];
    return parameters_from(reduce(kernel, in, info(real).bits, n), real, code, o, scale, zero_point);
}

}  // namespace piquant
