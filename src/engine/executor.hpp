// Whose threads run the chunks of a call: those of the context's own pool, or ones that the caller lends. The engine gives
// chunks to either and does not care.
//
// Each participant owns a region of the chunks, works it off front to back, then helps the others. Claiming a chunk is one
// atomic increment, on a cache line of the region's own. So a participant that comes late, or loses its CPU, costs the
// chunk that it holds and no more.
#pragma once

#include <atomic>
#include <cstddef>

namespace piquant {

// Called once per chunk, on any thread; participant < max(1, threads).
using Run = void (*)(void* job, size_t chunk, size_t participant);

class Executor {
public:
    virtual ~Executor() = default;

    // Runs all chunks and returns when all are done, on up to `threads` threads, the caller included. Of threads that
    // sleep, no more than `worth_waking` need to be woken.
    virtual void run(Run function, void* job, size_t chunks, size_t threads, size_t worth_waking) = 0;
};

inline void run_alone(Run function, void* job, size_t chunks) {
    for (size_t c = 0; c < chunks; ++c) {
        function(job, c, 0);
    }
}

struct alignas(64) Region {
    std::atomic<size_t> next{0};
    size_t end = 0;
};

// Shares chunks out to `count` regions, about equally many to each.
inline void open_regions(Region* regions, size_t count, size_t chunks) {
    for (size_t i = 0; i < count; ++i) {
        regions[i].next.store(chunks * i / count, std::memory_order_relaxed);
        regions[i].end = chunks * (i + 1) / count;
    }
}

// What one participant does: chunks of its own region, then of the others.
inline void work_off(Region* regions, size_t count, size_t participant, Run function, void* job) {
    for (size_t k = 0; k < count; ++k) {
        Region& region = regions[(participant + k) % count];
        while (region.next.load(std::memory_order_relaxed) < region.end) {
            const size_t chunk = region.next.fetch_add(1, std::memory_order_relaxed);
            if (chunk >= region.end) {
                break;
            }
            function(job, chunk, participant);
        }
    }
}

}  // namespace piquant
