// Shapes and strides: a call on any layout gives, element by element, what the same call gives on contiguous data, and
// touches nothing between its elements.
#include "engine/lines.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "placed.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

enum class Call { quantize, dequantize, fused };

piquant_status_t call(piquant_context_t* c, Call kind, const void* in, void* out, DType from, DType to, DType code,
                      size_t n, const piquant_options_t& o) {
    const auto dtype = [](DType t) { return static_cast<piquant_dtype_t>(t); };
    constexpr double scale = 0.37;
    const int64_t zero_point = info(code).is_signed ? -1 : 1;
    return kind == Call::quantize ? piquant_quantize(c, in, dtype(from), out, dtype(to), n, scale, zero_point, &o)
           : kind == Call::dequantize
               ? piquant_dequantize(c, in, dtype(from), out, dtype(to), n, scale, zero_point, &o)
               : piquant_quantize_dequantize(c, in, out, dtype(from), dtype(code), n, scale, zero_point, &o);
}

// The bits that an unpacked code does not use are not looked at, and zero in results.
unsigned char code_mask(DType type) {
    return static_cast<unsigned char>((1u << info(type).bits) - 1);
}
DType byte_type(DType unpacked) {
    return info(unpacked).is_signed ? DType::int8 : DType::uint8;
}
bool is_unpacked(DType type) {
    return static_cast<int>(type) >= float_count + code_count;
}

// What contiguous data give, one call for each row, as rows of codes begin with a byte.
void expect(piquant_context_t* c, Call kind, DType from, DType to, DType code, Bytes in, Bytes& out, size_t rows,
            size_t row, piquant_options_t o) {
    if (is_unpacked(code)) {  // as codes of 8 bits in the range of the narrow type
        o.has_quant_min = o.has_quant_max = 1;
        o.quant_min = static_cast<int64_t>(code_min(info(code).bits, info(code).is_signed));
        o.quant_max = static_cast<int64_t>(code_max(info(code).bits, info(code).is_signed));
        if (kind == Call::dequantize) {
            for (unsigned char& b : in) {
                b &= code_mask(code);
                b = static_cast<unsigned char>(info(code).is_signed && b > code_mask(code) / 2 ? b | ~code_mask(code)
                                                                                               : b);
            }
        }
        from = kind == Call::dequantize ? byte_type(code) : from;
        to = kind == Call::quantize ? byte_type(code) : to;
        code = byte_type(code);
    }
    const uint64_t offset = o.offset;
    for (size_t r = 0; r < rows; ++r) {
        o.offset = offset + r * row;
        ASSERT_EQ(call(c, kind, &in[r * row_bytes(from, row)], &out[r * row_bytes(to, row)], from, to, code, row, o),
                  PIQUANT_OK);
    }
}

void check(piquant_context_t* parallel, piquant_context_t* single, Random& random, Call kind, DType real, DType code,
           const std::vector<size_t>& shape) {
    const DType from = kind == Call::dequantize ? code : real;
    const DType to = kind == Call::quantize ? code : real;
    const size_t n = elements(shape);
    Placed in = place(random, from, shape, true);
    Placed out = place(random, to, shape, false);
    fill(random, in, shape);
    fill(random, out, shape);
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.round_mode = pick(random, 1) == 0 ? PIQUANT_NEAREST : PIQUANT_STOCHASTIC;
    o.reduce_op = pick(random, 1) == 0 ? PIQUANT_SET : PIQUANT_ADD;
    o.seed = random();
    o.offset = random() % 200000;
    piquant_options_t flat = o;
    o.rank = shape.size();
    o.shape = shape.data();
    o.in_strides = in.strides.data();
    o.out_strides = out.strides.data();

    Bytes expected = collected(out, shape);
    expect(single, kind, from, to, code, collected(in, shape), expected, n / shape.back(), shape.back(), flat);
    if (kind == Call::quantize && is_unpacked(code)) {
        for (unsigned char& b : expected) {
            b &= code_mask(code);
        }
    }
    Placed model = out;
    spread(model, shape, expected);
    ASSERT_EQ(call(parallel, kind, in.base(), out.base(), from, to, code, n, o), PIQUANT_OK);
    std::string words;
    for (size_t d = 0; d < shape.size(); ++d) {
        words += " [" + std::to_string(shape[d]) + ": " + std::to_string(in.strides[d]) + ", " +
                 std::to_string(out.strides[d]) + "]";
    }
    ASSERT_TRUE(out.memory == model.memory) << info(from).name << " -> " << info(to).name << " by " << info(code).name
                                            << " round " << o.round_mode << " reduce " << o.reduce_op << words;
}

std::vector<size_t> some_shape(Random& random, size_t most) {
    std::vector<size_t> shape(1 + pick(random, 4));
    size_t n = 1;
    for (size_t& size : shape) {
        const size_t sizes[] = {1, 2, 3, 5, 7, 8, 16, 33, 64, 130, 257, 1000, 5000};
        size = sizes[pick(random, 12)];
        size = n * size > most ? 1 + pick(random, 2) : size;
        n *= size;
    }
    std::shuffle(shape.begin(), shape.end(), random);
    return shape;
}

