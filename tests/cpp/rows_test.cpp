// Packing and unpacking of rows, on every instruction set, against the one-code functions; arrays end at a page that
// nobody may touch.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/packing.hpp"
#include "guarded_region.hpp"
#include "kernel_data.hpp"

namespace piquant {
namespace {

using Bytes = std::vector<unsigned char>;

template <int Bits>
class Rows {
public:
    // Rows of `columns` codes, each `gap` bytes behind the one before, or in reverse order, at the start or the end of
    // their pages.
    void check(const Isa& isa, size_t rows, size_t columns, size_t gap, bool reverse, bool at_end, bool is_signed) {
        const size_t row_bytes = bytes_for(columns, Bits);
        const size_t stride = row_bytes + gap;
        const size_t bytes = stride * (rows - 1) + row_bytes;
        unsigned char* const array = region_.view() + (at_end ? region_.size() - bytes : 0);
        unsigned char* const first = array + (reverse ? stride * (rows - 1) : 0);
        const auto row_stride = reverse ? -static_cast<ptrdiff_t>(stride) : static_cast<ptrdiff_t>(stride);
        const GuardedAccess access = {
            isa.name, Bits == 2 ? "rows of 2 bits" : "rows of 4 bits", columns, array, bytes, array, bytes};
        guarded_access = &access;

        // Codes with the bits above them, as kernels of 8 bits leave them.
        Bytes tile(rows * columns + tile_slack);
        for (unsigned char& code : tile) {
            const uint64_t above_lowest = random_() & ((1u << Bits) - 1);
            code = static_cast<unsigned char>(code_min(Bits, is_signed) + above_lowest);
        }
        Bytes before(bytes);
        for (unsigned char& b : before) {
            b = static_cast<unsigned char>(random_());
        }
        std::copy(before.begin(), before.end(), array);
        Bytes expected = before;
        for (size_t r = 0; r < rows; ++r) {
            for (size_t i = 0; i < columns; ++i) {
                store_code<Bits>(&expected[reverse ? stride * (rows - 1 - r) : stride * r], i, tile[r * columns + i]);
            }
        }
        isa.table->rows.pack[Bits == 4](first, row_stride, tile.data(), rows, columns);
        ASSERT_EQ(Bytes(array, array + bytes), expected)
            << isa.name << ", " << rows << " x " << columns << ", gap " << gap << ", reverse " << reverse;

        Bytes codes(rows * columns + tile_slack);
        isa.table->rows.unpack[Bits == 4](codes.data(), first, row_stride, rows, columns, is_signed);
        codes.resize(rows * columns);
        tile.resize(rows * columns);
        ASSERT_EQ(codes, tile) << isa.name << ", " << rows << " x " << columns << ", gap " << gap << ", reverse "
                               << reverse;
        guarded_access = nullptr;
    }

    void check_all() {
        report_faults();
        for (const Isa* isa : all_isas()) {
            for (size_t columns = 1; columns <= 600 && !testing::Test::HasFailure();
                 columns += columns < 140 ? 1 : 17) {
                for (const size_t rows : {size_t{1}, size_t{2}, size_t{5}, size_t{40}}) {
                    const bool is_signed = (columns + rows) % 2 == 0;
                    check(*isa, rows, columns, 0, false, true, is_signed);
                    check(*isa, rows, columns, 0, true, columns % 3 == 0, !is_signed);
                    check(*isa, rows, columns, 1 + columns % 7, columns % 4 == 0, columns % 5 != 0, is_signed);
                }
            }
        }
    }

private:
    GuardedRegion region_{size_t{1} << 16, true};
    std::mt19937_64 random_{1};
};

TEST(Rows, OfTwoBits) {
    Rows<2>().check_all();
}
TEST(Rows, OfFourBits) {
    Rows<4>().check_all();
}

}  // namespace
}  // namespace piquant
