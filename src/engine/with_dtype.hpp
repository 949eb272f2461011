// From a dtype that is data to a type that templates take.
#pragma once

#include "core/types.hpp"

namespace piquant {

// Calls f with the tag of a float dtype.
template <class F>
auto with_float(DType dtype, F f) {
    switch (dtype) {
        case DType::float16: return f(float16{});
        case DType::bfloat16: return f(bfloat16{});
        case DType::float64: return f(float64{});
        default: return f(float32{});
    }
}

// Calls f with a number of an integer dtype of 8 bits or more.
template <class F>
auto with_integer(DType dtype, F f) {
    switch (dtype) {
        case DType::int8: return f(int8_t{});
        case DType::uint8: return f(uint8_t{});
        case DType::int16: return f(int16_t{});
        case DType::uint16: return f(uint16_t{});
        case DType::int32: return f(int32_t{});
        case DType::uint32: return f(uint32_t{});
        case DType::int64: return f(int64_t{});
        default: return f(uint64_t{});
    }
}

}  // namespace piquant
