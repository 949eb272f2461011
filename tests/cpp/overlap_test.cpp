// Input and output that lie among each other: accepted where they are seen to share no bytes, and then right; refused
// where they share any.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "engine/lines.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Bytes = std::vector<unsigned char>;

struct Layout {
    std::vector<size_t> shape;
    std::vector<ptrdiff_t> in;
    std::vector<ptrdiff_t> out;
};

constexpr uintptr_t place = 0x100000;

piquant_status_t read(const Layout& layout, DType from, DType to, ptrdiff_t distance) {
    size_t n = 1;
    for (const size_t size : layout.shape) {
        n *= size;
    }
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.rank = layout.shape.size();
    o.shape = layout.shape.data();
    o.in_strides = layout.in.data();
    o.out_strides = layout.out.data();
    Lines lines;
    return read_lines(o, n, reinterpret_cast<void*>(place), from,
                      reinterpret_cast<void*>(place + static_cast<uintptr_t>(distance)), to, false, lines);
}

TEST(Overlap, BothSidesOfTheLimit) {
    const auto f32 = DType::float32;
    const auto u8 = DType::uint8;
    const auto u4 = DType::uint4;
    const struct {
        const char* what;
        Layout layout;
        DType from;
        DType to;
        ptrdiff_t distance;
        bool apart;
    } rows[] = {
        {"halves of rows", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, 16, true},
        {"the left half, from the right one", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, -16, true},
        {"halves of rows, a byte too near", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, 15, false},
        {"halves of rows, a byte too far", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, 17, false},
        {"rows a byte longer than two halves", {{5, 4}, {33, 4}, {33, 4}}, f32, f32, 17, true},
        {"some rows further down", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, 16 + 2 * 32, true},
        {"some rows further up", {{5, 4}, {32, 4}, {32, 4}}, f32, f32, 16 - 3 * 32, true},
        {"one side upside down", {{5, 4}, {32, 4}, {-32, 4}}, f32, f32, 16 + 4 * 32, true},
        {"rows turned around", {{5, 4}, {32, -4}, {32, 4}}, f32, f32, 4, true},
        {"rows turned around, onto the input", {{5, 4}, {32, -4}, {32, 4}}, f32, f32, 3, false},
        {"rows of other lengths", {{5, 4}, {32, 4}, {33, 4}}, f32, f32, 16, false},
        {"elements by turns", {{9}, {8}, {8}}, f32, f32, 4, true},
        {"elements by turns, a byte off", {{9}, {8}, {8}}, f32, f32, 5, false},
        {"channels", {{3, 5, 4}, {160, 32, 4}, {160, 32, 4}}, f32, f32, 16, true},
        {"channels, in another order", {{3, 5, 4}, {160, 32, 4}, {32, 96, 4}}, f32, f32, 16, true},
        {"codes behind each row", {{7, 4}, {20, 4}, {20, 1}}, f32, u8, 16, true},
        {"codes behind each row, a byte short", {{7, 4}, {19, 4}, {19, 1}}, f32, u8, 16, false},
        {"every second row repeated", {{7, 4}, {0, 4}, {20, 1}}, f32, u8, 16, true},
        {"packed codes behind each row", {{7, 5}, {23, 4}, {23, 0}}, f32, u4, 20, true},
        {"packed codes behind each row, a byte short", {{7, 5}, {22, 4}, {22, 0}}, f32, u4, 20, false},
        {"packed codes before each row", {{7, 5}, {23, 4}, {23, 0}}, f32, u4, -3, true},
        {"packed codes before each row, a byte late", {{7, 5}, {23, 4}, {23, 0}}, f32, u4, -2, false},
        {"a stride of one element is no period", {{1, 9}, {8, 4}, {8, 4}}, f32, f32, 4, false},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(read(row.layout, row.from, row.to, row.distance), row.apart ? PIQUANT_OK : PIQUANT_ERROR_OVERLAP)
            << row.what;
    }
}

std::set<ptrdiff_t> bytes_of(const std::vector<size_t>& shape, const std::vector<ptrdiff_t>& strides, DType type) {
    const Format format = info(type).format;
    const bool packed = format.elements > 1;
    const auto unit = static_cast<ptrdiff_t>(packed ? bytes_for(shape.back(), format) : format.bytes);
    std::set<ptrdiff_t> found;
    for (ptrdiff_t b = 0; b < unit; ++b) {
        found.insert(b);
    }
    for (size_t d = 0; d < shape.size() - (packed ? 1 : 0); ++d) {
        const std::set<ptrdiff_t> inner = found;
        for (size_t i = 1; i < shape[d]; ++i) {
            for (const ptrdiff_t b : inner) {
                found.insert(b + static_cast<ptrdiff_t>(i) * strides[d]);
            }
        }
    }
    return found;
}

