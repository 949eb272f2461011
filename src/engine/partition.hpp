// Cuts an array into chunks for the pool.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <algorithm>

#include "core/types.hpp"

namespace piquant {

// Chunk c covers elements begin(c) .. begin(c + 1) - 1.
struct Partition {
    size_t n;
    size_t head;  // elements before the first line boundary; they belong to chunk 0
    size_t step;  // elements per chunk
    size_t chunks;

    size_t begin(size_t chunk) const { return chunk == 0 ? 0 : chunk == chunks ? n : head + chunk * step; }
};

// How many chunks a call is cut into. Several per thread even out stragglers; below 64 KiB their start-up shows, above
// 1 MiB the wait for the last one does. Threads get about equally much: of five chunks, two threads would take the time
// of three.
inline size_t chunk_count(size_t traffic, size_t threads) {
    constexpr size_t least_traffic = size_t{64} << 10;
    constexpr size_t most_traffic = size_t{1} << 20;
    const size_t count = traffic / std::clamp(traffic / (threads * 8), least_traffic, most_traffic);
    return count < threads ? std::max<size_t>(count, 1) : count - count % threads;
}

// Chunks of whole tiles; elements of the partition are tiles. A thread alone has one chunk: what is made at the start of
// each is made once.
inline Partition partition_tiles(size_t tiles, size_t traffic, size_t threads) {
    const size_t count = threads == 1 ? 1 : chunk_count(traffic, threads);
    const size_t step = (tiles + count - 1) / count;
    return {tiles, 0, step, (tiles + step - 1) / step};
}

// Chunks start on 64-byte lines of the output, so that no two threads write to one line and whole lines can be
// streamed, and on byte boundaries of the input. Where the output's alignment allows no such place, chunks still start
// on bytes of both.
inline Partition partition_lines(const void* out, size_t n, int in_bits, int out_bits, size_t threads) {
    constexpr size_t line = 64;
    const size_t count = chunk_count(bytes_for(n, in_bits) + bytes_for(n, out_bits), threads);
    // 256 elements are whole lines of every type, and whole blocks of every kernel.
    constexpr size_t granule = 256;
    const size_t step = ((n + count - 1) / count + granule - 1) / granule * granule;

    const size_t bytes_to_line = (line - reinterpret_cast<uintptr_t>(out) % line) % line;
    size_t head = bytes_to_line * 8 / static_cast<size_t>(out_bits);
    const size_t in_per_byte = in_bits < 8 ? 8 / static_cast<size_t>(in_bits) : 1;
    if (bytes_to_line * 8 % static_cast<size_t>(out_bits) != 0 || head % in_per_byte != 0) {
        head = 0;
    }
    const size_t chunks = n <= head + step ? 1 : (n - head + step - 1) / step;
    return {n, head, step, chunks};
}

}  // namespace piquant
