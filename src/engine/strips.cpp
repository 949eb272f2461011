#include "engine/strips.hpp"

#include <algorithm>

namespace piquant {
namespace {

// Bytes of input in a strip, which a last-level cache is to hold. Long runs of each row matter more than a nearer cache:
// 128 x 128 of rows of 4,096 float32 reach 0.85 of the twin in strips of 2 MiB, whole rows, and 0.37 in strips of 1 MiB.
constexpr size_t most_bytes = size_t{2} << 20;
// Fewer leave some thread without work at the end.
constexpr size_t strips_per_thread = 4;
// Elements of each row of it: less is not worth a kernel call, more is more than a panel.
constexpr size_t least_columns = 64;
constexpr size_t most_columns = 4096;

size_t rounded_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

}  // namespace

Strips::Strips(const Lines& lines, size_t granule, size_t threads) : lines_(lines) {
    const Dimension& line = lines.last();
    // Elements that whole blocks and whole bytes have.
    const size_t unit =
        line.block % lines.out.format.elements == 0 ? line.block : line.block * lines.out.format.elements;
    const bool kernels_take = line.block == 1 || line.block % granule == 0 || line.is_whole();
    const bool are_rows_alone =
        lines.rank > 1 && std::all_of(lines.dims, lines.dims + lines.rank - 2, [](auto& d) { return d.block == 1; });
    fit_ = are_rows_alone && kernels_take && (unit <= most_columns || line.is_whole());
    if (!fit_) {
        return;
    }
    const size_t row_bytes = rows().block * lines.in.format.bytes;
    const size_t share = lines.count() / threads / strips_per_thread * lines.in.format.bytes;
    const size_t wanted = std::clamp(std::min(most_bytes, share) / row_bytes, least_columns, most_columns);
    columns_ =
        std::min(line.is_whole() ? line.size : rounded_up(std::max(wanted / unit, size_t{1}) * unit, unit), line.size);
    fit_ = columns_ <= most_columns && columns_ * row_bytes <= 2 * most_bytes;
    blocks_ = (columns_ + line.block - 1) / line.block;
    per_line_ = (line.size + columns_ - 1) / columns_;
    count_ = per_line_ * rows().blocks();
    for (int d = 0; d < lines.rank - 2; ++d) {
        count_ *= lines.dims[d].size;
    }
    fit_ = fit_ && count_ >= threads;
}

Strip Strips::at(size_t number) const {
    const Dimension& line = lines_.last();
    const size_t start = number % per_line_ * columns_;
    size_t outer = number / per_line_;
    const size_t row_of_blocks = outer % rows().blocks();
    outer /= rows().blocks();
    const size_t first_row = row_of_blocks * rows().block;
    const size_t n = std::min(columns_, line.size - start);
    Strip s{{lines_.in.base + bytes_for(start, lines_.in.format) + static_cast<ptrdiff_t>(first_row) * rows().in,
             lines_.out.base + bytes_for(start, lines_.out.format) + static_cast<ptrdiff_t>(first_row) * rows().out,
             start * line.index + first_row * rows().index, n, 0,
             start / line.block * line.parameters + row_of_blocks * rows().parameters},
            std::min(rows().block, rows().size - first_row),
            (n + line.block - 1) / line.block};
    for (int d = lines_.rank - 3; d >= 0; --d) {
        const Dimension& dim = lines_.dims[d];
        const size_t at = outer % dim.size;
        outer /= dim.size;
        s.row.in += static_cast<ptrdiff_t>(at) * dim.in;
        s.row.out += static_cast<ptrdiff_t>(at) * dim.out;
        s.row.index += at * dim.index;
        s.row.parameter += at * dim.parameters;
    }
    return s;
}

Panel Strips::next(const Panel& row) const {
    Panel p = row;
    p.in += rows().in;
    p.out += rows().out;
    p.index += rows().index;
    return p;
}

}  // namespace piquant
