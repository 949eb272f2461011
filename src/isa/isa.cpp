// Compiled once per instruction set with that set's flags and -DPIQUANT_ISA=<name>; exports one symbol, the table.
// The list of instances is the expansion of the two type lists in core/types.hpp.
#include "cpu/features.hpp"
#include "kernels/table.hpp"

#ifdef PIQUANT_SIMD_SCALAR
#include "kernels/elementwise.hpp"
#define PIQUANT_KERNELS elementwise
#else
#include "kernels/dequantize.hpp"
#include "kernels/minmax.hpp"
#include "kernels/quantize.hpp"
#include "kernels/requantize.hpp"
#include "kernels/traffic.hpp"
#define PIQUANT_KERNELS vectorized
#endif

#define PIQUANT_STRING2(x) #x
#define PIQUANT_STRING(x) PIQUANT_STRING2(x)

namespace piquant {
namespace {

template <class... T>
struct TypeList {};

#define X(name, ...) , name
template <class Ignored, class... T>
TypeList<T...> tail(TypeList<Ignored, T...>);
using Floats = decltype(tail(TypeList<void PIQUANT_FLOAT_TYPES(X)>{}));
using Codes = decltype(tail(TypeList<void PIQUANT_CODE_TYPES(X)>{}));
#undef X

template <class F, class Q>
constexpr void fill_pair(KernelTable& t) {
    constexpr int f = float_index(F::dtype);
    constexpr int q = code_index(Q::dtype);
    t.quantize[f][q][0] = PIQUANT_KERNELS::quantize<F, Q, Round::nearest>;
    t.quantize[f][q][1] = PIQUANT_KERNELS::quantize<F, Q, Round::stochastic>;
    t.dequantize[q][f][0] = PIQUANT_KERNELS::dequantize<Q, F, Reduce::set>;
    t.dequantize[q][f][1] = PIQUANT_KERNELS::dequantize<Q, F, Reduce::add>;
    t.requantize[f][q][0][0] = PIQUANT_KERNELS::requantize<F, Q, Round::nearest, Reduce::set>;
    t.requantize[f][q][0][1] = PIQUANT_KERNELS::requantize<F, Q, Round::nearest, Reduce::add>;
    t.requantize[f][q][1][0] = PIQUANT_KERNELS::requantize<F, Q, Round::stochastic, Reduce::set>;
    t.requantize[f][q][1][1] = PIQUANT_KERNELS::requantize<F, Q, Round::stochastic, Reduce::add>;
}

template <class F, class... Q>
constexpr void fill_float(KernelTable& t, TypeList<Q...>) {
    (fill_pair<F, Q>(t), ...);
    t.minmax[float_index(F::dtype)] = PIQUANT_KERNELS::minmax<F>;
}

#ifndef PIQUANT_SIMD_SCALAR
template <int Real, int Code>
constexpr void fill_twins(KernelTable& t) {
    constexpr int real = width_index(Real);
    constexpr int code = width_index(Code);
    t.traffic[real][code][0] = PIQUANT_KERNELS::traffic<Real, Code, Reduce::set>;
    t.traffic[code][real][0] = PIQUANT_KERNELS::traffic<Code, Real, Reduce::set>;
    t.traffic[code][real][1] = PIQUANT_KERNELS::traffic<Code, Real, Reduce::add>;
}

template <int Real>
constexpr void fill_traffic(KernelTable& t) {
    fill_twins<Real, 2>(t);
    fill_twins<Real, 4>(t);
    fill_twins<Real, 8>(t);
    fill_twins<Real, 16>(t);
    fill_twins<Real, 32>(t);
    fill_twins<Real, 64>(t);
}
#endif

template <class... F>
constexpr KernelTable make_table(TypeList<F...>) {
    KernelTable t{};
    t.name = PIQUANT_STRING(PIQUANT_ISA);
    t.required = compiled_features();
    (fill_float<F>(t, Codes{}), ...);
#ifndef PIQUANT_SIMD_SCALAR
    fill_traffic<16>(t);
    fill_traffic<32>(t);
    fill_traffic<64>(t);
    t.read_traffic = PIQUANT_KERNELS::read_traffic;
#endif
    return t;
}

}  // namespace

namespace isa {
extern const KernelTable PIQUANT_ISA;
constinit const KernelTable PIQUANT_ISA = make_table(Floats{});
}  // namespace isa

}  // namespace piquant
