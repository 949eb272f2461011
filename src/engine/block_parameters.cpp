#include "engine/block_parameters.hpp"

#include <float.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "core/float_formats.hpp"
#include "core/parameters.hpp"
#include "core/semantics.hpp"
#include "engine/with_dtype.hpp"

namespace piquant {
namespace {

template <class Float>
auto load_scale(const void* scales, size_t i) {
    return load_element<Float>(static_cast<const unsigned char*>(scales) + i * sizeof(typename Float::storage));
}

template <class Integer>
Integer load_integer(const void* integers, size_t i) {
    Integer x;
    __builtin_memcpy(&x, static_cast<const unsigned char*>(integers) + i * sizeof x, sizeof x);
    return x;
}

// The first i below n that is bad, or n. Looks at many before it asks which one.
template <class IsBad>
size_t first_bad(size_t n, const IsBad& is_bad) {
    constexpr size_t many = 256;
    for (size_t i = 0; i < n; i += many) {
        const size_t end = std::min(n, i + many);
        unsigned any = 0;
        for (size_t k = i; k < end; ++k) {
            any |= static_cast<unsigned>(is_bad(k));
        }
        if (any != 0) {
            while (!is_bad(i)) {
                ++i;
            }
            return i;
        }
    }
    return n;
}

// Where T(scale) is a normal number, T(1 / scale) is finite, too. A NaN is not within any bounds.
template <class T>
bool is_normal(T scale) {
    return scale >= std::numeric_limits<T>::min() && scale <= std::numeric_limits<T>::max();
}

template <class Float, class T>
size_t first_bad_scale(const void* scales, size_t n) {
    if constexpr (sizeof(typename Float::storage) > sizeof(T)) {
        return first_bad(n, [&](size_t i) { return !is_normal(static_cast<T>(load_scale<Float>(scales, i))); });
    } else {
        // Patterns of positive numbers are in their order, and those of negative ones and NaNs above. A subnormal number of a
        // narrower type is none in T.
        using Pattern =
            std::conditional_t<sizeof(typename Float::storage) == 2, uint16_t,
                               std::conditional_t<sizeof(typename Float::storage) == 4, uint32_t, uint64_t>>;
        constexpr Pattern infinity = Float::dtype == DType::float16    ? 0x7c00
                                     : Float::dtype == DType::bfloat16 ? 0x7f80
                                     : Float::bits == 32               ? static_cast<Pattern>(0x7f800000)
                                                                       : static_cast<Pattern>(0x7ff0000000000000);
        constexpr Pattern smallest_normal = Float::dtype == DType::bfloat16 ? 0x0080
                                            : Float::bits == 32             ? static_cast<Pattern>(0x00800000)
                                                                            : static_cast<Pattern>(0x0010000000000000);
        constexpr bool same_exponents =
            Float::dtype == DType::bfloat16 ? sizeof(T) == 4 : sizeof(typename Float::storage) == sizeof(T);
        constexpr Pattern lowest = same_exponents ? smallest_normal : 1;
        return first_bad(n, [&](size_t i) {
            const auto above = static_cast<Pattern>(load_integer<Pattern>(scales, i) - lowest);
            return above >= static_cast<Pattern>(infinity - lowest);
        });
    }
}

// NaNs may be among them, but not many.
template <class Float, class T>
size_t first_bad_scale(const void* scales, size_t n, bool nan_scales) {
    const auto* const from = static_cast<const unsigned char*>(scales);
    for (size_t i = 0;; ++i) {
        i += first_bad_scale<Float, T>(from + i * sizeof(typename Float::storage), n - i);
        if (i == n || !nan_scales || load_scale<Float>(scales, i) == load_scale<Float>(scales, i)) {
            return i;
        }
    }
}

template <class Integer>
size_t first_bad_zero(const void* zeros, size_t n, DType code) {
    const DTypeInfo& type = info(code);
    if (type.bits == 8 * static_cast<int>(sizeof(Integer)) && type.is_signed == std::is_signed_v<Integer>) {
        return n;
    }
    const uint64_t highest = code_max(type.bits, type.is_signed);
    if constexpr (std::is_signed_v<Integer>) {
        const auto lowest = static_cast<int64_t>(code_min(type.bits, type.is_signed));
        return first_bad(n, [&](size_t i) {
            const int64_t zero = load_integer<Integer>(zeros, i);
            return zero < lowest || (zero > 0 && static_cast<uint64_t>(zero) > highest);
        });
    } else {
        return first_bad(n, [&](size_t i) { return load_integer<Integer>(zeros, i) > highest; });
    }
}

void store_zero(const BlockParameters& p, size_t block, uint64_t pattern) {
    if (p.zero_point == nullptr) {
        return;
    }
    with_integer(p.zero_dtype, [&](auto integer) {
        integer = static_cast<decltype(integer)>(pattern);
        __builtin_memcpy(static_cast<unsigned char*>(p.zero_point) + block * sizeof integer, &integer, sizeof integer);
    });
}

// The smallest number of a float dtype that is not below a positive finite scale; infinity beyond its largest.
template <class Float>
double store_scale_above(void* scales, size_t i, double scale) {
    using T = typename Float::compute;
    using Storage = typename Float::storage;
    auto narrow = static_cast<T>(scale);
    if (static_cast<double>(narrow) < scale) {
        narrow = __builtin_bit_cast(
            T, __builtin_bit_cast(std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>, narrow) + 1);
    }
    Storage stored;
    store_element<Float>(&stored, narrow);
    if constexpr (sizeof(Storage) < sizeof(T)) {
        if (load_element<Float>(&stored) < narrow) {
            ++stored;  // patterns of positive numbers are in their order
        }
    }
    __builtin_memcpy(static_cast<unsigned char*>(scales) + i * sizeof stored, &stored, sizeof stored);
    return static_cast<double>(load_element<Float>(&stored));
}

piquant_status_t find_finite_parameters(const BlockParameters& p, size_t block, const Extent& extent, DType float_type,
                                        DType code, const CallOptions& options) {
    double scale;
    int64_t zero_point;
    const piquant_status_t status = parameters_from(extent, float_type, code, options, scale, zero_point);
    if (status != PIQUANT_OK) {
        return status;
    }
    const double stored = with_float(
        p.scale_dtype, [&](auto dtype) { return store_scale_above<decltype(dtype)>(p.scale, block, scale); });
    if (!(stored <= DBL_MAX)) {
        return PIQUANT_ERROR_DATA_RANGE;
    }
    store_zero(p, block,
               options.symmetric || stored == scale
                   ? static_cast<uint64_t>(zero_point)
                   : steps_above(options.quant_min, options.quant_max, -extent.lo / stored));
    return PIQUANT_OK;
}

template <class Float, class T>
void factors_of(const void* scales, size_t first, size_t count, bool inverse, T* factors) {
    // A quotient of two float32 is the same in float64, rounded to float32: 53 >= 2 * 24 + 2 bits.
    using Quotient = std::conditional_t<std::is_same_v<typename Float::compute, double>, double, T>;
    if (!inverse) {
        for (size_t k = 0; k < count; ++k) {
            factors[k] = with_default_nan(static_cast<T>(load_scale<Float>(scales, first + k)));
        }
        return;
    }
    for (size_t k = 0; k < count; ++k) {
        factors[k] = static_cast<T>(Quotient{1} / static_cast<Quotient>(load_scale<Float>(scales, first + k)));
    }
}

}  // namespace

piquant_status_t check_parameters(const BlockParameters& p, size_t blocks, DType float_type, DType code,
                                  bool nan_scales, size_t& bad_block) {
    const bool is_wide = float_type == DType::float64;
    const size_t bad_scale = with_float(p.scale_dtype, [&](auto dtype) {
        using Float = decltype(dtype);
        return is_wide ? first_bad_scale<Float, double>(p.scale, blocks, nan_scales)
                       : first_bad_scale<Float, float>(p.scale, blocks, nan_scales);
    });
    const size_t bad_zero = p.zero_point == nullptr ? blocks : with_integer(p.zero_dtype, [&](auto integer) {
        return first_bad_zero<decltype(integer)>(p.zero_point, blocks, code);
    });
    bad_block = std::min(bad_scale, bad_zero);
    return bad_block == blocks ? PIQUANT_OK : bad_scale == bad_block ? PIQUANT_ERROR_SCALE : PIQUANT_ERROR_ZERO_POINT;
}

void prepare_factors(const BlockParameters& p, size_t first, size_t count, const PreparedFor& prepared, bool inverse,
                     void* factors) {
    with_float(p.scale_dtype, [&](auto dtype) {
        using Float = decltype(dtype);
        if (prepared.is_wide) {
            factors_of<Float>(p.scale, first, count, inverse, static_cast<double*>(factors));
        } else {
            factors_of<Float>(p.scale, first, count, inverse, static_cast<float*>(factors));
        }
    });
}

void prepare_zeros(const BlockParameters& p, size_t first, size_t count, const PreparedFor& prepared, void* zeros) {
    auto* const narrow = static_cast<uint8_t*>(zeros);
    auto* const patterns = static_cast<uint64_t*>(zeros);
    if (p.zero_point == nullptr) {
        if (prepared.is_raised) {
            std::fill_n(narrow, count, static_cast<uint8_t>(p.zero_of_all - prepared.lowest));
        } else {
            std::fill_n(patterns, count, p.zero_of_all);
        }
        return;
    }
    with_integer(p.zero_dtype, [&](auto integer) {
        using Integer = decltype(integer);
        if (!prepared.is_raised) {
            for (size_t k = 0; k < count; ++k) {  // a sign is extended where there is one
                patterns[k] = static_cast<uint64_t>(load_integer<Integer>(p.zero_point, first + k));
            }
            return;
        }
        const auto lowest = static_cast<uint8_t>(prepared.lowest);
        for (size_t k = 0; k < count; ++k) {
            narrow[k] =
                static_cast<uint8_t>(static_cast<uint8_t>(load_integer<Integer>(p.zero_point, first + k)) - lowest);
        }
    });
}

void store_zeros(const BlockParameters& p, size_t first, size_t count, const uint8_t* zeros, DType code) {
    if (p.zero_point == nullptr) {
        return;
    }
    const auto lowest = static_cast<int32_t>(code_min(info(code).bits, info(code).is_signed));
    with_integer(p.zero_dtype, [&](auto integer) {
        auto* to = static_cast<unsigned char*>(p.zero_point) + first * sizeof integer;
        for (size_t k = 0; k < count; ++k) {
            integer = static_cast<decltype(integer)>(zeros[k] + lowest);
            __builtin_memcpy(to + k * sizeof integer, &integer, sizeof integer);
        }
    });
}

piquant_status_t find_parameters(const BlockParameters& p, size_t block, const Extent& extent, DType float_type,
                                 DType code, const CallOptions& options) {
    const piquant_status_t status = find_finite_parameters(p, block, extent, float_type, code, options);
    if (!options.nan_scales || (status != PIQUANT_ERROR_NOT_FINITE && status != PIQUANT_ERROR_DATA_RANGE)) {
        return status;
    }
    with_float(p.scale_dtype, [&](auto dtype) {
        using Float = decltype(dtype);
        store_element<Float>(static_cast<unsigned char*>(p.scale) + block * sizeof(typename Float::storage),
                             std::numeric_limits<typename Float::compute>::quiet_NaN());
    });
    store_zero(p, block, 0);
    return PIQUANT_OK;
}

bool holds_codes(DType integers, DType code) {
    const DTypeInfo& outer = info(integers);
    const DTypeInfo& inner = info(code);
    return inner.is_signed ? outer.is_signed && outer.bits >= inner.bits
                           : outer.bits - (outer.is_signed ? 1 : 0) >= inner.bits;
}

}  // namespace piquant
