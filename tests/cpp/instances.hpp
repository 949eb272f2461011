// The kernels as data: one entry for every place of KernelTable that a kernel can stand in.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace piquant {

// KernelTable is a name, the CPU that it needs, and from there on function pointers: a place is the number of a
// pointer.
static_assert(offsetof(KernelTable, quantize) == sizeof(KernelTable::name) + sizeof(KernelTable::required) &&
              sizeof(KernelTable) % sizeof(void*) == 0 && sizeof(Kernel) == sizeof(void*) &&
              sizeof(MinMaxKernel) == sizeof(void*));
constexpr size_t first_place = offsetof(KernelTable, quantize) / sizeof(void*);
constexpr size_t place_count = sizeof(KernelTable) / sizeof(void*);

enum class Shape { transform, extent, bytes };  // Kernel; MinMaxKernel; MinMaxKernel with n in bytes

struct Instance {
    size_t place;
    Shape shape;
    std::string name;
    DType from;
    DType to;
    DType real;
    DType code;
    bool adds;      // reads its output
    bool computes;  // has a result, unlike the traffic twins

    int in_bits() const { return shape == Shape::bytes ? 8 : info(from).bits; }
    int out_bits() const { return shape == Shape::transform ? info(to).bits : 8; }
};

template <class K>
K kernel_at(const KernelTable& table, size_t place) {
    K kernel;
    std::memcpy(&kernel, reinterpret_cast<const char*>(&table) + place * sizeof kernel, sizeof kernel);
    return kernel;
}

inline bool has_kernel(const KernelTable& table, size_t place) {
    return kernel_at<Kernel>(table, place) != nullptr;
}

inline std::vector<Instance> all_instances() {
    static constexpr KernelTable t{};
    const auto place = [](const void* member) {
        return static_cast<size_t>(static_cast<const char*>(member) - reinterpret_cast<const char*>(&t)) /
               sizeof(void*);
    };
    const char* const rounds[] = {" nearest", " stochastic"};
    const char* const reduces[] = {" set", " add"};
    std::vector<Instance> found;
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<DType>(f);
        const std::string real_name = info(real).name;
        for (int q = 0; q < code_count; ++q) {
            const auto code = static_cast<DType>(float_count + q);
            const std::string code_name = info(code).name;
            const auto add = [&](const Kernel* member, const std::string& name, DType from, DType to, bool adds,
                                 bool computes) {
                found.push_back({place(member), Shape::transform, name, from, to, real, code, adds, computes});
            };
            for (int m = 0; m < 2; ++m) {
                add(&t.quantize[f][q][m], real_name + " -> " + code_name + rounds[m], real, code, false, true);
                add(&t.dequantize[q][f][m], code_name + " -> " + real_name + reduces[m], code, real, m == 1, true);
                for (int o = 0; o < 2; ++o) {
                    add(&t.requantize[f][q][m][o], real_name + " via " + code_name + rounds[m] + reduces[o], real, real,
                        o == 1, true);
                }
                // One twin serves all types of its widths; signed codes and float16 would only repeat it.
                if (!info(code).is_signed && real != DType::float16) {
                    const int r = width_index(info(real).bits);
                    const int c = width_index(info(code).bits);
                    add(&t.traffic[c][r][m], "traffic of " + code_name + " -> " + real_name + reduces[m], code, real,
                        m == 1, false);
                    if (m == 0) {
                        add(&t.traffic[r][c][m], "traffic of " + real_name + " -> " + code_name, real, code, false,
                            false);
                    }
                }
            }
        }
        found.push_back(
            {place(&t.minmax[f]), Shape::extent, "minmax of " + real_name, real, real, real, real, false, true});
    }
    found.push_back({place(&t.read_traffic), Shape::bytes, "traffic of minmax", DType::uint8, DType::uint8,
                     DType::float32, DType::uint8, false, false});
    return found;
}

}  // namespace piquant
