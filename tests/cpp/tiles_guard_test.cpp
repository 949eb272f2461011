// Layouts between pages that nobody may touch, on every instruction set: a call stays within its elements' extent, and
// leaves what lies between elements as it was. Arrays begin and end at such a page; rows far apart have one between
// them.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "guarded_region.hpp"
#include "kernel_data.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr double scale = 0.37;

// How the dimensions of a shape of three lie in memory, innermost first, and what is between them. Packed rows are
// always innermost.
struct Arrangement {
    const char* name;
    std::array<size_t, 3> order;
    size_t gap;  // bytes, behind each step over the innermost dimension
    bool turned;
};
constexpr Arrangement arrangements[] = {
    {"row-major", {2, 1, 0}, 0, false},
    {"rows with gaps", {2, 1, 0}, 5, false},
    {"every second element", {2, 1, 0}, 0, false},
    {"transposed", {1, 2, 0}, 0, false},
    {"transposed, gaps", {1, 2, 0}, 3, true},
    {"channels last", {0, 2, 1}, 0, false},
    {"turned around", {2, 1, 0}, 0, true},
};
constexpr size_t every_second = 2;

struct Array {
    DType type;
    std::array<size_t, 3> shape;
    std::array<ptrdiff_t, 3> strides;
    size_t first;  // of the first element, behind the lowest byte
    size_t bytes;

    bool packed() const { return info(type).format.elements > 1; }
};

Array arrange(DType type, std::array<size_t, 3> shape, size_t which) {
    const Arrangement& a = arrangements[which];
    Array made{type, shape, {}, 0, bytes_for(info(type).format.elements > 1 ? shape[2] : 1, info(type).format)};
    size_t step = made.bytes;
    bool innermost = true;
    for (const size_t d : a.order) {
        if (made.packed() && d == 2) {
            continue;
        }
        step = which == every_second && d == 2 ? 2 * step : step;
        made.strides[d] = static_cast<ptrdiff_t>(step);
        made.bytes += step * (shape[d] - 1);
        if (a.turned) {
            made.first += step * (shape[d] - 1);
            made.strides[d] = -made.strides[d];
        }
        step = step * shape[d] + (innermost ? a.gap : 0);
        innermost = false;
    }
    return made;
}

// Calls f(offset, number) for each element, or each packed row, in row-major order.
template <class F>
void for_each_unit(const Array& a, const F& f) {
    size_t number = 0;
    for (size_t i = 0; i < a.shape[0]; ++i) {
        for (size_t j = 0; j < a.shape[1]; ++j) {
            for (size_t k = 0; k < (a.packed() ? 1 : a.shape[2]); ++k, ++number) {
                f(static_cast<size_t>(static_cast<ptrdiff_t>(a.first) + static_cast<ptrdiff_t>(i) * a.strides[0] +
                                      static_cast<ptrdiff_t>(j) * a.strides[1] +
                                      (a.packed() ? 0 : static_cast<ptrdiff_t>(k) * a.strides[2])),
                  number);
            }
        }
    }
}
size_t unit_bytes(const Array& a) {
    return a.packed() ? bytes_for(a.shape[2], info(a.type).format) : info(a.type).format.bytes;
}

enum class Call { quantize, dequantize, fused, parameters };

piquant_status_t call(piquant_context_t* c, Call kind, const void* in, void* out, DType real, DType code, size_t n,
                      const piquant_options_t& o) {
    const auto r = static_cast<piquant_dtype_t>(real);
    const auto q = static_cast<piquant_dtype_t>(code);
    double found_scale;
    int64_t found_zero_point;
    switch (kind) {
        case Call::quantize: return piquant_quantize(c, in, r, out, q, n, scale, 1, &o);
        case Call::dequantize: return piquant_dequantize(c, in, q, out, r, n, scale, 1, &o);
        case Call::fused: return piquant_quantize_dequantize(c, in, out, r, q, n, scale, 1, &o);
        default: return piquant_compute_quant_params(c, in, r, q, n, &o, &found_scale, &found_zero_point);
    }
}

class TilesGuard : public testing::Test {
protected:
    void SetUp() override { report_faults(); }

