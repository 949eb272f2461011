// Threads that the caller lends: see piquant_threads_t.
#pragma once

#include <piquant/quant.h>

#include "engine/executor.hpp"

namespace piquant {

class LentThreads final : public Executor {
public:
    // Null: none.
    explicit LentThreads(const piquant_threads_t* threads) : threads_(threads) {}

    // How many there are for a call that begins now. None in a forked child, where they do not exist, but their owner may
    // think that they do, and wait for them for ever.
    size_t count() const;

    void run(Run function, void* job, size_t chunks, size_t threads, size_t worth_waking) override;

private:
    const piquant_threads_t* threads_;
};

}  // namespace piquant
