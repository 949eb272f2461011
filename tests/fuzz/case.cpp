#include "case.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

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
    c.options.has_quant_min = (h.modes & 8) != 0 ? static_cast<int>(word[4] % 3) : 0;
    c.options.has_quant_max = (h.modes & 8) != 0 ? static_cast<int>(word[4] / 3 % 3) : 0;
    c.options.quant_min = integer_from(h.range_kind, word[2], known_bits, is_signed);
    c.options.quant_max = integer_from(static_cast<unsigned char>(h.range_kind / 3), word[3], known_bits, is_signed);
    c.options.seed = word[4];
    c.options.offset = word[5];
    c.fill_seed = mix(word[4] ^ mix(word[5]));
    if (size > sizeof h) {
        c.fill.assign(data + sizeof h, data + size);
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

}  // namespace piquant::fuzz
