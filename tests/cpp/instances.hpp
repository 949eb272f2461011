// The kernels as data: the conversions that there are, by element types, and the slot of the tables where the kernel of
// each stands. Several share one, as whether codes are signed is data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/table.hpp"
#include "kernels/traffic_table.hpp"

namespace piquant {

// Slots: the functions of both tables, in a row.
constexpr size_t quantize_slots = sizeof(QuantizeKernels) / sizeof(Kernel);
constexpr size_t dequantize_slots = sizeof(DequantizeKernels) / sizeof(Kernel);
constexpr size_t quantize_dequantize_slots = sizeof(QuantizeDequantizeKernels) / sizeof(Kernel);
constexpr size_t minmax_slots = sizeof(MinMaxKernels) / sizeof(MinMaxKernel);
constexpr size_t library_slots = quantize_slots + dequantize_slots + quantize_dequantize_slots + minmax_slots;
constexpr size_t traffic_slots = sizeof(TrafficTable) / sizeof(Kernel);
constexpr size_t slot_count = library_slots + traffic_slots;
// A fifth member of the table shows here.
static_assert(sizeof(KernelTable) == sizeof(char*) + sizeof(uint64_t) + 6 * sizeof(void*));
static_assert(sizeof(Kernel) == sizeof(MinMaxKernel));

// By slot; null where a set has none, which goes for twins alone. Some are MinMaxKernels in disguise.
inline std::vector<Kernel> all_kernels(const KernelTable& t, const TrafficTable* traffic) {
    std::vector<Kernel> found(slot_count);
    Kernel* next = found.data();
    const auto append = [&](const void* kernels, size_t slots) {
        if (kernels != nullptr) {
            std::memcpy(next, kernels, slots * sizeof(Kernel));
        }
        next += slots;
    };
    append(t.quantize, quantize_slots);
    append(t.dequantize, dequantize_slots);
    append(t.quantize_dequantize, quantize_dequantize_slots);
    append(t.minmax, minmax_slots);
    append(traffic, traffic_slots);
    return found;
}

enum class Shape { transform, extent, bytes };  // Kernel; MinMaxKernel; MinMaxKernel with n in bytes

struct Instance {
    size_t slot;
    Shape shape;
    std::string name;
    DType from;
    DType to;
    DType float_dtype;
    DType code_dtype;
    bool adds;      // reads its output
    bool computes;  // has a result, unlike the traffic twins

    int in_bits() const { return shape == Shape::bytes ? 8 : info(from).bits; }
    int out_bits() const { return shape == Shape::transform ? info(to).bits : 8; }
};

// Instances between one float type and one code type.
inline void append_pair(std::vector<Instance>& found, DType real, DType code) {
    const auto f = static_cast<size_t>(float_index(real));
    const auto w = static_cast<size_t>(width_index(info(code).bits));
    const auto r = static_cast<size_t>(width_index(info(real).bits));
    const auto c = static_cast<size_t>(code_width(info(code).bits));
    const std::string real_name = info(real).name;
    const std::string code_name = info(code).name;
    const char* const rounds[] = {" nearest", " stochastic"};
    const char* const reduces[] = {" set", " add"};
    const auto add = [&](size_t slot, const std::string& name, DType from, DType to, bool adds, bool computes) {
        found.push_back({slot, Shape::transform, name, from, to, real, code, adds, computes});
    };
    for (size_t m = 0; m < 2; ++m) {
        add((f * width_count + w) * 2 + m, real_name + " -> " + code_name + rounds[m], real, code, false, true);
        add(quantize_slots + (w * float_count + f) * 2 + m, code_name + " -> " + real_name + reduces[m], code, real,
            m == 1, true);
        for (size_t o = 0; o < 2; ++o) {
            add(quantize_slots + dequantize_slots + ((f * code_width_count + c) * 2 + m) * 2 + o,
                real_name + " via " + code_name + rounds[m] + reduces[o], real, real, o == 1, true);
        }
        // One twin serves all types of its widths; signed codes and float16 would only repeat it.
        if (!info(code).is_signed && real != DType::float16) {
            add(library_slots + (w * width_count + r) * 2 + m,
                "traffic of " + code_name + " -> " + real_name + reduces[m], code, real, m == 1, false);
            if (m == 0) {
                add(library_slots + (r * width_count + w) * 2, "traffic of " + real_name + " -> " + code_name, real,
                    code, false, false);
            }
        }
    }
}

inline std::vector<Instance> all_instances() {
    std::vector<Instance> found;
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<DType>(f);
        for (int q = 0; q < code_count; ++q) {
            append_pair(found, real, static_cast<DType>(float_count + q));
        }
        found.push_back({library_slots - minmax_slots + static_cast<size_t>(f), Shape::extent,
                         std::string("minmax of ") + info(real).name, real, real, real, real, false, true});
    }
    found.push_back({slot_count - 1, Shape::bytes, "traffic of minmax", DType::uint8, DType::uint8, DType::float32,
                     DType::uint8, false, false});
    return found;
}

}  // namespace piquant
