#include "layout.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "oracle.hpp"

namespace piquant::fuzz {
namespace {

constexpr Integer longest = (Integer{1} << 61) - 1;
constexpr Integer highest_address = Integer{1} << 47;  // beyond all that this process can have

Array array_of(const Case& c, int dtype, const std::vector<ptrdiff_t>& given, bool contiguous) {
    const int bits = piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype));
    const size_t byte_or_more = piquant_size(static_cast<piquant_dtype_t>(dtype), 1);
    Array a{dtype, bits < 8 && dtype < PIQUANT_INT2_UNPACKED, 1, byte_or_more, c.layout.shape, given};
    if (a.shape.empty()) {
        a.shape = {c.n};
    }
    if (a.packed) {
        a.row = a.shape.back();
        a.unit = piquant_size(static_cast<piquant_dtype_t>(dtype), a.row);
        a.shape.pop_back();
    }
    a.strides.resize(a.shape.size());
    if (contiguous || c.layout.shape.empty()) {
        size_t stride = a.unit;
        for (size_t d = a.shape.size(); d-- > 0; stride *= a.shape[d]) {
            a.strides[d] = static_cast<ptrdiff_t>(stride);
        }
    }
    return a;
}

Integer size_of(ptrdiff_t stride) {
    return stride < 0 ? -Integer{stride} : Integer{stride};
}

// Bytes from the first element to the unit with this number.
ptrdiff_t offset_of(const Array& a, size_t unit) {
    ptrdiff_t offset = 0;
    for (size_t d = a.shape.size(); d-- > 0; unit /= a.shape[d]) {
        offset += static_cast<ptrdiff_t>(unit % a.shape[d]) * a.strides[d];
    }
    return offset;
}
size_t units_of(const Array& a) {
    return std::accumulate(a.shape.begin(), a.shape.end(), size_t{1}, std::multiplies<>());
}

int bits_of(const Array& a) {
    return piquant_dtype_bits(static_cast<piquant_dtype_t>(a.dtype));
}
// Moves a field of a packed row, by numbers of elements.
void move_field(const Array& a, unsigned char* to, size_t i, const unsigned char* from, size_t k) {
    const auto per_byte = static_cast<size_t>(8 / bits_of(a));
    const auto shift = [&](size_t n) { return static_cast<int>(n % per_byte) * bits_of(a); };
    const int mask = (1 << bits_of(a)) - 1;
    const int field = from[k / per_byte] >> shift(k) & mask;
    to[i / per_byte] = static_cast<unsigned char>((to[i / per_byte] & ~(mask << shift(i))) | field << shift(i));
}

}  // namespace

Array input_of(const Case& c) {
    return array_of(c, in_dtype(c), c.layout.in_strides, c.layout.no_in_strides);
}
Array output_of(const Case& c) {
    return array_of(c, out_dtype(c), c.layout.out_strides, c.layout.no_out_strides);
}
Array distinct(Array a) {
    for (size_t d = 0; d < a.shape.size(); ++d) {
        a.shape[d] = a.strides[d] == 0 && a.shape[d] > 1 ? 1 : a.shape[d];
    }
    return a;
}
size_t elements_of(const Array& a) {
    return units_of(a) * a.row;
}

Reach reach_of(const Array& a) {
    Reach r = {0, static_cast<Integer>(a.unit)};
    for (size_t d = 0; d < a.shape.size(); ++d) {
        const Integer distance = size_of(a.strides[d]) * (static_cast<Integer>(a.shape[d]) - 1);
        (a.strides[d] < 0 ? r.below : r.above) += distance;
    }
    return r;
}

Bytes collected(const Array& a, const unsigned char* first) {
    Bytes dense(piquant_size(static_cast<piquant_dtype_t>(a.dtype), elements_of(a)));
    for (size_t u = 0; u < units_of(a); ++u) {
        const unsigned char* const from = first + offset_of(a, u);
        if (!a.packed) {
            std::memcpy(dense.data() + u * a.unit, from, a.unit);
        }
        for (size_t i = 0; a.packed && i < a.row; ++i) {
            move_field(a, dense.data(), u * a.row + i, from, i);
        }
    }
    return dense;
}
void spread(const Array& a, unsigned char* first, const Bytes& dense) {
    for (size_t u = 0; u < units_of(a); ++u) {
        unsigned char* const to = first + offset_of(a, u);
        if (!a.packed) {
            std::memcpy(to, dense.data() + u * a.unit, a.unit);
        }
        for (size_t i = 0; a.packed && i < a.row; ++i) {
            move_field(a, to, i, dense.data(), u * a.row + i);
        }
    }
}

std::vector<bool> owned_bytes(const Array& a) {
    const Reach r = reach_of(a);
    std::vector<bool> owned(static_cast<size_t>(r.below + r.above));
    for (size_t u = 0; u < units_of(a); ++u) {
        const auto at = static_cast<size_t>(r.below + offset_of(a, u));
        std::fill_n(owned.begin() + static_cast<ptrdiff_t>(at), a.unit, true);
    }
    return owned;
}

