// extern "C" over the context. Exceptions stop here.
#include <piquant/quant.h>

#include "core/types.hpp"
#include "dispatch/dispatch.hpp"
#include "engine/context.hpp"
#include "engine/memory.hpp"
#include "engine/validate.hpp"

using piquant::BlockCall;
using piquant::BlockOperation;
using piquant::Context;
using piquant::Operation;

namespace piquant {
PIQUANT_RUNS_BEFORE_THE_CHECK;
}

static_assert(static_cast<int>(piquant::DType::float16) == PIQUANT_FLOAT16);
static_assert(static_cast<int>(piquant::DType::int2) == PIQUANT_INT2);
static_assert(static_cast<int>(piquant::DType::uint64) == PIQUANT_UINT64);
static_assert(static_cast<int>(piquant::DType::int2_unpacked) == PIQUANT_INT2_UNPACKED);
static_assert(piquant::dtype_count == PIQUANT_UINT4_UNPACKED + 1);

namespace {

// Runs f on the context, counted among its users for as long.
template <class F>
piquant_status_t with(piquant_context_t* handle, F f) {
    auto* context = reinterpret_cast<Context*>(handle);
    if (context == nullptr) {
        return PIQUANT_ERROR_CONTEXT;
    }
    context->users().fetch_add(1, std::memory_order_acquire);
    piquant_status_t status;
    try {
        status = f(*context);
    } catch (...) {
        status = PIQUANT_ERROR_MEMORY;  // nothing but allocation throws
    }
    context->users().fetch_sub(1, std::memory_order_release);
    return status;
}

// `device` may be null.
piquant_status_t create(piquant_context_t** context, size_t num_threads, const piquant_device_t* device) {
    if (context == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    if (!piquant::cpu_runs_this_build()) {
        return PIQUANT_ERROR_CPU;
    }
    try {
        Context* created = nullptr;
        const piquant_status_t status = Context::create(num_threads, device, created);
        if (status == PIQUANT_OK) {
            *context = reinterpret_cast<piquant_context_t*>(created);
        }
        return status;
    } catch (...) {
        return PIQUANT_ERROR_MEMORY;
    }
}

template <class T, class F>
piquant_status_t read(const piquant_context_t* handle, T* out, F f) {
    const auto* context = reinterpret_cast<const Context*>(handle);
    if (context == nullptr) {
        return PIQUANT_ERROR_CONTEXT;
    }
    if (out == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    *out = f(*context);
    return PIQUANT_OK;
}

piquant_status_t run_blocks(piquant_context_t* handle, const BlockCall& call, size_t* bad_block) {
    size_t fault = SIZE_MAX;
    const piquant_status_t status = with(handle, [&](Context& c) { return c.run_blocks(call, fault); });
    if (status != PIQUANT_OK && fault != SIZE_MAX && bad_block != nullptr) {
        *bad_block = fault;
    }
    return status;
}

bool is_dtype(piquant_dtype_t dtype) {
    return piquant::is_float_dtype(static_cast<int>(dtype)) || piquant::is_code_dtype(static_cast<int>(dtype));
}

}  // namespace

extern "C" {

const char* piquant_status_string(piquant_status_t status) {
    switch (status) {
        case PIQUANT_OK: return "success";
        case PIQUANT_ERROR_CONTEXT: return "the context is NULL";
        case PIQUANT_ERROR_BUSY: return "the context is in use by another thread";
        case PIQUANT_ERROR_NULL: return "a pointer is NULL although there is something to read or write";
        case PIQUANT_ERROR_FLOAT_DTYPE: return "the floating-point dtype must be float16, bfloat16, float32 or float64";
        case PIQUANT_ERROR_CODE_DTYPE:
            return "the quantized dtype must be an integer dtype of 2, 4, 8, 16, 32 or 64 bits";
        case PIQUANT_ERROR_LENGTH: return "the array does not fit the address space";
        case PIQUANT_ERROR_OVERLAP: return "input and output overlap";
        case PIQUANT_ERROR_SHAPE: return "rank must be at most PIQUANT_MAX_RANK, and n the product of the shape";
        case PIQUANT_ERROR_STRIDES: return "no two elements of the output may share bytes";
        case PIQUANT_ERROR_SCALE:
            return "scale must be finite and positive, normal in the compute type, and have a finite reciprocal there";
        case PIQUANT_ERROR_ZERO_POINT: return "zero_point must lie in the range of the quantized dtype";
        case PIQUANT_ERROR_QUANT_RANGE:
            return "quant_min must be less than quant_max, both in the range of the quantized dtype";
        case PIQUANT_ERROR_SYMMETRIC_RANGE:
            return "quant_min and quant_max must lie on both sides of the symmetric zero point, 0 or 2^(bits-1)";
        case PIQUANT_ERROR_ROUND_MODE: return "round_mode must be PIQUANT_NEAREST or PIQUANT_STOCHASTIC";
        case PIQUANT_ERROR_REDUCE_OP: return "reduce_op must be PIQUANT_SET or PIQUANT_ADD";
        case PIQUANT_ERROR_OPTIONS:
            return "options.struct_size must be at least sizeof(piquant_options_t) of the first version, "
                   "bytes beyond this version's zero, and options.threads whole";
        case PIQUANT_ERROR_EMPTY: return "there is no data to compute parameters from";
        case PIQUANT_ERROR_NOT_FINITE: return "the data holds NaN or infinity";
        case PIQUANT_ERROR_DATA_RANGE: return "the data spans more than one scale can cover";
        case PIQUANT_ERROR_NUM_THREADS: return "num_threads must be at most PIQUANT_MAX_THREADS";
        case PIQUANT_ERROR_ISA: return "no such instruction set on this CPU";
        case PIQUANT_ERROR_ENVIRONMENT:
            return "an environment variable is invalid: PIQUANT_NUM_THREADS takes 1 to 1024, PIQUANT_ISA one of "
                   "scalar, "
                   "sse42, avx2, avx512, neon, PIQUANT_SERIAL_CUTOFF and PIQUANT_STREAM_THRESHOLD take bytes";
        case PIQUANT_ERROR_MEMORY: return "out of memory";
        case PIQUANT_ERROR_CPU:
            return "this CPU lacks instructions that the library was compiled for; build it without -march and -m "
                   "flags";
        case PIQUANT_ERROR_BLOCKS:
            return "blocks must be there, with struct_size at least sizeof(piquant_blocks_t), a rank of 1 to "
                   "PIQUANT_MAX_BLOCK_RANK, a shape, and block sizes of at least 1";
        case PIQUANT_ERROR_PARAM_DTYPE:
            return "scale_dtype must be a floating-point dtype, zero_point_dtype an integer dtype of 8 bits or more, "
                   "and "
                   "of as many as hold all codes where zero points are computed";
        case PIQUANT_ERROR_DEVICE: return "the device lacks its function, or did not carry out the call";
    }
    return "unknown status";
}

const char* piquant_version(void) {
    return PIQUANT_VERSION;
}

const char* piquant_dtype_name(piquant_dtype_t dtype) {
    return is_dtype(dtype) ? piquant::info(static_cast<piquant::DType>(dtype)).name : nullptr;
}

int piquant_dtype_bits(piquant_dtype_t dtype) {
    return is_dtype(dtype) ? piquant::info(static_cast<piquant::DType>(dtype)).bits : 0;
}

size_t piquant_size(piquant_dtype_t dtype, size_t n) {
    if (!is_dtype(dtype)) {
        return 0;
    }
    const piquant::Format format = piquant::info(static_cast<piquant::DType>(dtype)).format;
    return n > SIZE_MAX / format.bytes ? SIZE_MAX : piquant::bytes_for(n, format);
}

piquant_status_t piquant_dtype_range(piquant_dtype_t dtype, int64_t* lowest, int64_t* highest) {
    if (lowest == nullptr || highest == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    if (!piquant::is_code_dtype(static_cast<int>(dtype))) {
        return PIQUANT_ERROR_CODE_DTYPE;
    }
    const piquant::DTypeInfo& type = piquant::info(static_cast<piquant::DType>(dtype));
    *lowest = static_cast<int64_t>(piquant::code_min(type.bits, type.is_signed));
    *highest = static_cast<int64_t>(piquant::code_max(type.bits, type.is_signed));
    return PIQUANT_OK;
}

piquant_status_t piquant_check(piquant_dtype_t float_dtype, piquant_dtype_t code_dtype, double scale,
                               int64_t zero_point, const piquant_options_t* options) {
    return piquant::check_arguments(float_dtype, code_dtype, scale, zero_point, options);
}

piquant_status_t piquant_context_create(piquant_context_t** context, size_t num_threads) {
    return create(context, num_threads, nullptr);
}

piquant_status_t piquant_context_create_on_device(piquant_context_t** context, const piquant_device_t* device) {
    return device == nullptr ? PIQUANT_ERROR_NULL : create(context, 1, device);
}

piquant_status_t piquant_context_destroy(piquant_context_t* context) {
    auto* c = reinterpret_cast<Context*>(context);
    if (c != nullptr && c->users().load(std::memory_order_acquire) != 0) {
        return PIQUANT_ERROR_BUSY;
    }
    delete c;
    return PIQUANT_OK;
}

piquant_status_t piquant_context_set_num_threads(piquant_context_t* context, size_t num_threads) {
    return with(context, [=](Context& c) { return c.set_num_threads(num_threads); });
}
piquant_status_t piquant_context_get_num_threads(const piquant_context_t* context, size_t* num_threads) {
    return read(context, num_threads, [](const Context& c) { return c.num_threads(); });
}

const char* piquant_available_isa(size_t index) {
    for (size_t i = 0; i < piquant::isa_count; ++i) {
        if ((piquant::isas[i].required & ~piquant::cpu_features()) == 0 && index-- == 0) {
            return piquant::isas[i].name;
        }
    }
    return nullptr;
}
piquant_status_t piquant_context_get_isa(const piquant_context_t* context, const char** name) {
    return read(context, name, [](const Context& c) { return c.isa(); });
}
piquant_status_t piquant_context_set_isa(piquant_context_t* context, const char* name) {
    return with(context, [=](Context& c) { return c.set_isa(name); });
}

piquant_status_t piquant_context_set_serial_cutoff(piquant_context_t* context, size_t bytes) {
    return with(context, [=](Context& c) { return c.serial_cutoff = bytes, PIQUANT_OK; });
}
piquant_status_t piquant_context_get_serial_cutoff(const piquant_context_t* context, size_t* bytes) {
    return read(context, bytes, [](const Context& c) { return c.serial_cutoff.load(); });
}
piquant_status_t piquant_context_set_stream_threshold(piquant_context_t* context, size_t bytes) {
    return with(context, [=](Context& c) { return c.set_stream_threshold(bytes), PIQUANT_OK; });
}
piquant_status_t piquant_context_get_stream_threshold(const piquant_context_t* context, size_t* bytes) {
    return read(context, bytes, [](const Context& c) { return c.stream_threshold(); });
}

piquant_status_t piquant_quantize(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype, void* out,
                                  piquant_dtype_t out_dtype, size_t n, double scale, int64_t zero_point,
                                  const piquant_options_t* options) {
    return with(context, [=](Context& c) {
        return c.transform({Operation::quantize, in, out, in_dtype, out_dtype, n, scale, zero_point, options});
    });
}

piquant_status_t piquant_dequantize(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype, void* out,
                                    piquant_dtype_t out_dtype, size_t n, double scale, int64_t zero_point,
                                    const piquant_options_t* options) {
    return with(context, [=](Context& c) {
        return c.transform({Operation::dequantize, in, out, out_dtype, in_dtype, n, scale, zero_point, options});
    });
}

piquant_status_t piquant_quantize_dequantize(piquant_context_t* context, const void* in, void* out,
                                             piquant_dtype_t dtype, piquant_dtype_t code_dtype, size_t n, double scale,
                                             int64_t zero_point, const piquant_options_t* options) {
    return with(context, [=](Context& c) {
        return c.transform({Operation::quantize_dequantize, in, out, dtype, code_dtype, n, scale, zero_point, options});
    });
}

piquant_status_t piquant_compute_quant_params(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                              piquant_dtype_t code_dtype, size_t n, const piquant_options_t* options,
                                              double* scale, int64_t* zero_point) {
    if (scale == nullptr || zero_point == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    return with(context, [=](Context& c) {
        return c.compute_quant_params(in, in_dtype, code_dtype, n, options, *scale, *zero_point);
    });
}

piquant_status_t piquant_quantize_blocks(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                         void* out, piquant_dtype_t out_dtype, const piquant_blocks_t* blocks,
                                         const void* scale, const void* zero_point, const piquant_options_t* options,
                                         size_t* bad_block) {
    return run_blocks(context,
                      {BlockOperation::quantize, in, out, in_dtype, out_dtype, blocks, const_cast<void*>(scale),
                       const_cast<void*>(zero_point), options},
                      bad_block);
}

piquant_status_t piquant_dequantize_blocks(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                           void* out, piquant_dtype_t out_dtype, const piquant_blocks_t* blocks,
                                           const void* scale, const void* zero_point, const piquant_options_t* options,
                                           size_t* bad_block) {
    return run_blocks(context,
                      {BlockOperation::dequantize, in, out, out_dtype, in_dtype, blocks, const_cast<void*>(scale),
                       const_cast<void*>(zero_point), options},
                      bad_block);
}

piquant_status_t piquant_quantize_dequantize_blocks(piquant_context_t* context, const void* in, void* out,
                                                    piquant_dtype_t dtype, piquant_dtype_t code_dtype,
                                                    const piquant_blocks_t* blocks, const void* scale,
                                                    const void* zero_point, const piquant_options_t* options,
                                                    size_t* bad_block) {
    return run_blocks(context,
                      {BlockOperation::quantize_dequantize, in, out, dtype, code_dtype, blocks,
                       const_cast<void*>(scale), const_cast<void*>(zero_point), options},
                      bad_block);
}

piquant_status_t piquant_compute_quant_params_blocks(piquant_context_t* context, const void* in,
                                                     piquant_dtype_t in_dtype, piquant_dtype_t code_dtype,
                                                     const piquant_blocks_t* blocks, const piquant_options_t* options,
                                                     void* scale, void* zero_point, size_t* bad_block) {
    return run_blocks(
        context,
        {BlockOperation::compute_parameters, in, nullptr, in_dtype, code_dtype, blocks, scale, zero_point, options},
        bad_block);
}

piquant_status_t piquant_quantize_dynamic(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                          void* out, piquant_dtype_t out_dtype, const piquant_blocks_t* blocks,
                                          const piquant_options_t* options, void* scale, void* zero_point,
                                          size_t* bad_block) {
    return run_blocks(
        context, {BlockOperation::quantize_dynamic, in, out, in_dtype, out_dtype, blocks, scale, zero_point, options},
        bad_block);
}

void piquant_prepare_output(void* memory, size_t bytes) {
    piquant::prepare_output(memory, bytes);
}

}  // extern "C"
