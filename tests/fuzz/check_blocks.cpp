#include "check_blocks.hpp"

#include <cmath>
#include <sstream>

#include "calls.hpp"
#include "oracle.hpp"

namespace piquant::fuzz {
namespace {

constexpr size_t no_block = 987654321;

// Of each element in row-major order, the number of its block; and of each block, its elements.
struct Grid {
    std::vector<size_t> block_of;
    std::vector<std::vector<size_t>> elements_of;

    Grid() = default;
    Grid(const std::vector<size_t>& shape, const std::vector<size_t>& block_size, size_t n) : block_of(n) {
        size_t blocks = 1;
        for (size_t d = 0; d < shape.size(); ++d) {
            blocks *= (shape[d] - 1) / block_size[d] + 1;
        }
        elements_of.resize(blocks);
        std::vector<size_t> at(shape.size());
        for (size_t i = 0; i < n; ++i) {
            size_t block = 0;
            for (size_t d = 0; d < shape.size(); ++d) {
                block = block * ((shape[d] - 1) / block_size[d] + 1) + at[d] / block_size[d];
            }
            block_of[i] = block;
            elements_of[block].push_back(i);
            for (size_t d = shape.size(); d-- > 0 && ++at[d] == shape[d];) {
                at[d] = 0;
            }
        }
    }
    size_t blocks() const { return elements_of.size(); }
};

// What is given for the arrays of a call.
struct Pointers4 {
    const void* in;
    void* out;
    void* scale;
    void* zero_point;
};

piquant_status_t call(const Case& c, piquant_context_t* context, const Pointers4& p, size_t* bad_block) {
    const GivenOptions options(c);
    struct {
        piquant_blocks_t known;
        unsigned char beyond[8];
    } blocks = {{c.blocks.struct_size, c.layout.shape.size(), c.layout.no_shape ? nullptr : c.layout.shape.data(),
                 c.blocks.no_block_size ? nullptr : c.blocks.block_size.data(), dtype(c.blocks.scale_dtype),
                 dtype(c.blocks.zero_dtype), c.zero_point},
                {}};
    std::copy(std::begin(c.blocks.beyond), std::end(c.blocks.beyond), blocks.beyond);
    const piquant_blocks_t* const given = c.blocks.missing ? nullptr : &blocks.known;
    const piquant_dtype_t real = dtype(c.real);
    const piquant_dtype_t code = dtype(c.code);
    const piquant_options_t* const o = options.pointer();
    switch (c.operation) {
        case Operation::quantize:
            return piquant_quantize_blocks(context, p.in, real, p.out, code, given, p.scale, p.zero_point, o,
                                           bad_block);
        case Operation::dequantize:
            return piquant_dequantize_blocks(context, p.in, code, p.out, real, given, p.scale, p.zero_point, o,
                                             bad_block);
        case Operation::quantize_dequantize:
            return piquant_quantize_dequantize_blocks(context, p.in, p.out, real, code, given, p.scale, p.zero_point, o,
                                                      bad_block);
        case Operation::compute_quant_params:
            return piquant_compute_quant_params_blocks(context, p.in, real, code, given, o, p.scale, p.zero_point,
                                                       bad_block);
        default:
            return piquant_quantize_dynamic(context, p.in, real, p.out, code, given, o, p.scale, p.zero_point,
                                            bad_block);
    }
}

// Data to compute parameters from are mostly finite: without the highest bit of their exponents.
void make_finite(const PlacedArray& in, int real) {
    Bytes dense = in.elements();
    const auto size = static_cast<size_t>(piquant_dtype_bits(dtype(real)) / 8);
    for (size_t i = 0; i * size < dense.size(); ++i) {
        if (!std::isfinite(real_at(dense.data(), real, i))) {
            dense[(i + 1) * size - 1] &= 0xbf;
        }
    }
    spread(in.array(), in.first(), dense);
}

// The range of addresses that an array takes.
struct Range {
    unsigned char* begin = nullptr;
    size_t size = 0;

