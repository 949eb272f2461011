// What the units of this folder share. Each is compiled once per instruction set, with that set's flags and
// -DPIQUANT_ISA=<name>, and exports one symbol of its own name: its part of the table.
#pragma once

#include "kernels/panel.hpp"
#include "kernels/table.hpp"
#include "kernels/traffic_table.hpp"

// Where the kernels of this instruction set are.
#ifdef PIQUANT_SIMD_SCALAR
#define PIQUANT_KERNELS elementwise
#else
#define PIQUANT_KERNELS vectorized
#endif

namespace piquant::isa::PIQUANT_ISA {

extern const QuantizeKernels quantize;
extern const DequantizeKernels dequantize;
extern const QuantizeDequantizeKernels quantize_dequantize;
extern const MinMaxKernels minmax;
extern const RowKernels rows;
extern const PanelKernels panels;
extern const KernelTable table;     // of all these: what the library looks kernels up in
extern const TrafficTable traffic;  // apart: the library does not contain it

}  // namespace piquant::isa::PIQUANT_ISA