TEST(Lines, EveryLayoutGivesWhatContiguousDataGive) {
    const ContextPtr parallel = make_parallel_context(3);
    const ContextPtr alone = make_context(1);
    const ContextPtr single = make_parallel_context(1);
    size_t available = 0;
    while (piquant_available_isa(available) != nullptr) {
        ++available;
    }
    const int rounds = address_sanitizer || emulated ? 400 : 4000;  // the fuzzer goes on from there
    Random random(1);
    for (int round = 0; round < rounds && !HasFailure(); ++round) {
        const auto real = static_cast<DType>(pick(random, float_count - 1));
        const auto code = static_cast<DType>(float_count + pick(random, code_count + unpacked_count - 1));
        const auto kind = static_cast<Call>(pick(random, 2));
        const char* isa = piquant_available_isa(static_cast<size_t>(round) % available);
        piquant_context_t* const context = round / 4 % 4 == 0 ? parallel.get() : alone.get();
        ASSERT_EQ(piquant_context_set_isa(context, isa), PIQUANT_OK);
        check(context, single.get(), random, kind, real, code, some_shape(random, round % 200 == 0 ? 300000 : 6000));
    }
}

TEST(Lines, ParametersOfEveryLayout) {
    const ContextPtr context = make_parallel_context(2);
    Random random(2);
    for (int round = 0; round < 1000; ++round) {
        const auto real = static_cast<DType>(pick(random, float_count - 1));
        const std::vector<size_t> shape = some_shape(random, round % 50 == 0 ? 300000 : 6000);
        Placed in = place(random, real, shape, true);
        fill(random, in, shape);
        const Bytes dense = collected(in, shape);
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        double scale[2];
        int64_t zero_point[2];
        const auto dtype = static_cast<piquant_dtype_t>(real);
        ASSERT_EQ(piquant_compute_quant_params(context.get(), dense.data(), dtype, PIQUANT_UINT8, elements(shape), &o,
                                               &scale[0], &zero_point[0]),
                  PIQUANT_OK);
        o.rank = shape.size();
        o.shape = shape.data();
        o.in_strides = in.strides.data();
        ASSERT_EQ(piquant_compute_quant_params(context.get(), in.base(), dtype, PIQUANT_UINT8, elements(shape), &o,
                                               &scale[1], &zero_point[1]),
                  PIQUANT_OK);
        ASSERT_EQ(scale[0], scale[1]);
        ASSERT_EQ(zero_point[0], zero_point[1]);
    }
}

// How many dimensions are left of a layout.
struct Layout {
    std::vector<size_t> shape;
    std::vector<ptrdiff_t> in;  // empty: contiguous
    std::vector<ptrdiff_t> out;
};

piquant_status_t read(const Layout& layout, DType from, DType to, Lines& lines,
                      void* out = reinterpret_cast<void*>(0x900000), bool in_place = false,
                      const void* in = reinterpret_cast<void*>(0x100000)) {
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.rank = layout.shape.size();
    o.shape = layout.shape.data();
    o.in_strides = layout.in.empty() ? nullptr : layout.in.data();
    o.out_strides = layout.out.empty() ? nullptr : layout.out.data();
    return read_lines(o, elements(layout.shape), in, from, out, to, in_place, lines);
}

TEST(Lines, Merge) {
    const struct {
        Layout layout;
        DType to;
        bool any_order;
        std::vector<size_t> left;
    } rows[] = {
        {{{3, 4, 5}, {}, {}}, DType::int8, false, {60}},
        {{{1, 1}, {}, {}}, DType::int8, false, {1}},
        {{{7, 1, 5}, {20, 999, 4}, {}}, DType::int8, false, {35}},
        {{{8, 6}, {48, 4}, {}}, DType::int8, false, {8, 6}},                           // every second row
        {{{8, 6}, {4, 32}, {}}, DType::int8, true, {8, 6}},                            // transposed, to row-major
        {{{8, 6}, {4, 32}, {1, 8}}, DType::int8, true, {48}},                          // transposed on both sides
        {{{8, 6}, {4, 32}, {1, 8}}, DType::int8, false, {8, 6}},                       // where the order matters
        {{{2, 3, 4, 5}, {240, 4, 60, 12}, {60, 1, 15, 3}}, DType::int8, true, {120}},  // channels last
        {{{8, 6}, {-24, -4}, {-6, -1}}, DType::int8, true, {48}},                      // both turned around
        {{{4, 6}, {}, {}}, DType::int4, false, {24}},  // packed rows that fill their bytes
        {{{4, 5}, {}, {}}, DType::int4, false, {4, 5}},
        {{{4, 6}, {}, {}}, DType::int2, false, {4, 6}},
        {{{2, 4, 8}, {}, {16, 4, 77}}, DType::int4, false, {64}},
        {{{2, 4, 8}, {}, {20, 4, 77}}, DType::int4, false, {2, 32}},
    };
    for (const auto& row : rows) {
        Lines lines;
        ASSERT_EQ(read(row.layout, DType::float32, row.to, lines, reinterpret_cast<void*>(0x900000)), PIQUANT_OK);
        merge_dimensions(lines, row.any_order);
        std::vector<size_t> left;
        for (int d = 0; d < lines.rank; ++d) {
            left.push_back(lines.dims[d].size);
        }
        EXPECT_EQ(left, row.left) << "row " << &row - rows;
    }
}

