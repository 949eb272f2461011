#include "engine/panels.hpp"

#include <algorithm>

namespace piquant {
namespace {

// Elements of a panel where each has parameters of its own, which the first-level cache is to hold.
constexpr size_t most_expanded = 2048;
// Of a block with one parameter.
constexpr size_t most_of_block = 16384;
// Elements that are whole lines of output, of every type: 2^9.
constexpr int whole_lines_bits = 9;

// Their least common multiple with a block.
size_t multiple_of_whole_lines(size_t block) {
    const int bits = __builtin_ctzll(block);
    return bits >= whole_lines_bits ? block : block << (whole_lines_bits - bits);
}

}  // namespace

Panels::Panels(const Lines& lines, size_t granule, bool whole, size_t elements)
    : lines_(lines), block_(lines.last().block) {
    const size_t n = lines.last().size;
    const auto begins_byte = [&](const Side& side) { return block_ % side.format.elements == 0; };
    const bool bytes = begins_byte(lines.in) && (!lines.has_out || begins_byte(lines.out));
    const bool shares_panel = bytes && block_ <= elements && (block_ == 1 || block_ % granule == 0);
    if (block_ >= n || (block_ >= most_expanded && bytes && !shares_panel)) {
        group_ = block_;
        piece_ = whole ? block_ : std::min(block_, most_of_block);
        parameters_ = 1;
    } else if (shares_panel || block_ == 1) {
        const size_t lines_too = multiple_of_whole_lines(block_);
        const size_t unit = lines_too <= elements ? lines_too : block_;
        group_ = elements / unit * unit;
        piece_ = group_;
        parameters_ = std::min(group_, n) / block_ + 1;
    } else {
        group_ = most_expanded;
        piece_ = group_;
        parameters_ = group_ / block_ + 2;
        expands_ = true;
    }
    pieces_ = (group_ + piece_ - 1) / piece_;
    per_line_ = n / group_ * pieces_ + (n % group_ + piece_ - 1) / piece_;
    for (int d = 0; d < lines.rank - 1; ++d) {
        lines_of_ *= lines.dims[d].size;
    }
}

Panels::Cursor::Cursor(const Panels& panels, size_t number) : panels_(panels) {
    const Lines& lines = panels.lines_;
    const size_t in_line = number % panels.per_line_;
    group_ = in_line / panels.pieces_ * panels.group_;
    start_ = group_ + in_line % panels.pieces_ * panels.piece_;
    line_ = {lines.in.base, lines.out.base, 0, lines.last().size, 0, 0};
    size_t outer = number / panels.per_line_;
    for (int d = lines.rank - 2; d >= 0; --d) {
        const Dimension& dim = lines.dims[d];
        const size_t at = outer % dim.size;
        outer /= dim.size;
        at_[d] = at;
        line_.in += static_cast<ptrdiff_t>(at) * dim.in;
        line_.out += static_cast<ptrdiff_t>(at) * dim.out;
        line_.index += at * dim.index;
        line_.parameter += at / dim.block * dim.parameters;
    }
}

Panel Panels::Cursor::panel() const {
    const Lines& lines = panels_.lines_;
    const Dimension& line = lines.last();
    const size_t end = std::min({start_ + panels_.piece_, group_ + panels_.group_, line.size});
    const size_t blocks = start_ == 0 ? 0 : start_ / panels_.block_;
    return {line_.in + bytes_for(start_, lines.in.format),
            lines.has_out ? line_.out + bytes_for(start_, lines.out.format) : nullptr,
            line_.index + start_ * line.index,
            end - start_,
            start_ - blocks * panels_.block_,
            line_.parameter + blocks * line.parameters};
}

void Panels::Cursor::next() {
    start_ += panels_.piece_;
    if (start_ >= group_ + panels_.group_) {
        group_ += panels_.group_;
        start_ = group_;
    }
    if (start_ >= line_.n) {
        group_ = 0;
        start_ = 0;
        next_line();
    }
}

void Panels::Cursor::next_line() {
    const Lines& lines = panels_.lines_;
    for (int d = lines.rank - 2; d >= 0; --d) {
        const Dimension& dim = lines.dims[d];
        const bool ends = ++at_[d] == dim.size;
        const size_t from = at_[d] - 1;
        at_[d] = ends ? 0 : at_[d];
        const auto steps = ends ? -static_cast<ptrdiff_t>(from) : 1;
        line_.in += steps * dim.in;
        line_.out += lines.has_out ? steps * dim.out : 0;
        line_.index += static_cast<uint64_t>(steps) * dim.index;
        if (!dim.is_whole()) {
            line_.parameter += (at_[d] / dim.block - from / dim.block) * dim.parameters;
        }
        if (!ends) {
            return;
        }
    }
}

}  // namespace piquant
