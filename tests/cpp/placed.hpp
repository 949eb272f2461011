// Arrays of any layout within a buffer, and what lies in them as contiguous rows.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "core/types.hpp"

namespace piquant {
namespace {

using Bytes = std::vector<unsigned char>;
using Random = std::mt19937_64;

inline size_t pick(Random& random, size_t most) {
    return random() % (most + 1);
}

inline bool is_packed(DType type) {
    return info(type).format.elements > 1;
}

// An array of some layout within a buffer: strides in bytes, and where its first element is.
struct Placed {
    DType type;
    std::vector<ptrdiff_t> strides;
    Bytes memory;
    size_t first;

    unsigned char* base() { return memory.data() + first; }
};

// Lays out an array with its dimensions in any order, gaps between them, and some turned around; an input may repeat
// elements. Packed rows are the last dimension, innermost.
inline Placed place(Random& random, DType type, const std::vector<size_t>& shape, bool may_repeat) {
    const size_t rank = shape.size();
    std::vector<size_t> order;  // innermost first
    for (size_t d = 0; d < rank - (is_packed(type) ? 1 : 0); ++d) {
        order.push_back(d);
    }
    const size_t kind = pick(random, 3);
    std::reverse(order.begin(), order.end());
    if (kind == 0) {
        std::shuffle(order.begin(), order.end(), random);
    }
    Placed p{type, std::vector<ptrdiff_t>(rank), {}, 0};
    size_t covered = is_packed(type) ? bytes_for(shape.back(), info(type).format) : info(type).format.bytes;
    for (const size_t d : order) {
        if (may_repeat && pick(random, 9) == 0) {
            continue;
        }
        const size_t gap = kind == 1 && pick(random, 1) == 0 ? pick(random, 40) : 0;
        const size_t stride = kind == 2 && d == order[0] ? covered * 2 : covered + gap;
        p.strides[d] = static_cast<ptrdiff_t>(stride);
        covered = stride * (shape[d] - 1) + covered;
        if (pick(random, 5) == 0) {
            p.first += stride * (shape[d] - 1);
            p.strides[d] = -p.strides[d];
        }
    }
    const size_t margin = pick(random, 70);
    p.first += margin;
    p.memory.resize(margin + covered + 64);
    for (unsigned char& b : p.memory) {
        b = static_cast<unsigned char>(random());
    }
    return p;
}

// Row-major without gaps.
inline Placed place_contiguous(Random& random, DType type, const std::vector<size_t>& shape) {
    Placed p{type, std::vector<ptrdiff_t>(shape.size()), {}, pick(random, 1) == 0 ? 0 : pick(random, 70)};
    size_t stride = is_packed(type) ? bytes_for(shape.back(), info(type).format) : info(type).format.bytes;
    p.strides.back() = static_cast<ptrdiff_t>(stride);
    stride *= is_packed(type) ? 1 : shape.back();
    for (size_t d = shape.size() - 1; d-- > 0;) {
        p.strides[d] = static_cast<ptrdiff_t>(stride);
        stride *= shape[d];
    }
    p.memory.resize(p.first + stride + 64);
    for (unsigned char& b : p.memory) {
        b = static_cast<unsigned char>(random());
    }
    return p;
}

// Where element `index` in row-major order lies; of packed types, its row.
inline ptrdiff_t offset_of(const Placed& p, const std::vector<size_t>& shape, size_t index) {
    ptrdiff_t offset = 0;
    for (size_t d = shape.size(); d-- > 0;) {
        offset +=
            static_cast<ptrdiff_t>(index % shape[d]) * (is_packed(p.type) && d + 1 == shape.size() ? 0 : p.strides[d]);
        index /= shape[d];
    }
    return offset;
}

inline size_t elements(const std::vector<size_t>& shape) {
    size_t n = 1;
    for (const size_t size : shape) {
        n *= size;
    }
    return n;
}

// Rows as they lie in contiguous memory, each from a byte of its own, and the reverse.
inline size_t row_bytes(DType type, size_t row) {
    return bytes_for(row, info(type).format);
}
inline Bytes collected(Placed& p, const std::vector<size_t>& shape) {
    const size_t row = shape.back();
    const size_t rows = elements(shape) / row;
    Bytes dense(rows * row_bytes(p.type, row));
    const size_t size = info(p.type).format.bytes;
    for (size_t r = 0; r < rows; ++r) {
        if (is_packed(p.type)) {
            std::memcpy(&dense[r * row_bytes(p.type, row)], p.base() + offset_of(p, shape, r * row),
                        row_bytes(p.type, row));
            continue;
        }
        for (size_t i = 0; i < row; ++i) {
            std::memcpy(&dense[(r * row + i) * size], p.base() + offset_of(p, shape, r * row + i), size);
        }
    }
    return dense;
}
inline void spread(Placed& p, const std::vector<size_t>& shape, const Bytes& dense) {
    const size_t row = shape.back();
    const size_t size = info(p.type).format.bytes;
    for (size_t r = 0; r < elements(shape) / row; ++r) {
        if (is_packed(p.type)) {
            std::memcpy(p.base() + offset_of(p, shape, r * row), &dense[r * row_bytes(p.type, row)],
                        row_bytes(p.type, row));
            continue;
        }
        for (size_t i = 0; i < row; ++i) {
            std::memcpy(p.base() + offset_of(p, shape, r * row + i), &dense[(r * row + i) * size], size);
        }
    }
}

// Finite numbers, some of them large, so that sums and clamps matter; codes stay as they are.
inline void fill(Random& random, Placed& p, const std::vector<size_t>& shape) {
    if (!info(p.type).is_float) {
        return;
    }
    Bytes dense = collected(p, shape);
    const size_t size = info(p.type).format.bytes;
    for (size_t i = 0; i * size < dense.size(); ++i) {
        const double x = (static_cast<double>(random() % 4096) - 2048) / 64;
        const auto narrow = static_cast<float>(x);
        uint32_t bits;
        std::memcpy(&bits, &narrow, sizeof bits);
        const uint16_t upper = static_cast<uint16_t>(bits >> 16);
        const uint16_t half = static_cast<uint16_t>(0x3c00 + random() % 0x1000);
        switch (p.type) {
            case DType::float64: std::memcpy(&dense[i * size], &x, size); break;
            case DType::float32: std::memcpy(&dense[i * size], &narrow, size); break;
            case DType::bfloat16: std::memcpy(&dense[i * size], &upper, size); break;
            default: std::memcpy(&dense[i * size], &half, size); break;
        }
    }
    spread(p, shape, dense);
}

}  // namespace
}  // namespace piquant