    void check(const Isa& isa, Call kind, DType real, DType code, std::array<size_t, 3> shape, size_t in_kind,
               size_t out_kind, bool at_end) {
        const Array in = arrange(kind == Call::dequantize ? code : real, shape, in_kind);
        const Array out = arrange(kind == Call::quantize ? code : real, shape, out_kind);
        const size_t n = shape[0] * shape[1] * shape[2];
        ASSERT_LE(std::max(in.bytes, out.bytes), in_.size());
        unsigned char* const from = in_.data() + (at_end ? in_.size() - in.bytes : 0);
        const size_t in_start = at_end ? in_.size() - in.bytes : 0;
        const size_t out_start = at_end ? out_.size() - out.bytes : 0;
        for (size_t i = 0; i < in.bytes; ++i) {
            from[i] = static_cast<unsigned char>(random_());
        }
        if (info(in.type).is_float) {
            const Bytes numbers = float_data(in.type, n, scale, random_);
            for_each_unit(in, [&](size_t at, size_t k) {
                std::memcpy(from + at, numbers.data() + k * unit_bytes(in), unit_bytes(in));
            });
        }
        unsigned char* const to = out_.data() + out_start;
        for (size_t i = 0; i < out.bytes; ++i) {
            to[i] = static_cast<unsigned char>(random_());
        }
        const Bytes before(to, to + out.bytes);

        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.round_mode = n % 2 == 0 ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
        o.reduce_op = n % 3 == 0 ? PIQUANT_ADD : PIQUANT_SET;
        o.offset = 65500;
        piquant_options_t layout = o;
        layout.rank = 3;
        layout.shape = shape.data();
        layout.in_strides = in.strides.data();
        layout.out_strides = out.strides.data();
        const std::string name = std::string(info(in.type).name) + " " + arrangements[in_kind].name + " -> " +
                                 info(out.type).name + " " + arrangements[out_kind].name + ", " +
                                 std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + " x " +
                                 std::to_string(shape[2]);
        const GuardedAccess access = {
            isa.name, name.c_str(), n, in_.view() + in_start, in.bytes, out_.view() + out_start, out.bytes};
        guarded_access = &access;
        ASSERT_EQ(piquant_context_set_isa(context_.get(), isa.name), PIQUANT_OK);
        const piquant_status_t status = call(context_.get(), kind, in_.view() + in_start + in.first,
                                             out_.view() + out_start + out.first, real, code, n, layout);
        guarded_access = nullptr;
        if (kind == Call::parameters) {
            ASSERT_TRUE(status == PIQUANT_OK || status == PIQUANT_ERROR_NOT_FINITE) << name;
            return;
        }
        ASSERT_EQ(status, PIQUANT_OK) << name;
        // What changed outside of elements must be nothing; elements are compared with rows of the scalar set.
        Bytes expected = before;
        const size_t row = shape[2];
        Bytes row_in(bytes_for(row, info(in.type).format));
        Bytes row_out(bytes_for(row, info(out.type).format));
        for (size_t r = 0; r < shape[0] * shape[1]; ++r) {
            gather_row(in, from, r, row_in);
            gather_row(out, before.data(), r, row_out);
            piquant_options_t flat = o;
            flat.offset = o.offset + r * row;
            ASSERT_EQ(call(scalar_.get(), kind, row_in.data(), row_out.data(), real, code, row, flat), PIQUANT_OK);
            scatter_row(out, expected.data(), r, row_out);
        }
        const auto wrong = std::mismatch(to, to + out.bytes, expected.begin());
        ASSERT_TRUE(wrong.first == to + out.bytes)
            << isa.name << ", " << name << ": byte " << wrong.first - to << " of " << out.bytes;
    }

    static void gather_row(const Array& a, const unsigned char* memory, size_t row, Bytes& dense) {
        const size_t per_row = a.packed() ? 1 : a.shape[2];
        for (size_t k = 0; k < per_row; ++k) {
            std::memcpy(dense.data() + k * unit_bytes(a), memory + offset(a, row, k), unit_bytes(a));
        }
    }
    static void scatter_row(const Array& a, unsigned char* memory, size_t row, const Bytes& dense) {
        const size_t per_row = a.packed() ? 1 : a.shape[2];
        for (size_t k = 0; k < per_row; ++k) {
            std::memcpy(memory + offset(a, row, k), dense.data() + k * unit_bytes(a), unit_bytes(a));
        }
    }
    static size_t offset(const Array& a, size_t row, size_t k) {
        const auto i = static_cast<ptrdiff_t>(row / a.shape[1]);
        const auto j = static_cast<ptrdiff_t>(row % a.shape[1]);
        return static_cast<size_t>(static_cast<ptrdiff_t>(a.first) + i * a.strides[0] + j * a.strides[1] +
                                   (a.packed() ? 0 : static_cast<ptrdiff_t>(k) * a.strides[2]));
    }

    GuardedRegion in_{size_t{1} << 20, false};
    GuardedRegion out_{size_t{1} << 20, true};
    std::mt19937_64 random_{1};
    ContextPtr context_ = make_context(1);
    ContextPtr scalar_ = [] {
        ContextPtr c = make_context(1);
        EXPECT_EQ(piquant_context_set_isa(c.get(), "scalar"), PIQUANT_OK);
        return c;
    }();
};

constexpr std::array<size_t, 3> shapes[] = {{1, 1, 1},  {3, 5, 7},    {2, 3, 33},  {1, 70, 131}, {5, 67, 9},
                                            {2, 65, 1}, {1, 3, 5001}, {130, 1, 3}, {4, 4, 64},   {1, 200, 17}};