TEST(Lines, BadLayouts) {
    const ptrdiff_t huge = PTRDIFF_MAX;
    void* const far = reinterpret_cast<void*>(0x900000);
    void* const in = reinterpret_cast<void*>(0x100000);
    const struct {
        const char* what;
        Layout layout;
        DType to;
        void* out;
        bool in_place;
        piquant_status_t status;
    } rows[] = {
        {"repeated output", {{4, 4}, {}, {0, 1}}, DType::int8, far, false, PIQUANT_ERROR_STRIDES},
        {"rows that meet", {{4, 4}, {}, {3, 1}}, DType::int8, far, false, PIQUANT_ERROR_STRIDES},
        {"elements that meet", {{4}, {}, {3}}, DType::int32, far, false, PIQUANT_ERROR_STRIDES},
        {"packed rows that meet", {{4, 5}, {}, {2, 0}}, DType::int4, far, false, PIQUANT_ERROR_STRIDES},
        {"packed rows side by side", {{4, 5}, {}, {3, 0}}, DType::int4, far, false, PIQUANT_OK},
        {"turned around", {{4, 4}, {-16, -4}, {-4, -1}}, DType::int8, far, false, PIQUANT_OK},
        {"repeated input", {{4, 4}, {0, 0}, {}}, DType::int8, far, false, PIQUANT_OK},
        {"one element with any stride", {{1, 1}, {huge, -huge}, {0, 0}}, DType::int8, far, false, PIQUANT_OK},
        {"beyond the address space", {{3, 4}, {huge, 4}, {}}, DType::int8, far, false, PIQUANT_ERROR_LENGTH},
        {"below address 0", {{4, 4}, {-0x100000, 4}, {}}, DType::int8, far, false, PIQUANT_ERROR_LENGTH},
        {"the same place", {{4, 4}, {}, {}}, DType::float32, in, false, PIQUANT_ERROR_OVERLAP},
        {"in place", {{4, 4}, {32, 8}, {32, 8}}, DType::float32, in, true, PIQUANT_OK},
        {"the same place, transposed", {{4, 4}, {16, 4}, {4, 16}}, DType::float32, in, true, PIQUANT_ERROR_OVERLAP},
        {"an element further",
         {{4, 4}, {}, {}},
         DType::float32,
         static_cast<char*>(in) + 4,
         true,
         PIQUANT_ERROR_OVERLAP},
        {"below, by its strides",
         {{4}, {}, {-4}},
         DType::float32,
         static_cast<char*>(in) + 20,
         false,
         PIQUANT_ERROR_OVERLAP},
    };
    for (const auto& row : rows) {
        Lines lines;
        EXPECT_EQ(read(row.layout, DType::float32, row.to, lines, row.out, row.in_place), row.status) << row.what;
    }
}

TEST(Lines, ShapesAndCounts) {
    const ContextPtr context = make_parallel_context(2);
    std::vector<float> in(64, 1.0f);
    Bytes out(64, 0x5a);
    const auto quantize = [&](size_t n, const std::vector<size_t>& shape, size_t rank) {
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.rank = rank;
        o.shape = shape.empty() ? nullptr : shape.data();
        return piquant_quantize(context.get(), in.data(), PIQUANT_FLOAT32, out.data(), PIQUANT_INT8, n, 1, 0, &o);
    };
    EXPECT_EQ(quantize(12, {3, 5}, 2), PIQUANT_ERROR_SHAPE);
    EXPECT_EQ(quantize(15, {}, 2), PIQUANT_ERROR_SHAPE);
    EXPECT_EQ(quantize(1, std::vector<size_t>(PIQUANT_MAX_RANK + 1, 1), PIQUANT_MAX_RANK + 1), PIQUANT_ERROR_SHAPE);
    EXPECT_EQ(quantize(8, {0, 8}, 2), PIQUANT_ERROR_SHAPE);
    EXPECT_EQ(quantize(0, {size_t{1} << 40, size_t{1} << 40}, 2), PIQUANT_ERROR_SHAPE) << "the product wraps to 0";
    EXPECT_EQ(out, Bytes(64, 0x5a));
    EXPECT_EQ(quantize(0, {size_t{1} << 40, size_t{1} << 40, 0}, 3), PIQUANT_OK);
    EXPECT_EQ(out, Bytes(64, 0x5a));
    EXPECT_EQ(quantize(1, std::vector<size_t>(PIQUANT_MAX_RANK, 1), PIQUANT_MAX_RANK), PIQUANT_OK);
    EXPECT_EQ(out[0], 1);
}

}  // namespace
}  // namespace piquant