bool rows_are_padded(const Array& a, const unsigned char* first) {
    const auto used = static_cast<int>(a.row % static_cast<size_t>(8 / bits_of(a))) * bits_of(a);
    for (size_t u = 0; used != 0 && u < units_of(a); ++u) {
        if (first[offset_of(a, u) + static_cast<ptrdiff_t>(a.unit) - 1] >> used != 0) {
            return false;
        }
    }
    return true;
}

bool nests(const Array& a) {
    std::vector<size_t> order;
    for (size_t d = 0; d < a.shape.size(); ++d) {
        if (a.shape[d] > 1) {
            order.push_back(d);
        }
    }
    do {
        Integer spanned = static_cast<Integer>(a.unit);
        bool steps_over = true;
        for (const size_t d : order) {
            steps_over = steps_over && size_of(a.strides[d]) >= spanned;
            spanned += size_of(a.strides[d]) * (static_cast<Integer>(a.shape[d]) - 1);
        }
        if (steps_over) {
            return true;
        }
    } while (std::next_permutation(order.begin(), order.end()));
    return false;
}

bool share_bytes(const Array& a, const Array& b, ptrdiff_t distance) {
    const std::vector<bool> in_a = owned_bytes(a);
    const std::vector<bool> in_b = owned_bytes(b);
    const auto apart =
        static_cast<ptrdiff_t>(distance - reach_of(b).below + reach_of(a).below);  // from a's lowest to b's
    for (size_t i = 0; i < in_b.size(); ++i) {
        const ptrdiff_t k = static_cast<ptrdiff_t>(i) + apart;
        if (in_b[i] && k >= 0 && k < static_cast<ptrdiff_t>(in_a.size()) && in_a[static_cast<size_t>(k)]) {
            return true;
        }
    }
    return false;
}

bool are_seen_apart(const Array& a, const Array& b, ptrdiff_t distance) {
    const auto meet = [&](const Reach& x, const Reach& y, Integer moved) {
        return -x.below < moved + y.above && moved - y.below < x.above;
    };
    if (!meet(reach_of(a), reach_of(b), distance)) {
        return true;
    }
    const auto within = [](Array x, ptrdiff_t period) {
        for (size_t d = 0; d < x.shape.size(); ++d) {
            x.shape[d] = x.strides[d] % period == 0 ? 1 : x.shape[d];
        }
        return reach_of(x);
    };
    for (size_t d = 0; d < b.shape.size(); ++d) {
        if (b.shape[d] < 2 || b.strides[d] == 0) {
            continue;
        }
        const ptrdiff_t period = b.strides[d] < 0 ? -b.strides[d] : b.strides[d];
        const Reach x = within(a, period);
        const Reach y = within(b, period);
        const auto turns = static_cast<ptrdiff_t>((x.below + x.above + y.below + y.above) / period) + 2;
        bool ever = false;
        for (ptrdiff_t k = -turns; k <= turns; ++k) {
            ever = ever || meet(x, y, distance % period + Integer{k} * period);
        }
        if (!ever) {
            return true;
        }
    }
    return false;
}

bool are_same(const Array& a, const Array& b, ptrdiff_t distance) {
    bool same = distance == 0 && a.dtype == b.dtype && !a.packed;
    for (size_t d = 0; d < a.shape.size() && same; ++d) {
        same = a.shape[d] < 2 || a.strides[d] == b.strides[d];
    }
    return same;
}

piquant_status_t layout_error(const Case& c) {
    const std::vector<size_t>& shape = c.layout.shape;
    if (shape.empty()) {
        return c.n_fits ? PIQUANT_OK : PIQUANT_ERROR_LENGTH;
    }
    Integer product = 1;
    for (const size_t size : shape) {
        const Integer most = Integer{1} << 64;
        product = product > most / std::max<Integer>(static_cast<Integer>(size), 1)
                      ? most
                      : product * static_cast<Integer>(size);
    }
    product = std::find(shape.begin(), shape.end(), size_t{0}) != shape.end() ? 0 : product;
    if (shape.size() > PIQUANT_MAX_RANK || c.layout.no_shape || product != static_cast<Integer>(c.n)) {
        return PIQUANT_ERROR_SHAPE;
    }
    if (c.n == 0) {
        return PIQUANT_OK;
    }
    const auto fits = [](const Array& a) {
        const Reach r = reach_of(a);
        return r.below < highest_address * 2 && r.above <= longest;
    };
    if (!fits(input_of(c))) {
        return PIQUANT_ERROR_LENGTH;
    }
    if (c.operation == Operation::compute_quant_params) {
        return PIQUANT_OK;
    }
    return !fits(output_of(c)) ? PIQUANT_ERROR_LENGTH : !nests(output_of(c)) ? PIQUANT_ERROR_STRIDES : PIQUANT_OK;
}

bool is_too_large(const Case& c, size_t most_bytes) {
    const auto too_large = [&](const Array& a) {
        const Reach r = reach_of(a);
        return r.below + r.above > static_cast<Integer>(most_bytes);
    };
    if (c.operation == Operation::compute_quant_params) {
        return too_large(input_of(c)) || elements_of(distinct(input_of(c))) > most_bytes;
    }
    return c.n > most_bytes || too_large(input_of(c)) || too_large(output_of(c));
}

}  // namespace piquant::fuzz
