#include "engine/lines.hpp"

#include <algorithm>

namespace piquant {
namespace {

// Bytes that a side's elements reach below and above its first one.
struct Reach {
    uintptr_t below;
    uintptr_t above;
};

size_t magnitude(ptrdiff_t stride) {
    return stride < 0 ? size_t{0} - static_cast<size_t>(stride) : static_cast<size_t>(stride);
}

// Bytes of what lies side by side: an element, or a row of packed codes.
size_t unit_bytes(const Lines& lines, const Side& side) {
    return side.packed() ? bytes_for(lines.last().size, side.format) : side.format.bytes;
}
// Dimensions with a stride of their own.
int strided_rank(const Lines& lines, const Side& side) {
    return side.packed() ? lines.rank - 1 : lines.rank;
}

bool is_multiple(ptrdiff_t stride, size_t period) {
    return period != 0 && magnitude(stride) % period == 0;
}

// False if the elements do not fit the address space. Steps by whole periods, if there is one, are left out.
bool reach_of(const Lines& lines, const Side& side, ptrdiff_t Dimension::* stride, size_t period, Reach& reach) {
    reach = {0, unit_bytes(lines, side)};
    for (int d = 0; d < strided_rank(lines, side); ++d) {
        const Dimension& dim = lines.dims[d];
        if (is_multiple(dim.*stride, period)) {
            continue;
        }
        size_t distance;
        if (__builtin_mul_overflow(dim.size - 1, magnitude(dim.*stride), &distance)) {
            return false;
        }
        uintptr_t& end = dim.*stride < 0 ? reach.below : reach.above;
        if (__builtin_add_overflow(end, distance, &end)) {
            return false;
        }
    }
    const auto address = reinterpret_cast<uintptr_t>(side.base);
    return reach.below <= address && reach.above <= UINTPTR_MAX - address && reach.above <= SIZE_MAX / 8;
}

// Whether no two elements of the output share bytes: sorted by stride, each dimension steps over the ones below it.
bool is_injective(const Lines& lines) {
    unsigned char order[PIQUANT_MAX_RANK];
    unsigned char* end = order;
    for (int d = 0; d < strided_rank(lines, lines.out); ++d) {
        if (lines.dims[d].size > 1) {
            *end++ = static_cast<unsigned char>(d);
        }
    }
    const auto stride = [&](unsigned char d) { return magnitude(lines.dims[d].out); };
    std::sort(order, end, [&](auto a, auto b) { return stride(a) < stride(b); });
    size_t covered = unit_bytes(lines, lines.out);
    for (const unsigned char* d = order; d != end; ++d) {
        if (stride(*d) < covered) {
            return false;
        }
        covered += (lines.dims[*d].size - 1) * stride(*d);
    }
    return true;
}

// Whether the sides share no bytes, as far as that is easily seen: either one ends before the other begins; or both
// repeat themselves with one period, a stride of the output, within which that is so:
//
//   | in  .  out out  .  | in  .  out out  .  | in  .
//   |<----- period ----->|
bool are_apart(const Lines& lines) {
    const auto address = [](const Side& side) { return reinterpret_cast<uintptr_t>(side.base); };
    Reach in;
    Reach out;
    const auto reach = [&](size_t period) {
        reach_of(lines, lines.in, &Dimension::in, period, in);
        reach_of(lines, lines.out, &Dimension::out, period, out);
    };
    reach(0);
    if (address(lines.in) + in.above <= address(lines.out) - out.below ||
        address(lines.out) + out.above <= address(lines.in) - in.below) {
        return true;
    }
    const auto apart_within = [&](size_t period) {
        reach(period);
        const size_t in_bytes = in.below + in.above;
        const size_t out_bytes = out.below + out.above;
        if (in_bytes > period || out_bytes > period) {
            return false;
        }
        // From the start of the input to the next start of the output.
        const size_t in_start = (address(lines.in) - in.below) % period;
        const size_t out_start = (address(lines.out) - out.below) % period;
        const size_t distance = out_start - in_start + (out_start < in_start ? period : 0);
        return in_bytes <= distance && distance + out_bytes <= period;
    };
    return std::any_of(lines.dims, lines.dims + strided_rank(lines, lines.out),
                       [&](const Dimension& d) { return d.size > 1 && apart_within(magnitude(d.out)); });
}

bool same_places(const Lines& lines) {
    return lines.in.base == lines.out.base && lines.in.format.bytes == lines.out.format.bytes && !lines.is_packed() &&
           std::all_of(lines.dims, lines.dims + lines.rank, [](auto& d) { return d.size == 1 || d.in == d.out; });
}

// A dimension with others inside it as one, if it continues them on both sides and in row-major order.
bool continues(const Lines& lines, const Dimension& outer, const Dimension& inner) {
    const auto side = [&](const Side& s, ptrdiff_t outer_stride, ptrdiff_t inner_stride) {
        if (s.packed() && &inner == &lines.last()) {
            return inner.size % s.format.elements == 0 &&
                   outer_stride == static_cast<ptrdiff_t>(bytes_for(inner.size, s.format));
        }
        return outer_stride == inner_stride * static_cast<ptrdiff_t>(inner.size);
    };
    return side(lines.in, outer.in, inner.in) && (!lines.has_out || side(lines.out, outer.out, inner.out)) &&
           (inner.is_whole() || (outer.block == 1 && inner.size % inner.block == 0));
}

// Both as one: a block of the outer dimension is that many of the inner one, or they are blocks of the inner one, in a row.
Dimension merged(const Dimension& outer, const Dimension& inner) {
    Dimension d = inner;
    d.size = outer.size * inner.size;
    if (inner.is_whole()) {
        d.block = outer.block * inner.size;
        d.parameters = outer.parameters;
    }
    return d;
}

// Makes the output's stride positive, or the input's, where there is no output.
void turn_forward(Lines& lines, Dimension& d) {
    if (lines.has_out ? d.out < 0 : d.in < 0) {
        const auto last = static_cast<ptrdiff_t>(d.size - 1);
        lines.in.base += last * d.in;
        lines.out.base += lines.has_out ? last * d.out : 0;
        d.in = -d.in;
        d.out = -d.out;
    }
}

}  // namespace

piquant_status_t read_lines(const piquant_options_t& layout, size_t n, const void* in, DType in_dtype, void* out,
                            DType out_dtype, bool in_place, Lines& lines) {
    if (layout.rank > PIQUANT_MAX_RANK || layout.shape == nullptr) {
        return PIQUANT_ERROR_SHAPE;
    }
    lines.has_out = out != nullptr;
    lines.in = {const_cast<unsigned char*>(static_cast<const unsigned char*>(in)), info(in_dtype).format};
    lines.out = {static_cast<unsigned char*>(out), info(out_dtype).format};
    lines.rank = static_cast<int>(layout.rank);
    if (std::find(layout.shape, layout.shape + layout.rank, size_t{0}) != layout.shape + layout.rank) {
        return n == 0 ? PIQUANT_OK : PIQUANT_ERROR_SHAPE;
    }
    if (lines.rank > Lines::few_dimensions) {
        lines.many = std::make_unique<Dimension[]>(layout.rank);
        lines.dims = lines.many.get();
    }
    size_t count = 1;
    for (int d = 0; d < lines.rank; ++d) {
        lines.dims[d].size = layout.shape[d];
        if (__builtin_mul_overflow(count, layout.shape[d], &count)) {
            return PIQUANT_ERROR_SHAPE;
        }
    }
    if (count != n) {
        return PIQUANT_ERROR_SHAPE;
    }
    // Strides of row-major order without gaps, and the given ones over them.
    const size_t row = lines.last().size;
    size_t inner = 1;  // elements within one step of dimension d
    for (int d = lines.rank - 1; d >= 0; --d) {
        Dimension& dim = lines.dims[d];
        const auto contiguous = [&](const Side& side) {
            const size_t rows = inner / row;  // 0 within the last dimension
            return static_cast<ptrdiff_t>(d == lines.rank - 1 ? side.format.bytes : rows * bytes_for(row, side.format));
        };
        dim.in = layout.in_strides != nullptr ? layout.in_strides[d] : contiguous(lines.in);
        dim.out = !lines.has_out ? 0 : layout.out_strides != nullptr ? layout.out_strides[d] : contiguous(lines.out);
        dim.index = inner;
        dim.block = dim.size;
        dim.parameters = 0;
        inner *= dim.size;
    }
    Reach reach;
    if (!reach_of(lines, lines.in, &Dimension::in, 0, reach) ||
        (lines.has_out && !reach_of(lines, lines.out, &Dimension::out, 0, reach))) {
        return PIQUANT_ERROR_LENGTH;
    }
    if (!lines.has_out) {
        return PIQUANT_OK;
    }
    if (!is_injective(lines)) {
        return PIQUANT_ERROR_STRIDES;
    }
    return are_apart(lines) || (in_place && same_places(lines)) ? PIQUANT_OK : PIQUANT_ERROR_OVERLAP;
}

size_t bytes_of(const Lines& lines, const Side& side, ptrdiff_t Dimension::* stride, uintptr_t& begin) {
    Reach reach;
    reach_of(lines, side, stride, 0, reach);
    begin = reinterpret_cast<uintptr_t>(side.base) - reach.below;
    return reach.below + reach.above;
}

void set_blocks(Lines& lines, const size_t* block_size) {
    size_t parameters = 1;
    for (int d = lines.rank - 1; d >= 0; --d) {
        Dimension& dim = lines.dims[d];
        dim.block = std::min(block_size[d], dim.size);
        dim.parameters = parameters;
        parameters *= dim.blocks();
    }
}

void merge_dimensions(Lines& lines, bool any_order) {
    const int fixed = lines.is_packed() ? 1 : 0;  // the last dimension stays where it is
    Dimension* const begin = lines.dims;
    Dimension* end = begin + lines.rank - fixed;
    Dimension packed = lines.last();
    if (packed.size == 1) {  // whatever its strides are
        packed.in = lines.in.format.bytes;
        packed.out = lines.out.format.bytes;
    }
    // Dimensions of one element say nothing; nor do repetitions, where only the extent of the data is asked for.
    end = std::remove_if(
        begin, end, [&](const Dimension& d) { return d.size == 1 || (!lines.has_out && d.in == 0 && d.is_whole()); });
    if (any_order) {
        std::for_each(begin, end, [&](Dimension& d) { turn_forward(lines, d); });
        // An insertion sort: few dimensions, and no memory of its own, as std::stable_sort takes with each call.
        const auto is_longer = [&](const Dimension& a, const Dimension& b) {
            return lines.has_out ? magnitude(a.out) > magnitude(b.out) : magnitude(a.in) > magnitude(b.in);
        };
        for (Dimension* d = begin; d != end; ++d) {
            std::rotate(std::upper_bound(begin, d, *d, is_longer), d, d + 1);
        }
    }
    if (fixed != 0) {
        *end++ = packed;
    } else if (end == begin) {
        *end++ = {
            1, static_cast<ptrdiff_t>(lines.in.format.bytes), static_cast<ptrdiff_t>(lines.out.format.bytes), 1, 1, 0};
    }
    lines.rank = static_cast<int>(end - begin);
    for (int d = lines.rank - 2; d >= 0; --d) {
        Dimension& outer = lines.dims[d];
        Dimension& inner = lines.dims[d + 1];
        if (continues(lines, outer, inner) && (any_order || outer.index == inner.index * inner.size)) {
            inner = merged(outer, inner);
            std::move(&inner, lines.dims + lines.rank, &outer);
            --lines.rank;
        }
    }
}

}  // namespace piquant