// Each type with each arrangement of either side; shapes take turns.
TEST_F(TilesGuard, EveryArrangement) {
    constexpr DType codes[] = {DType::int2,   DType::uint4, DType::int8,
                               DType::uint16, DType::int64, DType::int4_unpacked};
    size_t round = 0;
    for (const Isa* isa : all_isas()) {
        for (int f = 0; f < float_count; ++f) {
            for (const DType code : codes) {
                for (size_t i = 0; i < std::size(arrangements); ++i) {
                    for (size_t k = 0; k < std::size(arrangements) && !HasFailure(); ++k, ++round) {
                        if (address_sanitizer && round % 5 != 0) {
                            continue;
                        }
                        const auto kind = static_cast<Call>(round % 4);
                        check(*isa, kind, static_cast<DType>(f), code, shapes[round / 4 % std::size(shapes)], i, k,
                              round / 7 % 2 == 0);
                        check(*isa, kind, static_cast<DType>(f), code, shapes[(round / 4 + 3) % std::size(shapes)], i,
                              k, round / 7 % 2 != 0);
                    }
                }
            }
        }
    }
}

// Rows of packed codes of every length around a register, at either end, with a kernel of each direction.
TEST_F(TilesGuard, RowsOfPackedCodes) {
    for (const Isa* isa : all_isas()) {
        for (size_t row = 1; row < 300 && !HasFailure(); row += row < 140 ? 1 : 23) {
            for (const DType code : {DType::uint2, DType::int4}) {
                for (const bool at_end : {false, true}) {
                    check(*isa, Call::quantize, DType::float32, code, {2, 3, row}, 0, row % 2, at_end);
                    check(*isa, Call::dequantize, DType::bfloat16, code, {2, 3, row}, row % 2, 1, at_end);
                }
            }
        }
    }
}

// Every second page is inaccessible, and each row ends, or begins, where one does.
TEST_F(TilesGuard, RowsBetweenPages) {
    const size_t page = page_bytes();
    constexpr size_t rows = 6;
    unsigned char* const memory = reserve_pages((2 * rows + 1) * page);
    for (size_t r = 0; r < rows; ++r) {
        set_access(memory + (2 * r + 1) * page, page, Access::write);
    }
    std::vector<float> numbers(rows * 300);
    for (const Isa* isa : all_isas()) {
        ASSERT_EQ(piquant_context_set_isa(context_.get(), isa->name), PIQUANT_OK);
        for (const piquant_dtype_t code :
             {PIQUANT_INT2, PIQUANT_UINT4, PIQUANT_UINT8, PIQUANT_INT4_UNPACKED, PIQUANT_INT16}) {
            for (size_t row = 1; row < 300; row += row < 70 ? 1 : 19) {
                for (const bool turned : {false, true}) {
                    for (const bool at_end : {false, true}) {
                        const size_t shape[] = {rows, row};
                        const auto apart = static_cast<ptrdiff_t>(2 * page);
                        const auto size = static_cast<ptrdiff_t>(piquant_size(code, 1));
                        const ptrdiff_t strides[] = {turned ? -apart : apart, size};
                        unsigned char* const first =
                            memory + (turned ? 2 * rows - 1 : 1) * page + (at_end ? page - piquant_size(code, row) : 0);
                        for (size_t i = 0; i < rows * row; ++i) {
                            numbers[i] = static_cast<float>(i * 5 % 3) - (code == PIQUANT_INT2 ? 1.0f : 0.0f);
                        }
                        const std::vector<float> before(numbers.begin(),
                                                        numbers.begin() + static_cast<ptrdiff_t>(rows * row));
                        const std::string name = std::string("rows between pages, ") + piquant_dtype_name(code);
                        const GuardedAccess access = {
                            isa->name, name.c_str(),           row, first, piquant_size(code, row),
                            first,     piquant_size(code, row)};
                        guarded_access = &access;
                        piquant_options_t o = PIQUANT_OPTIONS_INIT;
                        o.rank = 2;
                        o.shape = shape;
                        o.out_strides = strides;
                        ASSERT_EQ(piquant_quantize(context_.get(), before.data(), PIQUANT_FLOAT32, first, code,
                                                   rows * row, 1, 0, &o),
                                  PIQUANT_OK);
                        std::fill(numbers.begin(), numbers.end(), 99.0f);
                        o.out_strides = nullptr;
                        o.in_strides = strides;
                        ASSERT_EQ(piquant_dequantize(context_.get(), first, code, numbers.data(), PIQUANT_FLOAT32,
                                                     rows * row, 1, 0, &o),
                                  PIQUANT_OK);
                        guarded_access = nullptr;
                        ASSERT_TRUE(std::equal(before.begin(), before.end(), numbers.begin()))
                            << isa->name << ", " << name;
                    }
                }
            }
        }
    }
    release_pages(memory, (2 * rows + 1) * page);
}

}  // namespace
}  // namespace piquant
