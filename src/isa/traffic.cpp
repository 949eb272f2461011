// The traffic twins of a set with vectors. See isa/unit.hpp.
#include "kernels/traffic.hpp"

#include "isa/unit.hpp"

namespace piquant {
namespace {

template <int FloatBits, int CodeBits>
constexpr void fill_pair(TrafficTable& t) {
    constexpr int f = width_index(FloatBits);
    constexpr int c = width_index(CodeBits);
    t.convert[f][c][0] = vectorized::traffic<FloatBits, CodeBits, Reduce::set>;
    t.convert[c][f][0] = vectorized::traffic<CodeBits, FloatBits, Reduce::set>;
    t.convert[c][f][1] = vectorized::traffic<CodeBits, FloatBits, Reduce::add>;
}

// One twin serves all types of its widths: both 16-bit floats, signed and unsigned codes.
constexpr TrafficTable make_table() {
    TrafficTable t{};
#define PAIR(CODE_BITS, FLOAT_BITS) fill_pair<FLOAT_BITS, CODE_BITS>(t);
    PIQUANT_CODE_WIDTHS(PAIR, 16)
    PIQUANT_CODE_WIDTHS(PAIR, 32)
    PIQUANT_CODE_WIDTHS(PAIR, 64)
#undef PAIR
    t.read = vectorized::read_traffic;
    return t;
}

}  // namespace

namespace isa::PIQUANT_ISA {
constinit const TrafficTable traffic = make_table();
}  // namespace isa::PIQUANT_ISA

}  // namespace piquant