// What is accepted shares no byte, byte by byte. Much is accepted, and much that shares none is, though its extents meet.
TEST(Overlap, NothingThatSharesABytePasses) {
    std::mt19937_64 random(1);
    const auto below = [&](uint64_t n) { return random() % n; };
    int accepted = 0;
    int interleaved = 0;
    int missed = 0;
    for (int round = 0; round < 30000; ++round) {
        constexpr DType types[] = {DType::float32, DType::float16, DType::uint8, DType::int4, DType::uint2};
        const DType from = types[below(std::size(types))];
        const DType to = types[below(std::size(types))];
        Layout l;
        const size_t rank = 1 + below(3);
        const uint64_t grid = 1 + below(12);
        for (size_t d = 0; d < rank; ++d) {
            const auto stride = [&] {
                const auto s = static_cast<ptrdiff_t>(below(2) == 0 ? grid * (1 + below(4)) : below(40));
                return below(5) == 0 ? -s : s;
            };
            l.shape.push_back(1 + below(4));
            l.in.push_back(stride());
            l.out.push_back(below(2) == 0 ? l.in.back() : stride());
        }
        const auto distance = static_cast<ptrdiff_t>(below(160)) - 80;
        const piquant_status_t status = read(l, from, to, distance);
        if (status == PIQUANT_ERROR_STRIDES) {
            continue;
        }
        const std::set<ptrdiff_t> in = bytes_of(l.shape, l.in, from);
        const std::set<ptrdiff_t> out = bytes_of(l.shape, l.out, to);
        const bool share = std::any_of(out.begin(), out.end(), [&](ptrdiff_t b) { return in.contains(b + distance); });
        const bool meet = *in.begin() <= *out.rbegin() + distance && *out.begin() + distance <= *in.rbegin();
        ASSERT_TRUE(status == PIQUANT_OK || status == PIQUANT_ERROR_OVERLAP);
        ASSERT_FALSE(status == PIQUANT_OK && share) << "round " << round;
        ASSERT_TRUE(status == PIQUANT_OK || meet) << "round " << round;
        accepted += status == PIQUANT_OK;
        interleaved += status == PIQUANT_OK && meet;
        missed += status != PIQUANT_OK && !share;
    }
    EXPECT_GT(accepted, 5000);
    EXPECT_GT(interleaved, 300);
    EXPECT_LT(missed, interleaved * 4);
}

// The right half of each row becomes the codes, or the dequantized codes, of the left one.
TEST(Overlap, HalvesOfRows) {
    constexpr size_t rows = 301;
    constexpr size_t columns = 77;
    constexpr size_t stride = columns * 4 + (columns + 1) / 2 + 3;
    const ContextPtr context = make_parallel_context(3);
    for (size_t k = 0; const char* isa = piquant_available_isa(k); ++k) {
        ASSERT_EQ(piquant_context_set_isa(context.get(), isa), PIQUANT_OK);
        Bytes matrix(rows * stride, 0x5a);
        const auto at = [&](size_t r, size_t c) { return matrix.data() + r * stride + c * 4; };
        for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < columns; ++c) {
                const auto x = static_cast<float>((r * 7 + c) % 16);
                memcpy(at(r, c), &x, sizeof x);
            }
        }
        const size_t shape[] = {rows, columns};
        const ptrdiff_t floats[] = {stride, 4};
        const ptrdiff_t codes[] = {stride, 0};
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.rank = 2;
        o.shape = shape;
        o.in_strides = floats;
        o.out_strides = codes;
        unsigned char* const right = matrix.data() + columns * 4 + 1;
        const Bytes before = matrix;
        ASSERT_EQ(piquant_quantize(context.get(), matrix.data(), PIQUANT_FLOAT32, right, PIQUANT_UINT4, rows * columns,
                                   1, 0, &o),
                  PIQUANT_OK);
        Bytes expected = before;
        for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < columns; c += 2) {
                const size_t high = c + 1 < columns ? (r * 7 + c + 1) % 16 : 0;
                expected[r * stride + columns * 4 + 1 + c / 2] =
                    static_cast<unsigned char>((r * 7 + c) % 16 | high << 4);
            }
        }
        ASSERT_TRUE(matrix == expected) << isa;
        for (size_t r = 0; r < rows; ++r) {
            memset(at(r, 0), 0, columns * 4);
        }
        o.in_strides = codes;
        o.out_strides = floats;
        ASSERT_EQ(piquant_dequantize(context.get(), right, PIQUANT_UINT4, matrix.data(), PIQUANT_FLOAT32,
                                     rows * columns, 1, 0, &o),
                  PIQUANT_OK);
        ASSERT_TRUE(matrix == expected) << isa;
    }
}

}  // namespace
}  // namespace piquant
