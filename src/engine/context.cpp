#include "engine/context.hpp"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "dispatch/dispatch.hpp"
#include "cpu/caches.hpp"
#include "cpu/stores.hpp"
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

void drain_if(bool non_temporal) {
    if (non_temporal) {
        drain_stores();
    }
}

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
    if (status != PIQUANT_OK) {
        return status;
    }
    args.quant_min = o.quant_min;
    args.quant_max = o.quant_max;
    args.seed = o.seed;
    args.offset = o.offset;
    args.is_signed = info(code).is_signed;
    const bool fused = operation == Operation::quantize_dequantize;
    const bool has_layout = options != nullptr && options->rank != 0;
    const bool unpacked = !fused && code_index(code) >= code_count;
    const KernelTable& table = *table_.load(std::memory_order_relaxed);
    const auto kernel_of = [&](DType type) { return find_kernel(table, operation, real, type, o.round, o.reduce); };
    // Codes that only pass through registers, and codes in a byte each, are those of the 8-bit type in their range.
    const DType byte_code = info(code).is_signed ? DType::int8 : DType::uint8;

    if (!has_layout && !unpacked) {
        status = check_arrays(in, from, out, to, n, fused);
        if (status == PIQUANT_OK && n != 0) {
            args.in = in;
            args.out = out;
            args.n = n;
            execute(kernel_of(code_index(code) < code_count ? code : byte_code), args, info(from).bits, info(to).bits);
        }
        return status;
    }
    if (n != 0 && (in == nullptr || out == nullptr)) {
        return PIQUANT_ERROR_NULL;
    }
    Lines lines;
    const size_t flat_shape[] = {n};
    piquant_options_t layout = PIQUANT_OPTIONS_INIT;
    layout.rank = 1;
    layout.shape = flat_shape;
    status = read_lines(has_layout ? *options : layout, n, in, from, out, to, fused, lines);
    if (status != PIQUANT_OK || n == 0) {
        return status;
    }
    const bool stochastic = o.round == Round::stochastic && operation != Operation::dequantize;
    merge_dimensions(lines, !stochastic);
    if (lines.is_flat() && !unpacked) {
        args.in = lines.in.base;
        args.out = lines.out.base;
        args.n = n;
        execute(kernel_of(code_index(code) < code_count ? code : byte_code), args, info(from).bits, info(to).bits);
        return PIQUANT_OK;
    }
    const bool adds = o.reduce == Reduce::add && operation != Operation::quantize;
    const Tiles tiles(lines, from, to, adds, stochastic);
    const bool bytes = tiles.uses_bytes() || code_index(code) >= code_count;
    execute(kernel_of(bytes ? byte_code : code), args, tiles, bytes_for(n, info(from).bits) + bytes_for(n, info(to).bits));
    return PIQUANT_OK;
}

size_t Context::threads_for(size_t traffic) const {
    return traffic < serial_cutoff.load(std::memory_order_relaxed) ? 1 : num_threads();
}

size_t Context::worth_waking(size_t traffic) const {
    const size_t cutoff = serial_cutoff.load(std::memory_order_relaxed);
    return cutoff == 0 ? SIZE_MAX : traffic / cutoffs_per_sleeper / cutoff;
}

// How many bytes ahead a call prefetches.
size_t Context::distance_ahead(bool streams, size_t traffic) const {
    return streams ? memory_ahead : traffic / threads_for(traffic) >= far_share ? cache_ahead : 0;
}

void Context::execute(Kernel kernel, KernelArgs& args, int in_bits, int out_bits) {
    const size_t traffic = bytes_for(args.n, in_bits) + bytes_for(args.n, out_bits);
    args.stream = traffic >= stream_threshold.load(std::memory_order_relaxed);
    const size_t threads = threads_for(traffic);
    args.ahead = distance_ahead(args.stream, traffic);
    if (threads == 1) {
        kernel(args);
        drain_if(args.stream);
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
            drain_if(part.stream);
        },
        &job, job.partition.chunks, threads, worth_waking(traffic));
}

void Context::execute(Kernel kernel, KernelArgs& args, const Tiles& tiles, size_t traffic) {
    // Non-temporal stores want some lines of output side by side.
    constexpr size_t shortest_run = 1024;
    const bool far = traffic >= stream_threshold.load(std::memory_order_relaxed);
    args.stream = far && tiles.direct_output() >= shortest_run;
    // What is prefetched beyond the end of a line is fetched in vain.
    constexpr size_t ends_per_line = 8;
    const size_t ahead = distance_ahead(far, traffic);
    args.ahead = std::min(ahead, tiles.direct_input() / ends_per_line / 64 * 64);
    run_tiles(tiles, traffic, [&](size_t begin, size_t end, unsigned char* scratch, size_t) {
        tiles.run(begin, end, scratch, ahead != 0, [&](const unsigned char* in, unsigned char* out, size_t n, uint64_t index) {
            KernelArgs part = args;
            part.in = in;
            part.out = out;
            part.n = n;
            part.offset += index;
            kernel(part);
        });
        drain_if(args.stream);
    });
}

