// Every kernel, and every call that works by tiles, gives the same bytes on every machine: their digests equal the table
// in digests.inc, whatever the architecture and the instruction set. (isa_matrix_test compares instruction sets within
// one machine, on more data.)
//
// After an intended change of results or inputs, print the new table, from the scalar kernels:
//   PIQUANT_PRINT_DIGESTS=1 piquant_tests --gtest_filter='Digests.*' | grep '^{' > tests/cpp/digests.inc
#include "digests.hpp"

namespace piquant {
namespace {

// Modes: quantize [Round], dequantize [Reduce], quantize_dequantize [2 * Round + Reduce], layouts [operation], the last one
// in place.
constexpr Row expected_rows[] = {
#include "digests.inc"
};

struct Case {
    size_t n;
    double scale;
    int exponent;  // of the scale
    bool ranged;
};

// Odd and even lengths, round and awkward scales, whole and narrower ranges; offsets put words in two key periods.
constexpr Case cases[] = {{61, 1.0, 0, false},     {256, 0.1, -4, false},  {1027, 0x1p-20, -20, false},
                          {1500, 3e-5, -16, true}, {3333, 700.0, 9, true}, {130, 1.2e-38, -126, false},
                          {130, 1e38, 126, false}, {4099, 0.75, -1, false}};

// Digest of one kernel over all cases; from or to is `code`, or neither.
uint64_t digest(Kernel kernel, DType from, DType to, DType real, DType code) {
    Digest d;
    Words words(1000 + static_cast<uint64_t>(real) * 100 + static_cast<uint64_t>(code));
    const DTypeInfo& type = info(code);
    const uint64_t lowest = code_min(type.bits, type.is_signed);
    const uint64_t span = code_max(type.bits, type.is_signed) - lowest;
    const int reach = type.bits + 3;  // input exponents run past both ends of what codes can tell apart
    for (const Case& c : cases) {
        const uint64_t zeros[] = {lowest, lowest + span, lowest + span / 2, lowest + words.next() % span};
        KernelArgs args = kernel_args(real, code, c.scale, zeros[words.below(4)]);
        args.n = c.n;
        args.seed = words.next();
        args.offset = 65536 * words.below(1000) + 65000 + words.below(600);
        args.non_temporal = words.below(2) == 0;
        if (c.ranged) {
            args.quant_min += 1;
            args.quant_max -= type.bits == 2 ? 0 : 1 + words.below(3);
        }
        const Bytes in = info(from).is_float ? patterns(from, c.n, c.exponent + type.bits / 2, reach, words)
                                             : codes(from, c.n, words);
        Bytes out = info(to).is_float ? patterns(to, c.n, c.exponent + type.bits / 2, reach, words)
                                      : Bytes(bytes_for(c.n, info(to).bits));
        args.in = in.data();
        args.out = out.data();
        kernel(args);
        d.add(out.data(), out.size());
    }
    return d.value();
}

// Of the values, not their patterns: which zero stands for both is unspecified, and so are the ends beside a NaN.
uint64_t digest(MinMaxKernel kernel, DType real) {
    Digest d;
    Words words(500 + static_cast<uint64_t>(real));
    for (size_t n = 1; n < 700; n += n < 80 ? 1 : 13) {
        Bytes data = patterns(real, n, 0, 8, words);
        if (n % 3 != 0) {  // without NaN and infinity: clear the lowest exponent bit
            const int bits = info(real).bits;
            const int bit = mantissa_bits_of(real);
            for (size_t i = 0; i < n; ++i) {
                unsigned char& b = data[bytes_for(i, bits) + static_cast<size_t>(bit / 8)];
                b = static_cast<unsigned char>(b & ~(1u << (bit % 8)));
            }
        }
        const Extent e = kernel(data.data(), n);
        const double ends[2] = {e.has_nan ? 0.0 : e.lo + 0.0, e.has_nan ? 0.0 : e.hi + 0.0};
        const unsigned char has_nan = e.has_nan;
        d.add(&has_nan, 1);
        d.add(ends, sizeof ends);
    }
    return d.value();
}

// An array of three dimensions, which lie in memory in some order, innermost first, `step` elements apart, forwards or
// backwards. Packed rows are always innermost.
struct Layout {
    size_t order[3];
    size_t step;
    bool backwards;
};
struct Placed {
    ptrdiff_t strides[3];
    size_t first;
    size_t bytes;
};
Placed placed(DType type, const size_t (&shape)[3], const Layout& layout) {
    const Format format = info(type).format;
    const bool packed = format.elements > 1;
    Placed p{{0, 0, 0}, 0, bytes_for(packed ? shape[2] : 1, format)};
    size_t stride = packed ? p.bytes : p.bytes * layout.step;
    for (const size_t d : layout.order) {
        if (packed && d == 2) {
            continue;
        }
        const size_t reach = stride * (shape[d] - 1);
        p.strides[d] = layout.backwards ? -static_cast<ptrdiff_t>(stride) : static_cast<ptrdiff_t>(stride);
        p.first += layout.backwards ? reach : 0;
        p.bytes += reach;
        stride *= shape[d];
    }
    return p;
}

// Digests of calls with layouts, all with random words and sums: transposed, strided, channels last, odd rows.
Row layouts_row(piquant_context_t* context, DType real, DType code) {
    constexpr struct {
        size_t shape[3];
        Layout in;
        Layout out;
    } layouts[] = {{{1, 57, 383}, {{1, 2, 0}, 1, false}, {{2, 1, 0}, 1, false}},
                   {{1, 70, 65}, {{2, 1, 0}, 1, false}, {{1, 2, 0}, 1, true}},
                   {{3, 41, 29}, {{2, 1, 0}, 2, true}, {{0, 2, 1}, 1, false}},
                   {{2, 3, 4099}, {{2, 1, 0}, 1, false}, {{2, 1, 0}, 1, true}},
                   {{5, 7, 9}, {{0, 1, 2}, 3, false}, {{1, 0, 2}, 2, false}}};
    Row row{"layouts", info(real).name, info(code).name, {}};
    Words words(2000 + static_cast<uint64_t>(real) * 100 + static_cast<uint64_t>(code));
    for (int operation = 0; operation < max_modes; ++operation) {
        Digest d;
        for (const auto& l : layouts) {
            const DType from = operation == 1 ? code : real;
            const DType to = operation == 0 ? code : real;
            const Placed in = placed(from, l.shape, l.in);
            const Placed out = placed(to, l.shape, operation == 3 ? l.in : l.out);
            const auto made = [&](DType type, size_t bytes) {
                const size_t size = info(type).format.bytes;
                return info(type).is_float
                           ? patterns(type, bytes / size, info(code).bits / 2, info(code).bits + 3, words)
                           : codes(DType::uint8, bytes, words);
            };
            const Bytes input = made(from, in.bytes);
            Bytes output = operation == 3 ? input : made(to, out.bytes);
            piquant_options_t o = PIQUANT_OPTIONS_INIT;
            o.round_mode = PIQUANT_STOCHASTIC;
            o.reduce_op = operation == 3 ? PIQUANT_SET : PIQUANT_ADD;
            o.seed = words.next();
            o.offset = 65536 * words.below(1000) + 65000 + words.below(600);
            o.rank = 3;
            o.shape = l.shape;
            o.in_strides = in.strides;
            o.out_strides = out.strides;
            const auto r = static_cast<piquant_dtype_t>(real);
            const auto q = static_cast<piquant_dtype_t>(code);
            const size_t n = l.shape[0] * l.shape[1] * l.shape[2];
            unsigned char* const to_first = output.data() + out.first;
            const unsigned char* const from_first = operation == 3 ? to_first : input.data() + in.first;
            EXPECT_EQ(operation == 0 ? piquant_quantize(context, from_first, r, to_first, q, n, 0.75, 1, &o)
                      : operation == 1
                          ? piquant_dequantize(context, from_first, q, to_first, r, n, 0.75, 1, &o)
                          : piquant_quantize_dequantize(context, from_first, to_first, r, q, n, 0.75, 1, &o),
                      PIQUANT_OK);
            d.add(output.data(), output.size());
        }
        row.digests[operation] = d.value();
    }
    return row;
}

// The digests of one table, in the order of digests.inc.
std::vector<Row> rows_of(const KernelTable& t) {
    std::vector<Row> rows;
    for (int f = 0; f < float_count; ++f) {
        const auto real = static_cast<DType>(f);
        const char* real_name = info(real).name;
        for (int q = 0; q < code_count; ++q) {
            const auto code = static_cast<DType>(float_count + q);
            const char* code_name = info(code).name;
            Row quantize{"quantize", real_name, code_name, {}};
            Row dequantize{"dequantize", code_name, real_name, {}};
            Row fused{"quantize_dequantize", real_name, code_name, {}};
            for (int m = 0; m < 2; ++m) {
                quantize.digests[m] = digest(quantize_kernel(t, real, code, m), real, code, real, code);
                dequantize.digests[m] = digest(dequantize_kernel(t, code, real, m), code, real, real, code);
            }
            for (int m = 0; m < 4; ++m) {
                fused.digests[m] =
                    digest(quantize_dequantize_kernel(t, real, code, m / 2, m % 2), real, real, real, code);
            }
            rows.insert(rows.end(), {quantize, dequantize, fused});
        }
        rows.push_back({"minmax", real_name, "extent", {digest(t.minmax[f], real)}});
    }
    const ContextPtr context = make_context(1);
    EXPECT_EQ(piquant_context_set_isa(context.get(), t.name), PIQUANT_OK);
    for (int f = 0; f < float_count; ++f) {
        for (const DType code : {DType::int2, DType::uint4, DType::int8, DType::uint16, DType::int32, DType::uint64,
                                 DType::uint2_unpacked, DType::int4_unpacked}) {
            rows.push_back(layouts_row(context.get(), static_cast<DType>(f), code));
        }
    }
    return rows;
}

TEST(Digests, EqualTheTableOnEveryIsa) {
    expect_rows(expected_rows, rows_of);
}

}  // namespace
}  // namespace piquant
