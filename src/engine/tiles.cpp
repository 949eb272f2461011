#include "engine/tiles.hpp"

#include <algorithm>
#include <utility>

namespace piquant {
namespace {

// Bytes of a tile on either side: a half of a small first-level cache.
constexpr size_t tile_bytes = size_t{16} << 10;
// Side of a square tile: a cache line holds as many codes of 8 bits.
constexpr size_t square = 64;
// Lines from this length on are worth a kernel call of their own, whose ends cost some 80 ns; shorter ones are copied
// side by side first.
constexpr size_t long_line = 4096;
// Parts of longer lines, so that threads can share them.
constexpr size_t longest_part = size_t{1} << 16;

size_t blocks(size_t n, size_t size) {
    return (n + size - 1) / size;
}

// At most `most` of `size` rows; a multiple of 64, which keeps tiles on cache lines, where that is possible.
size_t part_of(size_t size, size_t most) {
    return size <= most ? size : most >= square ? most / square * square : std::max<size_t>(most, 1);
}

Access access_of(DType dtype) {
    const DTypeInfo& type = info(dtype);
    return type.is_float || type.bits >= 8 ? Access::elements
           : type.format.elements == 1     ? Access::unpacked
                                           : Access::packed;
}

}  // namespace

bool are_copied(const Lines& lines) {
    const Dimension& line = lines.last();
    return !lines.in_is_dense(line) || !lines.out_is_dense(line) || line.size < long_line;
}

Tiles::Tiles(const Lines& lines, const RowKernels& row_kernels, DType in, DType out, bool reads_output,
             bool consecutive_words, size_t most_elements)
    : lines_(lines),
      row_kernels_(row_kernels),
      in_access_(access_of(in)),
      out_access_(lines.has_out ? access_of(out) : Access::direct),
      reads_output_(reads_output) {
    for (const DType type : {in, out}) {
        if (!info(type).is_float) {
            bits_ = info(type).bits;
            is_signed_ = info(type).is_signed;
        }
    }
    const Dimension& last = lines.last();
    columns_ = last;
    rows_ = {1, 0, 0, 0, 1, 0};
    row_dimension_ = -1;
    const bool in_dense = lines.in_is_dense(last);
    const bool out_dense = lines.out_is_dense(last);
    const bool copies = are_copied(lines) || in_access_ == Access::unpacked || out_access_ == Access::unpacked;
    along_rows_ = false;
    if (copies && lines.rank > 1) {
        // Rows along which the side that is not dense has its neighbours in memory, if there is such a dimension.
        const Dimension* const end = &last;
        const auto neighbours = [&](const Dimension& d) {
            const ptrdiff_t stride = !in_dense ? d.in : d.out;
            const auto size = static_cast<ptrdiff_t>(!in_dense ? lines.in.format.bytes : lines.out.format.bytes);
            return (!in_dense || !out_dense) && (stride == size || stride == -size);
        };
        const Dimension* const found = std::find_if<const Dimension*>(lines.dims, end, neighbours);
        along_rows_ = found != end;
        row_dimension_ = static_cast<int>((along_rows_ ? found : end - 1) - lines.dims);
        rows_ = lines.dims[row_dimension_];
    }
    row_index_ = rows_.index;
    if (!copies) {
        in_access_ = Access::direct;
        out_access_ = Access::direct;
        tile_rows_ = 1;
        tile_columns_ = blocks(blocks(last.size, blocks(last.size, longest_part)), 256) * 256;
        tile_columns_ = std::min(tile_columns_, last.size);
    } else {
        const auto element_bytes = [&](Access access, const Side& side) {
            return access >= Access::packed ? size_t{1} : size_t{side.format.bytes};
        };
        const size_t elements = std::min(
            most_elements,
            tile_bytes /
                std::max(in_dense && in_access_ == Access::elements ? 1 : element_bytes(in_access_, lines.in),
                         out_dense && out_access_ == Access::elements ? 1 : element_bytes(out_access_, lines.out)));
        // Random words cost some time for each line of a tile, so that these are longer then.
        const size_t side = consecutive_words ? 4 * square : square;
        const size_t room = along_rows_ ? std::max(side, elements / rows_.size) : elements;
        tile_columns_ = part_of(columns_.size, room);
        tile_rows_ = part_of(rows_.size, elements / tile_columns_);
        // Within a tile a side is one run if its columns are, and each row continues the one before.
        const bool whole_rows = tile_columns_ == columns_.size;
        const auto is_run = [&](bool dense, ptrdiff_t row_stride, size_t size) {
            return dense &&
                   (tile_rows_ == 1 || (whole_rows && row_stride == static_cast<ptrdiff_t>(columns_.size * size)));
        };
        if (in_access_ == Access::elements && is_run(in_dense, rows_.in, lines.in.format.bytes)) {
            in_access_ = Access::direct;
        }
        if (out_access_ == Access::elements && is_run(out_dense, rows_.out, lines.out.format.bytes)) {
            out_access_ = Access::direct;
        }
    }
    row_blocks_ = blocks(rows_.size, tile_rows_);
    column_blocks_ = blocks(columns_.size, tile_columns_);
    units_ = row_blocks_ * column_blocks_;
    for (int d = 0; d < lines.rank - 1; ++d) {
        units_ *= d == row_dimension_ ? 1 : lines.dims[d].size;
    }
    const bool small =
        row_blocks_ * column_blocks_ == 1 && in_access_ != Access::direct && out_access_ != Access::direct;
    units_per_tile_ = small ? std::max<size_t>(1, tile_bytes / 8 / (tile_rows_ * tile_columns_)) : 1;
    tiles_ = blocks(units_, units_per_tile_);
    const bool consecutive = tile_rows_ == 1 || (tile_columns_ == columns_.size && row_index_ == columns_.size);
    words_follow_ = !consecutive_words || (consecutive && units_per_tile_ == 1);

    const size_t elements = tile_rows_ * tile_columns_ * std::min(units_per_tile_, units_);
    in_size_ = in_access_ >= Access::packed ? 1 : lines.in.format.bytes;
    out_size_ = out_access_ >= Access::packed ? 1 : lines.out.format.bytes;
    const auto bytes = [&](Access access, size_t size) {
        return access == Access::direct ? 0 : blocks(elements * size + tile_slack, square) * square;
    };
    in_bytes_ = bytes(in_access_, in_size_);
    out_bytes_ = bytes(out_access_, out_size_);
    spare_bytes_ = along_rows_ ? std::max(in_bytes_, out_bytes_) : 0;
}

size_t Tiles::direct_input() const {
    return in_access_ == Access::direct ? bytes_for(tile_rows_ * tile_columns_, lines_.in.format) : 0;
}
size_t Tiles::direct_output() const {
    return out_access_ == Access::direct ? bytes_for(tile_rows_ * tile_columns_, lines_.out.format) : 0;
}

Tiles::Unit Tiles::unit(size_t number) const {
    const size_t plane = row_blocks_ * column_blocks_;
    size_t outer = number / plane;
    const size_t block = number % plane;
    const size_t row = (along_rows_ ? block % row_blocks_ : block / column_blocks_) * tile_rows_;
    const size_t column = (along_rows_ ? block / row_blocks_ : block % column_blocks_) * tile_columns_;
    const auto r = static_cast<ptrdiff_t>(row);
    const auto c = static_cast<ptrdiff_t>(column);
    const auto bytes_to = [&](const Side& side, ptrdiff_t stride) {
        return side.packed() ? static_cast<ptrdiff_t>(bytes_for(column, side.format)) : c * stride;
    };
    ptrdiff_t in = r * rows_.in + bytes_to(lines_.in, columns_.in);
    ptrdiff_t out = lines_.has_out ? r * rows_.out + bytes_to(lines_.out, columns_.out) : 0;
    uint64_t index = row * rows_.index + column * columns_.index;
    size_t parameters = 0;
    for (int d = lines_.rank - 2; d >= 0; --d) {
        if (d == row_dimension_) {
            continue;
        }
        const Dimension& dim = lines_.dims[d];
        const size_t at = outer % dim.size;
        outer /= dim.size;
        in += static_cast<ptrdiff_t>(at) * dim.in;
        out += static_cast<ptrdiff_t>(at) * dim.out;
        index += at * dim.index;
        parameters += at / dim.block * dim.parameters;
    }
    return {lines_.in.base + in,
            lines_.out.base + (lines_.has_out ? out : 0),
            index,
            std::min(tile_rows_, rows_.size - row),
            std::min(tile_columns_, columns_.size - column),
            row,
            column,
            parameters};
}

// The prefetchers of a processor follow a line to its end and know nothing of the next one. Until they have found it,
// this much of it is on its way.
void Tiles::prefetch_start(size_t t) const {
    constexpr size_t start = 4096;
    constexpr size_t line = 64;
    const unsigned char* const p = unit(t).in;
    const size_t bytes = std::min(start, direct_input());
    for (size_t k = 0; k < bytes; k += line) {
        __builtin_prefetch(p + k);
    }
}

void Tiles::load_input(const Unit& u, unsigned char* tile, unsigned char* spare) const {
    if (in_access_ == Access::packed) {
        row_kernels_.unpack[bits_ == 4](tile, u.in, rows_.in, u.rows, u.columns, is_signed_);
        return;
    }
    gather(tile, u.in, {rows_.in, columns_.in}, u.rows, u.columns, in_size_, spare);
    if (in_access_ == Access::unpacked) {
        extend_codes(tile, u.rows * u.columns, bits_, is_signed_);
    }
}

void Tiles::load_output(const Unit& u, unsigned char* tile, unsigned char* spare) const {
    gather(tile, u.out, {rows_.out, columns_.out}, u.rows, u.columns, out_size_, spare);
}

void Tiles::store_output(const Unit& u, unsigned char* tile, unsigned char* spare) const {
    if (out_access_ == Access::packed) {
        row_kernels_.pack[bits_ == 4](u.out, rows_.out, tile, u.rows, u.columns);
        return;
    }
    if (out_access_ == Access::unpacked) {
        clear_other_bits(tile, u.rows * u.columns, bits_);
    }
    scatter(u.out, {rows_.out, columns_.out}, tile, u.rows, u.columns, out_size_, spare);
}

}  // namespace piquant
