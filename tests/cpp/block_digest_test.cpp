// Every call with blocks gives the same bytes on every machine: their digests equal the table in block_digests.inc,
// whatever the architecture and the instruction set.
//
// After an intended change of results or inputs, print the new table, from the scalar kernels:
//   PIQUANT_PRINT_DIGESTS=1 piquant_tests --gtest_filter='BlockDigests.*' | grep '^{' > tests/cpp/block_digests.inc
#include "block_call.hpp"
#include "digests.hpp"

namespace piquant {
namespace {

// Modes: quantize, dequantize, quantize_dequantize, and compute_quant_params with quantize_dynamic. Each is of both
// roundings and of both reduce operators, or of parameters symmetric and not.
constexpr Row expected_rows[] = {
#include "block_digests.inc"
};

using Call = BlockArguments;

// Groups, ragged ones, groups that end inside bytes; rows and parts of them; columns, channels, rectangles; a scale for
// each element, and one for all.
struct Case {
    BlockGrid grid;
    DType scale_dtype;
    bool transposed;  // the input's last two dimensions have changed places in memory
};
const Case cases[] = {
    {{{1, 3, 416}, {1, 1, 32}}, DType::float32, false},   {{{1, 5, 261}, {1, 1, 64}}, DType::float16, false},
    {{{1, 4, 99}, {1, 1, 7}}, DType::bfloat16, false},    {{{2, 9, 48}, {1, 1, 16}}, DType::float64, false},
    {{{1, 7, 130}, {1, 1, 130}}, DType::float32, false},  {{{1, 1, 2500}, {1, 1, 2100}}, DType::float16, false},
    {{{1, 20, 67}, {1, 20, 1}}, DType::float32, false},   {{{3, 5, 64}, {3, 1, 64}}, DType::bfloat16, false},
    {{{1, 35, 97}, {1, 16, 48}}, DType::float64, false},  {{{1, 31, 64}, {1, 1, 32}}, DType::float32, true},
    {{{2, 23, 27}, {1, 10, 20}}, DType::float16, true},   {{{1, 6, 90}, {1, 1, 1}}, DType::float32, false},
    {{{2, 20, 20}, {2, 20, 20}}, DType::bfloat16, false},
};

// One call. What it writes goes into the digest.
void add_call(piquant_context_t* context, Call::Function function, const Case& c, DType real, DType code, int round,
              int reduce, Words& words, Digest& d) {
    const BlockGrid& g = c.grid;
    const uint64_t kind = words.below(3);
    const DType zero_dtype = kind == 0 ? plain(code) : info(code).is_signed ? DType::int64 : DType::uint64;
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.round_mode = static_cast<piquant_round_mode_t>(round);
    o.reduce_op = static_cast<piquant_reduce_op_t>(reduce);
    o.symmetric = reduce;
    o.seed = words.next();
    o.offset = 65536 * words.below(1000) + 65000 + words.below(600);
    o.has_quant_min = words.below(4) == 0 ? 1 : 0;
    o.quant_min = static_cast<int64_t>(code_min(info(code).bits, info(code).is_signed) + 1);
    const piquant_blocks_t blocks = g.with(c.scale_dtype, zero_dtype);
    Call call = {function, context, static_cast<piquant_dtype_t>(real), static_cast<piquant_dtype_t>(code),
                 &blocks,  &o};
    BlockArrays arrays(call, g, c.scale_dtype, zero_dtype, words);
    if (!call.reads_codes() && !call.finds_parameters()) {  // also what is not finite
        arrays.in = patterns(real, g.elements(), 0, std::min(info(code).bits + 3, 12), words);
    }
    const DType from = call.reads_codes() ? code : real;
    const auto size = static_cast<ptrdiff_t>(info(from).format.bytes);
    const auto in_bytes = [&](size_t elements) { return size * static_cast<ptrdiff_t>(elements); };
    const ptrdiff_t across[] = {in_bytes(g.shape[1] * g.shape[2]), size, in_bytes(g.shape[1])};
    o.in_strides = c.transposed && info(from).format.elements == 1 ? across : nullptr;
    call = arrays.of(call);
    call.zero_point = kind == 2 && (!call.finds_parameters() || o.symmetric != 0) ? nullptr : call.zero_point;
    EXPECT_EQ(call(), PIQUANT_OK);
    d.add(arrays.out.data(), arrays.out.size());
    if (call.finds_parameters()) {
        d.add(arrays.scale.data(), arrays.scale.size());
        d.add(arrays.zero_point.data(), arrays.zero_point.size());
    }
}

std::vector<Row> rows_of(const KernelTable& t) {
    const ContextPtr context = make_context(1);
    EXPECT_EQ(piquant_context_set_isa(context.get(), t.name), PIQUANT_OK);
    std::vector<Row> rows;
    for (int f = 0; f < float_count; ++f) {
        for (int q = float_count; q < dtype_count; ++q) {
            const auto real = static_cast<DType>(f);
            const auto code = static_cast<DType>(q);
            Row row{"blocks", info(real).name, info(code).name, {}};
            Words words(3000 + static_cast<uint64_t>(f) * 100 + static_cast<uint64_t>(q));
            Digest digests[max_modes];
            for (const Call::Function function : block_functions) {
                for (int mode = 0; mode < 4; ++mode) {
                    const bool rounds = function != Call::dequantize && function != Call::compute_quant_params;
                    const bool reduces = function != Call::quantize;
                    if ((mode / 2 != 0 && !rounds) || (mode % 2 != 0 && !reduces)) {
                        continue;
                    }
                    for (const Case& c : cases) {
                        add_call(context.get(), function, c, real, code, mode / 2, mode % 2, words,
                                 digests[std::min<int>(function, max_modes - 1)]);
                    }
                }
            }
            for (int m = 0; m < max_modes; ++m) {
                row.digests[m] = digests[m].value();
            }
            rows.push_back(row);
        }
    }
    return rows;
}

TEST(BlockDigests, EqualTheTableOnEveryIsa) {
    expect_rows(expected_rows, rows_of);
}

}  // namespace
}  // namespace piquant
