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