// Calls work(begin, end, scratch, participant) for all tiles, in chunks, on as many threads as they are worth.
template <class Work>
void Context::run_tiles(const Tiles& tiles, size_t traffic, const Work& work) {
    constexpr size_t line = 64;
    const size_t threads = threads_for(traffic);
    struct Job {
        const Work& work;
        Partition partition;
        unsigned char* scratch;
        size_t scratch_bytes;
    };
    const std::unique_ptr<unsigned char[]> memory(new unsigned char[tiles.scratch_bytes() * threads + line]);
    auto* const scratch =
        memory.get() + (line - reinterpret_cast<uintptr_t>(memory.get()) % line) % line;
    Job job = {work, partition_tiles(tiles.count(), traffic, threads), scratch, tiles.scratch_bytes()};
    pool_.run(
        [](void* opaque, size_t chunk, size_t participant) {
            const auto& j = *static_cast<const Job*>(opaque);
            const FloatEnvironment pinned;
            j.work(j.partition.begin(chunk), j.partition.begin(chunk + 1), j.scratch + participant * j.scratch_bytes,
                   participant);
        },
        &job, job.partition.chunks, threads, worth_waking(traffic));
}

Extent Context::reduce(MinMaxKernel kernel, const Tiles& tiles, size_t traffic) {
    std::unique_ptr<Extent[]> found(new Extent[threads_for(traffic)]());
    const bool prefetches = distance_ahead(false, traffic) != 0;
    run_tiles(tiles, traffic, [&](size_t begin, size_t end, unsigned char* scratch, size_t participant) {
        tiles.run(begin, end, scratch, prefetches, [&](const unsigned char* in, unsigned char*, size_t n, uint64_t) {
            found[participant] = merge(found[participant], kernel(in, n));
        });
    });
    Extent all = found[0];
    for (size_t i = 1; i < threads_for(traffic); ++i) {
        all = merge(all, found[i]);
    }
    return all;
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
    const FloatEnvironment pinned;
    const MinMaxKernel kernel = table_.load(std::memory_order_relaxed)->minmax[float_index(real)];
    Extent extent;
    if (options == nullptr || options->rank == 0) {
        if (const piquant_status_t status = check_array(in, real, n); status != PIQUANT_OK) {
            return status;
        }
        extent = reduce(kernel, in, info(real).bits, n);
    } else {
        if (in == nullptr) {
            return PIQUANT_ERROR_NULL;
        }
        Lines lines;
        if (const piquant_status_t status = read_lines(*options, n, in, real, nullptr, real, false, lines);
            status != PIQUANT_OK) {
            return status;
        }
        merge_dimensions(lines, true);
        const Tiles tiles(lines, real, real, false, false);
        extent = lines.is_flat() ? reduce(kernel, lines.in.base, info(real).bits, lines.last().size)
                                 : reduce(kernel, tiles, bytes_for(n, info(real).bits));
    }
    return parameters_from(extent, real, code, o, scale, zero_point);
}

piquant_status_t Context::move_traffic(const void* in, int in_dtype, void* out, int out_dtype, size_t n,
                                       int reduce_op) {
    const bool in_real = is_float_dtype(in_dtype);
    if (!in_real && !is_code_dtype(in_dtype)) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    if (in_real ? !is_code_dtype(out_dtype) : !is_float_dtype(out_dtype)) {
        return in_real ? PIQUANT_ERROR_CODE_DTYPE : PIQUANT_ERROR_FLOAT_DTYPE;
    }
    if (reduce_op != PIQUANT_SET && reduce_op != PIQUANT_ADD) {
        return PIQUANT_ERROR_REDUCE_OP;
    }
    const auto from = static_cast<DType>(in_dtype);
    const auto to = static_cast<DType>(out_dtype);
    const piquant_status_t status = n == 0           ? PIQUANT_OK
                                    : out == nullptr ? check_array(in, from, n)
                                                     : check_arrays(in, from, out, to, n, false);
    if (status != PIQUANT_OK || n == 0) {
        return status;
    }
    const KernelTable& table = *table_.load(std::memory_order_relaxed);
    const int in_bits = info(from).bits;
    const int out_bits = info(to).bits;
    const Kernel twin = table.traffic[width_index(in_bits)][width_index(out_bits)][in_real ? PIQUANT_SET : reduce_op];
    if (twin == nullptr) {
        return PIQUANT_ERROR_ISA;
    }
    if (out == nullptr) {
        (void)reduce(table.read_traffic, in, 8, bytes_for(n, in_bits));
        return PIQUANT_OK;
    }
    KernelArgs args{};
    args.in = in;
    args.out = out;
    args.n = n;
    execute(twin, args, in_bits, out_bits);
    return PIQUANT_OK;
}

}  // namespace piquant
