#include "engine/moves.hpp"

#include <utility>

#include "core/types.hpp"

namespace piquant {
namespace {

// A register of 16 bytes, which every 64-bit machine has.
template <class T>
using Vector [[gnu::vector_size(16)]] = T;
template <class T>
constexpr size_t lanes = 16 / sizeof(T);

template <class T>
Vector<T> load(const unsigned char* p) {
    Vector<T> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class T>
void store(unsigned char* p, Vector<T> v) {
    __builtin_memcpy(p, &v, sizeof v);
}

// Lanes of a and b, counted through both: those that `Index` gives for lanes 0, 1, ..
template <class T, class Index, size_t... I>
Vector<T> chosen(Vector<T> a, Vector<T> b, Index index, std::index_sequence<I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, index(I)...);
#else
    return __builtin_shuffle(a, b, Vector<T>{static_cast<T>(index(I))...});
#endif
}
template <class T>
Vector<T> lower_halves(Vector<T> a, Vector<T> b) {
    constexpr auto index = [](size_t i) { return i / 2 + i % 2 * lanes<T>; };
    return chosen<T>(a, b, index, std::make_index_sequence<lanes<T>>());
}
template <class T>
Vector<T> upper_halves(Vector<T> a, Vector<T> b) {
    constexpr auto index = [](size_t i) { return lanes<T> / 2 + i / 2 + i % 2 * lanes<T>; };
    return chosen<T>(a, b, index, std::make_index_sequence<lanes<T>>());
}
template <class T>
Vector<T> even_lanes(Vector<T> a, Vector<T> b) {
    constexpr auto index = [](size_t i) { return 2 * i; };
    return chosen<T>(a, b, index, std::make_index_sequence<lanes<T>>());
}

// n elements, one of which lies every `stride` bytes, side by side.
template <class T>
void pick(unsigned char* to, const unsigned char* from, ptrdiff_t stride, size_t n) {
    size_t i = 0;
    if (stride == 2 * sizeof(T)) {
        // The last element's neighbour may not be ours to read.
        for (; i + lanes<T> < n; i += lanes<T>) {
            const unsigned char* p = from + 2 * i * sizeof(T);
            store<T>(to + i * sizeof(T), even_lanes<T>(load<T>(p), load<T>(p + 16)));
        }
    }
    for (; i < n; ++i) {
        __builtin_memcpy(to + i * sizeof(T), from + static_cast<ptrdiff_t>(i) * stride, sizeof(T));
    }
}

// Copies rows x columns elements between strides; those of the columns are dense on one side.
template <class T>
void copy(unsigned char* to, Strides t, const unsigned char* from, Strides f, size_t rows, size_t columns) {
    for (size_t i = 0; i < rows; ++i, to += t.row, from += f.row) {
        if (t.column == sizeof(T) && f.column == sizeof(T)) {
            __builtin_memcpy(to, from, columns * sizeof(T));
        } else if (t.column == sizeof(T)) {
            pick<T>(to, from, f.column, columns);
        } else {
            for (size_t j = 0; j < columns; ++j) {
                __builtin_memcpy(to + static_cast<ptrdiff_t>(j) * t.column, from + j * sizeof(T), sizeof(T));
            }
        }
    }
}

// A square of as many rows as a register has lanes. Each step interleaves the first half of the rows with the second:
// after one step for each bit of a row's number, rows have become columns.
template <class T>
void transpose_square(unsigned char* to, size_t to_row, const unsigned char* from, size_t from_row) {
    constexpr size_t n = lanes<T>;
    Vector<T> rows[n];
    for (size_t k = 0; k < n; ++k) {
        rows[k] = load<T>(from + k * from_row);
    }
    for (size_t step = 1; step < n; step *= 2) {
        Vector<T> next[n];
        for (size_t k = 0; k < n / 2; ++k) {
            next[2 * k] = lower_halves<T>(rows[k], rows[k + n / 2]);
            next[2 * k + 1] = upper_halves<T>(rows[k], rows[k + n / 2]);
        }
        for (size_t k = 0; k < n; ++k) {
            rows[k] = next[k];
        }
    }
    for (size_t k = 0; k < n; ++k) {
        store<T>(to + k * to_row, rows[k]);
    }
}

// to[i][j] = from[j][i], both without gaps.
template <class T>
void transpose(unsigned char* to, const unsigned char* from, size_t rows, size_t columns) {
    const size_t to_row = columns * sizeof(T);
    const size_t from_row = rows * sizeof(T);
    const auto element = [&](size_t i, size_t j) {
        __builtin_memcpy(to + i * to_row + j * sizeof(T), from + j * from_row + i * sizeof(T), sizeof(T));
    };
    const size_t whole_rows = rows - rows % lanes<T>;
    const size_t whole_columns = columns - columns % lanes<T>;
    for (size_t i = 0; i < whole_rows; i += lanes<T>) {
        for (size_t j = 0; j < whole_columns; j += lanes<T>) {
            transpose_square<T>(to + i * to_row + j * sizeof(T), to_row, from + j * from_row + i * sizeof(T), from_row);
        }
    }
    for (size_t i = 0; i < rows; ++i) {
        for (size_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
            element(i, j);
        }
    }
}

template <class F>
void for_size(size_t bytes, const F& f) {
    switch (bytes) {
        case 1: f(uint8_t{}); break;
        case 2: f(uint16_t{}); break;
        case 4: f(uint32_t{}); break;
        default: f(uint64_t{}); break;
    }
}

Strides of_tile(size_t columns, size_t bytes) {
    return {static_cast<ptrdiff_t>(columns * bytes), static_cast<ptrdiff_t>(bytes)};
}

constexpr uint64_t in_every_byte(unsigned byte) {
    return byte * uint64_t{0x0101010101010101};
}

// Eight codes, a byte each, as the bits of eight fields, and back:
//
//   4 bits   ....7777 ....6666 .. ....0000   each step joins neighbours: 2 fields, 4 fields, 8 fields
//   2 bits   ......77 ......66 .. ......00
constexpr size_t group = 8;

template <int Bits>
uint64_t joined(uint64_t x) {
    x &= in_every_byte((1u << Bits) - 1);
    x = (x | x >> (8 - Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    x = (x | x >> (16 - 2 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    return x | x >> (32 - 4 * Bits);
}

template <int Bits>
uint64_t parted(uint64_t x) {
    x = (x | x << (32 - 4 * Bits)) & (((uint64_t{1} << 4 * Bits) - 1) * 0x0000000100000001);
    x = (x | x << (16 - 2 * Bits)) & (((uint64_t{1} << 2 * Bits) - 1) * 0x0001000100010001);
    return (x | x << (8 - Bits)) & in_every_byte((1u << Bits) - 1);
}

// Copies the sign of each code into the bits above it: sign * (2^(9 - Bits) - 2) is those bits.
template <int Bits>
uint64_t extended(uint64_t x) {
    return x | (x & in_every_byte(1u << (Bits - 1))) * ((1u << (9 - Bits)) - 2);
}

// As many bytes as a row's last group takes: 1 to 4.
PIQUANT_INLINE uint64_t load_bytes(const unsigned char* p, size_t bytes) {
    uint16_t low = 0;
    uint32_t all = 0;
    switch (bytes) {
        case 1: return *p;
        case 2: __builtin_memcpy(&low, p, 2); return low;
        case 3: __builtin_memcpy(&low, p, 2); return low | uint32_t{p[2]} << 16;
        default: __builtin_memcpy(&all, p, 4); return all;
    }
}
PIQUANT_INLINE void store_bytes(unsigned char* p, uint64_t x, size_t bytes) {
    switch (bytes) {
        case 1: *p = static_cast<unsigned char>(x); break;
        case 2: __builtin_memcpy(p, &x, 2); break;
        case 3:
            __builtin_memcpy(p, &x, 2);
            p[2] = static_cast<unsigned char>(x >> 16);
            break;
        default: __builtin_memcpy(p, &x, 4); break;
    }
}

template <int Bits>
void pack(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns) {
    const size_t whole = (columns - 1) / group;
    const size_t rest = columns - whole * group;  // 1 to 8
    const size_t rest_bytes = bytes_for(rest, Bits);
    const uint64_t mask = ~uint64_t{0} >> (64 - 8 * rest);
    for (size_t i = 0; i < rows; ++i, to += row_stride) {
        unsigned char* out = to;
        uint64_t codes;
        for (size_t g = 0; g < whole; ++g, tile += group, out += Bits) {
            __builtin_memcpy(&codes, tile, group);
            store_bytes(out, joined<Bits>(codes), Bits);
        }
        __builtin_memcpy(&codes, tile, group);
        store_bytes(out, joined<Bits>(codes & mask), rest_bytes);
        tile += rest;
    }
}

template <int Bits, bool Signed>
void unpack(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns) {
    const size_t whole = (columns - 1) / group;
    const size_t rest = columns - whole * group;
    const size_t rest_bytes = bytes_for(rest, Bits);
    const auto unpacked = [](uint64_t fields) {
        const uint64_t codes = parted<Bits>(fields);
        return Signed ? extended<Bits>(codes) : codes;
    };
    for (size_t i = 0; i < rows; ++i, from += row_stride) {
        const unsigned char* in = from;
        uint64_t codes;
        for (size_t g = 0; g < whole; ++g, tile += group, in += Bits) {
            codes = unpacked(load_bytes(in, Bits));
            __builtin_memcpy(tile, &codes, group);
        }
        codes = unpacked(load_bytes(in, rest_bytes));
        __builtin_memcpy(tile, &codes, group);
        tile += rest;
    }
}

}  // namespace

void gather(unsigned char* tile, const unsigned char* from, Strides strides, size_t rows, size_t columns, size_t bytes,
            unsigned char* spare) {
    for_size(bytes, [&]<class T>(T) {
        if (spare != nullptr && strides.row == sizeof(T)) {
            copy<T>(spare, of_tile(rows, sizeof(T)), from, {strides.column, strides.row}, columns, rows);
            transpose<T>(tile, spare, rows, columns);
        } else {
            copy<T>(tile, of_tile(columns, sizeof(T)), from, strides, rows, columns);
        }
    });
}

void scatter(unsigned char* to, Strides strides, const unsigned char* tile, size_t rows, size_t columns, size_t bytes,
             unsigned char* spare) {
    for_size(bytes, [&]<class T>(T) {
        if (spare != nullptr && strides.row == sizeof(T)) {
            transpose<T>(spare, tile, columns, rows);
            copy<T>(to, {strides.column, strides.row}, spare, of_tile(rows, sizeof(T)), columns, rows);
        } else {
            copy<T>(to, strides, tile, of_tile(columns, sizeof(T)), rows, columns);
        }
    });
}

void pack_rows(unsigned char* to, ptrdiff_t row_stride, const unsigned char* tile, size_t rows, size_t columns,
               int bits) {
    (bits == 2 ? pack<2> : pack<4>)(to, row_stride, tile, rows, columns);
}

void unpack_rows(unsigned char* tile, const unsigned char* from, ptrdiff_t row_stride, size_t rows, size_t columns,
                 int bits, bool is_signed) {
    const auto run = bits == 2 ? (is_signed ? unpack<2, true> : unpack<2, false>)
                               : (is_signed ? unpack<4, true> : unpack<4, false>);
    run(tile, from, row_stride, rows, columns);
}

void extend_codes(unsigned char* codes, size_t n, int bits, bool is_signed) {
    const int unused = 8 - bits;
    for (size_t i = 0; i < n; ++i) {
        const auto top = static_cast<unsigned char>(codes[i] << unused);
        codes[i] = static_cast<unsigned char>(is_signed ? static_cast<signed char>(top) >> unused : top >> unused);
    }
}

void clear_other_bits(unsigned char* codes, size_t n, int bits) {
    const auto mask = static_cast<unsigned char>((1u << bits) - 1);
    for (size_t i = 0; i < n; ++i) {
        codes[i] &= mask;
    }
}

}  // namespace piquant
