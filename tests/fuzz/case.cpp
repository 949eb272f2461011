#include "case.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "oracle.hpp"

namespace piquant::fuzz {
namespace {

// The head of an input, byte by byte, so that a mutation of one field leaves the others alone.
struct Head {
    unsigned char operation;
    unsigned char real;
    unsigned char code;
    unsigned char isa;
    unsigned char threads;
    unsigned char modes;
    unsigned char places;
    unsigned char in_shift;
    unsigned char out_shift;
    unsigned char pointers;
    unsigned char n[2];
    unsigned char n_kind;
    unsigned char scale_kind;
    unsigned char zero_kind;
    unsigned char range_kind;
    unsigned char distance[2];
    unsigned char words[6][8];  // scale, zero point, quant_min, quant_max, seed, offset
    unsigned char rank;
    unsigned char layout;
    unsigned char in_order;
    unsigned char out_order;
    unsigned char in_turned;  // one bit for each dimension
    unsigned char out_turned;
    unsigned char sizes[6];
    unsigned char in_steps[6];
    unsigned char out_steps[6];
};

// What follows the head of a call with blocks.
struct BlockHead {
    unsigned char function;
    unsigned char sizes[PIQUANT_MAX_BLOCK_RANK + 1];
    unsigned char scale_dtype;
    unsigned char zero_dtype;
    unsigned char missing;
    unsigned char struct_size;
    unsigned char beyond;
    unsigned char places;
    unsigned char shifts[2];
    unsigned char spoiled[2];
    unsigned char spoiled_block[2];
    unsigned char over;
    unsigned char distance[2];
};

template <class T>
T read(const unsigned char* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

// Most bytes mean a number below count; the last few are numbers that mean nothing.
int enumerator(unsigned char byte, int first, int count) {
    const int wrong[] = {first - 1, first + count, -1, INT32_MIN, INT32_MAX, 255, 16, 100};
    return byte < 248 ? first + byte % count : wrong[byte - 248];
}

double scale_from(unsigned char kind, uint64_t word) {
    const double edges[] = {0.0,
                            -0.0,
                            -1.0,
                            INFINITY,
                            -INFINITY,
                            NAN,
                            FLT_MIN,
                            FLT_MAX,
                            DBL_MIN,
                            DBL_MAX,
                            0x1p-149,
                            0x1.fffffep-127,
                            0x1p128,
                            0x1p-128,
                            0x1p126,
                            0x1p127,
                            0x1p-1023,
                            0x1p1022,
                            0x1p1023,
                            4.9e-324,
                            0x1.fffffefp127,
                            0x1.ffffffp-127,
                            0x1.ffffff8p-127,
                            1.0,
                            0.1,
                            1.0 / 3};
    switch (kind % 4) {
        case 0: return std::ldexp(1.0 + static_cast<double>(word >> 12) * 0x1p-52, static_cast<int>(word % 48) - 32);
        case 1: return static_cast<double>(read<float>(reinterpret_cast<const unsigned char*>(&word)));
        case 2: return edges[word % std::size(edges)];
        default: return read<double>(reinterpret_cast<const unsigned char*>(&word));
    }
}

// A number in, at the ends of, or anywhere around the range of a type of `bits` bits.
int64_t integer_from(unsigned char kind, uint64_t word, int bits, bool is_signed) {
    const uint64_t lowest = is_signed ? ~uint64_t{0} << (bits - 1) : 0;
    const uint64_t span = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    const uint64_t edges[] = {lowest,
                              lowest + span,
                              lowest - 1,
                              lowest + span + 1,
                              0,
                              lowest + 1,
                              lowest + 2,
                              lowest + span - 1,
                              lowest + span / 2,
                              uint64_t{1} << 63,
                              ~(uint64_t{1} << 63),
                              ~uint64_t{0}};
    switch (kind % 3) {
        case 0: return static_cast<int64_t>(lowest + (word & span));
        case 1: return static_cast<int64_t>(edges[word % std::size(edges)]);
        default: return static_cast<int64_t>(word);
    }
}

// SplitMix64.
uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

void store(double x, int dtype, unsigned char* p) {
    const auto f = static_cast<float>(x);
    const auto bits = read<uint32_t>(reinterpret_cast<const unsigned char*>(&f));
    switch (dtype) {
        case PIQUANT_FLOAT64: std::memcpy(p, &x, 8); return;
        case PIQUANT_FLOAT32: std::memcpy(p, &f, 4); return;
        case PIQUANT_BFLOAT16: {
            const auto half = static_cast<uint16_t>(bits >> 16);
            std::memcpy(p, &half, 2);
            return;
        }
        default: {  // float16, cut off where it does not fit: any value will do
            const int e = std::isfinite(x) && x != 0 ? std::clamp(std::ilogb(x) + 15, 0, 30) : x == 0 ? 0 : 31;
            const auto sign = static_cast<uint32_t>(std::signbit(x) ? 0x8000 : 0);
            const auto half = static_cast<uint16_t>(sign | static_cast<uint32_t>(e) << 10 | (bits >> 13 & 0x3ff));
            std::memcpy(p, &half, 2);
        }
    }
}

// Dimensions with a size and steps of their own; what more there are have one element.
constexpr size_t free_rank = 6;

size_t rank_from(unsigned char kind) {
    return kind % 16 < 13 ? (kind % 16 + 2) / 3 : kind % 16 < 15 ? kind % 16 - 8 : PIQUANT_MAX_RANK - 2 + kind / 16 % 5;
}

// Shapes of up to largest_n elements, and some of no or more elements than memory has bytes.
size_t size_from(unsigned char kind, size_t before) {
    const size_t huge[] = {31, 32, 33, 40, 60, 61, 62, 63};
    const size_t size = kind < 128   ? 1 + kind % 13
                        : kind < 200 ? 1 + kind % 72 * 2
                        : kind < 236 ? kind % 36 * 31 + 60
                        : kind < 246 ? 0
                                     : size_t{1} << huge[kind % std::size(huge)];
    return kind < 236 && size * before > largest_n ? 1 + kind % 2 : size;
}

// A step over the `covered` bytes of the dimensions inside: without a gap, with one, over a page; or one that makes
// elements meet or repeats them; or a senseless one.
ptrdiff_t stride_from(unsigned char kind, size_t covered, size_t size) {
    const ptrdiff_t huge[] = {PTRDIFF_MAX,        PTRDIFF_MIN,        PTRDIFF_MAX / 2,         -PTRDIFF_MAX,
                              ptrdiff_t{1} << 59, ptrdiff_t{1} << 48, 1 - (ptrdiff_t{1} << 50)};
    const auto exact = static_cast<ptrdiff_t>(covered);
    return kind >= 128 && size == 1 ? huge[kind % std::size(huge)]
           : kind < 96              ? exact
           : kind < 128             ? exact + kind % 32
           : kind < 168             ? 2 * exact + (kind < 152 ? 0 : kind % 16)
           : kind < 176             ? (exact + 4095) / 4096 * 4096 + (kind % 4) * 4096
           : kind < 200             ? 0
           : kind < 216             ? exact - 1 - kind % 3
           : kind < 220             ? huge[kind % std::size(huge)]
                                    : kind % 36;
}

std::vector<ptrdiff_t> strides_from(const std::vector<size_t>& shape, int dtype, unsigned char order,
                                    unsigned char turned, const unsigned char* steps) {
    const size_t moved = std::min(shape.size(), free_rank);
    std::vector<ptrdiff_t> strides(shape.size(), PTRDIFF_MIN);  // of one element: not looked at
    std::vector<size_t> left;                                   // outermost first
    for (size_t d = 0; d < moved; ++d) {
        left.push_back(d);
    }
    const auto type = static_cast<piquant_dtype_t>(dtype);
    const bool packed = piquant_dtype_bits(type) < 8 && dtype < PIQUANT_INT2_UNPACKED;
    size_t covered = std::min(piquant_size(type, packed ? shape.back() : 1), size_t{1} << 40);
    if (packed && moved == shape.size()) {
        strides[moved - 1] = steps[moved - 1];
        left.pop_back();
    }
    for (size_t choice = order; !left.empty(); choice /= 3) {
        const size_t at = left.size() - 1 - choice % 3 % left.size();
        const size_t d = left[at];
        left.erase(left.begin() + static_cast<ptrdiff_t>(at));
        const ptrdiff_t stride = stride_from(steps[d], covered, shape[d]);
        strides[d] = (turned >> d & 1) != 0 && stride != PTRDIFF_MIN ? -stride : stride;
        if (shape[d] != 0 && shape[d] <= 65536 && stride < ptrdiff_t{1} << 40 && stride >= 0) {
            covered += static_cast<size_t>(stride) * (shape[d] - 1);
        }
    }
    return strides;
}

// Blocks of one element, of a few, of some that kernels take at once, or of the whole dimension and more.
size_t block_size_from(unsigned char kind, size_t size) {
    constexpr size_t usual[] = {1, 2, 3, 4, 7, 8, 16, 31, 32, 48, 64, 100, 128, 256, 300, 2048};
    return kind < 128   ? usual[kind % std::size(usual)]
           : kind < 160 ? std::max<size_t>(size / (kind % 4 + 2), 1)
           : kind < 248 ? std::max<size_t>(size, 1)
           : kind < 252 ? SIZE_MAX - kind % 2
                        : kind % 2;
}

Blocks blocks_from(const Head& h, const BlockHead& b, const std::vector<size_t>& shape) {
    Blocks blocks;
    blocks.exist = true;
    for (size_t d = 0; d < shape.size(); ++d) {
        blocks.block_size.push_back(block_size_from(b.sizes[std::min(d, sizeof b.sizes - 1)], shape[d]));
    }
    blocks.scale_dtype = enumerator(b.scale_dtype, PIQUANT_FLOAT16, 4);
    blocks.zero_dtype = enumerator(b.zero_dtype, PIQUANT_INT8, 8);
    blocks.no_zero_point = b.missing % 3 == 0;
    blocks.missing = b.missing >= 250;
    blocks.no_block_size = b.missing >= 244 && b.missing < 250;
    blocks.no_scale = b.missing >= 238 && b.missing < 244;
    const size_t sizes[] = {0, sizeof(piquant_blocks_t) - 1, 4097, SIZE_MAX};
    blocks.struct_size = b.struct_size >= 252   ? sizes[b.struct_size % 4]
                         : b.struct_size >= 128 ? sizeof(piquant_blocks_t) + b.struct_size % 9
                                                : sizeof(piquant_blocks_t);
    blocks.beyond[b.beyond % 8] = b.beyond >= 224;
    blocks.may_be_infinite = (b.places & 1) != 0;
    blocks.at_end[0] = (b.places & 2) == 0;
    blocks.at_end[1] = (b.places & 4) == 0;
    blocks.shift[0] = b.shifts[0] % 80;
    blocks.shift[1] = b.shifts[1] % 80;
    blocks.scale = {read<uint16_t>(b.spoiled_block), b.spoiled[0] >= 160, read<uint64_t>(h.words[0])};
    blocks.zero_point = {read<uint16_t>(b.spoiled_block) / size_t{3}, b.spoiled[1] >= 160, read<uint64_t>(h.words[1])};
    blocks.over = b.over < 192 ? Blocks::nothing : static_cast<Blocks::Over>(b.over % 5);
    blocks.distance = read<int16_t>(b.distance);
    return blocks;
}

Layout layout_from(const Head& h, int in, int out) {
    Layout l;
    l.no_in_strides = (h.layout & 1) != 0;
    l.no_out_strides = (h.layout & 2) != 0;
    l.same_place = (h.layout & 8) != 0;
    l.no_shape = h.layout >= 248;
    size_t n = 1;
    for (size_t d = 0; d < rank_from(h.rank); ++d) {
        l.shape.push_back(d < free_rank ? size_from(h.sizes[d], n) : 1);
        n = l.shape.back() <= largest_n ? n * std::max<size_t>(l.shape.back(), 1) : n;
    }
    if (!l.shape.empty()) {
        l.in_strides = strides_from(l.shape, in, h.in_order, h.in_turned, h.in_steps);
        l.out_strides =
            (h.layout & 4) != 0 ? l.in_strides : strides_from(l.shape, out, h.out_order, h.out_turned, h.out_steps);
    }
    return l;
}

}  // namespace

Case decode(const unsigned char* data, size_t size) {
    Head h{};
    std::memcpy(&h, data, std::min(size, sizeof h));
    uint64_t word[6];
    std::memcpy(word, h.words, sizeof word);
    Case c{};
    // Twice the longest of them, which keeps the meaning of the corpus: a fifth operation was there once.
    constexpr Operation operations[] = {Operation::quantize,
                                        Operation::dequantize,
                                        Operation::quantize_dequantize,
                                        Operation::compute_quant_params,
                                        Operation::quantize_dequantize,
                                        Operation::settings};
    c.operation = operations[h.operation % std::size(operations)];
    const bool has_blocks = h.operation >= 160;
    BlockHead b{};
    if (has_blocks) {
        std::memcpy(&b, data + std::min(size, sizeof h), std::min(size - std::min(size, sizeof h), sizeof b));
        constexpr Operation with_blocks[] = {Operation::quantize, Operation::dequantize, Operation::quantize_dequantize,
                                             Operation::compute_quant_params, Operation::quantize_dynamic};
        c.operation = with_blocks[b.function % std::size(with_blocks)];
    }
    c.real = enumerator(h.real, PIQUANT_FLOAT16, 4);
    c.code = enumerator(h.code, PIQUANT_INT2, 16);
    c.isa = h.isa;
    c.threads = 1 + h.threads % 4;
    c.parallel = (h.places & 1) != 0;
    c.stream = (h.places & 2) != 0;
    c.in_at_end = (h.places & 4) == 0;
    c.out_at_end = (h.places & 8) == 0;
    c.in_shift = h.in_shift % 80;
    c.out_shift = h.out_shift % 80;
    c.pointers = h.pointers < 192 ? Pointers::right : static_cast<Pointers>(h.pointers % 5);
    c.n = read<uint16_t>(h.n);
    c.n_fits = h.n_kind < 250;
    c.n = !c.n_fits ? SIZE_MAX - c.n : c.n % (h.n_kind < 128 ? 80 : h.n_kind < 224 ? 1100 : largest_n);
    c.distance = read<int16_t>(h.distance);
    const int bits = piquant_dtype_bits(static_cast<piquant_dtype_t>(c.code));
    const bool is_signed = bits != 0 && piquant_dtype_name(static_cast<piquant_dtype_t>(c.code))[0] == 'i';
    const int known_bits = bits != 0 ? bits : 8;
    c.scale = scale_from(h.scale_kind, word[0]);
    c.zero_point = integer_from(h.zero_kind, word[1], known_bits, is_signed);
    c.has_options = (h.modes & 0x80) == 0;
    c.options = PIQUANT_OPTIONS_INIT;
    c.options.struct_size += (h.modes & 0x70) == 0x70 ? word[5] % 9 : 0;
    c.beyond[word[5] / 9 % 8] = static_cast<unsigned char>(word[5] >> 8 & 1);
    c.options.round_mode = static_cast<piquant_round_mode_t>(
        enumerator((h.modes & 0x30) == 0x30 ? 248 + (h.n[0] & 7) : h.modes & 1, 0, 2));
    c.options.reduce_op = static_cast<piquant_reduce_op_t>(
        enumerator((h.modes & 0x50) == 0x50 ? 248 + (h.n[0] & 7) : (h.modes >> 1) & 1, 0, 2));
    c.options.symmetric = (h.modes & 4) != 0 ? 1 + static_cast<int>(word[4] % 7) : 0;
    c.options.nan_scales = b.places & 8;
    c.options.has_quant_min = (h.modes & 8) != 0 ? static_cast<int>(word[4] % 3) : 0;
    c.options.has_quant_max = (h.modes & 8) != 0 ? static_cast<int>(word[4] / 3 % 3) : 0;
    c.options.quant_min = integer_from(h.range_kind, word[2], known_bits, is_signed);
    c.options.quant_max = integer_from(static_cast<unsigned char>(h.range_kind / 3), word[3], known_bits, is_signed);
    c.options.seed = word[4];
    c.options.offset = word[5];
    c.fill_seed = mix(word[4] ^ mix(word[5]));
    if ((c.has_options || has_blocks) && c.operation != Operation::settings) {
        c.layout = layout_from(h, in_dtype(c), out_dtype(c));
        c.options.rank = c.layout.shape.size();
    }
    if (has_blocks) {
        c.blocks = blocks_from(h, b, c.layout.shape);
        c.layout.no_in_strides = c.layout.no_in_strides || !c.has_options;
        c.layout.no_out_strides = c.layout.no_out_strides || !c.has_options;
        c.n_fits = true;
    }
    if (has_blocks || (c.options.rank != 0 && h.n_kind < 240)) {
        const std::vector<size_t>& shape = c.layout.shape;
        const bool is_empty = has_blocks && std::find(shape.begin(), shape.end(), size_t{0}) != shape.end();
        c.n = is_empty ? 0 : 1;
        for (const size_t elements : shape) {
            // Without blocks a caller says how many there are, and may be as wrong as a product that wraps around.
            c.n = has_blocks && c.n != 0 && elements > SIZE_MAX / c.n ? SIZE_MAX : c.n * elements;
        }
    }
    const size_t heads = sizeof h + (has_blocks ? sizeof b : 0);
    if (size > heads) {
        c.fill.assign(data + heads, data + size);
    }
    return c;
}

void fill(const Case& c, int dtype, unsigned char* out, size_t n, uint64_t salt) {
    if (dtype > PIQUANT_FLOAT64) {
        const size_t bytes = piquant_size(static_cast<piquant_dtype_t>(dtype), n);
        for (size_t i = 0; i < bytes; ++i) {
            out[i] = i < c.fill.size() ? c.fill[i] : static_cast<unsigned char>(mix(c.fill_seed ^ salt ^ i));
        }
        return;
    }
    const auto size = static_cast<size_t>(piquant_dtype_bits(static_cast<piquant_dtype_t>(dtype)) / 8);
    const double scale = std::isfinite(c.scale) ? c.scale : 1;
    const int reach[] = {3, 8, 40, 600, 140000};
    for (size_t i = 0; i < n; ++i) {
        unsigned char* p = out + i * size;
        if ((i + 1) * size <= c.fill.size()) {
            std::memcpy(p, c.fill.data() + i * size, size);
            continue;
        }
        // A whole number of steps, a fraction of one that decides something, or any pattern of bits.
        const uint64_t r = mix(c.fill_seed ^ salt ^ (i << 1));
        const int k = static_cast<int>(r >> 32 & 0x7fffffff) % reach[r % 5] - reach[r % 5] / 2;
        const double fractions[] = {0, 0.5, -0.5, 0x1p-16, 0x1p-17, 0.5 + 0x1p-16, 0.5 - 0x1p-20, 0.25};
        const uint64_t any = mix(r);
        if (r >> 8 & 1 || (r >> 9 & 7) != 0) {
            store((k + fractions[r >> 12 & 7]) * scale, dtype, p);
        } else {
            std::memcpy(p, &any, size);
        }
    }
}

void fill_scales(const Case& c, unsigned char* out, size_t n) {
    const auto size = static_cast<size_t>(piquant_dtype_bits(static_cast<piquant_dtype_t>(c.blocks.scale_dtype)) / 8);
    for (size_t b = 0; b < n; ++b) {
        const uint64_t r = mix(c.fill_seed ^ (b << 8));
        const double factor = std::ldexp(1.0 + static_cast<double>(r >> 12) * 0x1p-52, static_cast<int>(r % 8) - 4);
        store(c.scale * factor, c.blocks.scale_dtype, out + b * size);
    }
    if (c.blocks.scale.is_spoiled) {
        std::memcpy(out + c.blocks.scale.block % n * size, &c.blocks.scale.pattern, size);
    }
}

void fill_zero_points(const Case& c, unsigned char* out, size_t n) {
    const auto size = static_cast<size_t>(piquant_dtype_bits(static_cast<piquant_dtype_t>(c.blocks.zero_dtype)) / 8);
    const auto code = static_cast<piquant_dtype_t>(c.code);
    for (size_t b = 0; b < n; ++b) {
        const int64_t zero =
            integer_from(0, mix(c.fill_seed ^ (b << 9)), piquant_dtype_bits(code), piquant_dtype_name(code)[0] == 'i');
        std::memcpy(out + b * size, &zero, size);
    }
    if (c.blocks.zero_point.is_spoiled) {
        std::memcpy(out + c.blocks.zero_point.block % n * size, &c.blocks.zero_point.pattern, size);
    }
}

}  // namespace piquant::fuzz