    bool meets(const Range& other) const {
        return size != 0 && other.size != 0 && begin < other.begin + other.size && other.begin < begin + size;
    }
};

std::string wrong_results(const Case& c, const Grid& grid, const std::vector<BlockResult>& expected, const Bytes& input,
                          const Bytes& before, const Bytes& output, const Pointers4& p) {
    const auto* const scales = static_cast<const unsigned char*>(p.scale);
    const auto* const zeros = static_cast<const unsigned char*>(p.zero_point);
    for (size_t b = 0; b < grid.blocks() && c.finds_parameters(); ++b) {
        const double found = real_at(scales, c.blocks.scale_dtype, b);
        if (found != expected[b].scale && !(std::isnan(found) && std::isnan(expected[b].scale))) {
            std::ostringstream words;
            words << "the scale of block " << b << " is " << found << " instead of " << expected[b].scale;
            return words.str();
        }
        if (zeros != nullptr && !is_zero_point(zeros, c, b, expected[b].zero_point)) {
            return "the zero point of block " + std::to_string(b) + " is not " + std::to_string(expected[b].zero_point);
        }
    }
    if (c.operation == Operation::compute_quant_params) {
        return "";
    }
    Case of_one = c;
    const size_t step = c.n / 150 + 1;
    for (size_t i = c.fill_seed % step; i < c.n; i += step) {
        of_one.scale = expected[grid.block_of[i]].scale;
        of_one.zero_point = expected[grid.block_of[i]].zero_point;
        if (std::isnan(of_one.scale) ? !is_right_without_scale(c, output.data(), i)
                                     : !is_right(of_one, input.data(), before.data(), output.data(), i)) {
            return "element " + std::to_string(i) + " of block " + std::to_string(grid.block_of[i]) +
                   " is not what exact arithmetic gives";
        }
    }
    return "";
}

}  // namespace

std::string wrong_with_blocks(const Case& c, piquant_context_t* context, Guarded& in_memory, Guarded& out_memory) {
    static Guarded scale_memory(arena);
    static Guarded zero_memory(arena);
    piquant_context_t* const given_context = c.pointers == Pointers::null_context ? nullptr : context;
    const bool finds = c.finds_parameters();
    const bool has_output = c.operation != Operation::compute_quant_params;
    const std::vector<piquant_status_t> wrong_arguments = deserved_with_blocks(c, false);
    const auto is_among = [](const std::vector<piquant_status_t>& some, piquant_status_t status) {
        return std::find(some.begin(), some.end(), status) != some.end();
    };
    size_t bad_block = no_block;
    // Of arrays that cannot be told, or not be held, only errors are asked for.
    if (c.n == 0 || c.n > largest_n || !wrong_arguments.empty()) {
        if (c.n != 0 && wrong_arguments.empty()) {
            return "";
        }
        unsigned char untouched[4] = {1, 2, 3, 4};
        const Pointers4 p = {c.pointers == Pointers::null_in ? nullptr : &untouched[0],
                             c.pointers == Pointers::null_out ? nullptr : &untouched[1],
                             c.blocks.no_scale ? nullptr : &untouched[2],
                             c.blocks.no_zero_point ? nullptr : &untouched[3]};
        const piquant_status_t status = call(c, given_context, p, &bad_block);
        // These bytes are not as far apart as arrays of any layout would have to be.
        const bool right = wrong_arguments.empty()
                               ? status == PIQUANT_OK
                               : is_among(wrong_arguments, status) || (c.n != 0 && status == PIQUANT_ERROR_OVERLAP);
        return !right ? std::string("the wrong status: ") + piquant_status_string(status)
               : untouched[0] != 1 || untouched[1] != 2 || untouched[2] != 3 || untouched[3] != 4
                   ? "an error changed an array"
               : bad_block != no_block ? "an argument's error changed bad_block"
                                       : "";
    }

    const Grid grid(c.layout.shape, c.blocks.block_size, c.n);
    PlacedArray in(true, c, input_of);
    PlacedArray out(has_output, c, output_of);
    if (in.bytes() > arena / 2 || out.bytes() > arena / 2) {
        return "";
    }
    in.put(in_memory.place(in.bytes(), c.in_at_end, c.in_shift));
    out.put(out_memory.place(out.bytes(), c.out_at_end, c.out_shift));
    const size_t scale_bytes = piquant_size(dtype(c.blocks.scale_dtype), grid.blocks());
    const size_t zero_bytes = c.blocks.no_zero_point ? 0 : piquant_size(dtype(c.blocks.zero_dtype), grid.blocks());
    Range scale = {scale_memory.place(scale_bytes, c.blocks.at_end[0], c.blocks.shift[0]), scale_bytes};
    Range zero = {zero_memory.place(zero_bytes, c.blocks.at_end[1], c.blocks.shift[1]), zero_bytes};
    const Range ranges[] = {{in.lowest(), in.bytes()}, {out.lowest(), out.bytes()}};
    // Over an array: from its first byte on, or further into it, as far as it holds the other one.
    const auto put_over = [&](Range& moved, const Range& target) {
        if (moved.size <= target.size) {
            moved.begin =
                target.begin + static_cast<size_t>(c.blocks.distance & INT16_MAX) % (target.size - moved.size + 1);
        }
    };
    switch (c.blocks.over) {
        case Blocks::scale_over_out: put_over(scale, ranges[1]); break;
        case Blocks::zero_over_out: put_over(zero, ranges[1]); break;
        case Blocks::scale_over_in: put_over(scale, ranges[0]); break;
        case Blocks::zero_over_scale: put_over(zero, scale); break;
        default: break;
    }
    const bool overlap = scale.meets(ranges[1]) || zero.meets(ranges[1]) ||
                         (finds && (scale.meets(ranges[0]) || zero.meets(ranges[0]) || scale.meets(zero)));
    out.fill_with(c, 1);
    in.fill_with(c, 0);
    if (finds && !c.blocks.may_be_infinite) {
        make_finite(in, c.real);
    }
    fill_scales(c, scale.begin, grid.blocks());
    if (zero.size != 0) {
        fill_zero_points(c, zero.begin, grid.blocks());
    }
    for (Guarded* memory : {&in_memory, &out_memory, &scale_memory, &zero_memory}) {
        memory->remember();
    }
    const Bytes input = in.elements();
    const Bytes before = out.elements();
    std::vector<BlockResult> expected(grid.blocks());
    size_t first_bad = no_block;
    for (size_t b = grid.blocks(); b-- > 0;) {
        expected[b] = expected_of_block(c, input.data(), grid.elements_of[b], scale.begin,
                                        zero.size == 0 ? nullptr : zero.begin, b);
        first_bad = expected[b].status != PIQUANT_OK ? b : first_bad;
    }
    const piquant_status_t wanted = overlap                 ? PIQUANT_ERROR_OVERLAP
                                    : first_bad != no_block ? expected[first_bad].status
                                                            : PIQUANT_OK;

    const Pointers4 p = {in.first(), out.first(), scale.begin, zero.size == 0 ? nullptr : zero.begin};
    const piquant_status_t status = call(c, given_context, p, &bad_block);
    if (status != wanted) {
        return std::string("the wrong status: ") + piquant_status_string(status) +
               ", not: " + piquant_status_string(wanted);
    }
    if (bad_block != (overlap ? no_block : first_bad)) {
        return "the first bad block is " + std::to_string(first_bad) + ", not " + std::to_string(bad_block);
    }
    const bool may_write =
        status == PIQUANT_OK || (c.operation == Operation::quantize_dynamic &&
                                 (status == PIQUANT_ERROR_NOT_FINITE || status == PIQUANT_ERROR_DATA_RANGE));
    const std::vector<bool> none;
    const std::vector<bool> owned = may_write && has_output ? owned_bytes(out.array()) : none;
    const bool finds_now = may_write && finds;
    if (!in_memory.unchanged() || !out_memory.unchanged_but_for(out.lowest(), owned) ||
        !scale_memory.unchanged_but_for(scale.begin, std::vector<bool>(finds_now ? scale.size : 0, true)) ||
        !zero_memory.unchanged_but_for(zero.begin, std::vector<bool>(finds_now ? zero.size : 0, true))) {
        return status == PIQUANT_OK ? "bytes outside of the results were written" : "an error changed an array";
    }
    if (status != PIQUANT_OK) {
        return "";
    }
    if (has_output && out.array().packed && !rows_are_padded(out.array(), out.first())) {
        return "a row's last byte is not padded with zeros";
    }
    const Bytes output = out.elements();
    const std::string wrong = wrong_results(c, grid, expected, input, before, output, p);
    if (!wrong.empty()) {
        return wrong;
    }
    // Again by the scalar set, on the calling thread.
    const Bytes scales(scale.begin, scale.begin + scale.size);
    if (has_output) {
        spread(out.array(), out.first(), before);
    }
    if (call(c, reference(), p, nullptr) != PIQUANT_OK || out.elements() != output ||
        !std::equal(scales.begin(), scales.end(), scale.begin)) {
        return "the scalar instruction set gives other bytes";
    }
    return "";
}

}  // namespace piquant::fuzz
