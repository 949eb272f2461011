#include "engine/validate.hpp"

#include <float.h>
#include <stddef.h>

#include <algorithm>

#include "core/parameters.hpp"

namespace piquant {
namespace {

bool within(uint64_t code, const DTypeInfo& type) {
    return !code_less(code, code_min(type.bits, type.is_signed), type.is_signed) &&
           !code_less(code_max(type.bits, type.is_signed), code, type.is_signed);
}

// int64_t as given by the caller -> pattern. Small unsigned types reject negative values through the signed compare;
// uint64 takes every pattern.
PIQUANT_INLINE bool read_code(int64_t given, const DTypeInfo& type, uint64_t& code) {
    code = static_cast<uint64_t>(given);
    return type.bits == 64 || (given >= 0 || type.is_signed ? within(code, type) : false);
}

bool is_whole(const piquant_threads_t& threads) {
    return threads.struct_size >= sizeof threads && threads.count != nullptr && threads.run != nullptr;
}

}  // namespace

// No version's struct is as large as `most`: such a size was never written, and what lies behind it is not ours to read.
bool is_readable(const void* given, size_t struct_size, size_t first, size_t known) {
    constexpr size_t most = 4096;
    if (struct_size < first || struct_size > most) {
        return false;
    }
    const auto* bytes = static_cast<const unsigned char*>(given);
    return std::all_of(bytes + std::min(known, struct_size), bytes + struct_size,
                       [](unsigned char b) { return b == 0; });
}

bool is_float_dtype(int dtype) {
    return dtype >= 0 && dtype < float_count;
}

bool is_code_dtype(int dtype) {
    return dtype >= float_count && dtype < dtype_count;
}

piquant_status_t read_options(const piquant_options_t* options, DType code, CallOptions& result) {
    const DTypeInfo& type = info(code);
    result = {Round::nearest,
              Reduce::set,
              code_min(type.bits, type.is_signed),
              code_max(type.bits, type.is_signed),
              0,
              0,
              false,
              false,
              nullptr};
    if (options == nullptr) {
        return PIQUANT_OK;
    }
    constexpr size_t first = offsetof(piquant_options_t, nan_scales);
    if (!is_readable(options, options->struct_size, first, sizeof *options) ||
        (options->threads != nullptr && !is_whole(*options->threads))) {
        return PIQUANT_ERROR_OPTIONS;
    }
    const int round = static_cast<int>(options->round_mode);
    const int reduce = static_cast<int>(options->reduce_op);
    if (round != PIQUANT_NEAREST && round != PIQUANT_STOCHASTIC) {
        return PIQUANT_ERROR_ROUND_MODE;
    }
    if (reduce != PIQUANT_SET && reduce != PIQUANT_ADD) {
        return PIQUANT_ERROR_REDUCE_OP;
    }
    if ((options->has_quant_min != 0 && !read_code(options->quant_min, type, result.quant_min)) ||
        (options->has_quant_max != 0 && !read_code(options->quant_max, type, result.quant_max)) ||
        !code_less(result.quant_min, result.quant_max, type.is_signed)) {
        return PIQUANT_ERROR_QUANT_RANGE;
    }
    result.round = static_cast<Round>(round);
    result.reduce = static_cast<Reduce>(reduce);
    result.seed = options->seed;
    result.offset = options->offset;
    result.symmetric = options->symmetric != 0;
    result.nan_scales = options->struct_size >= sizeof *options && options->nan_scales != 0;
    result.threads = options->threads;
    return PIQUANT_OK;
}

piquant_status_t check_array(const void* p, DType dtype, size_t n) {
    if (p == nullptr) {
        return PIQUANT_ERROR_NULL;
    }
    const size_t room = UINTPTR_MAX - reinterpret_cast<uintptr_t>(p);
    return n > SIZE_MAX / 8 || bytes_for(n, info(dtype).bits) > room ? PIQUANT_ERROR_LENGTH : PIQUANT_OK;
}

piquant_status_t check_arrays(const void* in, DType in_dtype, const void* out, DType out_dtype, size_t n,
                              bool in_place) {
    if (n == 0) {
        return PIQUANT_OK;
    }
    piquant_status_t status = check_array(in, in_dtype, n);
    status = status != PIQUANT_OK ? status : check_array(out, out_dtype, n);
    if (status != PIQUANT_OK) {
        return status;
    }
    const auto a = reinterpret_cast<uintptr_t>(in);
    const auto b = reinterpret_cast<uintptr_t>(out);
    const bool overlap = a < b + bytes_for(n, info(out_dtype).bits) && b < a + bytes_for(n, info(in_dtype).bits);
    return overlap && !(in_place && a == b) ? PIQUANT_ERROR_OVERLAP : PIQUANT_OK;
}

piquant_status_t read_scale(double scale, int64_t zero_point, DType real, DType code, KernelArgs& args) {
    if (!(scale > 0) || !(scale <= DBL_MAX)) {
        return PIQUANT_ERROR_SCALE;
    }
    const double inverse = 1.0 / scale;
    // Where the scale is a normal number, its inverse is finite.
    if (real == DType::float64) {
        args.scale = scale;
        args.inverse = inverse;
        if (scale < DBL_MIN) {
            return PIQUANT_ERROR_SCALE;
        }
    } else {
        const float narrow_scale = static_cast<float>(scale);
        if (narrow_scale < FLT_MIN || !(narrow_scale <= FLT_MAX)) {
            return PIQUANT_ERROR_SCALE;
        }
        args.scale = static_cast<double>(narrow_scale);
        args.inverse = static_cast<double>(static_cast<float>(inverse));
    }
    return read_code(zero_point, info(code), args.zero_point) ? PIQUANT_OK : PIQUANT_ERROR_ZERO_POINT;
}

piquant_status_t parameters_from(const Extent& extent, DType real, DType code, const CallOptions& options,
                                 double& scale, int64_t& zero_point) {
    if (extent.has_nan || !(extent.lo >= -DBL_MAX) || !(extent.hi <= DBL_MAX)) {
        return PIQUANT_ERROR_NOT_FINITE;
    }
    const DTypeInfo& type = info(code);
    const bool wide = real == DType::float64;
    const uint64_t middle = symmetric_zero_point(type.bits, type.is_signed);
    const uint64_t reach = symmetric_reach(options.quant_min, options.quant_max, type.bits, type.is_signed);
    if (options.symmetric && reach == 0) {
        return PIQUANT_ERROR_SYMMETRIC_RANGE;
    }
    const QuantParams p = options.symmetric
                              ? symmetric_params(extent.lo, extent.hi, wide, middle, reach)
                              : affine_params(extent.lo, extent.hi, wide, options.quant_min, options.quant_max);
    if (!(p.scale <= DBL_MAX)) {
        return PIQUANT_ERROR_DATA_RANGE;
    }
    scale = p.scale;
    zero_point = static_cast<int64_t>(p.zero_point);
    return PIQUANT_OK;
}

}  // namespace piquant
